// What became of a slot that a rolling update has begun: pure, from its stored record and the task that it names.

import { formatDurationMs } from "../../lib/mod.js";
import {
  ContainerPhase,
  type RestartPolicy,
  type SlotProgress,
  SlotVerdict,
  type Task,
  TaskState,
  type UpdateConfig,
} from "../../proto/mod.js";
import { hasEnded, isReplaced, isWanted, whatHappened } from "./tasks.js";

export interface WatchedSlot {
  /** The task that the rollout's record of this slot names, if it is still there. */
  watched: Task | undefined;
  /** Whether the watched task's node was lost: that is nobody's failure. */
  watchedLost: boolean;
}

export interface JudgeInput {
  config: UpdateConfig;
  /** The target's. */
  restart: RestartPolicy;
  now: number;
}

export interface Judged {
  progress: SlotProgress;
  /** Pending, and not ready for long enough. */
  inFlight: boolean;
  wakeAtMs: number;
}

export function judge(progress: SlotProgress, slot: WatchedSlot, { config, restart, now }: JudgeInput): Judged {
  const never = Number.POSITIVE_INFINITY;
  if (progress.verdict !== SlotVerdict.PENDING) return { progress, inFlight: false, wakeAtMs: never };
  const decided = (verdict: SlotVerdict, message: string): Judged => ({
    progress: { ...progress, verdict, message },
    inFlight: false,
    wakeAtMs: never,
  });
  const { watched } = slot;
  // A task that was moved away or lost says nothing of its revision; its replacement will be watched.
  const telling =
    watched !== undefined &&
    !slot.watchedLost &&
    watched.status.state !== TaskState.ORPHANED &&
    watched.status.state !== TaskState.SHUTDOWN &&
    (isWanted(watched) || hasEnded(watched));
  if (telling && hasEnded(watched)) {
    if (watched.status.state === TaskState.COMPLETE && !isReplaced(restart, TaskState.COMPLETE))
      return decided(SlotVerdict.GOOD, "");
    return decided(SlotVerdict.FAILED, whatHappened(watched));
  }
  if (telling && watched.meta.createdAtMs >= progress.startedAtMs) {
    const { container } = watched.status;
    if (container !== undefined && (container.attempt > 1 || container.phase === ContainerPhase.BACKING_OFF))
      return decided(SlotVerdict.FAILED, `its container had to be restarted: ${whatEnded(watched)}`);
  }
  const deadlineMs = progress.startedAtMs + config.progressDeadlineMs;
  if (telling && watched.readySinceMs > 0) {
    const healthyAtMs = watched.readySinceMs + config.minHealthyTimeMs;
    const goodAtMs = Math.max(healthyAtMs, watched.readySinceMs + config.monitorMs);
    if (now >= goodAtMs) return decided(SlotVerdict.GOOD, "");
    if (now >= healthyAtMs) return { progress, inFlight: false, wakeAtMs: goodAtMs };
    if (now < deadlineMs) return { progress, inFlight: true, wakeAtMs: Math.min(healthyAtMs, deadlineMs) };
  }
  if (now < deadlineMs) return { progress, inFlight: true, wakeAtMs: deadlineMs };
  return decided(
    SlotVerdict.FAILED,
    `not ready within ${formatDurationMs(config.progressDeadlineMs)}: ${watched === undefined ? "it has no task" : whatHappened(watched)}`,
  );
}

/** How the last run of the task's container ended. */
function whatEnded({ status }: Task): string {
  const { container } = status;
  if (container?.oomKilled === true) return "out of memory";
  if (container?.exitCode !== undefined) return `exit code ${container.exitCode}`;
  return status.error !== "" ? status.error : "it ended";
}
