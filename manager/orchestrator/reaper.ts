// What is over and may be forgotten: finished tasks beyond a slot's history, removed tasks, old revisions and
// rollouts, and in the end whole services.

import { settingsOf } from "../../deploy/spec/mod.js";
import { goesOn, hasEnded } from "../../deploy/strategy/mod.js";
import { type Revision, type Task, TaskState } from "../../proto/mod.js";
import { orphan } from "../dispatcher/mod.js";
import type { Step } from "../rollout/mod.js";
import type { Draft } from "./draft.js";
import { fencedUntilMs } from "./fence.js";
import type { ServiceSnapshot } from "./plan.js";

/** Revisions that a service keeps, besides those that are in use or that a rollback would go to. */
const revisionsKept = 50;
const rolloutsKept = 10;

export interface Reaping extends Pick<ServiceSnapshot, "node" | "settings"> {
  revision: (number: number) => Revision | undefined;
  wake: (atMs: number) => void;
  /** Ended tasks that a slot keeps at least, where their number decides something; the cluster's setting may be more. */
  atLeast?: (task: Task) => number;
}

/** Ends what nobody else will end, and forgets what is over: of each slot the oldest beyond its history. */
export function reap(
  draft: Draft,
  { node, settings = settingsOf(undefined), revision, wake, atLeast = () => 0 }: Reaping,
): void {
  for (const task of draft.tasks()) {
    if (hasEnded(task)) continue;
    if (task.nodeId !== "" && node(task.nodeId) === undefined) draft.change(orphan(task, draft.now));
    // No agent knows of it, so no agent will stop it.
    else if (task.nodeId === "" && task.desiredState >= TaskState.SHUTDOWN) draft.change(endUnplaced(task, draft.now));
  }
  for (const slots of draft.byRun().values())
    for (const tasks of slots.values()) {
      let kept = 0;
      for (const task of tasks) {
        if (!hasEnded(task) || task.desiredState < TaskState.SHUTDOWN) continue;
        if (task.desiredState !== TaskState.REMOVE && kept < Math.max(settings.taskHistory, atLeast(task))) {
          kept += 1;
          continue;
        }
        // Whoever takes the slot next has to know that something may still run in it.
        const fencedMs = fencedUntilMs(task, revision, node, draft.now);
        if (draft.now >= fencedMs) draft.remove(task.meta.id);
        else wake(fencedMs);
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

/**
 * Removed tasks first, then what they hang on: a removal cut short anywhere goes on from there. The name is free only
 * when nothing of the service can run any more: the next service of that name may be the same thing.
 */
export function planRemoval(
  { service, revisions, rollouts, node }: ServiceSnapshot,
  draft: Draft,
  wake: (atMs: number) => void,
): Step[] {
  for (const { meta } of draft.tasks()) draft.want(meta.id, TaskState.REMOVE);
  const byNumber = new Map(revisions.map((revision) => [revision.number, revision]));
  reap(draft, { node, revision: (number) => byNumber.get(number), wake });
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
    for (const run of service.job?.runs ?? []) if (goesOn(run)) inUse.add(run.revision);
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
