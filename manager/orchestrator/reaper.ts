// What is over and may be forgotten: finished tasks beyond a slot's history, removed tasks, old revisions and
// rollouts, and in the end whole services.

import { hasEnded } from "../../deploy/strategy/mod.js";
import { type Node, type Task, TaskState } from "../../proto/mod.js";
import { orphan } from "../dispatcher/mod.js";
import type { Step } from "../rollout/mod.js";
import type { Draft } from "./draft.js";
import type { ServiceSnapshot } from "./plan.js";

/** Ended tasks that a slot keeps: what `service ps` shows, and what back-off is counted from. */
const historyPerSlot = 5;
/** Revisions that a service keeps, besides those that are in use or that a rollback would go to. */
const revisionsKept = 50;
const rolloutsKept = 10;

/** Ends what nobody else will end, and forgets what is over. */
export function reap(draft: Draft, node: (id: string) => Node | undefined): void {
  for (const task of draft.tasks()) {
    if (hasEnded(task)) continue;
    if (task.nodeId !== "" && node(task.nodeId) === undefined) draft.change(orphan(task, draft.now));
    // No agent knows of it, so no agent will stop it.
    else if (task.nodeId === "" && task.desiredState >= TaskState.SHUTDOWN) draft.change(endUnplaced(task, draft.now));
  }
  for (const tasks of draft.bySlot().values()) {
    let kept = 0;
    for (const task of tasks) {
      if (!hasEnded(task) || task.desiredState < TaskState.SHUTDOWN) continue;
      if (task.desiredState === TaskState.REMOVE || kept >= historyPerSlot) draft.remove(task.meta.id);
      else kept += 1;
    }
  }
}

function endUnplaced(task: Task, now: number): Task {
  return {
    ...task,
    status: { ...task.status, state: TaskState.SHUTDOWN, sinceMs: now, message: "stopped before it had a node" },
    endedAtMs: now,
  };
}

/** Removed tasks first, then what they hang on: a removal cut short anywhere goes on from there. */
export function planRemoval({ service, revisions, rollouts, node }: ServiceSnapshot, draft: Draft): Step[] {
  for (const { meta } of draft.tasks()) draft.want(meta.id, TaskState.REMOVE);
  reap(draft, node);
  const steps = draft.steps();
  if (draft.tasks().length > 0) return steps;
  for (const { meta } of rollouts) steps.push({ do: "remove", table: "rollouts", id: meta.id });
  for (const { meta } of revisions) steps.push({ do: "remove", table: "revisions", id: meta.id });
  steps.push({ do: "remove", table: "services", id: service.meta.id });
  return steps;
}

/** Old revisions and rollouts that nothing refers to. */
export function reapRecords(
  { service, revisions, rollout, rollouts }: ServiceSnapshot,
  tasks: readonly Task[],
): Step[] {
  const steps: Step[] = [];
  if (revisions.length > revisionsKept) {
    const current = revisions.find(({ number }) => number === service.revision);
    const inUse = new Set(tasks.map(({ revision }) => revision));
    for (const number of [
      service.revision,
      rollout?.fromRevision,
      rollout?.toRevision,
      revisions.findLast(({ templateHash }) => templateHash !== current?.templateHash)?.number,
    ])
      if (number !== undefined) inUse.add(number);
    for (const { meta, number } of revisions.slice(0, revisions.length - revisionsKept))
      if (!inUse.has(number)) steps.push({ do: "remove", table: "revisions", id: meta.id });
  }
  if (rollouts.length > rolloutsKept) {
    const old = rollouts.toSorted((a, b) => b.startedAtMs - a.startedAtMs || (a.meta.id < b.meta.id ? -1 : 1));
    for (const { meta } of old.slice(rolloutsKept))
      if (meta.id !== service.rolloutId) steps.push({ do: "remove", table: "rollouts", id: meta.id });
  }
  return steps;
}
