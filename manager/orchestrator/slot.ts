// What to do about one slot: the one place that creates, releases and stops tasks. It knows nothing of rollouts but
// which revision the slot is to have and how the change is to be made; an update, a drained node and a lost one are
// all "what is there is not what is wanted".

import { matchConstraint, parseConstraint, equalPlacement } from "../../deploy/spec/mod.js";
import { hasEnded, isLost, isReady, isReplaced, isWanted, whatHappened } from "../../deploy/strategy/mod.js";
import {
  type Node,
  type Revision,
  type Service,
  type SlotProgress,
  SlotVerdict,
  type Task,
  TaskState,
  type UpdateConfig,
} from "../../proto/mod.js";
import { nextTaskAtMs } from "./backoff.js";
import type { DesiredState, Draft } from "./draft.js";
import { fencedUntilMs } from "./fence.js";
import { leavingOf, type MoveBudget } from "./moving.js";

/** Beyond its drain timeout and grace period, a task that does not stop is not waited for any longer than this. */
const stopSlackMs = 30_000;

export interface SlotContext {
  draft: Draft;
  service: Service;
  revision: (number: number) => Revision | undefined;
  node: (id: string) => Node | undefined;
  config: UpdateConfig;
  /** What moving tasks that are to leave may cost. */
  moves: MoveBudget;
  /** Whether a rollout is under way: only then does a changed placement move tasks, at the rollout's pace. */
  rolling: boolean;
  id: () => string;
  /** Asks for another look at that time. */
  wake: (atMs: number) => void;
}

export interface SlotWish {
  slot: number;
  /** The one node that its tasks may be on; empty is any. */
  nodeId: string;
  /** What a new task of the slot runs. */
  target: Revision;
  /** Whether a running task of other revisions must make way; otherwise it stays until it ends. */
  strict: boolean;
  /** The slot's record in the rollout under way, once it was begun. */
  progress: SlotProgress | undefined;
  /** Why a new task is made when nothing failed: "created", "update to 3". */
  cause: string;
}

/** Whether a task may stay when `target` is what is wanted. */
export function isCurrent(
  task: Task,
  target: Revision,
  { revision, node, rolling }: Pick<SlotContext, "revision" | "node" | "rolling">,
): boolean {
  const own = revision(task.revision);
  if (own === undefined || own.templateHash !== target.templateHash) return false;
  // It was placed by the target's rules, or by a later revision's; changes of a node's labels move nothing.
  if (!rolling || task.revision >= target.number || equalPlacement(own.spec, target.spec)) return true;
  const on = node(task.nodeId);
  if (on === undefined) return false;
  return target.spec.task.placement.constraints.every((text) => {
    const parsed = parseConstraint(text);
    return "constraint" in parsed && matchConstraint(parsed.constraint, on);
  });
}

/** Plans one slot into the draft. Answers the id of the task that the rollout should watch in it. */
export function planSlot(context: SlotContext, wish: SlotWish, tasks: readonly Task[]): string | undefined {
  const { draft, node } = context;
  const wanted = tasks.filter(isWanted);
  const lost = wanted.filter((task) => isLost(task, node));
  const ended = wanted.filter(hasEnded);
  const live = wanted.filter((task) => !hasEnded(task) && !lost.includes(task));
  const fits = live.filter((task) => staysWell(context, wish, task));

  if (live.length === 0 && [...ended, ...lost].some((task) => isAtRest(context, wish, task))) return undefined;
  for (const task of [...ended, ...lost]) draft.want(task.meta.id, TaskState.SHUTDOWN);

  const [keep, ...surplus] = fits.sort(byWorth);
  for (const task of surplus) draft.want(task.meta.id, TaskState.SHUTDOWN);
  const others = live.filter((task) => !fits.includes(task));
  if (keep !== undefined) {
    replaceWith(context, keep, others);
    release(context, keep, tasks);
    return keep.meta.id;
  }
  return fill(context, wish, tasks, others);
}

/** The one to keep of several: what serves goes first, then what is meant to run, then the older one. */
function byWorth(a: Task, b: Task): number {
  return (
    Number(isReady(b)) - Number(isReady(a)) ||
    b.desiredState - a.desiredState ||
    a.meta.createdAtMs - b.meta.createdAtMs ||
    (a.meta.id < b.meta.id ? -1 : 1)
  );
}

function staysWell(context: SlotContext, wish: SlotWish, task: Task): boolean {
  return leavingOf(task, context.node) === undefined && isAsWished(context, wish, task);
}

