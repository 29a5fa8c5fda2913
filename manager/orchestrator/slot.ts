// What to do about one slot: the one place that creates, releases and stops tasks. It knows nothing of rollouts but
// which revision the slot is to have and how the change is to be made; an update, a drained node and a lost one are
// all "what is there is not what is wanted".

import { matchConstraint, parseConstraint, equalPlacement } from "../../deploy/spec/mod.js";
import { hasEnded, isLost, isReady, isReplaced, isWanted, whatHappened } from "../../deploy/strategy/mod.js";
import {
  type Node,
  NodeAvailability,
  type Revision,
  type Service,
  type SlotProgress,
  SlotVerdict,
  type Task,
  TaskState,
  type UpdateConfig,
  UpdateOrder,
} from "../../proto/mod.js";
import { nextTaskAtMs } from "./backoff.js";
import type { DesiredState, Draft } from "./draft.js";

/** Beyond its drain timeout and grace period, a task that does not stop is not waited for any longer than this. */
const stopSlackMs = 30_000;

export interface SlotContext {
  draft: Draft;
  service: Service;
  revision: (number: number) => Revision | undefined;
  node: (id: string) => Node | undefined;
  config: UpdateConfig;
  /** Whether a rollout is under way: only then does a changed placement move tasks, at the rollout's pace. */
  rolling: boolean;
  id: () => string;
  /** Asks for another look at that time. */
  wake: (atMs: number) => void;
}

export interface SlotWish {
  slot: number;
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

function staysWell(context: SlotContext, { target, strict, progress }: SlotWish, task: Task): boolean {
  if (isOnDrained(task, context.node)) return false;
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
  // A replacement that never gets well does not hold up a drained node for ever. In a rollout the old task stays.
  const patienceMs = keep.meta.createdAtMs + config.progressDeadlineMs;
  for (const task of others) {
    const drained = isOnDrained(task, node);
    if (
      task.nodeId === "" ||
      keep.desiredState === TaskState.READY ||
      (isReady(keep) && draft.now >= healthyAtMs) ||
      (drained && draft.now >= patienceMs)
    ) {
      draft.want(task.meta.id, TaskState.SHUTDOWN);
      continue;
    }
    if (isReady(keep)) wake(healthyAtMs);
    if (drained) wake(patienceMs);
  }
}

function isOnDrained(task: Task, node: (id: string) => Node | undefined): boolean {
  return node(task.nodeId)?.spec.availability === NodeAvailability.DRAINED;
}

/** Lets a prepared task run once what it replaces has stopped, or will not be waited for. */
function release(context: SlotContext, keep: Task, tasks: readonly Task[]): void {
  const { draft, wake } = context;
  if (keep.desiredState !== TaskState.READY) return;
  let readyAtMs = 0;
  for (const { meta } of tasks) {
    const task = draft.get(meta.id);
    if (task === undefined || task.meta.id === keep.meta.id || !occupies(context, task)) continue;
    const spec = context.revision(task.revision)?.spec ?? context.service.spec;
    readyAtMs = Math.max(
      readyAtMs,
      task.desiredSinceMs + spec.drainTimeoutMs + spec.task.container.stopGracePeriodMs + stopSlackMs,
    );
  }
  if (draft.now >= readyAtMs) draft.want(keep.meta.id, TaskState.RUNNING);
  else wake(readyAtMs);
}

/** Whether something of the task may still run somewhere. */
function occupies({ node }: SlotContext, task: Task): boolean {
  return task.nodeId !== "" && !hasEnded(task) && !isLost(task, node);
}

/** Makes the slot's next task when it is due. `others` run and are to make way. */
function fill(
  context: SlotContext,
  wish: SlotWish,
  tasks: readonly Task[],
  others: readonly Task[],
): string | undefined {
  const { draft, revision, config, wake } = context;
  const { target, progress } = wish;
  const history = tasks.filter((task) => revision(task.revision)?.templateHash === target.templateHash);
  const dueAtMs = nextTaskAtMs(history, progress?.startedAtMs ?? 0);
  if (draft.now < dueAtMs) {
    wake(dueAtMs);
    return undefined;
  }
  // In a slot that a rollout has begun, the rollout decided by its budget.
  const ordered = progress === undefined ? config.order === UpdateOrder.START_FIRST : progress.startFirst;
  const startFirst = ordered && others.some(({ nodeId }) => nodeId !== "");
  // One old task stays until the new one is well; an update that came upon another may have left two.
  const [stays] = startFirst ? others.filter(({ nodeId }) => nodeId !== "").sort(byWorth) : [];
  for (const task of others) if (task !== stays) draft.want(task.meta.id, TaskState.SHUTDOWN);
  const mustWait =
    !startFirst &&
    tasks.some(({ meta }) => {
      const task = draft.get(meta.id);
      return task !== undefined && occupies(context, task);
    });
  const task = newTask(
    context,
    wish,
    mustWait ? TaskState.READY : TaskState.RUNNING,
    causeOf(context, wish, tasks, others),
  );
  draft.create(task);
  return task.meta.id;
}

function causeOf(
  { node, revision }: SlotContext,
  { target, cause }: SlotWish,
  tasks: readonly Task[],
  others: readonly Task[],
): string {
  const moved = others.find((task) => isOnDrained(task, node));
  if (moved !== undefined)
    return `moves ${moved.meta.id} off drained ${node(moved.nodeId)?.description.hostname ?? "node"}`;
  const [last] = tasks;
  if (others.length > 0 || last === undefined) return cause;
  if (revision(last.revision)?.templateHash !== target.templateHash || last.status.state === TaskState.SHUTDOWN)
    return cause;
  const why = isLost(last, node) ? "its node was lost" : whatHappened(last);
  return `replaces ${last.meta.id}: ${why}`;
}

function newTask(
  { draft, service, id }: SlotContext,
  { slot, target }: SlotWish,
  desiredState: DesiredState,
  cause: string,
): Task {
  const { now } = draft;
  return {
    meta: { id: id(), version: 0, createdAtMs: now, updatedAtMs: now },
    serviceId: service.meta.id,
    serviceName: service.spec.name,
    slot,
    revision: target.number,
    nodeId: "",
    desiredState,
    desiredSinceMs: now,
    status: { state: TaskState.NEW, sinceMs: now, message: "", error: "", container: undefined },
    placementMessage: "",
    readySinceMs: 0,
    endedAtMs: 0,
    cause,
    onlyNodeId: "",
    leave: undefined,
    run: 0,
    placementReason: "",
  };
}
