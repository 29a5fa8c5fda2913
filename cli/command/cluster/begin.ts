// `flotilla cluster init` and `join`: a manager's directory is prepared; `flotilla manager` then runs on it.

import type { Command } from "commander";
import { exits } from "../../exit.js";
import {
  hostName,
  identityFlags,
  isLoopback,
  managerDataDirDefault,
  managerPorts,
  readNewManager,
} from "../../flags/host.js";
import { address, duration, listOf, oneOf, url } from "../../flags/parsers.js";
import type { ManagerIdentity } from "../../processes.js";
import { plain, safeJson } from "../../screen/text.js";
import { type Cli, addLeaf } from "../leaf.js";
import { plainLog } from "./log.js";

/** What a prepared directory is, in JSON. */
export function identityJson(identity: ManagerIdentity, dataDir: string) {
  const { cluster, clusterId, memberId, name, address, httpAddress, epoch, store } = identity;
  return { cluster, clusterId, id: memberId, name, address, httpAddress, epoch, store, dataDir };
}

/** `flotilla manager` on this directory. */
export function runCommand(dataDir: string): string {
  return `flotilla manager${dataDir === managerDataDirDefault ? "" : ` --data-dir ${dataDir}`}`;
}

/** The two commands that follow a new cluster. */
export function nextForCluster({ address }: ManagerIdentity, dataDir: string): string {
  const other = `flotilla manager --join ${address} --advertise-addr HOST:${managerPorts.grpc}`;
  const run = runCommand(dataDir);
  const width = Math.max(run.length, other.length) + 4;
  return `next: ${run.padEnd(width)}# here: runs the manager\n      ${other.padEnd(width)}# on HOST: one more\n`;
}

export function addInit(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "init",
    summary: "begin a new cluster with this host's manager",
    description:
      "Prepares the directory of the first manager of a new cluster; nothing runs yet. A directory that is in use is refused.",
    local: true,
    flags: [
      ...identityFlags,
      { long: "cluster", value: "NAME", help: "the new cluster's name (default flotilla)" },
      {
        long: "store",
        value: "KIND",
        help: "where the cluster's objects are kept: raft (the managers themselves) or etcd (default raft)",
        complete: ["raft", "etcd"],
      },
      { long: "etcd", value: "URL[,…]", help: "the etcd servers; with --store etcd" },
    ],
    examples: [
      "flotilla cluster init",
      "flotilla cluster init --advertise-addr 10.0.0.1:7400 --cluster prod",
      "flotilla cluster init --store etcd --etcd http://10.0.0.1:2379,http://10.0.0.2:2379",
    ],
    async run({ flags, json }) {
      const manager = readNewManager(flags);
      const store = flags.get("store", oneOf({ raft: "raft", etcd: "etcd" } as const)) ?? "raft";
      const etcd = flags.get("etcd", listOf(url, "write for example http://10.0.0.1:2379")) ?? [];
      const cluster = flags.get("cluster", hostName) ?? "flotilla";
      if (store === "etcd" && !flags.has("etcd"))
        flags.report({
          field: "--etcd",
          value: "",
          rule: "is needed with --store etcd",
          fix: "write for example --etcd http://127.0.0.1:2379",
        });
      if (store === "raft" && flags.has("etcd"))
        flags.report({
          field: "--etcd",
          value: flags.text("etcd") ?? "",
          rule: "is only for --store etcd",
          fix: "add --store etcd, or leave --etcd out",
        });
      flags.check();
      const { initCluster } = await cli.offline.dataDirs();
      const identity = await initCluster({ ...manager, cluster, store, etcd, rng: io.rng });
      if (json) io.out(`${safeJson(identityJson(identity, manager.dataDir), 2)}\n`);
      else {
        io.out(
          plain(
            `cluster ${identity.cluster} (${identity.clusterId}) begins with manager ${identity.memberId}, ${identity.name}, at ${identity.address}`,
          ) + "\n",
        );
        io.err(nextForCluster(identity, manager.dataDir));
      }
    },
  });
}

/** As long as a cluster in the middle of an election and a removal may take. */
const joinMsDefault = 60_000;

export function addJoin(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "join",
    summary: "make this host a manager of a running cluster",
    description:
      "Asks the managers to take this host in and prepares the directory; `flotilla manager` then runs on it. A new manager has a vote once it has caught up. One that had this address before is taken out: its disk is gone. `flotilla manager --join` does both in one.",
    local: true,
    flags: [
      { long: "managers", value: "HOST:PORT[,…]", help: "managers of the cluster" },
      { long: "join", value: "HOST:PORT[,…]", help: "the same" },
      ...identityFlags,
      { long: "learner", help: "never give it a vote: it follows, and does not count" },
      { long: "timeout", value: "DURATION", help: "longest time to ask for, then exit 1 (default 1m)" },
    ],
    examples: [
      "flotilla cluster join --managers 10.0.0.1:7400",
      "flotilla cluster join --managers 10.0.0.1:7400,10.0.0.2:7400 --advertise-addr 10.0.0.3:7400",
    ],
    async run({ flags, json }) {
      const addresses = listOf(address(managerPorts.grpc), "write for example 10.0.0.1:7400,10.0.0.2:7400");
      const managers = [...(flags.get("managers", addresses) ?? []), ...(flags.get("join", addresses) ?? [])];
      if (!flags.has("managers") && !flags.has("join"))
        flags.report({
          field: "--managers",
          value: "",
          rule: "is needed",
          fix: "write for example --managers 10.0.0.1:7400",
        });
      const manager = readNewManager(flags);
      if (isLoopback(manager.address) && managers.some((each) => !isLoopback(each)))
        flags.report({
          field: "--advertise-addr",
          value: manager.address,
          rule: `must be an address that the managers at ${managers.join(", ")} reach`,
          fix: "write this host's own address, for example 10.0.0.2:7400",
        });
      const deadlineMs = flags.get("timeout", duration) ?? joinMsDefault;
      flags.check();
      const { readIdentity } = await cli.offline.identities();
      const before = await readIdentity(manager.dataDir);
      const { joinCluster } = await cli.offline.dataDirs();
      const controller = new AbortController();
      const off = io.onStop((signal) => controller.abort(new DOMException(`${signal} received`, "AbortError")));
      try {
        const { clock, rng } = io;
        const learner = flags.has("learner");
        const log = plainLog(io, "info");
        const identity = await joinCluster(
          { ...manager, managers, learner, deadlineMs, clock, rng, log },
          controller.signal,
        );
        if (json) io.out(`${safeJson(identityJson(identity, manager.dataDir), 2)}\n`);
        else {
          const how = before === undefined ? "joined" : "is already in";
          io.out(
            `${plain(`${identity.name} ${how} cluster ${identity.cluster} as manager ${identity.memberId}, at ${identity.address}`)}\n`,
          );
          io.err(`next: ${runCommand(manager.dataDir)}    # it has a vote once it has caught up\n`);
        }
        return exits.ok;
      } catch (error) {
        if (!controller.signal.aborted) throw error;
        io.err("stopped; the same command again goes on where this one was\n");
        return exits.detached;
      } finally {
        off();
      }
    },
  });
}
