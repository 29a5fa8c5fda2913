// cron: when runs of a replicated job are due. Every due time is decided on once: the stored last_due_at_ms says up to
// where, so that a new leader begins no run twice. Of several that passed unseen, at most the newest is begun.

import { dueTimes, nextDue } from "../../../deploy/spec/mod.js";
import { formatDurationMs } from "../../../lib/mod.js";
import type { CronMode, JobStatus, Revision } from "../../../proto/mod.js";

const startDeadlineMsDefault = 60_000;
/** Of those missed before the newest, so many are recorded. */
const missedRecorded = 3;
/** How far back due times are looked for, one after the other until some are found. */
const lookBacksMs = [3_600_000, 86_400_000, 31 * 86_400_000, Number.POSITIVE_INFINITY];
/**
 * What was decided on, or stored, this far ahead of now was so by a clock that was wrong: the schedule counts from now.
 * Less is waited for, so that leaders whose clocks differ begin no run twice.
 */
const aheadMaxMs = 3_600_000;
/** Due times that are listed at once. */
const listed = 1000;

export interface DueRun {
  dueAtMs: number;
  /** Why it is not begun; undefined: it may be. */
  skipped: string | undefined;
}

export interface DueRuns {
  due: DueRun[];
  nextAtMs: number | undefined;
  /** To be stored as last_due_at_ms instead of what is there. */
  countFromMs?: number;
}

/** The due times to decide on now, ascending, and when the next one comes. */
export function dueRuns(
  cron: CronMode,
  { job, revisions, now }: { job: JobStatus | undefined; revisions: readonly Revision[]; now: number },
): DueRuns {
  if (cron.suspended) return { due: [], nextAtMs: undefined };
  const lastDueAtMs = job?.lastDueAtMs ?? 0;
  const sinceMs = scheduledSinceMs(cron, revisions);
  const isAhead = (ms: number) => ms > now + aheadMaxMs;
  if (isAhead(lastDueAtMs) || (lastDueAtMs === 0 && isAhead(sinceMs)))
    return { due: [], nextAtMs: nextDue(cron, now), countFromMs: now };
  const afterMs = isAhead(sinceMs) ? lastDueAtMs : Math.max(lastDueAtMs, sinceMs);
  const nextAtMs = nextDue(cron, Math.max(afterMs, now));
  const passed = newestDue(cron, afterMs, now);
  const newest = passed.at(-1);
  if (newest === undefined) return { due: [], nextAtMs };
  const recorded = passed.slice(-1 - missedRecorded, -1);
  const due = recorded.map((dueAtMs, i): DueRun => {
    const before = i === 0 && passed.length > recorded.length + 1 ? ", as were those before it" : "";
    return { dueAtMs, skipped: `missed: a later run was due when it was found${before}` };
  });
  const deadlineMs = cron.startDeadlineMs ?? startDeadlineMsDefault;
  const lateMs = now - newest;
  const late =
    lateMs > deadlineMs
      ? `found due ${formatDurationMs(lateMs)} late, its start deadline is ${formatDurationMs(deadlineMs)}`
      : undefined;
  return { due: [...due, { dueAtMs: newest, skipped: late }], nextAtMs };
}

/** Since when the schedule is as it is: what was due by another one, or while suspended, was not missed. */
function scheduledSinceMs(cron: CronMode, revisions: readonly Revision[]): number {
  let sinceMs = 0;
  for (const { spec, meta } of revisions.toReversed()) {
    const { mode } = spec;
    if (mode.$case !== "cron" || !isSameSchedule(mode.value, cron)) break;
    sinceMs = meta.createdAtMs;
  }
  return sinceMs;
}

function isSameSchedule(a: CronMode, b: CronMode): boolean {
  return a.schedule === b.schedule && a.timeZone === b.timeZone && a.suspended === b.suspended;
}

/** Some of the due times after `afterMs` and up to `now`, ascending; the newest is always among them. */
function newestDue(cron: CronMode, afterMs: number, now: number): number[] {
  for (const lookBackMs of lookBacksMs) {
    let fromMs = Math.max(afterMs, now - lookBackMs);
    let found: number[] = [];
    for (;;) {
      const some = dueTimes(cron, fromMs, now, listed);
      found = [...found.slice(-missedRecorded - 2), ...some];
      const last = some.at(-1);
      if (last === undefined || some.length < listed) break;
      fromMs = last;
    }
    if (found.length > 0 || fromMs === afterMs) return found;
  }
  return [];
}
