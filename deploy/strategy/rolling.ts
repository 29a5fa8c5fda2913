// Rolling updates: which slots to replace now, and what became of those that were begun. A pure function of the
// stored Rollout, the slots as they are, the settings and the time; whoever leads next decides the same.
//
// A slot that was begun is pending until its new task is good (ready for min_healthy_time and watched for the
// monitor time) or failed. Slots begun and not yet healthy count against parallelism. With stop-first a ready slot is
// only begun while fewer than `parallelism` slots are not ready, whatever the reason: a rollout never adds to an outage.

import { formatDurationMs } from "../../lib/mod.js";
import {
  ContainerPhase,
  FailureAction,
  type RestartPolicy,
  type Rollout,
  RolloutState,
  type SlotProgress,
  SlotVerdict,
  type Task,
  TaskState,
  type UpdateConfig,
  UpdateOrder,
} from "../../proto/mod.js";
import { hasEnded, isReplaced, isWanted, whatHappened } from "./tasks.js";

export interface RollingSlot {
  slot: number;
  /** A task that is wanted and ready, of whatever revision. */
  ready: boolean;
  /** Its task ended by itself and is not to be replaced: it is not ready, and nothing is amiss. */
  finished: boolean;
  /** The wanted, not ended task that already is of the target's template, if there is one. */
  current: Task | undefined;
  currentReady: boolean;
  /** The task that the rollout's record of this slot names, if it is still there. */
  watched: Task | undefined;
  /** Whether the watched task's node was lost: that is nobody's failure. */
  watchedLost: boolean;
}

export interface RollingInput {
  rollout: Rollout;
  config: UpdateConfig;
  /** The target's. */
  restart: RestartPolicy;
  slots: readonly RollingSlot[];
  now: number;
}

export interface RollingPlan {
  /** The rollout's new record of slots, those begun now included. */
  progress: SlotProgress[];
  batchDoneAtMs: number;
  /** `failed` asks for the failure action; pausing, going on or rolling back is the caller's. */
  outcome: { kind: "going" } | { kind: "completed"; message: string } | { kind: "failed"; message: string };
  /** When to look again though nothing happens. */
  wakeAtMs: number;
}

interface Judged {
  progress: SlotProgress;
  /** Pending, and not ready for long enough. */
  inFlight: boolean;
  wakeAtMs: number;
}

