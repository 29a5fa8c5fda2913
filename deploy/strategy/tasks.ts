// What planners ask of tasks.

import { type Node, NodeState, RestartCondition, type RestartPolicy, type Task, TaskState } from "../../proto/mod.js";

/** Whether nothing runs any more, by what was observed. */
export function hasEnded(task: Task): boolean {
  return task.status.state >= TaskState.COMPLETE;
}

/** Whether it is meant to run, now or once it is released. */
export function isWanted(task: Task): boolean {
  return task.desiredState <= TaskState.RUNNING;
}

/** Whether requests may go to it and the manager wants it to run. */
export function isReady(task: Task): boolean {
  return task.readySinceMs > 0 && task.desiredState === TaskState.RUNNING && !hasEnded(task);
}

/** Whether its node is gone, so that nobody will ever say what becomes of it. */
export function isLost(task: Task, node: (id: string) => Node | undefined): boolean {
  if (task.nodeId === "" || hasEnded(task)) return false;
  const found = node(task.nodeId);
  return found === undefined || found.status.state === NodeState.DOWN;
}

/**
 * Whether an ended task is replaced. `none` replaces nothing, also not what was lost with its node: it may have done
 * its work. `on-failure` replaces all but what ended by itself with success.
 */
export function isReplaced(policy: RestartPolicy, state: TaskState): boolean {
  if (policy.condition === RestartCondition.NONE) return false;
  if (policy.condition === RestartCondition.ON_FAILURE) return state !== TaskState.COMPLETE;
  return true;
}

/** Why a task is not running well, in one clause. */
export function whatHappened(task: Task): string {
  const { state, error, message, container } = task.status;
  const exit = container?.exitCode === undefined ? "" : `exit code ${container.exitCode}`;
  const words = error !== "" ? error : exit !== "" ? exit : message;
  if (hasEnded(task)) return words === "" ? stateName(state) : `${stateName(state)}: ${words}`;
  if (task.nodeId === "") return task.placementMessage === "" ? "not placed yet" : task.placementMessage;
  return words === "" ? `still ${stateName(state)}` : `still ${stateName(state)}: ${words}`;
}

/** "running", "failed", …: as people read it. */
export function stateName(state: TaskState): string {
  return (Object.entries(TaskState).find(([, number]) => number === state)?.[0] ?? "unknown").toLowerCase();
}

/** Newest first; the id decides between tasks of one millisecond. */
export function newestFirst(a: Task, b: Task): number {
  return b.meta.createdAtMs - a.meta.createdAtMs || (a.meta.id < b.meta.id ? -1 : 1);
}
