// A service's state as progress: what each slot is at, and whether what was asked for is reached. Pure: states and
// times go in, screens and endings come out.

import type { ServiceState } from "../../proto/gen/flotilla/control/v1/control.js";
import {
  ContainerPhase,
  type JobRun,
  JobState,
  RolloutState,
  SlotVerdict,
  type Task,
  TaskState,
} from "../../proto/gen/flotilla/objects/v1/objects.js";
import { completionsOf, isGlobal, isJob, newestRun } from "../screen/job.js";
import { isOver, orderTasks, shortId, stateOf } from "../screen/task.js";
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
  /** Instead of the slot's number: the node, where slots are the nodes'. */
  label?: string;
}

export interface ProgressView {
  slots: SlotView[];
  done: number;
  total: number;
  /** Tasks beyond the slots asked for, or of other revisions, that are still there. */
  leaving: number;
  /** Of a job: its tasks complete instead of being ready. */
  job?: { run: JobRun | undefined };
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

export function progressOf(state: ServiceState, aim?: Aim): ProgressView {
  if (isJob(state.service?.spec)) return jobProgress(state, runOf(state, aim));
  const wanted = sameTasks(state, state.service?.revision ?? 0);
  const total = state.replicasDesired;
  const bySlot = new Map<number, Task[]>();
  for (const task of orderTasks(state.tasks)) {
    const tasks = bySlot.get(task.slot);
    if (tasks === undefined) bySlot.set(task.slot, [task]);
    else tasks.push(task);
  }
  const chosen = chooseSlots(bySlot, total);
  const leaving = state.tasks.filter(
    (task) => !isOver(task) && !(task.desiredState <= TaskState.RUNNING && chosen.has(task.slot)),
  ).length;
  const perNode = isGlobal(state.service?.spec);
  const slots = [...chosen].map((slot): SlotView => {
    const tasks = bySlot.get(slot) ?? [];
    const meant = tasks.filter(({ desiredState }) => desiredState <= TaskState.RUNNING);
    const task =
      meant.find((candidate) => wanted.has(candidate.revision) && !isOver(candidate)) ??
      meant.find((candidate) => !isOver(candidate)) ??
      tasks.find((candidate) => wanted.has(candidate.revision)) ??
      tasks[0];
    const view = slotView(slot, task, wanted, state);
    return perNode ? { ...view, label: nodeLabel(task, state) } : view;
  });
  return { slots, done: slots.filter(({ done }) => done).length, total, leaving };
}

/**
 * As many slots as are asked for, ascending: those that have a task now, then those whose tasks ended, then new ones.
 * After scaling down, and where slots are the nodes', the numbers have gaps.
 */
function chooseSlots(bySlot: ReadonlyMap<number, readonly Task[]>, total: number): ReadonlySet<number> {
  const used = [...bySlot.keys()].sort((a, b) => a - b);
  const isMeant = (slot: number) =>
    bySlot.get(slot)?.some((task) => task.desiredState <= TaskState.RUNNING && !isOver(task)) === true;
  const chosen = new Set(used.filter(isMeant).slice(0, total));
  for (const slot of used) if (chosen.size < total) chosen.add(slot);
  for (let slot = 1; chosen.size < total; slot += 1) chosen.add(slot);
  return new Set([...chosen].sort((a, b) => a - b));
}

/** The node that a slot is of. */
function nodeLabel(task: Task | undefined, { nodeNames }: ServiceState): string {
  const id = task?.nodeId || (task?.onlyNodeId ?? "");
  return nodeNames[id] ?? shortId(id, true);
}

/** The run that is waited for: the one that was asked for, else the newest of the revision, else the newest. */
export function runOf({ service }: ServiceState, aim?: Aim): JobRun | undefined {
  if (aim === undefined) return newestRun(service);
  const { run, revision } = aim;
  const matches = (service?.job?.runs ?? []).filter((each) =>
    run === undefined ? each.revision === revision : each.requestId === run.requestId,
  );
  return matches.reduce<JobRun | undefined>(
    (newest, each) => (newest === undefined || each.number > newest.number ? each : newest),
    undefined,
  );
}

function jobProgress(state: ServiceState, run: JobRun | undefined): ProgressView {
  const { service, tasks } = state;
  const perNode = isGlobal(service?.spec);
  const bySlot = new Map<number, Task[]>();
  for (const task of orderTasks(tasks.filter((task) => run !== undefined && task.run === run.number)))
    bySlot.set(task.slot, [...(bySlot.get(task.slot) ?? []), task]);
  const total = run?.total ?? completionsOf(state);
  const numbers = perNode
    ? [...bySlot.keys()].sort((a, b) => a - b)
    : Array.from({ length: total }, (_, index) => index + 1);
  const slots = numbers.map((slot): SlotView => {
    const all = bySlot.get(slot) ?? [];
    const task =
      all.find((each) => stateOf(each) === TaskState.COMPLETE) ??
      all.find((each) => each.desiredState <= TaskState.RUNNING && !isOver(each)) ??
      all[0];
    const view = slotView(slot, task, new Set(task === undefined ? [] : [task.revision]), state);
    const done = task !== undefined && stateOf(task) === TaskState.COMPLETE;
    const shown = { ...view, done, steps: done ? 10 : Math.min(9, view.steps) };
    if (task === undefined) shown.state = "to come";
    return perNode ? { ...shown, label: nodeLabel(task, state) } : shown;
  });
  const done = Math.max(run?.completed ?? 0, slots.filter((slot) => slot.done).length);
  const leaving = tasks.filter((task) => !isOver(task) && task.desiredState > TaskState.RUNNING).length;
  return { slots, done, total, leaving, job: { run } };
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
  /** Of a job: its run failed, or was not begun. */
  | { outcome: "failed"; reason: string; run: number }
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
  /** The run of a job that was asked for by hand, and the service's version since then. */
  run?: { requestId: string; version: number };
}

/** Whether it is over, and how; undefined: not yet. `goingBack` says why, while a rollback is under way. */
export function endingOf(state: ServiceState, aim: Aim): { ending?: Ending; goingBack?: string } {
  if (state.removed || state.service?.removing === true || state.service === undefined)
    return { ending: { outcome: "removed", reason: "the service was removed" } };
  if (isJob(state.service.spec)) {
    const ending = jobEnding(state, aim);
    return ending === undefined ? {} : { ending };
  }
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

/** A job is what was asked for once its run has ended well. */
function jobEnding(state: ServiceState, aim: Aim): Ending | undefined {
  const { service } = state;
  const run = runOf(state, aim);
  if (run === undefined) {
    if (aim.run === undefined) {
      if ((service?.revision ?? 0) > aim.revision) return superseded(state, aim);
      // What the schedule begins is not waited for: there is nothing to see before it is due.
      return service?.spec?.mode?.$case === "cron" && service.revision === aim.revision
        ? { outcome: "converged" }
        : undefined;
    }
    const { requestId, version } = aim.run;
    const pending = service?.job?.requested.includes(requestId) === true;
    if (pending || (service?.meta?.version ?? 0) < version) return undefined;
    return {
      outcome: "superseded",
      reason: "its run was ended and forgotten before it could be seen; its history limits say how many are kept",
    };
  }
  switch (run.state) {
    case JobState.SUCCEEDED:
      return { outcome: "converged" };
    case JobState.FAILED:
      return { outcome: "failed", run: run.number, reason: run.message || "it gave no reason" };
    case JobState.SKIPPED:
      return { outcome: "failed", run: run.number, reason: `it was skipped: ${run.message}` };
    case JobState.REPLACED:
      return { outcome: "superseded", reason: `run ${run.number} was replaced: ${run.message}` };
    case JobState.UNSPECIFIED:
    case JobState.RUNNING:
      return undefined;
  }
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
    // Placed and on its way; a task in back-off or not healthy is not on its way to free anything. A job's will end.
    return now > TaskState.PENDING && (view.job === undefined ? now < TaskState.RUNNING : true);
  });
  const watched = (state.rollout?.state === RolloutState.RUNNING ? state.rollout.slots : []).some(
    ({ verdict, slot }) => verdict === SlotVerdict.PENDING && !stuck.some((other) => other.slot === slot),
  );
  return moving || watched ? [] : stuck;
}

/** Tasks in trouble: ended badly, or restarting in place; each once. */
export function failures(state: ServiceState, view?: Pick<ProgressView, "job">): Task[] {
  return state.tasks.filter((task) => {
    // Of a job only those of the run that is waited for.
    if (view?.job !== undefined && task.run !== view.job.run?.number) return false;
    const now = stateOf(task);
    if (now === TaskState.FAILED || now === TaskState.REJECTED) return true;
    return now === TaskState.RUNNING && task.status?.container?.phase === ContainerPhase.BACKING_OFF;
  });
}
