export { dispatcherHandlers } from "./calls.js";
export { Dispatcher, type DispatcherOptions } from "./dispatcher.js";
export { LogBroker } from "./logs.js";
export { heartbeatPeriodMs, heartbeatsMissedMax } from "./sessions.js";
export { applyStatus, isTerminal, orphan } from "./status.js";
export type { TaskUse } from "./usage.js";
export { dispatcherService } from "./wire.js";
