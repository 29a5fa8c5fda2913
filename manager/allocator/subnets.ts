// Which subnets of the node pool are in use. Only the leader's dispatcher gives them out, and thousands of nodes may
// join at once: it keeps an index of what is stored, and of what it has given out that is being stored.

import { cidrSize, ClusterError, formatCidr } from "../../lib/mod.js";
import type { Cluster } from "../../proto/mod.js";
import { poolOf } from "./pool.js";

export class SubnetPool {
  /** By node, as stored; and how many nodes have each, which is one. */
  readonly #stored = new Map<string, string>();
  readonly #users = new Map<string, number>();
  /** By node, given out and not stored yet. */
  readonly #given = new Map<string, string>();
  /** No subnet before that number is free. */
  #firstFree = 1;

  /** What is stored of the node now. */
  stored(nodeId: string, subnet: string | undefined): void {
    const before = this.#stored.get(nodeId);
    if (before === subnet) return;
    if (before !== undefined) {
      this.#stored.delete(nodeId);
      this.#release(before);
    }
    if (subnet === undefined) return;
    this.#stored.set(nodeId, subnet);
    this.#users.set(subnet, (this.#users.get(subnet) ?? 0) + 1);
  }

  /**
   * A subnet that no other node has or is being given: the node's for good when it is stored, and until `settle`. The
   * same one when asked again before. `resource_exhausted` when all are in use.
   */
  take(cluster: Cluster, nodeId: string): string {
    const given = this.#given.get(nodeId) ?? this.#stored.get(nodeId);
    if (given !== undefined) return given;
    const nodes = poolOf(cluster.nodePool, "node_pool");
    const size = cidrSize({ prefix: cluster.nodePrefix });
    const count = cidrSize(nodes) / size;
    // The first subnet stays free: hosts with tools that reject a network address equal to the pool's are not rare.
    for (let i = this.#firstFree; i < count; i += 1) {
      const candidate = formatCidr({ base: nodes.base + i * size, prefix: cluster.nodePrefix });
      if (this.#users.has(candidate)) continue;
      this.#firstFree = i + 1;
      this.#given.set(nodeId, candidate);
      this.#users.set(candidate, 1);
      return candidate;
    }
    throw new ClusterError(
      "resource_exhausted",
      `all ${this.#users.size} node subnets of ${cluster.nodePool} are in use; remove nodes that are gone or create the cluster with a larger pool`,
    );
  }

  /** What was given to the node is stored by now, or never will be. */
  settle(nodeId: string): void {
    const given = this.#given.get(nodeId);
    if (given === undefined) return;
    this.#given.delete(nodeId);
    this.#release(given);
  }

  #release(subnet: string): void {
    const left = (this.#users.get(subnet) ?? 1) - 1;
    if (left > 0) {
      this.#users.set(subnet, left);
      return;
    }
    this.#users.delete(subnet);
    // The lowest free one is given first: look from the start again. Nodes are removed far less often than looked for.
    this.#firstFree = 1;
  }
}
