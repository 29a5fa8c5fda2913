// The tasks of this node: decide.ts says what to do (pure), runner.ts does it, supervisor.ts has them all,
// state-file.ts remembers. May import lib, proto and agent/engine.
export { type HostSettings, gatewayOf, labels, networkName } from "./container.js";
export { type Assignment, type TaskRecord, isTerminal, statusOf } from "./record.js";
export { TaskRunner } from "./runner.js";
export { type Memory, StateFile } from "./state-file.js";
export { Supervisor, type SupervisorOptions } from "./supervisor.js";
