// The plan for one service: a pure function of everything stored about it and the time. All controllers that could
// fight over tasks are this one function; the plan for a state it just produced is empty (invariant 9).

import { isJob, type Settings } from "../../deploy/spec/mod.js";
import {
  budgetOf,
  hasEnded,
  isLost,
  isReady,
  isReplaced,
  isWanted,
  planRolling,
  type RollingSlot,
} from "../../deploy/strategy/mod.js";
import {
  FailureAction,
  type Node,
  NodeState,
  type Revision,
  type Rollout,
  RolloutState,
  type Service,
  type SlotProgress,
  SlotVerdict,
  type Task,
} from "../../proto/mod.js";
import { configInForce, isUnderWay, type Making, type ServiceParts, type Step, undoRollout } from "../rollout/mod.js";
import { waitingFor } from "./depends.js";
import { Draft } from "./draft.js";
import { globalSlots, replicatedSlots, type Slot, type SlotSet } from "./modes/mod.js";
import { giveUpMoves, leavingOf, MoveBudget } from "./moving.js";
import { planRemoval, reap, reapRecords } from "./reaper.js";
import { planRuns } from "./runs.js";
import { isCurrent, planSlot, type SlotContext } from "./slot.js";

/** Everything stored about one service, and what else its tasks hang on. */
export interface ServiceSnapshot extends ServiceParts {
  tasks: readonly Task[];
  /** All rollouts that are kept, in no order. */
  rollouts: readonly Rollout[];
  node: (id: string) => Node | undefined;
  /** All nodes; asked for only where there is a slot per node. */
  nodes: () => Iterable<Node>;
  /** Of the cluster; the defaults when absent. */
  settings?: Settings;
  /**
   * Why the service of that name is not what another may depend on yet, in a clause; undefined: it is. Asked for only
   * while the service has not begun. Absent: nothing is waited for.
   */
  unreadyBecause?: (name: string) => string | undefined;
}

export interface ServicePlan {
  /** In an order of which every beginning is a sound state. */
  steps: Step[];
  /** When to plan again though nothing changes. */
  wakeAtMs: number | undefined;
}

export function planService(snapshot: ServiceSnapshot, making: Making): ServicePlan {
  const draft = new Draft(snapshot.tasks, making.now);
  const { service: before } = snapshot;
  if (before.removing) {
    let wakeAtMs: number | undefined;
    const steps = planRemoval(snapshot, draft, (atMs) => {
      wakeAtMs = Math.min(wakeAtMs ?? atMs, atMs);
    });
    return { steps, wakeAtMs };
  }
  const waits = waitingFor(snapshot);
  const service: Service = waits === before.waitingFor ? before : { ...before, waitingFor: waits };
  if (waits !== "") return { steps: withService(before, service, [], making), wakeAtMs: undefined };
  const now = { ...snapshot, service };
  const plan = isJob(service.spec) ? planRuns(now, draft, making) : { service, ...planSlots(now, draft, making) };
  return { steps: withService(before, plan.service, plan.steps, making), wakeAtMs: plan.wakeAtMs };
}

/** The steps, after the service's own record when that changed: tasks of a run come after the run. */
function withService(before: Service, after: Service, steps: Step[], { now }: Making): Step[] {
  if (after === before || steps.some(({ table }) => table === "services")) return steps;
  const object: Service = { ...after, meta: { ...after.meta, updatedAtMs: now } };
  return [{ do: "put", table: "services", object }, ...steps];
}

