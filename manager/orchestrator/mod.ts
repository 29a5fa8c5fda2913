// manager/orchestrator: keeps each service's tasks as its spec, its rollout and its runs ask. `planService` decides,
// purely: modes/ says which slots there are, slot.ts fills those of services that run all the time, moving.ts says when
// their tasks may make way, runs.ts and run-slots.ts are the same for jobs. The Orchestrator is the loop around it;
// changes.ts is what users do to services. Imports lib, proto, deploy, manager/rollout and the store.

export { nextTaskAtMs } from "./backoff.js";
export { createService, removeService, runService, scaleService, updateService } from "./changes.js";
export { Orchestrator, type OrchestratorOptions } from "./controller.js";
export { whyUnready } from "./depends.js";
export { fencedUntilMs } from "./fence.js";
export { drainDeadlineMsDefault } from "./moving.js";
export { planService, type ServicePlan, type ServiceSnapshot } from "./plan.js";
