// What a container uses, read from its control groups: three small files of the kernel's, where asking the engine costs
// it a round of its own per container. Version 1 has a tree per controller, version 2 one for all.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { ContainerUse } from "../engine.js";

/** Where the files of one container are. */
export interface Groups {
  readonly version: 1 | 2;
  readonly cpu: string;
  readonly memory: string;
}

export interface Roots {
  /** /proc */
  readonly proc: string;
  /** /sys/fs/cgroup */
  readonly cgroup: string;
}

export const hostRoots: Roots = { proc: "/proc", cgroup: "/sys/fs/cgroup" };

/** The groups of a container's process; undefined when they cannot be told from here, as in another namespace. */
export async function groupsOf(
  { id, pid }: { id: string; pid: number },
  { proc, cgroup }: Roots,
): Promise<Groups | undefined> {
  const paths = new Map<string, string>();
  for (const line of (await readFile(join(proc, String(pid), "cgroup"), "utf8")).split("\n")) {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    for (const controller of controllers.split(",")) paths.set(controller, path);
  }
  // The engine names groups by the container. Without its name the process may be any, of that number where the engine
  // is not where this agent is; and a path that climbs lies outside of what is mounted here.
  const at = (path: string | undefined) =>
    path === undefined || !path.includes(id) || path.startsWith("/..") ? undefined : path;
  const [cpu, memory] = [paths.get("cpuacct"), paths.get("memory")];
  if (cpu !== undefined && memory !== undefined) {
    const [cpuPath, memoryPath] = [at(cpu), at(memory)];
    if (cpuPath === undefined || memoryPath === undefined) return undefined;
    // Mounted under the controller's own name everywhere, as a link where two share a tree.
    return { version: 1, cpu: join(cgroup, "cpuacct", cpuPath), memory: join(cgroup, "memory", memoryPath) };
  }
  const path = at(paths.get(""));
  if (path === undefined) return undefined;
  return { version: 2, cpu: join(cgroup, path), memory: join(cgroup, path) };
}

/** Rejects with the file system's error when the groups are gone, or were never where they were thought to be. */
export async function readUse({ version, cpu, memory }: Groups): Promise<ContainerUse> {
  const read = (folder: string, name: string) => readFile(join(folder, name), "utf8");
  if (version === 1) {
    const [used, inMemory, stat] = await Promise.all([
      read(cpu, "cpuacct.usage"),
      read(memory, "memory.usage_in_bytes"),
      read(memory, "memory.stat"),
    ]);
    return { cpuNs: Number(used), memoryBytes: withoutCache(Number(inMemory), entry(stat, "total_inactive_file")) };
  }
  const [used, inMemory, stat] = await Promise.all([
    read(cpu, "cpu.stat"),
    read(memory, "memory.current"),
    read(memory, "memory.stat"),
  ]);
  const cpuUs = entry(used, "usage_usec");
  return {
    cpuNs: cpuUs === undefined ? undefined : cpuUs * 1_000,
    memoryBytes: withoutCache(Number(inMemory), entry(stat, "inactive_file")),
  };
}

/** The engine's own answer, where the files cannot be read. */
export interface StatsAnswer {
  cpu_stats?: { cpu_usage?: { total_usage?: number } };
  memory_stats?: { usage?: number; stats?: Record<string, number> };
}

export function useOfStats({ cpu_stats: cpu, memory_stats: memory }: StatsAnswer): ContainerUse {
  const { usage, stats = {} } = memory ?? {};
  return {
    cpuNs: cpu?.cpu_usage?.total_usage,
    memoryBytes:
      usage === undefined ? undefined : withoutCache(usage, stats["total_inactive_file"] ?? stats["inactive_file"]),
  };
}

/** Files that nobody used lately are given back when memory is short: docker stats leaves them out, too. */
function withoutCache(bytes: number, inactiveFileBytes: number | undefined): number {
  return inactiveFileBytes === undefined || inactiveFileBytes > bytes ? bytes : bytes - inactiveFileBytes;
}

function entry(text: string, name: string): number | undefined {
  const value = new RegExp(`^${name} (\\d+)$`, "m").exec(text)?.[1];
  return value === undefined ? undefined : Number(value);
}
