export { type Backoff, backoffMs } from "./backoff.js";
export { type Clock, pause, sleep, systemClock, withDeadline } from "./clock.js";
export {
  ClusterError,
  type ErrorCode,
  type Violation,
  describeViolation,
  messageOf,
  toClusterError,
} from "./errors.js";
export { Lifetime } from "./lifetime.js";
export { type LogLevel, type Logger, createLogger, logLevels, silentLogger } from "./log.js";
export { type LoopOptions, ReconcileLoop } from "./loop.js";
export { type Rng, seededRng, systemRng } from "./rng.js";
export { BoundedStream, LatestStream } from "./stream.js";
export { formatBytes, formatDurationMs, formatNanoCpus, parseBytes, parseDurationMs, parseNanoCpus } from "./units.js";
export {
  type Cidr,
  cidrContains,
  cidrCovers,
  cidrSize,
  cidrsOverlap,
  cidrWithout,
  formatCidr,
  formatIpv4,
  parseCidr,
  parseIpv4,
  parseRange,
} from "./ipv4.js";
export { type StatusServerOptions, serveStatus } from "./status-server.js";
