// A service's state as progress: what each slot is at, and whether what was asked for is reached. Pure: states and
// times go in, screens and endings come out.

import type { ServiceState } from "../../proto/gen/flotilla/control/v1/control.js";
import {
  ContainerPhase,
  RolloutState,
  SlotVerdict,
  type Task,
  TaskState,
} from "../../proto/gen/flotilla/objects/v1/objects.js";
import { isOver, orderTasks, stateOf } from "../screen/task.js";
import { taskState } from "../screen/words.js";

export interface SlotView {
  slot: number;
  /** The task of the wanted revision, else the one that it will replace. */
  task: Task | undefined;
  /** Whether the wanted revision runs here and is ready. */
  done: boolean;
  /** Whether `task` is of another revision. */
  old: boolean;
  /** Words for the state, as "starting" or "running, not ready". */
  state: string;
  /** From 0 to 10. */
  steps: number;
  node: string;
  /** What is wrong now. */
  error: string;
  /** Waiting for a node, and nothing but. */
  unplaced: boolean;
}

export interface ProgressView {
  slots: SlotView[];
  done: number;
  total: number;
  /** Tasks beyond the slots asked for, or of other revisions, that are still there. */
  leaving: number;
}

/** Numbers of the revisions that have the same tasks as `revision`. */
export function sameTasks(state: ServiceState, revision: number): ReadonlySet<number> {
  const hash = state.revisions.find(({ number }) => number === revision)?.templateHash;
  return new Set([
    revision,
    ...state.revisions
      .filter(({ templateHash }) => hash !== undefined && templateHash === hash)
      .map(({ number }) => number),
  ]);
}

export function progressOf(state: ServiceState): ProgressView {
  const wanted = sameTasks(state, state.service?.revision ?? 0);
  const total = state.replicasDesired;
  const bySlot = new Map<number, Task[]>();
  let leaving = 0;
  for (const task of orderTasks(state.tasks)) {
    const meant = task.desiredState <= TaskState.RUNNING;
    if (!isOver(task) && (!meant || task.slot > total)) leaving += 1;
    const tasks = bySlot.get(task.slot);
    if (tasks === undefined) bySlot.set(task.slot, [task]);
    else tasks.push(task);
  }
  const slots: SlotView[] = [];
  for (let slot = 1; slot <= total; slot += 1) {
    const tasks = bySlot.get(slot) ?? [];
    const meant = tasks.filter(({ desiredState }) => desiredState <= TaskState.RUNNING);
    const task =
      meant.find((candidate) => wanted.has(candidate.revision) && !isOver(candidate)) ??
      meant.find((candidate) => !isOver(candidate)) ??
      tasks.find((candidate) => wanted.has(candidate.revision)) ??
      tasks[0];
    slots.push(slotView(slot, task, wanted, state));
  }
  return { slots, done: slots.filter(({ done }) => done).length, total, leaving };
}

function slotView(slot: number, task: Task | undefined, wanted: ReadonlySet<number>, state: ServiceState): SlotView {
  if (task === undefined)
    return { slot, task, done: false, old: false, state: "new", steps: 0, node: "", error: "", unplaced: false };
  const now = stateOf(task);
  const container = task.status?.container;
  const old = !wanted.has(task.revision);
  const meant = task.desiredState <= TaskState.RUNNING && !isOver(task);
  const ready = now === TaskState.RUNNING && container?.ready === true;
  const done = !old && meant && ready;
  const unplaced = meant && !old && now <= TaskState.PENDING && task.nodeId === "" && task.placementMessage !== "";
  let words = taskState(now);
  if (now === TaskState.RUNNING && container?.phase === ContainerPhase.BACKING_OFF) words = "backing off";
  else if (now === TaskState.RUNNING && !ready) words = "running, not ready";
  if (!meant && !isOver(task)) words = "stopping";
  if (old) words += `, revision ${task.revision}`;
  return {
    slot,
    task,
    done,
    old,
    state: words,
    steps: done ? 10 : old || isOver(task) ? 0 : Math.min(9, now),
    node: state.nodeNames[task.nodeId] ?? "",
    error: task.status?.error || (unplaced ? task.placementMessage : ""),
    unplaced,
  };
}

export type Ending =
  | { outcome: "converged" }
  /** A failure action or a user undid it, or stopped it half-way. */
  | { outcome: "rolled-back" | "paused" | "aborted"; reason: string }
  /** Somebody asked for something else meanwhile. */
  | { outcome: "superseded"; reason: string }
  | { outcome: "removed"; reason: string };

