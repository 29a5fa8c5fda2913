// Taking a manager out, asked for by its node (`node demote`) or by itself (`cluster leave`): the same either way.

import { type Clock, ClusterError } from "../../lib/mod.js";
import { NodeRole } from "../../proto/mod.js";
import type { ManagerStatus } from "../../proto/gen/flotilla/control/v1/control.js";
import type { Consensus } from "../consensus/mod.js";
import type { Store } from "../store/mod.js";

/** Refuses what the consensus would refuse, for what is done before it is asked. */
export function checkRemoval(manager: ManagerStatus, managers: readonly ManagerStatus[], force: boolean): void {
  if (!manager.voter) return;
  const named = `manager ${manager.id} (${manager.name}, ${manager.address})`;
  const rest = managers.filter(({ voter, id }) => voter && id !== manager.id);
  if (rest.length === 0)
    throw new ClusterError(
      "failed_precondition",
      `${named} is the last voting manager: without it there is no cluster. Join another one, or promote a node, first`,
    );
  const answer = rest.filter(({ reachable }) => reachable).length;
  const needed = Math.floor(rest.length / 2) + 1;
  if (answer >= needed || force) return;
  throw new ClusterError(
    "failed_precondition",
    `without ${named}, ${answer} of ${rest.length} voting managers answer, and ${needed} are needed: ` +
      "no write would be possible. Bring the others back or take them out first",
  );
}

/**
 * By name, id or address. A node that was to have this manager is to have none first: its agent would start another
 * one at once. Whoever asks again after a failure in between gets what is left done.
 */
export async function removeManager(
  store: Store,
  clock: Clock,
  consensus: Consensus,
  wanted: string,
  force: boolean,
): Promise<ManagerStatus> {
  const { managers } = consensus.status();
  const manager = managers.find(({ id, name, address }) => [String(id), name, address].includes(wanted));
  if (manager !== undefined) {
    checkRemoval(manager, managers, force);
    await forgetRole(store, clock, manager.name);
  }
  // Which managers there are, where it is none of them, is the consensus's to say.
  const member = await consensus.removeManager(wanted, force);
  return (
    manager ?? { ...member, voter: false, leader: false, reachable: false, replication: "", matchIndex: 0, lag: 0 }
  );
}

async function forgetRole(store: Store, clock: Clock, hostname: string): Promise<void> {
  const isHost = (node: { description: { hostname: string }; spec: { role: NodeRole } }) =>
    node.description.hostname === hostname && node.spec.role === NodeRole.MANAGER;
  if (![...store.view().nodes.values()].some(isHost)) return;
  await store.update((tx) => {
    for (const node of [...tx.nodes.values()].filter(isHost))
      tx.put("nodes", {
        ...node,
        meta: { ...node.meta, updatedAtMs: clock.now() },
        spec: { ...node.spec, role: NodeRole.WORKER },
      });
  });
}
