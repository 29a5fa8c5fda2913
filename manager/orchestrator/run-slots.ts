// The slots of one run of a job: each is done when a task of it has completed, and lost when they failed too often in
// a row. Tasks of jobs have no replacement beside them: the next one of a slot is made when the one before has stopped.

import { hasEnded, isLost, isReplaced, isWanted, whatHappened } from "../../deploy/strategy/mod.js";
import {
  type JobRun,
  JobState,
  type Node,
  RestartCondition,
  type Revision,
  type Service,
  type Task,
  TaskState,
} from "../../proto/mod.js";
import { nextTaskAtMs } from "./backoff.js";
import type { Draft } from "./draft.js";
import type { RunSlots, Slot } from "./modes/mod.js";
import { leavingOf } from "./moving.js";
import { freeAtMs, newTask } from "./slot.js";

export interface RunContext {
  draft: Draft;
  service: Service;
  revision: (number: number) => Revision | undefined;
  node: (id: string) => Node | undefined;
  id: () => string;
  wake: (atMs: number) => void;
}

export interface RunOutcome {
  completed: number;
  total: number;
  /** Undefined while it goes on. */
  end: { state: JobState; message: string } | undefined;
}

/** Failures in a row of one slot that fail its run. */
export function attemptsOf(revision: Revision): number {
  const { condition, maxAttempts } = revision.spec.task.restart;
  return condition === RestartCondition.NONE ? 1 : Math.max(1, maxAttempts);
}

/**
 * Plans a run that goes on into the draft. Before `heldUntilMs` no task is made: something of a run that this one
 * replaces may still run.
 */
export function planRun(
  context: RunContext,
  { run, target, heldUntilMs }: { run: JobRun; target: Revision; heldUntilMs: number },
  { keep, drop, maxConcurrent }: RunSlots,
  tasksOf: (slot: number) => readonly Task[],
): RunOutcome {
  const { draft, wake } = context;
  const lingering: Slot[] = [];
  for (const { slot, desired } of drop) {
    const tasks = tasksOf(slot);
    if (desired === TaskState.SHUTDOWN && tasks.some((task) => isLive(context, task) && !mustLeave(context, task))) {
      lingering.push({ slot, nodeId: "", closed: true });
      continue;
    }
    for (const task of tasks) if (desired === TaskState.REMOVE || !hasEnded(task)) draft.want(task.meta.id, desired);
  }

  let completed = 0;
  let total = 0;
  let busy = 0;
  let failed: string | undefined;
  const due: { slot: Slot; tasks: readonly Task[] }[] = [];
  for (const slot of [...keep, ...lingering]) {
    const tasks = tasksOf(slot.slot);
    const state = planRunSlot(context, target, slot, tasks);
    if (state.is === "closed") continue;
    total += 1;
    if (state.is === "done") completed += 1;
    else if (state.is === "failed") failed ??= `slot ${slot.slot}: ${state.why}`;
    else if (state.is === "busy") busy += 1;
    else if (state.is === "due") {
      if (draft.now >= heldUntilMs) due.push({ slot, tasks });
      else wake(heldUntilMs);
    }
  }
  if (failed !== undefined) return { completed, total, end: { state: JobState.FAILED, message: failed } };
  if (total > 0 && completed === total)
    return { completed, total, end: { state: JobState.SUCCEEDED, message: `${total} of ${total} tasks completed` } };
  for (const { slot, tasks } of due) {
    if (busy >= maxConcurrent) break;
    busy += 1;
    const [last] = tasks;
    draft.create(
      newTask(context, {
        slot: slot.slot,
        run: run.number,
        nodeId: slot.nodeId,
        revision: target.number,
        desiredState: TaskState.RUNNING,
        cause: last === undefined ? `run ${run.number}: ${run.message}` : causeAfter(context, last),
      }),
    );
  }
  return { completed, total, end: undefined };
}

type SlotState =
  /** closed: nothing of it counts, and nothing may be made. waiting: for its back-off, which takes nobody's place. */
  | { is: "done" | "due" | "closed" | "waiting" }
  /** Something of it runs, or is still stopping. */
  | { is: "busy" }
  | { is: "failed"; why: string };

function planRunSlot(context: RunContext, target: Revision, slot: Slot, tasks: readonly Task[]): SlotState {
  const { draft, node, wake } = context;
  const complete = tasks.find(({ status }) => status.state === TaskState.COMPLETE);
  const live: Task[] = [];
  for (const task of tasks) {
    if (!isLive(context, task)) continue;
    // The oldest stays: the list is newest first.
    if (complete !== undefined || mustLeave(context, task)) draft.want(task.meta.id, TaskState.SHUTDOWN);
    else live.unshift(task);
  }
  if (complete !== undefined) return { is: "done" };
  for (const { meta } of live.slice(1)) draft.want(meta.id, TaskState.SHUTDOWN);
  if (live.length > 0) return { is: "busy" };

  const { restart } = target.spec.task;
  const gone = tasks.filter((task) => isWanted(task) && (hasEnded(task) || isLost(task, node)));
  const final = gone.find((task) => !isReplaced(restart, hasEnded(task) ? task.status.state : TaskState.ORPHANED));
  if (final !== undefined)
    return { is: "failed", why: isLost(final, node) ? "its node was lost" : whatHappened(final) };
  const failures = tasks.filter(isFailure);
  const [last] = failures;
  if (last !== undefined && failures.length >= attemptsOf(target))
    return { is: "failed", why: `failed ${failures.length} times in a row, at last: ${whatHappened(last)}` };
  for (const { meta } of gone) draft.want(meta.id, TaskState.SHUTDOWN);
  if (slot.closed) return { is: "closed" };
  const planned = tasks.flatMap(({ meta }) => draft.get(meta.id) ?? []);
  const freeMs = freeAtMs(context, planned);
  const dueAtMs = Math.max(nextTaskAtMs(tasks, 0, draft.now), freeMs);
  if (draft.now >= dueAtMs) return { is: "due" };
  wake(dueAtMs);
  return { is: draft.now < freeMs ? "busy" : "waiting" };
}

function isFailure({ status }: Task): boolean {
  return status.state === TaskState.FAILED || status.state === TaskState.REJECTED;
}

function isLive({ node }: RunContext, task: Task): boolean {
  return isWanted(task) && !hasEnded(task) && !isLost(task, node);
}

/** Whether it has to stop: on a drained node, what was started may end by itself until the drain's deadline. */
function mustLeave({ draft, node, wake }: RunContext, task: Task): boolean {
  const leaving = leavingOf(task, node);
  if (leaving?.deadlineMs === undefined || task.status.state < TaskState.STARTING) return leaving !== undefined;
  if (draft.now >= leaving.deadlineMs) return true;
  wake(leaving.deadlineMs);
  return false;
}

function causeAfter({ node }: RunContext, last: Task): string {
  const leaving = leavingOf(last, node);
  if (leaving !== undefined && !isFailure(last)) return leaving.cause;
  return `replaces ${last.meta.id}: ${isLost(last, node) ? "its node was lost" : whatHappened(last)}`;
}
