// Enumerations as people write them, in flags, errors and plans.

import {
  ConcurrencyPolicy,
  FailureAction,
  MountType,
  PlacementStrategy,
  Protocol,
  PublishMode,
  PullPolicy,
  RestartCondition,
  UpdateOrder,
} from "../../proto/mod.js";

/** Without its UNSPECIFIED, and in the order in which they are offered. */
type Words<T extends number> = ReadonlyMap<Exclude<T, 0>, string>;

export const words = {
  order: new Map([
    [UpdateOrder.STOP_FIRST, "stop-first"],
    [UpdateOrder.START_FIRST, "start-first"],
  ]) as Words<UpdateOrder>,
  failureAction: new Map([
    [FailureAction.PAUSE, "pause"],
    [FailureAction.CONTINUE, "continue"],
    [FailureAction.ROLLBACK, "rollback"],
  ]) as Words<FailureAction>,
  restart: new Map([
    [RestartCondition.NONE, "none"],
    [RestartCondition.ON_FAILURE, "on-failure"],
    [RestartCondition.ANY, "any"],
  ]) as Words<RestartCondition>,
  concurrency: new Map([
    [ConcurrencyPolicy.FORBID, "forbid"],
    [ConcurrencyPolicy.ALLOW, "allow"],
    [ConcurrencyPolicy.REPLACE, "replace"],
  ]) as Words<ConcurrencyPolicy>,
  strategy: new Map([
    [PlacementStrategy.SPREAD, "spread"],
    [PlacementStrategy.BINPACK, "binpack"],
  ]) as Words<PlacementStrategy>,
  mount: new Map([
    [MountType.VOLUME, "volume"],
    [MountType.BIND, "bind"],
    [MountType.TMPFS, "tmpfs"],
  ]) as Words<MountType>,
  pull: new Map([
    [PullPolicy.MISSING, "missing"],
    [PullPolicy.ALWAYS, "always"],
    [PullPolicy.NEVER, "never"],
  ]) as Words<PullPolicy>,
  protocol: new Map([[Protocol.TCP, "tcp"]]) as Words<Protocol>,
  publish: new Map([
    [PublishMode.INGRESS, "ingress"],
    [PublishMode.HOST, "host"],
  ]) as Words<PublishMode>,
} as const;

/** Of a mode, as `--mode` takes it. */
export const modeWords = {
  replicated: "replicated",
  global: "global",
  replicatedJob: "replicated-job",
  globalJob: "global-job",
  cron: "cron",
} as const;
/** In the order in which they are offered. */
export const allModes: readonly string[] = Object.values(modeWords);
