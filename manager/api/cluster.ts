// The cluster's own settings: stored once, by the first manager that finds none, and changed by users.

import { limits, Problems, type Settings, settingsOf } from "../../deploy/spec/mod.js";
import { type Clock, ClusterError, formatDurationMs, type Rng } from "../../lib/mod.js";
import { type Cluster, PlacementStrategy } from "../../proto/mod.js";
import type { ClusterResponse, UpdateClusterRequest } from "../../proto/gen/flotilla/control/v1/control.js";
import type { Store, View } from "../store/mod.js";

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

/** With every default filled in. */
export function clusterState(view: View): ClusterResponse {
  const cluster = theCluster(view);
  return { cluster: { ...cluster, settings: settingsOf(cluster) } };
}

export async function updateCluster(
  store: Store,
  clock: Clock,
  request: UpdateClusterRequest,
): Promise<ClusterResponse> {
  checkSettings(request);
  await store.update((tx) => {
    const cluster = theCluster(tx);
    const { settings } = cluster;
    const strategy = request.strategy === PlacementStrategy.UNSPECIFIED ? settings?.strategy : request.strategy;
    tx.put("clusters", {
      ...cluster,
      meta: { ...cluster.meta, updatedAtMs: clock.now() },
      settings: {
        strategy: strategy ?? PlacementStrategy.UNSPECIFIED,
        preemption: request.preemption ?? settings?.preemption ?? false,
        lostAfterMs: request.lostAfterMs ?? settings?.lostAfterMs,
        taskHistory: request.taskHistory ?? settings?.taskHistory,
        rebalanceMoves: request.rebalanceMoves ?? settings?.rebalanceMoves ?? 0,
        rebalanceIntervalMs: request.rebalanceIntervalMs ?? settings?.rebalanceIntervalMs,
      },
    });
  });
  return clusterState(store.view());
}

/** Two heartbeats may be missed by chance; and whoever waits a day for replacements wants none. */
const lostAfterMs = { min: 10_000, max: limits.durationMs } as const;
/** The wait before a slot's next task is counted from the tasks that are kept. */
const taskHistory = { min: 1, max: 100 } as const;
const rebalanceMovesMax = 1_000;
const rebalanceIntervalMsMin = 10_000;

function checkSettings(request: UpdateClusterRequest): void {
  const problems = new Problems();
  const defaults: Settings = settingsOf(undefined);
  if (!Object.values<number>(PlacementStrategy).includes(request.strategy))
    problems.add("placement_strategy", request.strategy, "must be spread or binpack", "use spread");
  const span = (field: string, value: number | undefined, fallback: number, min: number, max: number) => {
    if (value === undefined || (Number.isInteger(value) && value >= min && value <= max)) return;
    problems.add(
      field,
      formatDurationMs(value),
      `must be a duration from ${formatDurationMs(min)} to ${formatDurationMs(max)}`,
      `use for example ${formatDurationMs(fallback)}`,
    );
  };
  span("lost_after", request.lostAfterMs, defaults.lostAfterMs, lostAfterMs.min, lostAfterMs.max);
  problems.whole("task_history", request.taskHistory, defaults.taskHistory, taskHistory.min, taskHistory.max);
  problems.whole("rebalance_moves", request.rebalanceMoves, defaults.rebalanceMoves, 0, rebalanceMovesMax);
  span(
    "rebalance_interval",
    request.rebalanceIntervalMs,
    defaults.rebalanceIntervalMs,
    rebalanceIntervalMsMin,
    limits.durationMs,
  );
  if (problems.any) throw ClusterError.invalid(problems.list());
}

function theCluster(view: View): Cluster {
  const [cluster] = view.clusters.values();
  if (cluster === undefined) throw new ClusterError("unavailable", "the cluster's settings are not stored yet");
  return cluster;
}
