// `flotilla manager`, `agent` and `ambassador`: the long-running processes, started by systemd, the lab or each other.

import { hostname as osHostname } from "node:os";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import type { Flag } from "../flags/flag.js";
import { dataDir, hostName, onlyAddress } from "../flags/host.js";
import { logLevel, logLevelFlag } from "../flags/log-level.js";
import { address, label, listOf } from "../flags/parsers.js";
import { genericResource } from "../flags/placement.js";
import type { Parser } from "../flags/reader.js";
import type { Processes } from "../processes.js";
import { foreground } from "./foreground.js";
import { type Cli, addLeaf } from "./leaf.js";
import { managerLeaf } from "./manager.js";

const common: readonly Flag[] = [
  { long: "data-dir", value: "DIR", help: "where the process keeps its files (default /var/lib/flotilla)" },
  logLevelFlag,
];

/** On the same machine only, until connections are encrypted. */
const listenHelp = "(default 127.0.0.1";

const docker: Parser<string> = (text) =>
  /^unix:\/\/\/.+/.test(text)
    ? { ok: text }
    : { rule: "must be the Unix socket of a Docker Engine", fix: "write for example unix:///var/run/docker.sock" };

const ip: Parser<string> = (text) =>
  /^(\d{1,3}\.){3}\d{1,3}$/.test(text) && text.split(".").every((part) => Number(part) <= 255)
    ? { ok: text }
    : { rule: "must be an IPv4 address of this host", fix: "write for example 10.0.0.1" };

export const adders = {
  manager(program: Command, cli: Cli) {
    addLeaf(program, cli, managerLeaf(cli));
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
        { long: "generic-resource", value: "NAME=N", help: "countable things of the node: gpu=2 (repeatable)" },
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
          generic: Object.fromEntries(flags.getAll("generic-resource", genericResource)),
          logLevel: flags.get("log-level", logLevel) ?? "info",
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
          logLevel: flags.get("log-level", logLevel) ?? "info",
          ...(httpListen === undefined ? {} : { httpListen }),
        };
        flags.check();
        return await foreground(cli.io, (signal) => cli.processes.ambassador(options, signal));
      },
    });
  },
} as const satisfies Record<keyof Processes, (program: Command, cli: Cli) => void>;
