// The cluster's settings with every default filled in: the one place that knows the defaults.

import { type Cluster, PlacementStrategy } from "../../proto/mod.js";

export interface Settings {
  strategy: typeof PlacementStrategy.SPREAD | typeof PlacementStrategy.BINPACK;
  preemption: boolean;
  /** From a node's last sign of life to DOWN. */
  lostAfterMs: number;
  /** Ended tasks that a slot keeps. */
  taskHistory: number;
  /** Tasks that the automatic rebalance moves at the same time; 0: it is off. */
  rebalanceMoves: number;
  rebalanceIntervalMs: number;
}

/** `undefined` is a cluster whose settings are not stored yet. */
export function settingsOf(cluster: Pick<Cluster, "settings"> | undefined): Settings {
  const { strategy, preemption, lostAfterMs, taskHistory, rebalanceMoves, rebalanceIntervalMs } =
    cluster?.settings ?? {};
  return {
    strategy: strategy === PlacementStrategy.BINPACK ? strategy : PlacementStrategy.SPREAD,
    preemption: preemption ?? false,
    lostAfterMs: lostAfterMs ?? 15_000,
    taskHistory: taskHistory ?? 5,
    rebalanceMoves: rebalanceMoves ?? 0,
    rebalanceIntervalMs: rebalanceIntervalMs ?? 300_000,
  };
}
