// Events of the cluster as a whole: its settings, and its brake.

import { type Settings, settingsOf } from "../../deploy/spec/mod.js";
import { formatDurationMs } from "../../lib/mod.js";
import { type Cluster, PlacementStrategy } from "../../proto/mod.js";
import type { Told } from "./told.js";

export function ofCluster(before: Cluster | undefined, after: Cluster | undefined): Told[] {
  if (after === undefined) return [];
  const told = (action: string, message: string, cause = ""): Told => ({
    kind: "cluster",
    action,
    id: after.meta.id,
    name: after.name,
    message,
    cause,
  });
  if (before === undefined) return [told("created", "")];
  const events: Told[] = [];
  if (before.brake === undefined && after.brake !== undefined)
    events.push(
      told(
        "braked",
        "what ran on the lost nodes is left alone until they return, or their loss is confirmed",
        `${after.brake.lostNodes} of ${after.brake.nodes} nodes lost at once`,
      ),
    );
  if (before.brake !== undefined && after.brake === undefined)
    events.push(told("released", "lost nodes are replaced again", "no more than half of the nodes are lost"));
  const changed = changes(settingsOf(before), settingsOf(after));
  if (changed !== "") events.push(told("updated", changed, "asked by the user"));
  return events;
}

const words: { readonly [K in keyof Settings]: (settings: Settings) => string } = {
  strategy: ({ strategy }) => `placement strategy ${strategy === PlacementStrategy.BINPACK ? "binpack" : "spread"}`,
  preemption: ({ preemption }) => `preemption ${preemption ? "on" : "off"}`,
  lostAfterMs: ({ lostAfterMs }) => `lost after ${formatDurationMs(lostAfterMs)}`,
  taskHistory: ({ taskHistory }) => `task history ${taskHistory}`,
  rebalanceMoves: ({ rebalanceMoves }) => `rebalance moves ${rebalanceMoves}`,
  rebalanceIntervalMs: ({ rebalanceIntervalMs }) => `rebalance interval ${formatDurationMs(rebalanceIntervalMs)}`,
};

function changes(before: Settings, after: Settings): string {
  return Object.values(words)
    .filter((say) => say(before) !== say(after))
    .map((say) => `${say(after)}, was ${say(before).split(" ").at(-1)}`)
    .join("; ");
}
