// Which nodes may take a task, and for those that may not, why: in the user's terms, with counts and the nearest miss.

import { type Constraint, matchConstraint, parseConstraint } from "../../deploy/spec/mod.js";
import { formatBytes, formatNanoCpus } from "../../lib/mod.js";
import { type Node, NodeAvailability, NodeState, type Resources, type TaskSpec } from "../../proto/mod.js";
import type { NodeUse } from "./usage.js";

/** What a group of equal tasks asks of nodes. */
export interface Demand {
  reserved: Resources;
  constraints: readonly Constraint[];
  maxPerNode: number;
}

export function demandOf({ reservations, placement }: TaskSpec): Demand {
  const constraints: Constraint[] = [];
  for (const text of placement.constraints) {
    const parsed = parseConstraint(text);
    // Specs are checked before they are stored.
    if (!("constraint" in parsed)) throw new Error(`the stored constraint ${JSON.stringify(text)} ${parsed.rule}`);
    constraints.push(parsed.constraint);
  }
  return { reserved: reservations, constraints, maxPerNode: placement.maxReplicasPerNode };
}

/** Whether a node may ever take such a task as it is; undefined when it may. */
export function whyExcluded(node: Node, { constraints }: Demand): Miss | undefined {
  if (node.status.state === NodeState.DOWN) return { reason: "down" };
  if (node.status.state !== NodeState.READY) return { reason: "not connected" };
  if (node.spec.availability === NodeAvailability.DRAINED) return { reason: "drained" };
  if (node.spec.availability === NodeAvailability.CORDONED) return { reason: "cordoned" };
  const failed = constraints.find((constraint) => !matchConstraint(constraint, node));
  return failed === undefined ? undefined : { reason: `excluded by ${failed.text}` };
}

/** Whether a node is full for such a task now; undefined when it is not. */
export function whyFull(
  node: Node,
  { reserved, maxPerNode }: Demand,
  use: Readonly<NodeUse>,
  ofService: number,
): Miss | undefined {
  const { resources, hostname } = node.description;
  if (maxPerNode > 0 && ofService >= maxPerNode)
    return { reason: `at the limit of ${maxPerNode} ${maxPerNode === 1 ? "replica" : "replicas"} per node` };
  const freeCpus = resources.nanoCpus - use.nanoCpus;
  if (reserved.nanoCpus > 0 && reserved.nanoCpus > freeCpus)
    return { reason: "short of cpus", asks: `${formatNanoCpus(reserved.nanoCpus)} cpus`, free: freeCpus, hostname };
  const freeMemory = resources.memoryBytes - use.memoryBytes;
  if (reserved.memoryBytes > 0 && reserved.memoryBytes > freeMemory)
    return { reason: "short of memory", asks: formatBytes(reserved.memoryBytes), free: freeMemory, hostname };
  return undefined;
}

/** Why one node cannot take a task. The latter form can be compared: the nearest miss has most free. */
export type Miss = { reason: string } | { reason: string; asks: string; free: number; hostname: string };

/** `no suitable node (3 nodes): 2 short of memory (asks 64 GiB; largest free 23.1 GiB on h2), 1 excluded by …`. */
export function describeMisses(misses: readonly Miss[]): string {
  if (misses.length === 0) return "no suitable node: no agent has joined the cluster yet";
  const groups = new Map<string, { count: number; nearest: Miss }>();
  for (const miss of misses) {
    const group = groups.get(miss.reason);
    if (group === undefined) groups.set(miss.reason, { count: 1, nearest: miss });
    else {
      group.count += 1;
      if (isNearer(miss, group.nearest)) group.nearest = miss;
    }
  }
  const parts = [...groups]
    .sort(([a, x], [b, y]) => y.count - x.count || (a < b ? -1 : 1))
    .map(([reason, { count, nearest }]) => `${count} ${reason}${detail(nearest)}`);
  return `no suitable node (${misses.length} ${misses.length === 1 ? "node" : "nodes"}): ${parts.join(", ")}`;
}

function isNearer(a: Miss, b: Miss): boolean {
  if (!("free" in a) || !("free" in b)) return false;
  return a.free > b.free || (a.free === b.free && a.hostname < b.hostname);
}

function detail(miss: Miss): string {
  if (!("free" in miss)) return "";
  const free = Math.max(0, miss.free);
  const amount = miss.reason === "short of memory" ? formatBytes(free) : formatNanoCpus(free);
  return ` (asks ${miss.asks}; largest free ${amount} on ${miss.hostname})`;
}
