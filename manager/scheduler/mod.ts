// manager/scheduler: finds a node for each task, or says in the user's terms why there is none. `place` is pure; the
// Scheduler is the loop around it. Imports lib, proto, deploy and the store's types; no node:* and no time of its own.

export { Scheduler, type SchedulerOptions } from "./controller.js";
export { needsNode, place, type PlaceInput, type Placement } from "./place.js";
export { type NodeUse, Usage } from "./usage.js";
