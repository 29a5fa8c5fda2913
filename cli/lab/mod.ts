// The door of cli/lab: `flotilla lab …`.
export { registerLab } from "./register.js";
