// `flotilla cluster …`: the managers as one.

import type { Command } from "commander";
import { type Cli, addGroup } from "../leaf.js";
import { addBackup } from "./backup.js";
import { addInit, addJoin } from "./begin.js";
import { addLeave } from "./leave.js";
import { addRecover, addRestore } from "./recover.js";
import { addStatus } from "./status.js";
import { addTransfer } from "./transfer.js";
import { addUpdate } from "./update.js";

export function addCluster(program: Command, cli: Cli): void {
  const cluster = addGroup(program, {
    name: "cluster",
    summary: "the managers and settings: begin, join, look at, change, recover",
    description:
      "The managers of a cluster: one, or several that agree by Raft, of which a minority may fail at any time.",
    examples: [
      "flotilla cluster init --advertise-addr 10.0.0.1:7400",
      "flotilla cluster status",
      "flotilla cluster update --placement-strategy binpack",
      "flotilla cluster backup ./flotilla.backup",
    ],
  });
  addInit(cluster, cli);
  addJoin(cluster, cli);
  addStatus(cluster, cli);
  addUpdate(cluster, cli);
  addLeave(cluster, cli);
  addTransfer(cluster, cli);
  addBackup(cluster, cli);
  addRestore(cluster, cli);
  addRecover(cluster, cli);
}
