// What this host's kernel must know for services to be reachable, by iproute2 and iptables; all of it idempotent.
//
// - The VIP pool and the node pool are local to every host (AnyIP): `local POOL dev lo` in table local. So the
//   ambassador can listen on any VIP and on any remote task's address, without an address per service.
// - The host's own subnet stays out: its containers are reached by their bridge. The node pool without that subnet is
//   a dozen ranges. A `throw` route would be one line, but ends the lookup where the kernel keeps the tables local and
//   main as one, which it does until the first rule is added.
// - To Docker such addresses look like the host's own, so a container published on 0.0.0.0:80 would take every VIP's
//   port 80. Two accepting rules ahead of Docker's in the nat table leave the pools alone.
//
// The set-up stays when the ambassador ends: routes outlive it, and the next one needs the same. `cleanup` removes it.

import { spawn } from "node:child_process";
import {
  ClusterError,
  messageOf,
  type Cidr,
  cidrCovers,
  formatCidr,
  cidrsOverlap,
  parseRange,
  cidrWithout,
} from "../../lib/mod.js";

const commandTimeoutMs = 10_000;

export interface Pools {
  readonly vipPool: Cidr;
  readonly nodePool: Cidr;
  readonly subnet: Cidr;
  /** The resolver's. */
  readonly dnsAddress: number;
}

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end; rejects only when it cannot be run. */
export type Run = (command: string, args: readonly string[], input?: string) => Promise<Ran>;

export const runCommand: Run = (command, args, input = "") =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, { timeout: commandTimeoutMs, stdio: ["pipe", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    // First of all: without descriptors for pipes there are no streams, and the lines below throw.
    child.on("error", (error) =>
      reject(new ClusterError("failed_precondition", `${command}: ${error.message}`, { cause: error })),
    );
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.on("close", (code) => resolve({ code: code ?? -1, stdout, stderr }));
    // A program that ends without reading its input is judged by its exit code.
    child.stdin.on("error", () => undefined);
    child.stdin.end(input);
  });

/** Ranges that this host reaches otherwise and that a pool would take away, in words. Pure. */
export function poolConflicts(
  pools: Pools,
  routes: readonly { readonly dst: string; readonly dev: string }[],
): {
  readonly vip: string | undefined;
  readonly node: string | undefined;
} {
  const conflict = (what: string, pool: Cidr): string | undefined => {
    for (const { dst, dev } of routes) {
      const range = parseRange(dst);
      if (range === undefined || range.prefix === 0 || cidrCovers(pools.subnet, range)) continue;
      if (cidrsOverlap(pool, range))
        return `the cluster's ${what} ${formatCidr(pool)} overlaps ${dst}, which this host reaches by ${dev}: make the cluster with another ${what}`;
    }
    return undefined;
  };
  return { vip: conflict("VIP pool", pools.vipPool), node: conflict("node pool", pools.nodePool) };
}

/** The ranges that become local to this host. Pure. */
export function localRanges(pools: Pools, owned: { readonly vip: boolean; readonly node: boolean }): Cidr[] {
  // The resolver's address by itself as well: a host may refuse it with a route of its own while no ambassador runs,
  // so that look-ups fail at once, and where the tables are one the longer prefix wins.
  const vips = [pools.vipPool, { base: pools.dnsAddress, prefix: 32 }];
  return [...(owned.vip ? vips : []), ...(owned.node ? cidrWithout(pools.nodePool, pools.subnet) : [])];
}

/** Makes the pools local; the answer is what could not be done, in words, and whether the node pool is ours. */
export async function setUp(
  pools: Pools,
  run: Run = runCommand,
): Promise<{ problems: string[]; ownsNodePool: boolean }> {
  const problems: string[] = [];
  try {
    const listed = await run("ip", ["-4", "-json", "route", "show", "table", "main"]);
    if (listed.code !== 0) throw new ClusterError("internal", `ip route show: ${listed.stderr.trim()}`);
    const { vip, node } = poolConflicts(pools, readRoutes(listed.stdout));
    for (const conflict of [vip, node]) if (conflict !== undefined) problems.push(conflict);
    const commands = localRanges(pools, { vip: vip === undefined, node: node === undefined }).map(
      (range) => `route replace local ${formatCidr(range)} dev lo table local`,
    );
    if (commands.length > 0) {
      const set = await run("ip", ["-batch", "-"], `${commands.join("\n")}\n`);
      if (set.code !== 0) {
        problems.push(`the addresses of services cannot be set up on this host: ${firstLine(set.stderr)}`);
        return { problems, ownsNodePool: false };
      }
    }
    problems.push(...(await shieldFromDocker(pools, run)));
    return { problems, ownsNodePool: node === undefined };
  } catch (failure) {
    problems.push(`the addresses of services cannot be set up on this host: ${messageOf(failure)}`);
    return { problems, ownsNodePool: false };
  }
}

/** Removes what `setUp` made; what is not there is no fault. */
export async function cleanup(pools: Pools, run: Run = runCommand): Promise<void> {
  const commands = localRanges(pools, { vip: true, node: true }).map(
    (range) => `route del local ${formatCidr(range)} dev lo table local`,
  );
  await run("ip", ["-force", "-batch", "-"], `${commands.join("\n")}\n`);
  for (const shield of shieldRules(pools)) await run("iptables", ["-w", "-t", "nat", "-D", ...shield]);
}

function shieldRules(pools: Pools): string[][] {
  const rules: string[][] = [];
  for (const chain of ["PREROUTING", "OUTPUT"])
    for (const pool of [pools.vipPool, pools.nodePool])
      rules.push([
        chain,
        "-d",
        formatCidr(pool),
        "-m",
        "addrtype",
        "--dst-type",
        "LOCAL",
        "-m",
        "comment",
        "--comment",
        "flotilla",
        "-j",
        "ACCEPT",
      ]);
  return rules;
}

async function shieldFromDocker(pools: Pools, run: Run): Promise<string[]> {
  try {
    for (const rule of shieldRules(pools)) {
      const [chain = "", ...match] = rule;
      const there = await run("iptables", ["-w", "-t", "nat", "-C", chain, ...match]);
      if (there.code === 0) continue;
      const made = await run("iptables", ["-w", "-t", "nat", "-I", chain, "1", ...match]);
      if (made.code !== 0)
        return [`services may be hidden by ports that Docker publishes: iptables: ${firstLine(made.stderr)}`];
    }
    return [];
  } catch (failure) {
    return [`services may be hidden by ports that Docker publishes: ${messageOf(failure)}`];
  }
}

function readRoutes(json: string): { dst: string; dev: string }[] {
  const routes: { dst: string; dev: string }[] = [];
  const listed: unknown = json.trim() === "" ? [] : JSON.parse(json);
  if (!Array.isArray(listed)) return routes;
  // A route of another type (prohibit, unreachable, blackhole) reaches nothing that could be taken away.
  for (const route of listed as { type?: unknown; dst?: unknown; dev?: unknown }[])
    if (typeof route.dst === "string" && (route.type === undefined || route.type === "unicast"))
      routes.push({ dst: route.dst, dev: typeof route.dev === "string" ? route.dev : "a route" });
  return routes;
}

function firstLine(text: string): string {
  return text.trim().split("\n")[0] ?? "";
}