/** What is being waited for. */
export interface Aim {
  /** The revision that was asked for. */
  revision: number;
  /** Its rollout; empty when no task had to be replaced. */
  rolloutId: string;
  /** Whether going back is itself what was asked for. */
  isRollback: boolean;
}

/** Whether it is over, and how; undefined: not yet. `goingBack` says why, while a rollback is under way. */
export function endingOf(state: ServiceState, aim: Aim): { ending?: Ending; goingBack?: string } {
  if (state.removed || state.service?.removing === true || state.service === undefined)
    return { ending: { outcome: "removed", reason: "the service was removed" } };
  const { rollout } = state;
  const paused = (of: string) => ({
    outcome: "paused" as const,
    reason:
      rollout?.message === undefined || rollout.message === ""
        ? `the ${of} is paused`
        : `the ${of} is paused: ${rollout.message}`,
  });
  if (rollout !== undefined) {
    if (aim.rolloutId !== "" && rollout.meta?.id === aim.rolloutId) {
      switch (rollout.state) {
        case RolloutState.PAUSED:
          return { ending: paused("rollout") };
        case RolloutState.ROLLED_BACK:
        case RolloutState.ABORTED: {
          const aborted = rollout.state === RolloutState.ABORTED;
          const reason = rollout.message || (aborted ? "the rollout was aborted" : "the update failed");
          const over = state.converged && state.service.revision > aim.revision;
          return over ? { ending: { outcome: aborted ? "aborted" : "rolled-back", reason } } : { goingBack: reason };
        }
        case RolloutState.SUPERSEDED:
          return { ending: { outcome: "superseded", reason: rollout.message || "a newer change took over" } };
        case RolloutState.UNSPECIFIED:
        case RolloutState.RUNNING:
        case RolloutState.COMPLETED:
          break;
      }
    } else if (rollout.isRollback && !aim.isRollback && rollout.fromRevision === aim.revision) {
      // The way back, whoever began it. Only its own end is the end.
      if (rollout.state === RolloutState.PAUSED) return { ending: paused("rollback") };
      const over = rollout.state === RolloutState.COMPLETED && state.converged;
      const reason = rollout.message || "the update failed";
      return over ? { ending: { outcome: "rolled-back", reason } } : { goingBack: reason };
    }
  }
  // Only replicas changed, in the middle of an update that somebody has to decide about.
  const filled = state.replicasRunning >= state.replicasDesired;
  if (aim.rolloutId === "" && rollout?.state === RolloutState.PAUSED && filled) return { ending: paused("rollout") };
  if (state.service.revision > aim.revision) return { ending: superseded(state, aim) };
  if (state.converged && state.service.revision === aim.revision) return { ending: { outcome: "converged" } };
  return {};
}

function superseded(state: ServiceState, aim: Aim): Ending {
  const revision = state.service?.revision ?? 0;
  const cause = state.revisions.find(({ number }) => number === revision)?.cause ?? "";
  return {
    outcome: "superseded",
    reason: `revision ${revision}${cause === "" ? "" : ` (${cause})`} took over from revision ${aim.revision}`,
  };
}

/** The slots that wait for a node when nothing else is under way that could change that by itself; else none. */
export function stuckSlots(state: ServiceState, view: ProgressView): SlotView[] {
  const stuck = view.slots.filter(({ unplaced }) => unplaced);
  if (stuck.length === 0) return [];
  const moving = state.tasks.some((task) => {
    if (isOver(task)) return false;
    const now = stateOf(task);
    if (task.desiredState > TaskState.RUNNING) return now >= TaskState.ASSIGNED;
    // Placed and on its way; a task in back-off or not healthy is not on its way to free anything.
    return now > TaskState.PENDING && now < TaskState.RUNNING;
  });
  const watched = (state.rollout?.state === RolloutState.RUNNING ? state.rollout.slots : []).some(
    ({ verdict, slot }) => verdict === SlotVerdict.PENDING && !stuck.some((other) => other.slot === slot),
  );
  return moving || watched ? [] : stuck;
}

/** Tasks in trouble: ended badly, or restarting in place; each once. */
export function failures(state: ServiceState): Task[] {
  return state.tasks.filter((task) => {
    const now = stateOf(task);
    if (now === TaskState.FAILED || now === TaskState.REJECTED) return true;
    return now === TaskState.RUNNING && task.status?.container?.phase === ContainerPhase.BACKING_OFF;
  });
}
