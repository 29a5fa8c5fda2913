// manager/orchestrator: keeps each service's tasks as its spec and its rollout ask. `planService` decides, purely;
// the Orchestrator is the loop around it; changes.ts is what users do to services. Imports lib, proto, deploy,
// manager/rollout and the store.

export { nextTaskAtMs } from "./backoff.js";
export { createService, removeService, runService, scaleService, updateService } from "./changes.js";
export { Orchestrator, type OrchestratorOptions } from "./controller.js";
export { whyUnready } from "./depends.js";
export { fencedUntilMs } from "./fence.js";
export { drainDeadlineMsDefault } from "./moving.js";
export { planService, type ServicePlan, type ServiceSnapshot } from "./plan.js";