/** Of services that run all the time, in slots that rollouts move from one revision to another. */
function planSlots(snapshot: ServiceSnapshot, draft: Draft, making: Making): ServicePlan {
  const { service, revisions, node } = snapshot;
  const byNumber = new Map(revisions.map((revision) => [revision.number, revision]));
  const newest = byNumber.get(service.revision);
  if (newest === undefined)
    throw new Error(`service ${service.meta.id} has no revision ${service.revision}, which it says is its newest`);
  let wakeAtMs = Number.POSITIVE_INFINITY;
  const wake = (atMs: number) => {
    wakeAtMs = Math.min(wakeAtMs, atMs);
  };
  const config = configInForce(snapshot);
  giveUpMoves(draft, config, wake);
  const slots = draft.bySlot();
  const before = isUnderWay(snapshot.rollout) ? snapshot.rollout : undefined;
  const { keep, drop } = slotsOf(snapshot, before === undefined ? undefined : byNumber.get(before.fromRevision), slots);
  const context: SlotContext = {
    draft,
    service,
    revision: (number) => byNumber.get(number),
    node,
    config,
    moves: new MoveBudget(budgetOf(config), {
      slots: () => {
        const planned = draft.bySlot();
        return keep.flatMap(({ slot, closed }) => (closed ? [] : [planned.get(slot) ?? []]));
      },
      isFinished: (task) => isFinished(context, task),
      node,
      rolling: before !== undefined,
    }),
    rolling: before !== undefined,
    id: making.id,
    wake,
  };
  for (const { slot, desired } of drop) for (const { meta } of slots.get(slot) ?? []) draft.want(meta.id, desired);

  let rollout = before;
  if (rollout !== undefined) {
    const decided = planRollout(context, snapshot, rollout, newest, keep, slots, making);
    if ("steps" in decided) return { steps: decided.steps, wakeAtMs: undefined };
    rollout = decided.rollout;
    wake(decided.wakeAtMs);
  }

  const progress = new Map((rollout?.slots ?? []).map((entry) => [entry.slot, entry]));
  // Ended in this very plan, the rollout leaves the slots as it made them; the next plan has no rollout.
  const stable = rollout === undefined ? undefined : byNumber.get(rollout.fromRevision);
  for (const { slot, nodeId } of inOrder(context, keep, slots)) {
    const entry = progress.get(slot);
    const held = rollout !== undefined && entry === undefined && !isDone(rollout);
    const target = held && stable !== undefined ? stable : newest;
    const watch = planSlot(
      context,
      { slot, nodeId, target, strict: !held, progress: entry, cause: causeFor(rollout, target, held) },
      slots.get(slot) ?? [],
    );
    if (entry !== undefined && watch !== undefined) progress.set(slot, watching(context, entry, watch));
  }
  if (rollout !== undefined)
    rollout = { ...rollout, slots: rollout.slots.map((entry) => progress.get(entry.slot) ?? entry) };

  reap(draft, { ...snapshot, revision: context.revision, wake });
  const steps = [
    ...draft.steps(),
    // After the tasks that it names. When a long plan is cut before it, the next plan finds tasks of the target in
    // slots without a record, and takes them in.
    ...(rollout !== undefined && before !== undefined && !equalRollouts(rollout, before)
      ? [{ do: "put", table: "rollouts", object: rollout } as const]
      : []),
    ...reapRecords(snapshot, draft.tasks()),
  ];
  return { steps, wakeAtMs: Number.isFinite(wakeAtMs) ? wakeAtMs : undefined };
}

function slotsOf(
  { service: { spec }, nodes }: ServiceSnapshot,
  from: Revision | undefined,
  slots: ReadonlyMap<number, readonly Task[]>,
): SlotSet {
  if (spec.mode.$case === "replicated") return replicatedSlots(spec, slots);
  return globalSlots({ spec, leaving: from?.spec, slots, nodes: nodes() });
}

/**
 * The slots to plan: first those where nothing is to be moved, since what they are short of is not to be added to, then
 * the others, those that have waited longest first. Closed ones are left alone.
 */
function inOrder({ node }: SlotContext, keep: readonly Slot[], slots: ReadonlyMap<number, readonly Task[]>): Slot[] {
  const still: Slot[] = [];
  const moving: { slot: Slot; atMs: number }[] = [];
  for (const slot of keep) {
    if (slot.closed) continue;
    let atMs = Number.POSITIVE_INFINITY;
    for (const task of slots.get(slot.slot) ?? [])
      if (isWanted(task) && !hasEnded(task))
        atMs = Math.min(atMs, leavingOf(task, node)?.atMs ?? Number.POSITIVE_INFINITY);
    if (Number.isFinite(atMs)) moving.push({ slot, atMs });
    else still.push(slot);
  }
  moving.sort((a, b) => a.atMs - b.atMs || a.slot.slot - b.slot.slot);
  return [...still, ...moving.map(({ slot }) => slot)];
}

