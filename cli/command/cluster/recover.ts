// `flotilla cluster recover` and `restore`: the ways back, done on a host whose manager does not run.

import type { Command } from "commander";
import { Failure, exits } from "../../exit.js";
import {
  dataDir,
  filePath,
  identityFlags,
  managerDataDirDefault,
  managerDataDirFlag,
  managerPorts,
  readNewManager,
} from "../../flags/host.js";
import type { Io } from "../../io.js";
import type { ManagerIdentity } from "../../processes.js";
import { leaderOf } from "../../screen/cluster.js";
import { count, plain, safeJson } from "../../screen/text.js";
import { iso } from "../../screen/time.js";
import { confirmName } from "../confirm.js";
import { type Cli, addLeaf } from "../leaf.js";
import { identityJson, nextForCluster, runCommand } from "./begin.js";
import { plainLog } from "./log.js";

export function addRestore(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "restore",
    args: "FILE",
    summary: "begin a new cluster with what is in a backup",
    description:
      "Prepares the directory of the first manager of a new cluster that has everything that is in the backup; nothing runs yet. The whole file is checked first, and a directory that is in use is refused. Managers of the old cluster are strangers to the new one.",
    local: true,
    flags: identityFlags,
    examples: [
      "flotilla cluster restore ./flotilla.backup",
      "flotilla cluster restore --advertise-addr 10.0.0.1:7400 --data-dir ./manager ./flotilla.backup",
    ],
    async run({ flags, args, json }) {
      const manager = readNewManager(flags);
      const backup = flags.parse("FILE", args[0] ?? "", filePath) ?? "";
      flags.check();
      const { checkBackup } = await cli.offline.backups();
      const { header, bytes } = await checkBackup(backup);
      io.err(
        `${plain(`${backup} is whole: cluster ${header.cluster} at revision ${header.revision}, of ${iso(header.createdAtMs)}, ${count(bytes, "byte")}`)}\n`,
      );
      const { restoreCluster } = await cli.offline.dataDirs();
      const { clock, rng } = io;
      const identity = await restoreCluster({ ...manager, backup, clock, rng, log: plainLog(io, "warn") });
      if (json) io.out(`${safeJson({ ...identityJson(identity, manager.dataDir), revision: header.revision }, 2)}\n`);
      else {
        io.out(
          `${plain(`cluster ${identity.cluster} (${identity.clusterId}) begins again at revision ${header.revision} with manager ${identity.memberId}, ${identity.name}, at ${identity.address}`)}\n`,
        );
        io.err(nextForCluster(identity, manager.dataDir));
      }
    },
  });
}

export function addRecover(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "recover",
    summary: "go on with one manager when the majority is lost for good",
    description:
      "Makes the manager of this directory a cluster of its own, with everything that it has; the other managers are forgotten. What only they had is lost. Take the manager whose log is longest: `flotilla cluster status --local` says how far each is. Its process must not run.",
    local: true,
    flags: [managerDataDirFlag, { long: "yes", value: "CLUSTER", help: "the cluster's name: do not ask for it" }],
    examples: ["flotilla cluster recover", "flotilla cluster recover --data-dir ./manager --yes flotilla"],
    async run({ flags, json }) {
      const dir = flags.get("data-dir", dataDir) ?? managerDataDirDefault;
      flags.check();
      const { readIdentity } = await cli.offline.identities();
      const identity = await readIdentity(dir);
      if (identity === undefined)
        throw new Failure(exits.error, `${dir} holds no manager: there is nothing to recover`, {
          next: ["flotilla cluster restore FILE    # if there is a backup"],
        });
      const { recoverCluster } = await cli.offline.dataDirs();
      const { clock, rng } = io;
      const { identity: now, without } = await recoverCluster({
        dataDir: dir,
        clock,
        rng,
        log: plainLog(io, "warn"),
        // The log, which is locked meanwhile, knows who the others are.
        async confirm(others) {
          await refuseWhileLed(io, identity, dir, others);
          io.err(plan(identity, dir, others));
          const question = "Type the cluster's name to go on without the other managers:";
          await confirmName(io, flags.text("yes"), identity.cluster, question);
        },
      });
      if (json) {
        const forgotten = without.map(({ id, name, address }) => ({ id, name, address }));
        io.out(`${safeJson({ ...identityJson(now, dir), without: forgotten }, 2)}\n`);
      } else {
        io.out(
          `${plain(`cluster ${now.cluster} goes on with manager ${now.memberId}, ${now.name}, at ${now.address}; recovery epoch ${now.epoch}`)}\n`,
        );
        io.err(next(now, dir, without));
      }
    },
  });
}

/** A majority that lives would be shut out with all that it has: managers that have a leader are not lost. */
async function refuseWhileLed(
  { clock, rng }: Io,
  { clusterId, cluster }: ManagerIdentity,
  dir: string,
  others: Others,
): Promise<void> {
  const { ControlApi } = await import("../../client/mod.js");
  const asked = others.map(async (other) => {
    const managers = { addresses: [other.address], source: dir };
    using api = new ControlApi({ managers, clock, rng, limits: { repeatMs: 0 } });
    try {
      return { other, status: await api.clusterStatus(true) };
    } catch {
      // Nobody is there, or it is in trouble itself: what is expected here.
      return undefined;
    }
  });
  for (const answer of await Promise.all(asked)) {
    if (answer === undefined || answer.status.clusterId !== clusterId) continue;
    const { other, status } = answer;
    const leader = leaderOf(status);
    if (leader === undefined) continue;
    throw new Failure(
      exits.error,
      `${other.name} (${other.address}) answers, and says that ${leader.name} leads: the managers have their quorum, and nothing is to be recovered`,
      {
        why: [`they would be shut out of cluster ${cluster}, with all that only they have`],
        next: [
          `${runCommand(dir)}    # here: this manager is one of them`,
          `flotilla --host ${other.address} cluster status`,
          "stop those managers first, if they are to be left behind all the same",
        ],
      },
    );
  }
}

type Others = readonly { id: number; name: string; address: string }[];

function plan({ cluster, memberId, name, address }: ManagerIdentity, dir: string, others: Others): string {
  return [
    `${name} (manager ${memberId}, ${address}) becomes the only manager of cluster ${cluster}, with what ${dir} holds.`,
    ...(others.length === 0
      ? ["It knows of no other manager."]
      : [
          "Forgotten are, whatever they have:",
          ...others.map((other) => `  ${other.name} (manager ${other.id}, ${other.address})`),
          "Those that still run are shut out, and what only they have is lost.",
        ]),
  ]
    .map((line) => `${plain(line)}\n`)
    .join("");
}

function next(now: ManagerIdentity, dir: string, without: Others): string {
  const join = `flotilla manager --join ${now.address} --advertise-addr HOST:${managerPorts.grpc}`;
  const hosts = without.length === 0 ? "HOST" : without.map(({ name }) => name).join(", ");
  return (
    (without.length === 0
      ? ""
      : `forgotten: ${plain(without.map(({ id, name, address }) => `${name} (manager ${id}, ${address})`).join(", "))}\n`) +
    `next: ${runCommand(dir)}    # here\n` +
    `      rm -r ${managerDataDirDefault}    # on ${plain(hosts)}, whose manager must not run: its log is of another time\n` +
    `      ${join}    # there: join anew, as HOST\n`
  );
}
