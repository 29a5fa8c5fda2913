// How long a slot waits before its next task. Counted from the history in the store, so that a new leader neither
// forgets the failures nor starts them again.

import { hasEnded } from "../../deploy/strategy/mod.js";
import { type Task, TaskState } from "../../proto/mod.js";

/** Fourfold with each failure in a row: a slot keeps five ended tasks, and by the fourth the wait is at its longest. */
const firstMs = 1000;
const growth = 4;
const longestMs = 60_000;

/** A task whose container lasted this long was well: failures before it do not count. */
const lastingMs = 60_000;

/**
 * When the slot's next task may be made; 0 is at once. `history` is the slot's tasks of the template to be run,
 * newest first; failures before `sinceMs` do not count, nor those of a time that is yet to come: a leader's clock was
 * wrong, and the slot must not be without a task until then.
 */
export function nextTaskAtMs(history: readonly Task[], sinceMs: number, now: number): number {
  let failures = 0;
  let lastMs = 0;
  for (const task of history) {
    if (!hasEnded(task)) continue;
    const { state, sinceMs: endedMs, container } = task.status;
    const failed = state === TaskState.FAILED || state === TaskState.REJECTED || state === TaskState.COMPLETE;
    if (failed && task.endedAtMs >= sinceMs && task.endedAtMs <= now + longestMs) {
      failures += 1;
      lastMs = Math.max(lastMs, task.endedAtMs);
    }
    // Both times are the agent's.
    if (container !== undefined && container.startedAtMs > 0 && endedMs - container.startedAtMs >= lastingMs) break;
  }
  return failures === 0 ? 0 : lastMs + Math.min(longestMs, firstMs * growth ** (failures - 1));
}
