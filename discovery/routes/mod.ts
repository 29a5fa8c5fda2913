export { Backend, type Candidate } from "./backend.js";
export type { HostView } from "./check.js";
export { EndpointState, ejectAfterFailures, ejectForMs } from "./endpoint.js";
export { type Claim, type RouteChange, RouteTable, type RouteUpdate, type ServiceNames } from "./table.js";
