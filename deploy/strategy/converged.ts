// Whether a service is as its user asked.

import { replicasOf, type Revision, type Rollout, RolloutState, type Service, type Task } from "../../proto/mod.js";
import { hasEnded, isReady, isReplaced, isWanted } from "./tasks.js";

export interface Convergence {
  /**
   * Every slot has a ready task of the newest revision's template, or one that ended and is not to be replaced;
   * nothing else is meant to run, and no rollout is under way or was undone. Old tasks may still be stopping.
   */
  converged: boolean;
  /** Slots with a ready task, of whatever revision. */
  running: number;
  desired: number;
}

export function isConverged({
  service,
  revisions,
  tasks,
  rollout,
}: {
  service: Service;
  revisions: readonly Revision[];
  tasks: Iterable<Task>;
  rollout: Rollout | undefined;
}): Convergence {
  const byNumber = new Map(revisions.map((revision) => [revision.number, revision]));
  const target = byNumber.get(service.revision);
  const running = new Set<number>();
  const done = new Set<number>();
  let others = 0;
  for (const task of tasks) {
    if (!isWanted(task)) continue;
    const revision = byNumber.get(task.revision);
    const current = revision !== undefined && revision.templateHash === target?.templateHash;
    const ready = isReady(task);
    if (ready) running.add(task.slot);
    const finished =
      hasEnded(task) && revision !== undefined && !isReplaced(revision.spec.task.restart, task.status.state);
    if (current && (ready || finished) && !done.has(task.slot)) done.add(task.slot);
    else others += 1;
  }
  const desired = service.removing ? 0 : replicasOf(service.spec);
  const settled = rollout === undefined || rollout.state === RolloutState.COMPLETED;
  return {
    converged: !service.removing && settled && done.size === desired && others === 0,
    running: running.size,
    desired,
  };
}