export function planRolling(input: RollingInput): RollingPlan {
  const { rollout, config, slots, now } = input;
  const bySlot = new Map(slots.map((slot) => [slot.slot, slot]));
  let wakeAtMs = Number.POSITIVE_INFINITY;
  let inFlight = 0;
  const progress = new Map<number, SlotProgress>();
  for (const entry of rollout.slots) {
    const slot = bySlot.get(entry.slot);
    // Scaled away.
    if (slot === undefined) continue;
    const judged = judge(entry, slot, input);
    progress.set(entry.slot, judged.progress);
    wakeAtMs = Math.min(wakeAtMs, judged.wakeAtMs);
    if (judged.inFlight) inFlight += 1;
  }
  const batchDoneAtMs = inFlight === 0 && isBatchOpen(rollout, config) ? now : rollout.batchDoneAtMs;
  const plan = (outcome: RollingPlan["outcome"]): RollingPlan => ({
    progress: [...progress.values()].sort((a, b) => a.slot - b.slot),
    batchDoneAtMs,
    outcome,
    wakeAtMs,
  });
  if (rollout.state !== RolloutState.RUNNING) return plan({ kind: "going" });

  const failed = [...progress.values()].filter(({ verdict }) => verdict === SlotVerdict.FAILED);
  const tolerant = config.failureAction === FailureAction.CONTINUE;
  if (!tolerant && failed.length > config.maxFailureRatio * slots.length)
    return plan({ kind: "failed", message: failureMessage(failed, slots.length) });

  const begin = (slot: RollingSlot, taskId: string, startedAtMs = now) => {
    progress.set(slot.slot, {
      slot: slot.slot,
      taskId,
      startedAtMs,
      verdict: SlotVerdict.PENDING,
      message: "",
    });
    inFlight += 1;
    wakeAtMs = Math.min(wakeAtMs, Math.max(now + 1, startedAtMs + config.progressDeadlineMs));
  };
  const waiting: RollingSlot[] = [];
  for (const slot of slots) {
    if (progress.has(slot.slot) || slot.currentReady) continue;
    // Its task is of the target already, and on its way: it is watched, not replaced. One that is younger than the
    // rollout was made by it, in a plan whose record was not written any more.
    if (slot.current === undefined) waiting.push(slot);
    else {
      const { id, createdAtMs } = slot.current.meta;
      begin(slot, id, createdAtMs >= rollout.startedAtMs ? createdAtMs : now);
    }
  }
  if (waiting.length === 0) {
    const decided = [...progress.values()].every(({ verdict }) => verdict !== SlotVerdict.PENDING);
    return plan(
      decided
        ? { kind: "completed", message: failed.length === 0 ? "" : `${failed.length} of ${slots.length} slots failed` }
        : { kind: "going" },
    );
  }

  if (config.delayMs > 0 && progress.size > 0) {
    if (inFlight > 0) return plan({ kind: "going" });
    const nextAtMs = batchDoneAtMs + config.delayMs;
    if (now < nextAtMs) {
      wakeAtMs = Math.min(wakeAtMs, nextAtMs);
      return plan({ kind: "going" });
    }
  }

  const most = config.parallelism === 0 ? Number.POSITIVE_INFINITY : config.parallelism;
  let notReady = slots.filter(
    ({ slot, ready, finished }) => !ready && !finished && progress.get(slot)?.verdict !== SlotVerdict.FAILED,
  ).length;
  const stopsFirst = config.order !== UpdateOrder.START_FIRST;
  // What serves nobody is replaced first: it costs nothing, and may be why the update is made.
  waiting.sort((a, b) => Number(a.ready) - Number(b.ready) || a.slot - b.slot);
  for (const slot of waiting) {
    if (inFlight >= most) break;
    if (slot.ready && stopsFirst) {
      if (notReady >= most && !tolerant) break;
      notReady += 1;
    }
    begin(slot, "");
  }
  if (inFlight > 0) return plan({ kind: "going" });

  // Slots outside the rollout are down and hold it up. They get as long as a batch gets.
  const stalledAtMs =
    Math.max(rollout.startedAtMs, batchDoneAtMs, ...[...progress.values()].map(({ startedAtMs }) => startedAtMs)) +
    config.delayMs +
    config.progressDeadlineMs;
  if (now < stalledAtMs) {
    wakeAtMs = Math.min(wakeAtMs, stalledAtMs);
    return plan({ kind: "going" });
  }
  const down = slots.filter(({ ready, finished }) => !ready && !finished).map(({ slot }) => slot);
  return plan({
    kind: "failed",
    message: `no progress for ${formatDurationMs(config.progressDeadlineMs)}: not ready: ${listed(down)}`,
  });
}

/** Whether a batch was begun after the last one was found done. */
function isBatchOpen({ slots, batchDoneAtMs }: Rollout, { delayMs }: UpdateConfig): boolean {
  return delayMs > 0 && slots.some(({ startedAtMs }) => startedAtMs >= batchDoneAtMs);
}

function judge(progress: SlotProgress, slot: RollingSlot, { config, restart, now }: RollingInput): Judged {
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

function failureMessage(failed: readonly SlotProgress[], total: number): string {
  const [first] = failed.toSorted((a, b) => a.slot - b.slot);
  const which = first === undefined ? "" : `slot ${first.slot}: ${first.message}`;
  return failed.length === 1 ? which : `${failed.length} of ${total} slots failed; ${which}`;
}

/** "slots 1, 2, 3 and 4 more". */
function listed(slots: readonly number[]): string {
  const shown = slots.slice(0, 5).join(", ");
  return `${slots.length === 1 ? "slot" : "slots"} ${shown}${slots.length > 5 ? ` and ${slots.length - 5} more` : ""}`;
}
