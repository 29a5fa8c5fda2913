// Whether a service is as its user asked.

import { isGlobal, isJob } from "../spec/mod.js";
import {
  JobState,
  type Node,
  replicasOf,
  type Revision,
  type Rollout,
  RolloutState,
  type Service,
  type Task,
  TaskState,
} from "../../proto/mod.js";
import { eligibilityOf } from "./eligible.js";
import { newestRun } from "./runs.js";
import { hasEnded, isReady, isReplaced, isWanted } from "./tasks.js";

export interface Convergence {
  /**
   * Every slot has a ready task of the newest revision's template, or one that ended and is not to be replaced;
   * nothing else is meant to run, and no rollout is under way or was undone. Old tasks may still be stopping.
   * Of jobs: the newest run ended well and none is asked for; of cron, none that was begun goes on or failed.
   */
  converged: boolean;
  /** Slots with a ready task, of whatever revision. Of jobs: tasks that run. */
  running: number;
  /** Slots. Of jobs: tasks that are meant to run now, 0 between runs. */
  desired: number;
}

export interface ConvergenceInput {
  service: Service;
  revisions: readonly Revision[];
  tasks: Iterable<Task>;
  rollout: Rollout | undefined;
  /** All of the cluster: they say how many tasks a global service is to have. Read once. */
  nodes: Iterable<Node>;
}

export function isConverged(input: ConvergenceInput): Convergence {
  const { service } = input;
  const state = isJob(service.spec) ? ofJob(input) : ofSlots(input);
  return { ...state, converged: state.converged && !service.removing && service.waitingFor === "" };
}

function ofSlots({ service, revisions, tasks, rollout, nodes }: ConvergenceInput): Convergence {
  const byNumber = new Map(revisions.map((revision) => [revision.number, revision]));
  const target = byNumber.get(service.revision);
  const places = isGlobal(service.spec) ? placesOf(service, nodes) : undefined;
  const running = new Set<number>();
  const done = new Set<number>();
  let others = 0;
  for (const task of tasks) {
    // A cordoned node keeps what it has, whatever that is.
    if (!isWanted(task) || places?.closed.has(task.onlyNodeId) === true) continue;
    const revision = byNumber.get(task.revision);
    const current = revision !== undefined && revision.templateHash === target?.templateHash;
    const ready = isReady(task);
    if (ready) running.add(task.slot);
    const finished =
      hasEnded(task) && revision !== undefined && !isReplaced(revision.spec.task.restart, task.status.state);
    const counts = current && (ready || finished) && !done.has(task.slot);
    if (counts && places?.open.has(task.onlyNodeId) !== false) done.add(task.slot);
    else others += 1;
  }
  const wanted = places?.open.size ?? replicasOf(service.spec);
  const desired = service.removing ? 0 : wanted;
  const settled = rollout === undefined || rollout.state === RolloutState.COMPLETED;
  return { converged: settled && done.size === desired && others === 0, running: running.size, desired };
}

/** The ids of the nodes that have a slot, and of those that keep what they have. */
function placesOf({ spec }: Service, nodes: Iterable<Node>): { open: Set<string>; closed: Set<string> } {
  const eligibility = eligibilityOf(spec);
  const open = new Set<string>();
  const closed = new Set<string>();
  for (const node of nodes) {
    const is = eligibility(node);
    if (is === "open") open.add(node.meta.id);
    else if (is === "closed") closed.add(node.meta.id);
  }
  return { open, closed };
}

function ofJob({ service, tasks }: ConvergenceInput): Convergence {
  let running = 0;
  let desired = 0;
  for (const task of tasks) {
    if (!isWanted(task) || hasEnded(task)) continue;
    desired += 1;
    if (task.status.state === TaskState.RUNNING) running += 1;
  }
  const last = newestRun(service.job);
  const asked = (service.job?.requested.length ?? 0) > 0;
  const well =
    service.spec.mode.$case === "cron"
      ? last === undefined || last.state === JobState.SUCCEEDED || last.state === JobState.REPLACED
      : last?.state === JobState.SUCCEEDED && last.revision === service.revision;
  return { converged: well && !asked && desired === 0, running, desired };
}
