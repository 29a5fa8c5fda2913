// The plan for one job: which runs begin, what goes on in those that do, which end, and what is forgotten of those
// that have. A run belongs to a revision. Of replicated and global jobs one goes on at a time: a newer revision, or
// somebody who asks for a run, replaces it. What cron does then is its concurrency policy.

import { isGlobal } from "../../deploy/spec/mod.js";
import { hasEnded, isWanted } from "../../deploy/strategy/mod.js";
import {
  ConcurrencyPolicy,
  type JobRun,
  JobState,
  type Revision,
  type Service,
  type Task,
  TaskState,
} from "../../proto/mod.js";
import type { Making, Step } from "../rollout/mod.js";
import type { Draft } from "./draft.js";
import { dueRuns, globalJobSlots, replicatedJobSlots, type RunSlots } from "./modes/mod.js";
import type { ServiceSnapshot } from "./plan.js";
import { reap, reapRecords } from "./reaper.js";
import { RunBook, type RunOrigin } from "./run-book.js";
import { attemptsOf, planRun, type RunContext } from "./run-slots.js";
import { freeAtMs } from "./slot.js";

/** Runs of one cron job at the same time, with the concurrency policy allow. */
const runsAtOnce = 10;

export interface JobPlan {
  service: Service;
  steps: Step[];
  wakeAtMs: number | undefined;
}

export function planRuns(snapshot: ServiceSnapshot, draft: Draft, making: Making): JobPlan {
  const { service, revisions, node } = snapshot;
  const byNumber = new Map(revisions.map((revision) => [revision.number, revision]));
  let wakeAtMs = Number.POSITIVE_INFINITY;
  const context: RunContext = {
    draft,
    service,
    revision: (number) => byNumber.get(number),
    node,
    id: making.id,
    wake: (atMs) => {
      wakeAtMs = Math.min(wakeAtMs, atMs);
    },
  };
  const book = new RunBook(service.job, making.now);
  begin(book, snapshot, context);
  const tasks = draft.byRun();
  reopen(book, snapshot, context, tasks);
  stopOthers(book, draft);
  const heldUntilMs = heldUntil(book, context);
  for (const run of book.going()) {
    const target = revisionOf(context, run);
    const slots = tasks.get(run.number) ?? new Map<number, Task[]>();
    const { completed, total, end } = planRun(
      context,
      { run, target, heldUntilMs },
      slotsOf(snapshot, target, slots),
      (slot) => slots.get(slot) ?? [],
    );
    book.put(run.number, { completed, total });
    if (end !== undefined) book.end(run.number, end.state, end.message);
  }
  book.forget(service.spec);
  stopOthers(book, draft);
  const going = new Map(book.going().map((run) => [run.number, attemptsOf(revisionOf(context, run))]));
  reap(draft, {
    ...snapshot,
    revision: context.revision,
    wake: context.wake,
    // Whether a slot has failed too often is counted from its history.
    atLeast: ({ run }) => going.get(run) ?? 0,
  });
  const job = book.status();
  const after = job === service.job ? service : { ...service, job };
  return {
    service: after,
    steps: [...draft.steps(), ...reapRecords({ ...snapshot, service: after }, draft.tasks())],
    wakeAtMs: Number.isFinite(wakeAtMs) ? wakeAtMs : undefined,
  };
}

function revisionOf({ service, revision }: Pick<RunContext, "service" | "revision">, run: JobRun): Revision {
  const found = revision(run.revision);
  if (found === undefined)
    throw new Error(
      `run ${run.number} of service ${service.meta.id} is of revision ${run.revision}, which is not there`,
    );
  return found;
}

function slotsOf(
  { nodes }: ServiceSnapshot,
  { spec }: Revision,
  slots: ReadonlyMap<number, readonly Task[]>,
): RunSlots {
  return isGlobal(spec) ? globalJobSlots(spec, slots, nodes()) : replicatedJobSlots(spec);
}

