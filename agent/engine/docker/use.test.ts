import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { groupsOf, readUse, type Roots, useOfStats } from "./use.js";

let dir: string;
let roots: Roots;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "groups-"));
  roots = { proc: join(dir, "proc"), cgroup: join(dir, "cgroup") };
});
afterEach(() => rmSync(dir, { recursive: true }));

function write(files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), text);
  }
}

test("version 1: a tree per controller; memory without files that nobody used lately", async () => {
  write({
    "proc/7/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n0::/docker/abc\n",
    "cgroup/cpuacct/docker/abc/cpuacct.usage": "1234567890\n",
    "cgroup/memory/docker/abc/memory.usage_in_bytes": "5000000\n",
    "cgroup/memory/docker/abc/memory.stat": "inactive_file 7\ntotal_inactive_file 1000000\n",
  });
  const groups = await groupsOf({ id: "abc", pid: 7 }, roots);
  expect(groups).toMatchObject({ version: 1 });
  expect(await readUse(groups!)).toEqual({ cpuNs: 1_234_567_890, memoryBytes: 4_000_000 });
});

test("version 2: one tree, microseconds", async () => {
  write({
    "proc/7/cgroup": "0::/system.slice/docker-abc.scope\n",
    "cgroup/system.slice/docker-abc.scope/cpu.stat": "usage_usec 2500\nuser_usec 2000\n",
    "cgroup/system.slice/docker-abc.scope/memory.current": "4096\n",
    "cgroup/system.slice/docker-abc.scope/memory.stat": "anon 1\ninactive_file 9999\n",
  });
  const groups = await groupsOf({ id: "abc", pid: 7 }, roots);
  // More cache than use is a moment between two reads.
  expect(await readUse(groups!)).toEqual({ cpuNs: 2_500_000, memoryBytes: 4_096 });
});

test.each([
  ["the root", "5:memory:/\n4:cpuacct:/\n"],
  ["another container's", "5:memory:/docker/def\n4:cpuacct:/docker/def\n"],
  ["outside of what is mounted", "0::/../docker/abc\n"],
  ["nothing at all", ""],
])("groups that cannot be told are not guessed: %s", async (_, text) => {
  write({ "proc/7/cgroup": text });
  expect(await groupsOf({ id: "abc", pid: 7 }, roots)).toBeUndefined();
});

test("a process that is gone, and groups that are not there, are errors", async () => {
  await expect(groupsOf({ id: "abc", pid: 8 }, roots)).rejects.toMatchObject({ code: "ENOENT" });
  write({ "proc/7/cgroup": "0::/docker/abc\n" });
  await expect(readUse((await groupsOf({ id: "abc", pid: 7 }, roots))!)).rejects.toMatchObject({ code: "ENOENT" });
});

test("the engine's own answer, of either version; what it lacks is not known", () => {
  const cpu_stats = { cpu_usage: { total_usage: 5 } };
  const answer = { cpu_stats, memory_stats: { usage: 100, stats: { total_inactive_file: 30, inactive_file: 1 } } };
  expect(useOfStats(answer)).toEqual({ cpuNs: 5, memoryBytes: 70 });
  expect(useOfStats({ cpu_stats, memory_stats: {} })).toEqual({ cpuNs: 5, memoryBytes: undefined });
});
