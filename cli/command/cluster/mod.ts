// `flotilla cluster …`: the managers as one.

import type { Command } from "commander";
import { type Cli, addGroup } from "../leaf.js";
import { addBackup } from "./backup.js";
import { addInit, addJoin } from "./begin.js";
import { addLeave } from "./leave.js";
import { addRecover, addRestore } from "./recover.js";
import { addStatus } from "./status.js";
import { addTransfer } from "./transfer.js";

export function addCluster(program: Command, cli: Cli): void {
  const cluster = addGroup(program, {
    name: "cluster",
    summary: "the managers: begin, join, look at, back up and recover them",
    description:
      "The managers of a cluster: one, or several that agree by Raft, of which a minority may fail at any time.",
    examples: [
      "flotilla cluster init --advertise-addr 10.0.0.1:7400",
      "flotilla cluster status",
      "flotilla cluster backup ./flotilla.backup",
    ],
  });
  addInit(cluster, cli);
  addJoin(cluster, cli);
  addStatus(cluster, cli);
  addLeave(cluster, cli);
  addTransfer(cluster, cli);
  addBackup(cluster, cli);
  addRestore(cluster, cli);
  addRecover(cluster, cli);
}
