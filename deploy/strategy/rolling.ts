// Rolling updates: which slots to replace now, and what became of those that were begun. A pure function of the
// stored Rollout, the slots as they are, the settings and the time; whoever leads next decides the same.
//
// A slot that was begun is pending until its new task is good (ready for min_healthy_time and watched for the
// monitor time) or failed. At most `parallelism` slots are begun and not yet healthy.
//
// A slot is begun in one of two ways. Stop-first costs one of max_unavailable: a ready slot is only begun while no more
// slots than that are without a ready task, whatever the reason and whatever became of them, failed ones included; so
// the rollout itself never leaves fewer than desired - max_unavailable ready (invariant 5). Start-first costs one of
// max_surge. The update's order says which is taken from first; when that is used up, the other one serves. A slot
// without a ready task costs nothing to stop, and goes first.
//
// Everything that a rollout waits for has an end:
//
// | wait | ends at the latest | then |
// |---|---|---|
// | a begun slot's new task: placed, its image pulled, started, healthy; replaced after its node was lost; made again after a back-off | started_at + progress_deadline | the slot failed |
// | a task that is healthy, but watched | ready since + monitor; not ready again: as above | good, or failed |
// | a prepared task for the old one to stop (it hangs, or its node is unknown) | told to stop + drain timeout + grace period + 30 s | it runs; slot.ts |
// | an old task, start-first, to stop | it is not waited for | |
// | the delay | batch_done_at + delay | the next batch |
// | slots outside the rollout, or failed ones, that use the budget up | last begun or last batch done + delay + progress_deadline | the rollout failed |
// | a paused rollout | the user | |
//
// Of a failed rollout the failure action says what becomes: paused, undone by a rollback (a rollout like this one, that
// is paused if it fails), or with `continue` and failed slots alone, gone on with as far as the budget lasts.

import { formatDurationMs } from "../../lib/mod.js";
import {
  FailureAction,
  type Rollout,
  RolloutState,
  type SlotProgress,
  SlotVerdict,
  type Task,
  type UpdateConfig,
} from "../../proto/mod.js";
import { budgetOf, type Budget } from "./budget.js";
import { judge, type JudgeInput, type WatchedSlot } from "./watch.js";

export interface RollingSlot extends WatchedSlot {
  slot: number;
  /** A task that is wanted and ready, of whatever revision. */
  ready: boolean;
  /** It is ready by what was last heard, but its node is not connected now. */
  away: boolean;
  /** Its task ended by itself and is not to be replaced: it is not ready, and nothing is amiss. */
  finished: boolean;
  /** Its node keeps what it has but takes no new task, and no other node may have it: it is passed over. */
  closed: boolean;
  /** Wanted tasks of it that have neither ended nor been lost. */
  live: number;
  /** The wanted, not ended task that already is of the target's template, if there is one. */
  current: Task | undefined;
  currentReady: boolean;
}