/** Whether it may stay as far as the revision goes. */
function isAsWished(context: SlotContext, { target, strict, progress }: SlotWish, task: Task): boolean {
  if (!strict) return true;
  if (!isCurrent(task, target, context)) return false;
  return isReady(task) || !isTriedAgain(progress, task);
}

/** The slot is to be tried again, and the task is from before: unless it is well, it makes way for a new one. */
function isTriedAgain(progress: SlotProgress | undefined, task: Task): boolean {
  return (
    progress?.verdict === SlotVerdict.PENDING && progress.taskId === "" && task.meta.createdAtMs < progress.startedAtMs
  );
}

/** Whether the slot is done: its task ended, or its node was lost, and the policy replaces neither. */
function isAtRest(context: SlotContext, { target, strict, progress }: SlotWish, task: Task): boolean {
  if (isTriedAgain(progress, task)) return false;
  const own = context.revision(task.revision);
  if (own === undefined || (strict && own.templateHash !== target.templateHash)) return false;
  return !isReplaced(own.spec.task.restart, hasEnded(task) ? task.status.state : TaskState.ORPHANED);
}

/** Stops the tasks that `keep` replaces, once it is well. */
function replaceWith({ draft, node, config, wake }: SlotContext, keep: Task, others: readonly Task[]): void {
  const healthyAtMs = keep.readySinceMs + config.minHealthyTimeMs;
  for (const task of others) {
    // A replacement that never gets well does not hold up a drained node for ever. In a rollout the old task stays.
    const deadlineMs = leavingOf(task, node)?.deadlineMs;
    if (
      task.nodeId === "" ||
      keep.desiredState === TaskState.READY ||
      (isReady(keep) && draft.now >= healthyAtMs) ||
      (deadlineMs !== undefined && draft.now >= deadlineMs)
    ) {
      draft.want(task.meta.id, TaskState.SHUTDOWN);
      continue;
    }
    if (isReady(keep)) wake(healthyAtMs);
    if (deadlineMs !== undefined) wake(deadlineMs);
  }
}

/** Lets a prepared task run once what it replaces has stopped, or will not be waited for. */
function release(context: SlotContext, keep: Task, tasks: readonly Task[]): void {
  const { draft, wake } = context;
  if (keep.desiredState !== TaskState.READY) return;
  const readyAtMs = freeAtMs(
    context,
    tasks.flatMap(({ meta }) => (meta.id === keep.meta.id ? [] : (draft.get(meta.id) ?? []))),
  );
  if (draft.now >= readyAtMs) draft.want(keep.meta.id, TaskState.RUNNING);
  else wake(readyAtMs);
}

type Occupancy = Pick<SlotContext, "draft" | "service" | "revision" | "node">;

/** Whether something of the task may still run somewhere. */
export function occupies({ node }: Occupancy, task: Task): boolean {
  return task.nodeId !== "" && !hasEnded(task) && !isLost(task, node);
}

/** When none of the tasks runs any more, or is waited for any longer; those that end sooner are seen to. */
export function freeAtMs(context: Occupancy, tasks: readonly Task[]): number {
  const { draft, revision, node, service } = context;
  let atMs = 0;
  for (const task of tasks) {
    atMs = Math.max(atMs, fencedUntilMs(task, revision, node, draft.now));
    if (!occupies(context, task)) continue;
    const spec = revision(task.revision)?.spec ?? service.spec;
    atMs = Math.max(
      atMs,
      task.desiredSinceMs + spec.drainTimeoutMs + spec.task.container.stopGracePeriodMs + stopSlackMs,
    );
  }
  return atMs;
}

