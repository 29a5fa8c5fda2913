// The door of packaging/setup: puts on this machine the programs that Flotilla's lab, tests and quickstart stand on.
export { type Need, NEEDS } from "./programs.mjs";
export { type SystemOptions, ensureSystem } from "./system.js";
