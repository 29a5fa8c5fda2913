// `flotilla manager`, `agent` and `ambassador`: the long-running processes, started by systemd, the lab or each other.

import { hostname as osHostname, networkInterfaces } from "node:os";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import type { LogLevel } from "../../lib/log.js";
import { type Exit, Failure, exits } from "../exit.js";
import type { Flag } from "../flags/flag.js";
import { address, label, listOf, oneOf, url } from "../flags/parsers.js";
import type { FlagReader, Parser } from "../flags/reader.js";
import type { Io } from "../io.js";
import type { Processes } from "../processes.js";
import { type Cli, addLeaf } from "./leaf.js";

const levels: Readonly<Record<LogLevel, LogLevel>> = {
  trace: "trace",
  debug: "debug",
  info: "info",
  warn: "warn",
  error: "error",
  silent: "silent",
};

const common: readonly Flag[] = [
  { long: "data-dir", value: "DIR", help: "where the process keeps its files (default /var/lib/flotilla)" },
  {
    long: "log-level",
    value: "LEVEL",
    help: "trace, debug, info, warn, error or silent (default info)",
    complete: Object.keys(levels),
  },
];

/** On the same machine only, until connections are encrypted. */
const listenHelp = "(default 127.0.0.1";

const dataDir: Parser<string> = (text) =>
  text === "" || text.includes("\0")
    ? { rule: "must be a directory's path", fix: "write for example /var/lib/flotilla" }
    : { ok: resolve(text) };

const docker: Parser<string> = (text) =>
  /^unix:\/\/\/.+/.test(text)
    ? { ok: text }
    : { rule: "must be the Unix socket of a Docker Engine", fix: "write for example unix:///var/run/docker.sock" };

const hostName: Parser<string> = (text) =>
  /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$/.test(text) &&
  text.length <= 253
    ? { ok: text }
    : { rule: "must be a host name of letters, digits, '-' and '.'", fix: "write for example h1" };

const ip: Parser<string> = (text) =>
  /^(\d{1,3}\.){3}\d{1,3}$/.test(text) && text.split(".").every((part) => Number(part) <= 255)
    ? { ok: text }
    : { rule: "must be an IPv4 address of this host", fix: "write for example 10.0.0.1" };

