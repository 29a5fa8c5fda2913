// Supervises and steers the ambassador of this host. May import lib and proto.
export { AmbassadorProcess } from "./process.js";
export { Steering, type SteeringOptions } from "./steering.js";
