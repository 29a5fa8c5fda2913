// The door of packaging/setup: puts on this machine the programs that Flotilla's lab, tests and quickstart stand on.
export { type Need, NEEDS, type SystemOptions, ensureSystem } from "./system.js";
