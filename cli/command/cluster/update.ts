// `flotilla cluster update`: what is set for the whole cluster.

import type { Command } from "commander";
import { UpdateClusterRequest } from "../../../proto/gen/flotilla/control/v1/control.js";
import type { PlacementStrategy } from "../../../proto/gen/flotilla/objects/v1/objects.js";
import { UsageError } from "../../exit.js";
import type { Flag } from "../../flags/flag.js";
import { duration, oneOf, uint32 } from "../../flags/parsers.js";
import { strategies } from "../../flags/service-placement.js";
import { rowsText, settingsRows } from "../../screen/cluster.js";
import { settingsJson } from "../../screen/json.js";
import { safeJson } from "../../screen/text.js";
import { type Cli, addLeaf } from "../leaf.js";

const switched = { on: true, off: false, true: true, false: false } as const;

const settingFlags: readonly Flag[] = [
  {
    long: "placement-strategy",
    value: "STRATEGY",
    help: "of services that say none: spread or binpack (at first spread)",
    complete: Object.keys(strategies),
  },
  {
    long: "preemption",
    value: "on|off",
    optional: true,
    help: "tasks of higher priority push out those of lower (at first off)",
    complete: ["on", "off"],
  },
  { long: "lost-after", value: "DURATION", help: "from a node's last sign of life to down (at first 15s)" },
  { long: "task-history", value: "N", help: "ended tasks that a slot keeps (at first 5)" },
  {
    long: "rebalance-moves",
    value: "N",
    help: "tasks that are moved by themselves at the same time; 0 is off (at first 0)",
  },
  { long: "rebalance-interval", value: "DURATION", help: "between two looks for such moves (at first 5m)" },
];

export function addUpdate(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "update",
    summary: "change what is set for the whole cluster",
    description: "Changes the settings that the flags name, leaves the others, and shows all of them.",
    flags: settingFlags,
    examples: [
      "flotilla cluster update --placement-strategy binpack --preemption on",
      "flotilla cluster update --rebalance-moves 2 --rebalance-interval 10m",
    ],
    async run({ flags, json, connect }) {
      const strategy = flags.get("placement-strategy", oneOf<PlacementStrategy>(strategies));
      const request = UpdateClusterRequest.fromPartial({
        ...(strategy === undefined ? {} : { strategy }),
        preemption: flags.get("preemption", oneOf<boolean>(switched)),
        lostAfterMs: flags.get("lost-after", duration),
        taskHistory: flags.get("task-history", uint32("5")),
        rebalanceMoves: flags.get("rebalance-moves", uint32("2")),
        rebalanceIntervalMs: flags.get("rebalance-interval", duration),
      });
      flags.check();
      if (!settingFlags.some(({ long }) => flags.has(long)))
        throw new UsageError([
          {
            field: "cluster update",
            value: "",
            rule: "was given nothing to change",
            fix: `add one of ${settingFlags.map(({ long }) => `--${long}`).join(", ")}`,
          },
        ]);
      const api = await connect();
      const cluster = await api.updateCluster(request);
      io.out(json ? `${safeJson(settingsJson(cluster), 2)}\n` : rowsText(settingsRows(cluster)));
    },
  });
}