/** Makes the slot's next task when it is due. `others` run and are to make way. */
function fill(
  context: SlotContext,
  wish: SlotWish,
  tasks: readonly Task[],
  others: readonly Task[],
): string | undefined {
  const { draft, revision, node, wake } = context;
  const { target, progress } = wish;
  const overdue = others.filter((task) => draft.now >= (leavingOf(task, node)?.deadlineMs ?? Number.POSITIVE_INFINITY));
  for (const { meta } of overdue) draft.want(meta.id, TaskState.SHUTDOWN);
  const history = tasks.filter((task) => revision(task.revision)?.templateHash === target.templateHash);
  const fencedMs = Math.max(0, ...tasks.map((task) => fencedUntilMs(task, revision, node, draft.now)));
  const dueAtMs = Math.max(nextTaskAtMs(history, progress?.startedAtMs ?? 0, draft.now), fencedMs);
  if (draft.now < dueAtMs) {
    wake(dueAtMs);
    wakeAtDeadlines(context, others);
    return undefined;
  }
  const way = wayOf(context, wish, others, overdue);
  if (way === undefined) {
    wakeAtDeadlines(context, others);
    return undefined;
  }
  const startFirst = way === "start-first";
  // One old task stays until the new one is well; an update that came upon another may have left two.
  const [stays] = startFirst ? others.filter(({ nodeId }) => nodeId !== "").sort(byWorth) : [];
  for (const task of others) if (task !== stays) draft.want(task.meta.id, TaskState.SHUTDOWN);
  const mustWait =
    !startFirst &&
    tasks.some(({ meta }) => {
      const task = draft.get(meta.id);
      return task !== undefined && occupies(context, task);
    });
  const task = newTask(context, {
    slot: wish.slot,
    run: 0,
    nodeId: wish.nodeId,
    revision: target.number,
    desiredState: mustWait ? TaskState.READY : TaskState.RUNNING,
    cause: causeOf(context, wish, tasks, others),
  });
  draft.create(task);
  return task.meta.id;
}

/** In which order the slot's next task and the end of `others` come; undefined: not now. */
function wayOf(
  context: SlotContext,
  wish: SlotWish,
  others: readonly Task[],
  overdue: readonly Task[],
): "start-first" | "stop-first" | undefined {
  const { draft, node, moves } = context;
  if (overdue.length > 0 || others.every(({ nodeId }) => nodeId === "")) return "stop-first";
  const served = others.find(isReady);
  if (!others.every((task) => isAsWished(context, wish, task))) {
    // Also to be replaced by the rollout: that one has seen to what may be missing.
    if (wish.progress !== undefined) return wish.progress.startFirst ? "start-first" : "stop-first";
    // Left as it was by a rollout that is over, and due now: a cordoned node's task, say. Many may be due at once.
    return served === undefined ? "stop-first" : moves.takeOver();
  }
  // Replacements that have to leave themselves before they were of use: the move begins anew.
  const [stays, ...surplus] = others.toSorted(byWorth);
  for (const { meta } of surplus) draft.want(meta.id, TaskState.SHUTDOWN);
  moves.giveBack(surplus.length);
  const leaving = stays !== undefined && isReady(stays) ? leavingOf(stays, node) : undefined;
  // What serves nobody costs nothing.
  return leaving === undefined ? "stop-first" : moves.take(leaving, wish.nodeId !== "");
}

function wakeAtDeadlines({ node, wake, draft }: SlotContext, others: readonly Task[]): void {
  for (const task of others) {
    const deadlineMs = leavingOf(task, node)?.deadlineMs;
    if (deadlineMs !== undefined && deadlineMs > draft.now) wake(deadlineMs);
  }
}

function causeOf(
  { node, revision }: SlotContext,
  { target, cause }: SlotWish,
  tasks: readonly Task[],
  others: readonly Task[],
): string {
  for (const task of others) {
    const leaving = leavingOf(task, node);
    if (leaving !== undefined) return leaving.cause;
  }
  const [last] = tasks;
  if (others.length > 0 || last === undefined) return cause;
  if (revision(last.revision)?.templateHash !== target.templateHash || last.status.state === TaskState.SHUTDOWN)
    return cause;
  const why = isLost(last, node) ? "its node was lost" : whatHappened(last);
  return `replaces ${last.meta.id}: ${why}`;
}

export interface NewTask {
  slot: number;
  /** Of a job; 0 otherwise. */
  run: number;
  nodeId: string;
  revision: number;
  desiredState: DesiredState;
  cause: string;
}

export function newTask(
  { draft, service, id }: Pick<SlotContext, "draft" | "service" | "id">,
  { slot, run, nodeId, revision, desiredState, cause }: NewTask,
): Task {
  const { now } = draft;
  return {
    meta: { id: id(), version: 0, createdAtMs: now, updatedAtMs: now },
    serviceId: service.meta.id,
    serviceName: service.spec.name,
    slot,
    revision,
    nodeId: "",
    desiredState,
    desiredSinceMs: now,
    status: { state: TaskState.NEW, sinceMs: now, message: "", error: "", container: undefined },
    placementMessage: "",
    readySinceMs: 0,
    endedAtMs: 0,
    cause,
    onlyNodeId: nodeId,
    leave: undefined,
    run,
    placementReason: "",
  };
}
