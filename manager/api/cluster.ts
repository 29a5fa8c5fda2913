// The cluster's own settings: stored once, by the first manager that finds none.

import { type Clock, ClusterError, type Rng } from "../../lib/mod.js";
import type { Cluster } from "../../proto/mod.js";
import type { Store } from "../store/mod.js";

/** What a cluster gets unless it is told otherwise; docs/discovery.md says why these ranges. */
export const clusterDefaults = {
  vipPool: "10.127.0.0/16",
  nodePool: "10.128.0.0/10",
  nodePrefix: 24,
  domain: "flotilla.internal",
  dnsAddress: "10.127.0.53",
} as const;

/** The stored settings, made first where there are none. `failed_precondition` when the store is another cluster's. */
export async function ensureCluster(store: Store, name: string, clock: Clock, rng: Rng): Promise<Cluster> {
  const id = rng.id();
  return await store.update((tx) => {
    const [cluster] = tx.clusters.values();
    if (cluster !== undefined) {
      if (cluster.name !== name)
        throw new ClusterError(
          "failed_precondition",
          `the store belongs to cluster ${JSON.stringify(cluster.name)}, not ${JSON.stringify(name)}`,
        );
      return cluster;
    }
    const nowMs = clock.now();
    const made: Cluster = {
      meta: { id, version: 0, createdAtMs: nowMs, updatedAtMs: nowMs },
      name,
      ...clusterDefaults,
      settings: undefined,
      brake: undefined,
    };
    tx.create("clusters", made);
    return made;
  });
}
