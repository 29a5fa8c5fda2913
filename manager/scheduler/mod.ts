// manager/scheduler: finds a node for each task, or says in the user's terms why there is none. `place` is pure, and so
// is `judge`; the Scheduler is the loop around them. Imports lib, proto, deploy and the store's types; no node:* and no
// time of its own.

export { budgetOf } from "./budget.js";
export { Scheduler, type SchedulerOptions } from "./controller.js";
export { type Demand, demandOf } from "./demand.js";
export { judge, type JudgeInput, type Verdict } from "./judge.js";
export { NodeIndex } from "./nodes.js";
export { needsNode, place, type PlaceInput, type Placement } from "./place.js";
export { type Claims, type NodeUse, Usage, type UsageView } from "./usage.js";
