// Forgetting a node for good. What could still run there, or be counted on, keeps it from being forgotten by mistake.

import { hasEnded, isWanted } from "../../deploy/strategy/mod.js";
import { ClusterError } from "../../lib/mod.js";
import { NodeState, type Node } from "../../proto/mod.js";
import type { RemoveNodeRequest, RemoveNodeResponse } from "../../proto/gen/flotilla/control/v1/control.js";
import type { Store, View } from "../store/mod.js";
import { findNode } from "./lookup.js";
import type { Managers } from "./nodes.js";

/** The tasks that were there are replaced: a task whose node is not known any more is a lost one. */
export async function removeNode(
  store: Store,
  managers: Managers,
  { node: wanted, force }: RemoveNodeRequest,
): Promise<RemoveNodeResponse> {
  const node = await store.update((tx) => {
    const found = findNode(tx, wanted);
    refuse(tx, found, managers, force);
    tx.remove("nodes", found.meta.id);
    return found;
  });
  return { node };
}

function refuse(view: View, node: Node, managers: Managers, force: boolean): void {
  const { hostname } = node.description;
  const no = (why: string) => new ClusterError("failed_precondition", why);
  // Its manager would go on counting for the quorum, and nobody would see on which node.
  if (managers.some(({ name }) => name === hostname))
    throw no(`node ${hostname} is a manager; first: flotilla node demote ${hostname}`);
  // It would join again at once.
  if (node.status.state === NodeState.READY)
    throw no(`node ${hostname} is connected; drain it and end its agent first: flotilla node drain ${hostname}`);
  if (force) return;
  const running = [...view.tasksOfNode(node.meta.id)].filter((task) => isWanted(task) && !hasEnded(task)).length;
  if (running > 0)
    throw no(
      `node ${hostname} has ${running} ${running === 1 ? "task" : "tasks"} that may still run; ` +
        `if it is gone for good: flotilla node rm --force ${hostname}`,
    );
  if (node.status.state !== NodeState.DOWN)
    throw no(
      `node ${hostname} was heard of a moment ago; wait until it is down, or: flotilla node rm --force ${hostname}`,
    );
}
