export { Ambassador, type AmbassadorParts } from "./ambassador.js";
export { type Pools, cleanup } from "./host/mod.js";
export { type AmbassadorOptions, runAmbassador } from "./main.js";
