// `flotilla cluster leave`: takes a manager out for good.

import type { Command } from "commander";
import type { Managers } from "../../client/mod.js";
import { Failure, UsageError, exits } from "../../exit.js";
import { dataDir, managerDataDirDefault, managerDataDirFlag } from "../../flags/host.js";
import type { ManagerIdentity } from "../../processes.js";
import { managerJson } from "../../screen/cluster.js";
import { plain, safeJson } from "../../screen/text.js";
import { confirmYes } from "../confirm.js";
import { type Cli, addLeaf } from "../leaf.js";
import { afterwards, checkLeaving, findManager } from "./quorum.js";

export function addLeave(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "leave",
    args: "[MANAGER]",
    complete: "managers",
    summary: "take a manager out of the cluster, for good",
    description:
      "Takes this host's manager out, or the one of this name, id or address. It ends by itself, and can only come back as a new manager. Refused when the others would be left without a quorum.",
    flags: [
      managerDataDirFlag,
      { long: "force", help: "even when the others are then no quorum: no writes until enough of them answer" },
      { long: "yes", short: "y", help: "do not ask" },
    ],
    examples: [
      "flotilla cluster leave",
      "flotilla cluster leave h3",
      "flotilla cluster leave --force --yes 10.0.0.3:7400",
    ],
    async run(given) {
      const { flags, args, json } = given;
      const [named] = args;
      const dir = flags.get("data-dir", dataDir) ?? managerDataDirDefault;
      flags.check();
      if (named !== undefined && flags.has("data-dir"))
        throw new UsageError([
          {
            field: "--data-dir",
            value: dir,
            rule: "says which manager, and so does MANAGER",
            fix: "give one of them",
          },
        ]);
      const own = named === undefined ? await ownOf(cli, dir) : undefined;
      const chosen = cli.globals.has("host") || cli.globals.has("context");
      const api = await given.connect(own === undefined || chosen ? undefined : managersOf(own, dir));
      const status = await api.clusterStatus();
      if (own !== undefined && status.clusterId !== own.clusterId)
        throw new Failure(
          exits.error,
          `${dir} is of cluster ${own.cluster} (${own.clusterId}), and the managers that answer are of ${status.cluster} (${status.clusterId})`,
          { next: [`flotilla --host ${own.address} cluster status    # to ask that cluster's managers`] },
        );
      const leaving = findManager(status, own === undefined ? (named ?? "") : String(own.memberId));
      const force = flags.has("force");
      checkLeaving(status, leaving, force);
      const who = `${leaving.name} (manager ${leaving.id}, ${leaving.address})`;
      io.err(
        `${plain(who)} leaves cluster ${plain(status.cluster)} for good; it can only come back as a new manager.\n${afterwards(status, leaving)}\n`,
      );
      await confirmYes(io, flags.has("yes"), "Take it out?");
      const removed = (await api.removeManager(String(leaving.id), force)) ?? leaving;
      if (json) io.out(`${safeJson(managerJson({ manager: removed, status }), 2)}\n`);
      else {
        io.out(`${plain(who)} is out; it ends by itself\n`);
        io.err("next: flotilla cluster status\n");
      }
    },
  });
}

async function ownOf(cli: Cli, dir: string): Promise<ManagerIdentity> {
  const { readIdentity } = await cli.offline.identities();
  const identity = await readIdentity(dir);
  if (identity !== undefined) return identity;
  throw new Failure(exits.error, `${dir} holds no manager: say which one is to leave`, {
    next: [
      "flotilla cluster status           # which there are",
      "flotilla cluster leave MANAGER    # by name, id or address",
    ],
  });
}

/** Those that the manager knew when it joined, itself first. */
function managersOf({ address, members }: ManagerIdentity, dir: string): Managers {
  const addresses = [...new Set([address, ...members.map((member) => member.address)])];
  return { addresses, source: `${dir}/manager.json` };
}
