// manager/autoscale: the number of replicas follows what tasks use. decide.ts says how many, purely; the controller is
// the loop around it. Imports lib, proto, manager/orchestrator's changes, manager/rollout and the store.

export { Autoscaler, type AutoscalerOptions, type UsageSource } from "./controller.js";
export { type Decision, decide, type Outcome, remember, type Scene, type Use, type Wanted } from "./decide.js";
