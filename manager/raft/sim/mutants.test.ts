// The simulator as a program, and the proof of its checks: every mutant of the table is found. Mutants are copies of the
// compiled package, which is compiled here for that: into a directory of its own, so that no older build is tried.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { mutants } from "./mutants.js";
import { tryMutants, type Verdict } from "./mutate.js";

const directory = mkdtempSync(join(tmpdir(), "raft-sim-"));
const dist = join(directory, "dist");

beforeAll(() => {
  const tsc = join(createRequire(import.meta.url).resolve("typescript/package.json"), "../bin/tsc");
  const project = fileURLToPath(new URL("../tsconfig.json", import.meta.url));
  const args = ["-p", project, "--outDir", dist, "--incremental", "false", "--tsBuildInfoFile", "null"];
  const done = spawnSync(process.execPath, [tsc, ...args], { encoding: "utf8" });
  expect(done.stdout).toBe("");
  expect(done.status).toBe(0);
  writeFileSync(join(directory, "package.json"), '{ "type": "module" }\n');
}, 120_000);

afterAll(() => {
  rmSync(directory, { recursive: true, force: true });
});

function sim(...args: string[]): { code: number | null; out: string; err: string } {
  const done = spawnSync(process.execPath, [`${dist}/sim/main.js`, ...args], { encoding: "utf8" });
  return { code: done.status, out: done.stdout, err: done.stderr };
}

it("every mutant is found, by a rule that is about it", { timeout: 600_000 }, async () => {
  const verdicts: Verdict[] = [];
  await tryMutants(mutants, dist, 2, (verdict) => verdicts.push(verdict));
  expect(verdicts.flatMap(({ name, problem }) => (problem === undefined ? [] : [`${name}: ${problem}`]))).toEqual([]);
  expect(verdicts).toHaveLength(mutants.length);
  expect(new Set(mutants.map(({ name }) => name)).size).toBe(mutants.length);
});

it("runs seeds in several processes, with the same outcome as in one", { timeout: 120_000 }, () => {
  const [many, one] = ["2", "1"].map((jobs) => sim("--seeds", "45", "--from", "10", "--jobs", jobs));
  expect(many?.code).toBe(0);
  expect(many?.out).toMatch(/^45 seeds \(10 … 54\), 0 broke, \d+ events/);
  // All counts are the same, only the time differs.
  expect(many?.out.split("\n")[1]).toBe(one?.out.split("\n")[1]);
  expect(/\d+ events/.exec(many?.out ?? "")?.[0]).toBe(/\d+ events/.exec(one?.out ?? "")?.[0]);
});

it("replays a seed event by event", { timeout: 60_000 }, () => {
  const first = sim("--seed", "23", "--trace");
  expect(first.code).toBe(0);
  expect(first.out.split("\n").length).toBeGreaterThan(500);
  expect(first.out).toMatch(/seed 23 \(\w+\): all held; \d+ events, hash [0-9a-f]{8}, commit /);
  expect(sim("--seed", "23", "--trace").out).toBe(first.out);
  expect(first.out.trimEnd().endsWith(sim("--seed", "23").out.trimEnd())).toBe(true);
});

it("says what is wrong with what it was asked", () => {
  const cases: [string[], string][] = [
    [["--seeds", "many"], "--seeds many: it must be an integer of at least 1"],
    [["--seeds"], "--seeds (nothing): it must be an integer of at least 1"],
    [["--jobs", "0"], "--jobs 0: it must be an integer of at least 1"],
    [["--profile", "nice"], "--profile nice: it must be one of general"],
    [["--sedes", "3"], "--sedes: no such option"],
  ];
  for (const [args, message] of cases) {
    const { code, out, err } = sim(...args);
    expect(code).toBe(2);
    expect(out).toBe("");
    expect(err).toContain(message);
    expect(err).toContain("usage: npm run sim --");
  }
});
