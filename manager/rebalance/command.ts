// The user's rebalance, and what it shares with the policy: what may be moved now, and marking it.

import { type Clock, ClusterError } from "../../lib/mod.js";
import type { Service, Task } from "../../proto/mod.js";
import type { RebalanceResponse } from "../../proto/gen/flotilla/control/v1/control.js";
import type { Store, View } from "../store/mod.js";
import { isBusy, isMovable, type PlannedMove, planMoves } from "./moves.js";

const movesDefault = 10;
export const movesMax = 1_000;
/** Below the store's limit, so that commits can be grouped. */
const writesPerUpdate = 50;

/** `service` is the only one whose tasks may move; undefined is all. */
export async function rebalance(
  store: Store,
  clock: Clock,
  { service, dryRun, maxMoves }: { service: Service | undefined; dryRun: boolean; maxMoves: number },
): Promise<RebalanceResponse> {
  if (maxMoves > movesMax)
    throw ClusterError.invalid([
      {
        field: "max_moves",
        value: String(maxMoves),
        rule: `must be a whole number from 1 to ${movesMax}`,
        fix: `use for example ${movesDefault}`,
      },
    ]);
  const view = store.view();
  if (service !== undefined) refuseBusy(view, service);
  const now = clock.now();
  const { moves, more } = planMoves(view, {
    ...(service === undefined ? {} : { only: service }),
    now,
    maxMoves: maxMoves === 0 ? movesDefault : maxMoves,
  });
  const made = dryRun ? moves : await leave(store, moves, now);
  return {
    moves: made.map(({ task, from, to, reason }) => ({
      taskId: task.meta.id,
      serviceName: task.serviceName,
      slot: task.slot,
      fromNodeId: from.meta.id,
      fromNodeName: from.description.hostname,
      toNodeId: to.meta.id,
      toNodeName: to.description.hostname,
      reason,
    })),
    more,
  };
}

/** Marks the tasks that may still be moved; answers which. */
export async function leave(store: Store, moves: readonly PlannedMove[], now: number): Promise<PlannedMove[]> {
  const made: PlannedMove[] = [];
  for (let i = 0; i < moves.length; i += writesPerUpdate) {
    const chunk = moves.slice(i, i + writesPerUpdate);
    const marked = await store.update((tx) =>
      chunk.filter(({ task: { meta }, reason }) => {
        const task = tx.tasks.get(meta.id);
        const service = task === undefined ? undefined : tx.services.get(task.serviceId);
        if (task === undefined || service === undefined || !isMovable(task) || isBusy(tx, service)) return false;
        tx.put("tasks", left(task, reason, now));
        return true;
      }),
    );
    made.push(...marked);
  }
  return made;
}

function left(task: Task, reason: string, now: number): Task {
  return {
    ...task,
    meta: { ...task.meta, updatedAtMs: now },
    leave: { reason: `rebalanced: ${reason}`, atMs: now, startFirst: true },
  };
}

function refuseBusy(view: View, service: Service): void {
  if (!isBusy(view, service)) return;
  const { name } = service.spec;
  throw new ClusterError(
    "failed_precondition",
    service.removing
      ? `service ${name} is being removed: there is nothing to move`
      : `a rollout of ${name} is under way, which places its tasks anew; when it has ended, try again: flotilla rollout status ${name}`,
  );
}