/** Begins or skips what is due, what a new revision asks for, and what somebody asked for. */
function begin(book: RunBook, { service, revisions }: ServiceSnapshot, { wake, draft }: RunContext): void {
  const { mode } = service.spec;
  const { revision } = service;
  const of = (message: string, more: Partial<RunOrigin> = {}): RunOrigin => ({
    revision,
    dueAtMs: 0,
    requestId: "",
    message,
    ...more,
  });
  if (mode.$case === "cron") {
    const { due, nextAtMs, countFromMs } = dueRuns(mode.value, { job: service.job, revisions, now: draft.now });
    if (nextAtMs !== undefined) wake(nextAtMs);
    if (countFromMs !== undefined) book.countFrom(countFromMs);
    for (const { dueAtMs, skipped } of due) {
      if (skipped === undefined) beginOrSkip(book, mode.value.concurrency, of("by the schedule", { dueAtMs }));
      else book.skip(of(skipped, { dueAtMs }));
      book.decidedOn(dueAtMs);
    }
  } else if (book.newest()?.revision !== revision) {
    book.replaceGoing(`replaced: revision ${revision} came`);
    book.begin(of(`revision ${revision}`));
  }
  for (const requestId of book.requested) {
    if (book.isKnown(requestId)) continue;
    const policy = mode.$case === "cron" ? mode.value.concurrency : ConcurrencyPolicy.REPLACE;
    beginOrSkip(book, policy, of("asked for", { requestId }));
  }
}

function beginOrSkip(book: RunBook, policy: ConcurrencyPolicy, origin: RunOrigin): void {
  const going = book.going();
  if (policy === ConcurrencyPolicy.REPLACE) book.replaceGoing(`replaced: a newer run began (${origin.message})`);
  else if (policy === ConcurrencyPolicy.ALLOW) {
    if (going.length >= runsAtOnce) {
      book.skip({ ...origin, message: `${going.length} runs went on already` });
      return;
    }
  } else if (going.length > 0) {
    book.skip({ ...origin, message: `run ${going.map(({ number }) => number).join(", ")} went on` });
    return;
  }
  book.begin(origin);
}

/** A global job goes on when a node has come that has not had its turn. */
function reopen(
  book: RunBook,
  snapshot: ServiceSnapshot,
  context: RunContext,
  tasks: ReadonlyMap<number, ReadonlyMap<number, readonly Task[]>>,
): void {
  const run = book.newest();
  if (run?.state !== JobState.SUCCEEDED || snapshot.service.spec.mode.$case !== "globalJob") return;
  const slots = tasks.get(run.number) ?? new Map<number, Task[]>();
  const { keep } = slotsOf(snapshot, revisionOf(context, run), slots);
  const waiting = keep.find(
    ({ slot, closed }) => !closed && !(slots.get(slot) ?? []).some(({ status }) => status.state === TaskState.COMPLETE),
  );
  if (waiting === undefined) return;
  const name = context.node(waiting.nodeId)?.description.hostname ?? waiting.nodeId;
  book.put(run.number, { state: JobState.RUNNING, endedAtMs: 0, message: `node ${name} came` });
}

/** Stops what is left of runs that ended, and forgets the tasks of those that were forgotten. */
function stopOthers(book: RunBook, draft: Draft): void {
  for (const task of draft.tasks()) {
    const run = book.get(task.run);
    if (run === undefined) draft.want(task.meta.id, TaskState.REMOVE);
    else if (run.state !== JobState.RUNNING && isWanted(task) && !hasEnded(task))
      draft.want(task.meta.id, TaskState.SHUTDOWN);
  }
}

/** Until when tasks of ended runs may still run, where no two runs may go on at the same time. */
function heldUntil(book: RunBook, context: RunContext): number {
  const { mode } = context.service.spec;
  if (mode.$case === "cron" && mode.value.concurrency === ConcurrencyPolicy.ALLOW) return 0;
  const left = context.draft.tasks().filter(({ run }) => book.get(run)?.state !== JobState.RUNNING);
  return freeAtMs(context, left);
}