function causeFor(rollout: Rollout | undefined, target: Revision, held: boolean): string {
  if (rollout === undefined || held) return "created";
  return rollout.isRollback ? `rollback to ${target.rollbackOf}` : `update to ${target.number}`;
}

function isDone({ state }: Rollout): boolean {
  return state === RolloutState.COMPLETED;
}

/** The entry with the task that now counts in its slot: the one it names, unless that was moved, lost or never made. */
function watching({ draft, node }: SlotContext, entry: SlotProgress, taskId: string): SlotProgress {
  if (entry.verdict !== SlotVerdict.PENDING || entry.taskId === taskId) return entry;
  const named = draft.get(entry.taskId);
  const stays = named !== undefined && isWanted(named) && !isLost(named, node);
  return stays ? entry : { ...entry, taskId };
}

type RolloutDecision = { rollout: Rollout; wakeAtMs: number } | { steps: Step[] };

/** The rollout's next record, or the steps that undo it: then everything else is for the next plan. */
function planRollout(
  context: SlotContext,
  snapshot: ServiceSnapshot,
  rollout: Rollout,
  target: Revision,
  keep: readonly Slot[],
  slots: ReadonlyMap<number, readonly Task[]>,
  making: Making,
): RolloutDecision {
  const records = new Map(rollout.slots.map((entry) => [entry.slot, entry]));
  const { progress, batchDoneAtMs, outcome, wakeAtMs } = planRolling({
    rollout,
    config: context.config,
    restart: target.spec.task.restart,
    slots: keep.map((slot) => summarise(context, slot, slots.get(slot.slot) ?? [], target, records.get(slot.slot))),
    now: making.now,
  });
  const next: Rollout = {
    ...rollout,
    meta: { ...rollout.meta, updatedAtMs: making.now },
    slots: progress,
    batchDoneAtMs,
  };
  if (outcome.kind === "going") return { rollout: next, wakeAtMs };
  if (outcome.kind === "completed")
    return {
      rollout: { ...next, state: RolloutState.COMPLETED, message: outcome.message, endedAtMs: making.now },
      wakeAtMs,
    };
  if (context.config.failureAction === FailureAction.ROLLBACK) {
    const undone = undoRollout({ ...snapshot, rollout: next }, next, outcome.message, making);
    if (undone !== undefined) return { steps: undone.steps };
  }
  return { rollout: { ...next, state: RolloutState.PAUSED, message: outcome.message }, wakeAtMs };
}

function summarise(
  context: SlotContext,
  { slot, closed }: Slot,
  tasks: readonly Task[],
  target: Revision,
  record: SlotProgress | undefined,
): RollingSlot {
  const { node } = context;
  const live = tasks.filter((task) => isWanted(task) && !hasEnded(task) && !isLost(task, node));
  const current = live.filter((task) => isCurrent(task, target, context));
  const ready = live.filter(isReady);
  const watched = record === undefined ? undefined : tasks.find(({ meta }) => meta.id === record.taskId);
  return {
    slot,
    ready: ready.length > 0,
    away: ready.length > 0 && ready.every(({ nodeId }) => node(nodeId)?.status.state !== NodeState.READY),
    finished: ready.length === 0 && tasks.some((task) => isFinished(context, task)),
    closed,
    live: live.length,
    current: current.find(isReady) ?? current[0],
    currentReady: current.some(isReady),
    watched,
    watchedLost: watched !== undefined && isLost(watched, node),
  };
}

function isFinished({ revision }: SlotContext, task: Task): boolean {
  const own = revision(task.revision);
  return own !== undefined && isWanted(task) && hasEnded(task) && !isReplaced(own.spec.task.restart, task.status.state);
}

/** Whether two records say the same; when they were written is no difference. */
function equalRollouts(a: Rollout, b: Rollout): boolean {
  if (a.state !== b.state || a.message !== b.message || a.batchDoneAtMs !== b.batchDoneAtMs) return false;
  return (
    a.slots.length === b.slots.length &&
    a.slots.every((entry, i) => {
      const other = b.slots[i];
      return (
        entry.slot === other?.slot &&
        entry.taskId === other.taskId &&
        entry.verdict === other.verdict &&
        entry.message === other.message &&
        entry.startedAtMs === other.startedAtMs &&
        entry.startFirst === other.startFirst
      );
    })
  );
}
