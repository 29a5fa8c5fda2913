// What a service's earlier tasks say about where the next ones should not go.

import { hasEnded, newestFirst } from "../../deploy/strategy/mod.js";
import { type Task, TaskState } from "../../proto/mod.js";

/** A node where this many tasks of one revision failed within the window is taken only when no other is left. */
const failuresMax = 5;
const failureWindowMs = 5 * 60_000;

export interface Experience {
  /** Nodes where tasks of the revision failed too often lately. */
  penalised: Set<string>;
  /** Where each slot's last task failed, or is about to leave from: its next one rather goes elsewhere. */
  avoid: Map<string, string>;
}

/** A slot of a service, or of a job's run. */
export function slotKey({ run, slot }: Pick<Task, "run" | "slot">): string {
  return run === 0 ? String(slot) : `${run}.${slot}`;
}

export function experienceOf(tasks: Iterable<Task>, revision: number, now: number): Experience {
  const failures = new Map<string, number>();
  const last = new Map<string, Task>();
  const leaving = new Map<string, string>();
  for (const task of tasks) {
    if (task.nodeId === "") continue;
    const key = slotKey(task);
    const before = last.get(key);
    if (before === undefined || newestFirst(task, before) < 0) last.set(key, task);
    if (task.leave !== undefined && !hasEnded(task)) leaving.set(key, task.nodeId);
    if (task.revision === revision && hasFailed(task) && task.endedAtMs > now - failureWindowMs)
      failures.set(task.nodeId, (failures.get(task.nodeId) ?? 0) + 1);
  }
  const penalised = new Set<string>();
  for (const [nodeId, count] of failures) if (count >= failuresMax) penalised.add(nodeId);
  const avoid = new Map<string, string>();
  for (const [key, task] of last) if (hasFailed(task) || task.leave !== undefined) avoid.set(key, task.nodeId);
  // Also when a first replacement failed elsewhere: back on the node that it is to leave, the move would be for nothing.
  for (const [key, nodeId] of leaving) avoid.set(key, nodeId);
  return { penalised, avoid };
}

function hasFailed({ status: { state } }: Task): boolean {
  return state === TaskState.FAILED || state === TaskState.REJECTED;
}