export interface RollingInput extends JudgeInput {
  rollout: Rollout;
  slots: readonly RollingSlot[];
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

export function planRolling(input: RollingInput): RollingPlan {
  const { rollout, config, slots, now } = input;
  const bySlot = new Map(slots.map((slot) => [slot.slot, slot]));
  let wakeAtMs = Number.POSITIVE_INFINITY;
  let inFlight = 0;
  const progress = new Map<number, SlotProgress>();
  for (const entry of rollout.slots) {
    const slot = bySlot.get(entry.slot);
    // Scaled away, or its node is gone.
    if (slot === undefined) continue;
    const judged = judge(entry, slot, input);
    progress.set(entry.slot, judged.progress);
    wakeAtMs = Math.min(wakeAtMs, judged.wakeAtMs);
    if (judged.inFlight) inFlight += 1;
  }
  const batchDoneAtMs = inFlight === 0 && isBatchOpen(rollout) ? now : rollout.batchDoneAtMs;
  const plan = (outcome: RollingPlan["outcome"]): RollingPlan => ({
    progress: [...progress.values()].sort((a, b) => a.slot - b.slot),
    // Where the next batch begins at the same time, its own end is the one to record.
    batchDoneAtMs: inFlight === 0 ? batchDoneAtMs : rollout.batchDoneAtMs,
    outcome,
    wakeAtMs,
  });
  if (rollout.state !== RolloutState.RUNNING) return plan({ kind: "going" });

  const failed = [...progress.values()].filter(({ verdict }) => verdict === SlotVerdict.FAILED);
  if (config.failureAction !== FailureAction.CONTINUE && failed.length > config.maxFailureRatio * slots.length)
    return plan({ kind: "failed", message: failureMessage(failed, slots.length) });

  const begin = ({ slot }: RollingSlot, taskId: string, startFirst: boolean, startedAtMs = now) => {
    progress.set(slot, { slot, taskId, startedAtMs, verdict: SlotVerdict.PENDING, message: "", startFirst });
    inFlight += 1;
    wakeAtMs = Math.min(wakeAtMs, Math.max(now + 1, startedAtMs + config.progressDeadlineMs));
  };
  const waiting: RollingSlot[] = [];
  const closed: number[] = [];
  for (const slot of slots) {
    if (progress.has(slot.slot) || slot.currentReady) continue;
    // Its task is of the target already, and on its way: it is watched, not replaced. One that is younger than the
    // rollout was made by it, in a plan whose record was not written any more.
    if (slot.current !== undefined) {
      const { id, createdAtMs } = slot.current.meta;
      begin(slot, id, slot.live > 1, createdAtMs >= rollout.startedAtMs ? createdAtMs : now);
    } else if (slot.closed) closed.push(slot.slot);
    else waiting.push(slot);
  }
  if (waiting.length === 0) {
    const decided = [...progress.values()].every(({ verdict }) => verdict !== SlotVerdict.PENDING);
    return plan(
      decided
        ? { kind: "completed", message: completedMessage(failed.length, slots.length, closed) }
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

  const budget = budgetOf(config);
  const spent = { unavailable: slots.filter(isUnavailable).length, surge: 0 };
  for (const slot of slots) spent.surge += surgeOf(slot, progress);
  // What serves nobody is replaced first: it costs nothing, and may be why the update is made. What cannot be talked
  // to goes last: it may be back by then.
  waiting.sort((a, b) => rank(a) - rank(b) || a.slot - b.slot);
  for (const slot of waiting) {
    if (inFlight >= budget.parallelism) break;
    const way = wayOf(slot, budget, spent);
    if (way === undefined) continue;
    if (way.startFirst) spent.surge += 1;
    else if (slot.ready && !slot.away) spent.unavailable += 1;
    begin(slot, "", way.startFirst);
  }
  if (inFlight > 0) return plan({ kind: "going" });

  // The budget is used up by slots that are down or doubled for other reasons. They get as long as a batch gets.
  const stalledAtMs =
    Math.max(rollout.startedAtMs, batchDoneAtMs, ...[...progress.values()].map(({ startedAtMs }) => startedAtMs)) +
    config.delayMs +
    config.progressDeadlineMs;
  if (now < stalledAtMs) {
    wakeAtMs = Math.min(wakeAtMs, stalledAtMs);
    return plan({ kind: "going" });
  }
  return plan({ kind: "failed", message: stalledMessage(slots, progress, config, budget) });
}

/** Whether a batch was begun after the last one was found done. */
function isBatchOpen({ slots, batchDoneAtMs }: Rollout): boolean {
  return slots.some(({ startedAtMs }) => startedAtMs > batchDoneAtMs);
}

/** Wanted tasks beyond the one, or soon to be: where the new task failed, another comes beside the old one. */
function surgeOf({ slot, live, current }: RollingSlot, progress: ReadonlyMap<number, SlotProgress>): number {
  const returns = current === undefined && progress.get(slot)?.startFirst === true;
  return Math.max(0, returns ? live : live - 1);
}

function isUnavailable({ ready, away, finished }: RollingSlot): boolean {
  return (!ready || away) && !finished;
}

function rank({ ready, away }: RollingSlot): number {
  if (!ready) return 0;
  return away ? 2 : 1;
}

/** How the slot can be begun on what is left of the budget; undefined: not now. */
function wayOf(
  slot: RollingSlot,
  { maxSurge, maxUnavailable, startsFirst }: Budget,
  spent: { unavailable: number; surge: number },
): { startFirst: boolean } | undefined {
  const surges = slot.live > 0 && spent.surge < maxSurge;
  const stops = !slot.ready || spent.unavailable + (slot.away ? 0 : 1) <= maxUnavailable;
  if (startsFirst ? surges : surges && !stops) return { startFirst: true };
  return stops ? { startFirst: false } : undefined;
}

function failureMessage(failed: readonly SlotProgress[], total: number): string {
  const [first] = failed.toSorted((a, b) => a.slot - b.slot);
  const which = first === undefined ? "" : `slot ${first.slot}: ${first.message}`;
  return failed.length === 1 ? which : `${failed.length} of ${total} slots failed; ${which}`;
}

function completedMessage(failed: number, total: number, closed: readonly number[]): string {
  const clauses: string[] = [];
  if (failed > 0) clauses.push(`${failed} of ${total} slots failed`);
  if (closed.length > 0) {
    const why = closed.length === 1 ? "it is: its node is cordoned" : "they are: their nodes are cordoned";
    clauses.push(`${listed(closed)} left as ${why}`);
  }
  return clauses.join("; ");
}

function stalledMessage(
  slots: readonly RollingSlot[],
  progress: ReadonlyMap<number, SlotProgress>,
  { progressDeadlineMs }: UpdateConfig,
  { maxSurge, maxUnavailable }: Budget,
): string {
  const down = slots.filter(isUnavailable).map(({ slot }) => slot);
  const doubled = slots.filter((slot) => surgeOf(slot, progress) > 0).map(({ slot }) => slot);
  const clauses = [
    ...(down.length > 0 ? [`not ready: ${listed(down)}`] : []),
    ...(doubled.length > 0 ? [`beyond one task: ${listed(doubled)}`] : []),
    `max_unavailable is ${orAll(maxUnavailable)}, max_surge ${orAll(maxSurge)}`,
  ];
  return `no progress for ${formatDurationMs(progressDeadlineMs)}: ${clauses.join("; ")}`;
}

function orAll(count: number): string {
  return Number.isFinite(count) ? String(count) : "all";
}

/** "slots 1, 2, 3 and 4 more". */
function listed(slots: readonly number[]): string {
  const shown = slots.slice(0, 5).join(", ");
  return `${slots.length === 1 ? "slot" : "slots"} ${shown}${slots.length > 5 ? ` and ${slots.length - 5} more` : ""}`;
}
