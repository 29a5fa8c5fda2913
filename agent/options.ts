// The agent's options, checked before anything is touched.

import { isIPv4 } from "node:net";
import { ClusterError, type LogLevel, type Violation, logLevels } from "../lib/mod.js";

export interface AgentOptions {
  /** Absolute; made if absent. State file, ambassador's socket and logs are in it. */
  dataDir: string;
  /** host:port of the managers' gRPC; at least one. */
  managers: readonly string[];
  /** The machine's own when absent. */
  hostname?: string;
  /** IPv4 at which other hosts reach this one. */
  advertiseAddr: string;
  /** unix:///… */
  docker: string;
  /** host:port of /healthz, /readyz, /metrics. */
  httpListen: string;
  labels: Readonly<Record<string, string>>;
  /** Countable things of the host by name, as gpu: 2; none when absent. */
  generic?: Readonly<Record<string, number>>;
  logLevel: LogLevel;
  /** Starts an ambassador when `--data-dir DIR` is added. Empty: none is kept, for tests of the agent alone. */
  ambassadorCommand: readonly string[];
  /** Starts a manager when its flags are added. Empty: the node cannot be promoted. */
  managerCommand: readonly string[];
}

/** As services may ask for. */
const genericCountMax = 1_000_000;

const hostPort = /^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):(\d{1,5})$/;

/** All violations at once. */
export function checkOptions(options: AgentOptions): void {
  const violations: Violation[] = [];
  const demand = (holds: boolean, field: string, value: string, rule: string, fix: string) => {
    if (!holds) violations.push({ field, value, rule, fix });
  };
  demand(
    options.dataDir.startsWith("/"),
    "data-dir",
    options.dataDir,
    "must be an absolute path",
    "write for example /var/lib/flotilla",
  );
  demand(
    options.managers.length > 0,
    "managers",
    "",
    "must name at least one manager",
    "write for example 10.0.0.1:7400",
  );
  for (const manager of options.managers)
    demand(isHostPort(manager, 1), "managers", manager, "must be HOST:PORT", "write for example 10.0.0.1:7400");
  demand(
    isIPv4(options.advertiseAddr) && options.advertiseAddr !== "0.0.0.0",
    "advertise-addr",
    options.advertiseAddr,
    "must be the IPv4 address at which other hosts reach this one",
    "write for example 10.0.0.2",
  );
  demand(
    /^unix:\/\/\/.+/.test(options.docker),
    "docker",
    options.docker,
    "must be a Unix socket",
    "write unix:///run/docker.sock",
  );
  demand(
    isHostPort(options.httpListen, 0),
    "http-listen",
    options.httpListen,
    "must be HOST:PORT",
    "write 127.0.0.1:7402",
  );
  const { hostname } = options;
  demand(
    hostname === undefined || /^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/.test(hostname),
    "hostname",
    hostname ?? "",
    "must be 1 to 63 letters, digits, dots, dashes or underscores",
    "write for example h1",
  );
  for (const name of Object.keys(options.labels))
    demand(
      /^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$/.test(name),
      "label",
      name,
      "must be a label name",
      "write for example zone=eu",
    );
  for (const [name, count] of Object.entries(options.generic ?? {}))
    demand(
      /^[A-Za-z0-9]([A-Za-z0-9_./-]{0,61}[A-Za-z0-9])?$/.test(name) &&
        Number.isInteger(count) &&
        count >= 1 &&
        count <= genericCountMax,
      "generic-resource",
      `${name}=${count}`,
      `must be a name of 1 to 63 letters, digits, _ . / and - with a count of 1 to ${genericCountMax}`,
      "write for example gpu=2",
    );
  demand(
    logLevels.includes(options.logLevel),
    "log-level",
    options.logLevel,
    `must be one of ${logLevels.join(", ")}`,
    "write info",
  );
  if (violations.length > 0) throw ClusterError.invalid(violations);
}

function isHostPort(text: string, portMin: number): boolean {
  const port = Number(hostPort.exec(text)?.[2] ?? Number.NaN);
  return port >= portMin && port <= 65_535;
}

/** Of a text that was checked. */
export function splitHostPort(text: string): { host: string; port: number } {
  const [, host = "", port = ""] = hostPort.exec(text) ?? [];
  return { host: host.replace(/^\[|\]$/g, ""), port: Number(port) };
}
