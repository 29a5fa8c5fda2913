// What a status report does to a task: pure, so that the rules about going backwards stand in one place.

import { type Task, type TaskStatus, TaskState } from "../../proto/mod.js";
import { TaskStatus as TaskStatusMessage } from "../../proto/gen/flotilla/objects/v1/objects.js";

/** States in which nothing runs any more. */
export function isTerminal(state: TaskState): boolean {
  return state >= TaskState.COMPLETE;
}

function bytesOf(status: TaskStatus): Buffer {
  return Buffer.from(TaskStatusMessage.encode(status).finish());
}

/**
 * The task after its agent reported `status` at `nowMs` (the manager's clock); undefined when nothing changes. A state
 * lower than the stored one is old news and ignored, and so is everything about a task that has ended: observed state
 * never goes backwards (invariant 3).
 */
export function applyStatus(task: Task, status: TaskStatus, nowMs: number): Task | undefined {
  const before = task.status;
  if (status.state < before.state || isTerminal(before.state)) return undefined;
  if (bytesOf(status).equals(bytesOf(before))) return undefined;
  const ready = status.state === TaskState.RUNNING && status.container?.ready === true;
  // A restart in place between two reports breaks the time of being ready, though both reports say "ready".
  const sameAttempt = before.container?.attempt === status.container?.attempt;
  return {
    ...task,
    meta: { ...task.meta, updatedAtMs: nowMs },
    status,
    readySinceMs: ready ? (task.readySinceMs > 0 && sameAttempt ? task.readySinceMs : nowMs) : 0,
    endedAtMs: isTerminal(status.state) ? nowMs : 0,
  };
}

/** The task after its node was lost: nobody knows what became of it. */
export function orphan(task: Task, nowMs: number): Task {
  const { container } = task.status;
  return {
    ...task,
    meta: { ...task.meta, updatedAtMs: nowMs },
    status: {
      ...task.status,
      state: TaskState.ORPHANED,
      sinceMs: nowMs,
      message: "its node was lost",
      error: "its node was lost",
      container: container === undefined ? undefined : { ...container, ready: false },
    },
    readySinceMs: 0,
    endedAtMs: nowMs,
  };
}
