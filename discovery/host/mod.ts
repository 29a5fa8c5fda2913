export { AddressWatch, type HostAddresses } from "./addresses.js";
export { type Pools, type Run, cleanup, runCommand, setUp } from "./network.js";
