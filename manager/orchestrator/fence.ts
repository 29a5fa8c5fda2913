// Tasks of which no two may ever run (stop_after_disconnect): their agent stops them by itself when it has been without
// a manager for so long, and only when that must have happened is the slot free again.

import { hasEnded } from "../../deploy/strategy/mod.js";
import { type Node, NodeState, type Revision, type Task, TaskState } from "../../proto/mod.js";

/** For clocks that differ in pace, and an engine that is slow to stop. */
const slackMs = 10_000;

/**
 * Until when something of a task of a lost or silent node may still run; 0 when nothing can, or when nobody asked for
 * this. The revision is the task's own: it is what its agent was told.
 */
export function fencedUntilMs(
  task: Task,
  revision: (number: number) => Revision | undefined,
  node: (id: string) => Node | undefined,
  now: number,
): number {
  const spec = revision(task.revision)?.spec;
  if (spec?.stopAfterDisconnectMs === undefined || task.nodeId === "") return 0;
  const on = node(task.nodeId);
  const orphaned = task.status.state === TaskState.ORPHANED;
  if (!orphaned && (hasEnded(task) || on?.status.state === NodeState.READY)) return 0;
  // A node that is back, or was removed, no longer tells when it was last seen; that was before its tasks were given up.
  const isAway = on !== undefined && on.status.state !== NodeState.READY && on.status.lastSeenAtMs > 0;
  const lastSeenMs = isAway ? on.status.lastSeenAtMs : orphaned ? task.endedAtMs : (on?.status.sinceMs ?? now);
  return lastSeenMs + spec.stopAfterDisconnectMs + spec.task.container.stopGracePeriodMs + slackMs;
}
