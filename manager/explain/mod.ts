// manager/explain: why a task is where and how it is, in words, and how a service will be after a change: from what is
// stored and the events that are remembered. Pure. Imports lib, proto, deploy, manager/orchestrator, manager/rollout,
// manager/scheduler and the store.

export { explainTask, type ExplainOptions } from "./explain.js";
export { foresee, type Foreseen } from "./foresight.js";
export { type Scheduling, schedulingOf } from "./scheduling.js";