export const adders = {
  manager(program: Command, cli: Cli) {
    addLeaf(program, cli, {
      name: "manager",
      summary: "run a manager",
      description: "Runs a manager in the foreground, until SIGTERM or SIGINT; a second signal ends it at once.",
      local: true,
      flags: [
        ...common,
        { long: "listen", value: "HOST:PORT", help: `gRPC, for agents and the command line ${listenHelp}:7400)` },
        { long: "http-listen", value: "HOST:PORT", help: `/metrics, /healthz, /readyz ${listenHelp}:7401)` },
        {
          long: "store",
          value: "KIND",
          help: "etcd, or memory, which forgets all at its end (default etcd)",
          complete: ["etcd", "memory"],
        },
        { long: "etcd", value: "URL[,…]", help: "the etcd servers" },
        { long: "cluster", value: "NAME", help: "name of the cluster in the store (default flotilla)" },
      ],
      examples: [
        "flotilla manager --listen 10.0.0.1:7400 --etcd http://10.0.0.1:2379,http://10.0.0.2:2379",
        "flotilla manager --store memory --data-dir ./data",
      ],
      async run({ flags }) {
        const store = flags.get("store", oneOf({ etcd: "etcd", memory: "memory" } as const)) ?? "etcd";
        const etcd = flags.get("etcd", listOf(url, "write for example http://10.0.0.1:2379")) ?? [];
        if (store === "etcd" && !flags.has("etcd"))
          flags.report({
            field: "--etcd",
            value: "",
            rule: "is needed with --store etcd",
            fix: "write for example --etcd http://127.0.0.1:2379, or --store memory to try things out",
          });
        const options = {
          dataDir: flags.get("data-dir", dataDir) ?? "/var/lib/flotilla",
          listen: flags.get("listen", address(7400)) ?? "127.0.0.1:7400",
          httpListen: flags.get("http-listen", address(7401)) ?? "127.0.0.1:7401",
          store,
          etcd,
          cluster: flags.get("cluster", hostName) ?? "flotilla",
          logLevel: flags.get("log-level", oneOf(levels)) ?? "info",
        };
        flags.check();
        return await foreground(cli.io, (signal) => cli.processes.manager(options, signal));
      },
    });
  },

  agent(program: Command, cli: Cli) {
    addLeaf(program, cli, {
      name: "agent",
      summary: "run this host's agent",
      description:
        "Runs the agent in the foreground, until SIGTERM or SIGINT. Containers and the ambassador go on without it.",
      local: true,
      flags: [
        ...common,
        { long: "managers", value: "HOST:7400[,…]", help: "the managers" },
        { long: "hostname", value: "NAME", help: "this node's name (default the host's)" },
        {
          long: "advertise-addr",
          value: "ADDRESS",
          help: "where other hosts reach this one (default its only address)",
        },
        { long: "docker", value: "URL", help: "the Docker Engine (default unix:///var/run/docker.sock)" },
        { long: "http-listen", value: "HOST:PORT", help: `/metrics, /healthz ${listenHelp}:7402)` },
        { long: "label", short: "l", value: "KEY=VALUE", help: "label of the node, for constraints (repeatable)" },
      ],
      examples: ["flotilla agent --managers 10.0.0.1:7400 --advertise-addr 10.0.0.2 --label zone=eu"],
      async run({ flags }) {
        if (!flags.has("managers"))
          flags.report({
            field: "--managers",
            value: "",
            rule: "is needed",
            fix: "write for example --managers 10.0.0.1:7400",
          });
        const program = [process.execPath, fileURLToPath(new URL("../main.js", import.meta.url))];
        const options = {
          dataDir: flags.get("data-dir", dataDir) ?? "/var/lib/flotilla",
          managers: flags.get("managers", listOf(address(7400), "write for example 10.0.0.1:7400,10.0.0.2:7400")) ?? [],
          hostname: flags.get("hostname", hostName) ?? osHostname(),
          advertiseAddr: flags.get("advertise-addr", ip) ?? onlyAddress(flags),
          docker: flags.get("docker", docker) ?? "unix:///var/run/docker.sock",
          httpListen: flags.get("http-listen", address(7402)) ?? "127.0.0.1:7402",
          labels: Object.fromEntries(flags.getAll("label", label)),
          logLevel: flags.get("log-level", oneOf(levels)) ?? "info",
          ambassadorCommand: [...program, "ambassador"],
          managerCommand: [...program, "manager"],
        };
        flags.check();
        return await foreground(cli.io, (signal) => cli.processes.agent(options, signal));
      },
    });
  },

  ambassador(program: Command, cli: Cli) {
    addLeaf(program, cli, {
      name: "ambassador",
      summary: "run this host's resolver and proxy (the agent does it)",
      description:
        "Runs the ambassador in the foreground: names, virtual addresses and published ports of this host. The agent starts it, and it outlives the agent.",
      local: true,
      flags: [...common, { long: "http-listen", value: "HOST:PORT", help: "/metrics, /healthz (default none)" }],
      examples: ["flotilla ambassador --data-dir /var/lib/flotilla"],
      async run({ flags }) {
        const httpListen = flags.get("http-listen", address());
        const options = {
          dataDir: flags.get("data-dir", dataDir) ?? "/var/lib/flotilla",
          logLevel: flags.get("log-level", oneOf(levels)) ?? "info",
          ...(httpListen === undefined ? {} : { httpListen }),
        };
        flags.check();
        return await foreground(cli.io, (signal) => cli.processes.ambassador(options, signal));
      },
    });
  },
} as const satisfies Record<keyof Processes, (program: Command, cli: Cli) => void>;

/** This host's address, when there is no choice. */
function onlyAddress(flags: FlagReader): string {
  if (flags.has("advertise-addr")) return "";
  const found = Object.entries(networkInterfaces())
    // Bridges of container engines are of this host alone.
    .filter(([name]) => !/^(docker|br-|veth|flotilla|virbr|cni)/.test(name))
    .flatMap(([, addresses]) => addresses ?? [])
    .filter(({ family, internal }) => family === "IPv4" && !internal)
    .map(({ address }) => address);
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  flags.report({
    field: "--advertise-addr",
    value: "",
    rule:
      found.length === 0
        ? "is needed: this host has no address but its own"
        : `is needed: this host has ${found.join(", ")}`,
    fix: `write for example --advertise-addr ${only ?? "10.0.0.1"}`,
  });
  return "";
}

/** The first signal asks the process to end, the second ends it. */
async function foreground(io: Io, work: (signal: AbortSignal) => Promise<void>): Promise<Exit> {
  const controller = new AbortController();
  const off = io.onStop((signal) => {
    if (controller.signal.aborted) io.leave(signal === "SIGINT" ? 130 : 143);
    else controller.abort(new DOMException(`${signal} received`, "AbortError"));
  });
  try {
    await work(controller.signal);
    return exits.ok;
  } catch (error) {
    // A port in use, a folder that cannot be written: the host's doing, not a fault of the program.
    if (error instanceof Error && "syscall" in error) throw new Failure(exits.error, error.message, { cause: error });
    throw error;
  } finally {
    off();
  }
}
