// What the agent tells people and monitoring. May import lib and proto.
export { AgentMetrics } from "./metrics.js";
export { type RunningTask, type UsageSample, UsageWatch } from "./usage.js";
