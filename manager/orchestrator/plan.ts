// The plan for one service: a pure function of everything stored about it and the time. All controllers that could
// fight over tasks are this one function; the plan for a state it just produced is empty (invariant 9).

import {
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
  NodeAvailability,
  NodeState,
  replicasOf,
  type Revision,
  type Rollout,
  RolloutState,
  type SlotProgress,
  SlotVerdict,
  type Task,
  TaskState,
  type UpdateConfig,
} from "../../proto/mod.js";
import { isUnderWay, type Making, type ServiceParts, type Step, undoRollout } from "../rollout/mod.js";
import { Draft } from "./draft.js";
import { planRemoval, reap, reapRecords } from "./reaper.js";
import { chooseSlots } from "./scale.js";
import { isCurrent, planSlot, type SlotContext } from "./slot.js";

/** Everything stored about one service. */
export interface ServiceSnapshot extends ServiceParts {
  tasks: readonly Task[];
  /** All rollouts that are kept, in no order. */
  rollouts: readonly Rollout[];
  node: (id: string) => Node | undefined;
}

export interface ServicePlan {
  /** In an order of which every beginning is a sound state. */
  steps: Step[];
  /** When to plan again though nothing changes. */
  wakeAtMs: number | undefined;
}

export function planService(snapshot: ServiceSnapshot, making: Making): ServicePlan {
  const { service, revisions } = snapshot;
  const draft = new Draft(snapshot.tasks, making.now);
  if (service.removing) return { steps: planRemoval(snapshot, draft), wakeAtMs: undefined };
  const byNumber = new Map(revisions.map((revision) => [revision.number, revision]));
  const newest = byNumber.get(service.revision);
  if (newest === undefined)
    throw new Error(`service ${service.meta.id} has no revision ${service.revision}, which it says is its newest`);
  let wakeAtMs = Number.POSITIVE_INFINITY;
  const wake = (atMs: number) => {
    wakeAtMs = Math.min(wakeAtMs, atMs);
  };
  const context: SlotContext = {
    draft,
    service,
    revision: (number) => byNumber.get(number),
    node: snapshot.node,
    config: configOf(snapshot, byNumber),
    rolling: isUnderWay(snapshot.rollout),
    id: making.id,
    wake,
  };

  const slots = draft.bySlot();
  const { keep, drop } = chooseSlots(slots, replicasOf(service.spec));
  for (const slot of drop) for (const { meta } of slots.get(slot) ?? []) draft.want(meta.id, TaskState.REMOVE);

  const before = isUnderWay(snapshot.rollout) ? snapshot.rollout : undefined;
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
  for (const slot of keep) {
    const entry = progress.get(slot);
    const held = rollout !== undefined && entry === undefined && !isDone(rollout);
    const target = held && stable !== undefined ? stable : newest;
    const watch = planSlot(
      context,
      { slot, target, strict: !held, progress: entry, cause: causeFor(rollout, target, held) },
      slots.get(slot) ?? [],
    );
    if (entry !== undefined && watch !== undefined) progress.set(slot, watching(context, entry, watch));
  }
  if (rollout !== undefined)
    rollout = { ...rollout, slots: rollout.slots.map((entry) => progress.get(entry.slot) ?? entry) };

  reap(draft, snapshot.node);
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

/**
 * The settings of the change that is under way. A rollback goes by those of the revision that is being left, the last
 * word on how to leave it; unless the service was changed since.
 */
function configOf({ service, rollout }: ServiceSnapshot, byNumber: ReadonlyMap<number, Revision>): UpdateConfig {
  if (!isUnderWay(rollout) || !rollout.isRollback) return service.spec.update;
  const left = service.revision === rollout.toRevision ? byNumber.get(rollout.fromRevision) : undefined;
  return (left?.spec ?? service.spec).rollback;
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
  keep: readonly number[],
  slots: ReadonlyMap<number, readonly Task[]>,
  making: Making,
): RolloutDecision {
  const records = new Map(rollout.slots.map((entry) => [entry.slot, entry]));
  const { progress, batchDoneAtMs, outcome, wakeAtMs } = planRolling({
    rollout,
    config: context.config,
    restart: target.spec.task.restart,
    slots: keep.map((slot) => summarise(context, slot, slots.get(slot) ?? [], target, records.get(slot))),
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
  slot: number,
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
    closed: isClosed(context, live),
    live: live.length,
    current: current.find(isReady) ?? current[0],
    currentReady: current.some(isReady),
    watched,
    watchedLost: watched !== undefined && isLost(watched, node),
  };
}

/** Whether the slot keeps the task that it has, and can get no other: slots of a global service stay with their node. */
function isClosed({ service, node }: SlotContext, live: readonly Task[]): boolean {
  if (service.spec.mode.$case !== "global") return false;
  return live.some(({ nodeId }) => node(nodeId)?.spec.availability === NodeAvailability.CORDONED);
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
        entry.startedAtMs === other.startedAtMs
      );
    })
  );
}
