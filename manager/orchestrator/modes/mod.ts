// manager/orchestrator/modes: one file per mode, which says what slots a service has, or a run of a job, and for cron
// when runs are due. Pure; filling the slots is the orchestrator's.

export { dueRuns, type DueRun } from "./cron.js";
export { globalJobSlots } from "./global-job.js";
export { globalSlots } from "./global.js";
export { replicatedJobSlots, type RunSlots } from "./replicated-job.js";
export { replicatedSlots } from "./replicated.js";
export type { DroppedSlot, Slot, SlotSet } from "./slots.js";
