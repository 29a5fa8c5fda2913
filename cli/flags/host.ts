// What the processes of a host are told on the command line: where their files are, their names and addresses.

import { hostname as osHostname, networkInterfaces } from "node:os";
import { resolve } from "node:path";
import type { Flag } from "./flag.js";
import { address } from "./parsers.js";
import type { FlagReader, Parser } from "./reader.js";

/** In a folder of its own: a manager that was taken out has its whole directory set aside. */
export const managerDataDirDefault = "/var/lib/flotilla/manager";
export const managerPorts = { grpc: 7400, http: 7401 } as const;

export const dataDir: Parser<string> = (text) =>
  text === "" || text.includes("\0")
    ? { rule: "must be a directory's path", fix: "write for example /var/lib/flotilla" }
    : { ok: resolve(text) };

/** Of a file that is read or written. */
export const filePath: Parser<string> = (text) =>
  text === "" || text.includes("\0") || text.endsWith("/")
    ? { rule: "must be a file's path", fix: "write for example ./flotilla.backup" }
    : { ok: resolve(text) };

export const hostName: Parser<string> = (text) =>
  /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$/.test(text) &&
  text.length <= 253
    ? { ok: text }
    : { rule: "must be a host name of letters, digits, '-' and '.'", fix: "write for example h1" };

export function hostOf(hostPort: string): string {
  return hostPort.slice(0, hostPort.lastIndexOf(":"));
}

export function portOf(hostPort: string): number {
  return Number(hostPort.slice(hostPort.lastIndexOf(":") + 1));
}

/** "any address of this host": good for listening, and no place that others could go to. */
export function isUnspecified(hostPort: string): boolean {
  const host = hostOf(hostPort);
  return /^0+(\.0+){0,3}$/.test(host) || /^\[[0:]+(?:0\.0\.0\.0)?\]$/.test(host);
}

export function isLoopback(hostPort: string): boolean {
  const host = hostOf(hostPort);
  return host === "localhost" || host.startsWith("127.") || /^\[(0*:)*0*1\]$/.test(host);
}

/** HOST:PORT where others reach this manager; a port of 0 or an unspecified address is nowhere. */
export function advertised(defaultPort: number): Parser<string> {
  return (text) => {
    const parsed = address(defaultPort)(text);
    if (!("ok" in parsed)) return parsed;
    const fix = `write this host's own address, for example 10.0.0.1:${defaultPort}`;
    if (isUnspecified(parsed.ok)) return { rule: "must be an address that others reach, which this one is not", fix };
    return portOf(parsed.ok) === 0 ? { rule: "must have the port that others reach", fix } : parsed;
  };
}

/** This host's address, when there is no choice; reports that there is one, or none. */
export function onlyAddress(flags: FlagReader, example: (ip: string) => string = (ip) => ip): string {
  if (flags.has("advertise-addr")) return "";
  const found = Object.entries(networkInterfaces())
    // Bridges of container engines are of this host alone.
    .filter(([name]) => !/^(docker|br-|veth|flotilla|virbr|cni)/.test(name))
    .flatMap(([, addresses]) => addresses ?? [])
    .filter(({ family, internal }) => family === "IPv4" && !internal)
    .map((each) => each.address);
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  flags.report({
    field: "--advertise-addr",
    value: "",
    rule:
      found.length === 0
        ? "is needed: this host has no address but its own"
        : `is needed: this host has ${found.join(", ")}`,
    fix: `write for example --advertise-addr ${example(only ?? "10.0.0.1")}`,
  });
  return "";
}

export const managerDataDirFlag: Flag = {
  long: "data-dir",
  value: "DIR",
  help: `the manager's own directory (default ${managerDataDirDefault})`,
};

/** Who a new manager is. */
export const identityFlags: readonly Flag[] = [
  managerDataDirFlag,
  {
    long: "advertise-addr",
    value: "HOST:PORT",
    help: `where managers, agents and users reach this manager (default this host's only address, port ${managerPorts.grpc})`,
  },
  {
    long: "http-advertise-addr",
    value: "HOST:PORT",
    help: `where its /metrics and /readyz are (default the same host, port ${managerPorts.http})`,
  },
  { long: "name", value: "NAME", help: "the manager's name: that of its host's node (default the host's)" },
];

export interface NewManager {
  dataDir: string;
  name: string;
  address: string;
  httpAddress: string;
}

export function readNewManager(flags: FlagReader): NewManager {
  const asked = flags.get("advertise-addr", advertised(managerPorts.grpc));
  const at = asked ?? `${onlyAddress(flags, (ip) => `${ip}:${managerPorts.grpc}`)}:${managerPorts.grpc}`;
  return {
    dataDir: flags.get("data-dir", dataDir) ?? managerDataDirDefault,
    name: flags.get("name", hostName) ?? osHostname(),
    address: at,
    httpAddress:
      flags.get("http-advertise-addr", advertised(managerPorts.http)) ?? `${hostOf(at)}:${managerPorts.http}`,
  };
}
