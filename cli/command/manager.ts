// `flotilla manager`: runs on a directory that was made for it, joins a cluster first if it is told to, and refuses
// whatever would make two managers of one.

import { hostname as osHostname } from "node:os";
import { Failure, exits } from "../exit.js";
import type { Flag } from "../flags/flag.js";
import {
  advertised,
  dataDir,
  hostName,
  isLoopback,
  isUnspecified,
  managerDataDirDefault,
  managerDataDirFlag,
  managerPorts,
  portOf,
} from "../flags/host.js";
import { logLevel, logLevelFlag } from "../flags/log-level.js";
import { address, listOf, oneOf, url } from "../flags/parsers.js";
import type { FlagReader, Parser } from "../flags/reader.js";
import type { ManagerIdentity, Offline } from "../processes.js";
import { foreground } from "./foreground.js";
import type { Cli, Leaf } from "./leaf.js";

const flags: readonly Flag[] = [
  managerDataDirFlag,
  {
    long: "listen",
    value: "HOST:PORT",
    help: "gRPC, for managers, agents and the command line (default what is advertised, else 127.0.0.1:7400)",
  },
  {
    long: "http-listen",
    value: "HOST:PORT",
    help: "/metrics, /healthz, /readyz (default what is advertised, else 127.0.0.1:7401)",
  },
  { long: "advertise-addr", value: "HOST:PORT", help: "where others reach this manager (default --listen)" },
  {
    long: "join",
    value: "HOST:PORT[,…]",
    help: "managers of the cluster to join, if the directory is empty; without effect on one that has its cluster",
  },
  { long: "name", value: "NAME", help: "that of this host's node, when it joins (default the host's)" },
  { long: "etcd", value: "URL[,…]", help: "the etcd servers have moved here (default as `cluster init` was told)" },
  {
    long: "store",
    value: "KIND",
    help: "memory: alone, and forgets all at its end, to try things out (default as `cluster init` was told)",
    complete: ["memory"],
  },
  logLevelFlag,
];

const addresses = listOf(address(managerPorts.grpc), "write for example 10.0.0.1:7400,10.0.0.2:7400");
/** Scripts join the others' addresses, and there may be none. */
const joined: Parser<string[]> = (text) => (text.trim() === "" ? { ok: [] } : addresses(text));

const store: Parser<"memory"> = (text) =>
  text === "raft" || text === "etcd"
    ? {
        rule: "is chosen once, when the cluster begins",
        fix: `write flotilla cluster init --store ${text}, and here leave it out`,
      }
    : oneOf({ memory: "memory" } as const)(text);

export function managerLeaf(cli: Cli): Leaf {
  return {
    name: "manager",
    summary: "run a manager",
    description:
      "Runs a manager in the foreground, until SIGTERM or SIGINT; a second signal ends it at once. Its directory is made by `flotilla cluster init` or `flotilla cluster join`, or by --join on an empty one.",
    local: true,
    flags,
    examples: [
      "flotilla manager",
      "flotilla manager --join 10.0.0.1:7400 --advertise-addr 10.0.0.2:7400",
      "flotilla manager --store memory --data-dir ./data",
    ],
    async run({ flags }) {
      const given = read(flags);
      flags.check();
      const options = given.store === "memory" ? inMemory(given) : await onDirectory(flags, given, cli.offline);
      return await foreground(cli.io, (signal) => cli.processes.manager(options, signal));
    },
  };
}

function read(flags: FlagReader) {
  return {
    dataDir: flags.get("data-dir", dataDir) ?? managerDataDirDefault,
    listen: flags.get("listen", address(managerPorts.grpc)),
    httpListen: flags.get("http-listen", address(managerPorts.http)),
    advertise: flags.get("advertise-addr", advertised(managerPorts.grpc)),
    join: flags.get("join", joined) ?? [],
    name: flags.get("name", hostName),
    store: flags.get("store", store),
    etcd: flags.get("etcd", listOf(url, "write for example http://10.0.0.1:2379")) ?? [],
    logLevel: flags.get("log-level", logLevel) ?? "info",
  } as const;
}
type Read = ReturnType<typeof read>;

const listenDefault = `127.0.0.1:${managerPorts.grpc}`;
const httpListenDefault = `127.0.0.1:${managerPorts.http}`;

function inMemory(given: Read) {
  const { dataDir, listen = listenDefault, httpListen = httpListenDefault, join, etcd, logLevel, name } = given;
  const alone = new Failure(exits.usage, "--store memory is for one manager alone: leave --join and --etcd out");
  if (join.length > 0 || etcd.length > 0) throw alone;
  return {
    dataDir,
    listen,
    httpListen,
    advertise: given.advertise ?? listen,
    join: [],
    name: name ?? osHostname(),
    store: "memory" as const,
    etcd: [],
    logLevel,
  };
}

async function onDirectory(flags: FlagReader, given: Read, offline: Offline) {
  const { dataDir, join, etcd, logLevel } = given;
  const { readIdentity } = await offline.identities();
  const identity = await readIdentity(dataDir);
  if (identity === undefined && join.length === 0) throw empty(dataDir, given);
  if (identity !== undefined) refuseAnother(identity, given);
  const advertise = given.advertise ?? identity?.address;
  const listen = given.listen ?? advertise ?? listenDefault;
  const reachedAt = advertise ?? listen;
  if (advertise === undefined) checkAdvertised(flags, reachedAt, join);
  flags.check();
  return {
    dataDir,
    listen,
    httpListen: given.httpListen ?? identity?.httpAddress ?? httpListenDefault,
    advertise: reachedAt,
    join: [...join],
    name: given.name ?? identity?.name ?? osHostname(),
    store: undefined,
    etcd: [...etcd],
    logLevel,
  };
}

/** Others are told of this address: it must not be one that means something else to them. */
function checkAdvertised(flags: FlagReader, listen: string, join: readonly string[]): void {
  const example = `write for example --advertise-addr 10.0.0.2:${portOf(listen) || managerPorts.grpc}`;
  const rule = isUnspecified(listen)
    ? `is needed: --listen ${listen} is no address that others could reach`
    : portOf(listen) === 0
      ? "is needed: --listen has no port that others could reach"
      : isLoopback(listen) && join.some((each) => !isLoopback(each))
        ? `is needed: the managers at ${join.join(", ")} could not reach this one at ${listen}`
        : undefined;
  if (rule !== undefined) flags.report({ field: "--advertise-addr", value: "", rule, fix: example });
}

function empty(dir: string, given: Read): Failure {
  const at = given.advertise ?? given.listen ?? `10.0.0.1:${managerPorts.grpc}`;
  return new Failure(exits.error, `${dir} holds no manager yet: begin a cluster on it, or join one`, {
    next: [
      `flotilla cluster init --data-dir ${dir} --advertise-addr ${at}    # a new cluster`,
      `flotilla manager --data-dir ${dir} --advertise-addr ${at} --join HOST:${managerPorts.grpc}    # HOST is one of its managers`,
    ],
  });
}

/** A directory that belongs to a manager of another name or address: one of the two would be cut off. */
function refuseAnother(identity: ManagerIdentity, { dataDir, advertise, name, etcd }: Read): void {
  const { cluster, memberId } = identity;
  const whose = `${dataDir} is that of manager ${memberId} of cluster ${cluster}`;
  if (name !== undefined && name !== identity.name)
    throw new Failure(exits.error, `${whose}, whose name is ${identity.name} and not ${name}`, {
      next: [`leave --name out, or give this manager a --data-dir of its own`],
    });
  if (advertise !== undefined && advertise !== identity.address)
    throw new Failure(
      exits.error,
      `${whose}, which the other managers know at ${identity.address} and not at ${advertise}`,
      {
        why: ["a manager's address is for its life"],
        next: [
          `leave --advertise-addr out, if ${identity.address} is still this host's`,
          `flotilla cluster leave ${identity.name}    # if it has moved: take it out, wipe its directory, join anew`,
        ],
      },
    );
  if (etcd.length > 0 && identity.store !== "etcd")
    throw new Failure(exits.error, `${whose}, which keeps its objects itself: it has no etcd`, {
      next: ["leave --etcd out"],
    });
}
