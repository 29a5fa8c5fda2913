// Runs the simulator against the mutants: each in a copy of the compiled package with one replacement. Also a command:
//
//   node manager/raft/dist/sim/mutate.js            all of them, with the seeds each took
//   node manager/raft/dist/sim/mutate.js vote       those whose name has this in it

import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Mutant, mutants } from "./mutants.js";

export interface Verdict {
  name: string;
  /** Of the seed that found it, from 1; undefined when none of `seedsMax` did. */
  seed: number | undefined;
  /** What it said. */
  broken: string;
  /** Why this is no proof; undefined when all is well. */
  problem: string | undefined;
}

/** `dist` is the compiled package. */
export async function tryMutant(mutant: Mutant, dist: string): Promise<Verdict> {
  const { name, file, find, replace, caughtBy, profile, seedsMax } = mutant;
  const verdict: Verdict = { name, seed: undefined, broken: "", problem: undefined };
  const source = readFileSync(join(dist, file), "utf8");
  const found = source.split(find).length - 1;
  if (found !== 1)
    return { ...verdict, problem: `"${find}" is ${found} times in ${file}, not once: bring mutants.ts up to date` };
  const directory = mkdtempSync(join(tmpdir(), "raft-mutant-"));
  try {
    cpSync(dist, join(directory, "dist"), {
      recursive: true,
      filter: (from) => !from.endsWith(".d.ts") && !from.endsWith(".map") && !from.endsWith(".tsbuildinfo"),
    });
    writeFileSync(join(directory, "package.json"), '{ "type": "module" }\n');
    writeFileSync(
      join(directory, "dist", file),
      source.replace(find, () => replace),
    );
    const chosen = profile === undefined ? [] : ["--profile", profile];
    const { code, output } = await run([
      join(directory, "dist/sim/main.js"),
      ...["--seeds", `${seedsMax}`, "--jobs", "1", "--failures", "1", "--last", "0"],
      ...chosen,
    ]);
    const match = /^seed (\d+) .*\n {2}(.*)/m.exec(output);
    const seed = match?.[1];
    const broken = match?.[2] ?? "";
    if (code === 0) return { ...verdict, problem: `not found within ${seedsMax} seeds` };
    if (code !== 1 || seed === undefined)
      return { ...verdict, problem: `the run failed otherwise: ${output.slice(0, 2_000)}` };
    const known = caughtBy.some((rule) => broken.startsWith(rule));
    const problem = known ? undefined : `found, but not by ${caughtBy.join(" or ")}: ${broken}`;
    return { name, seed: Number(seed), broken, problem };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function run(args: readonly string[]): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8");
      stream.on("data", (text: string) => {
        output += text;
      });
    }
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, output }));
  });
}

/** All of `which`, so many at a time. */
export async function tryMutants(
  which: readonly Mutant[],
  dist: string,
  atOnce: number,
  each: (verdict: Verdict) => void,
): Promise<void> {
  const left = [...which];
  const worker = async (): Promise<void> => {
    for (let mutant = left.shift(); mutant !== undefined; mutant = left.shift()) each(await tryMutant(mutant, dist));
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const wanted = process.argv[2] ?? "";
  const which = mutants.filter(({ name }) => name.includes(wanted));
  if (which.length === 0) {
    process.stderr.write(
      `no mutant has "${wanted}" in its name; there are: ${mutants.map(({ name }) => name).join(", ")}\n`,
    );
    process.exitCode = 2;
  }
  await tryMutants(which, fileURLToPath(new URL("..", import.meta.url)), 2, ({ name, seed, broken, problem }) => {
    if (problem !== undefined) process.exitCode = 1;
    process.stdout.write(`${name}: ${problem === undefined ? `seed ${seed}, ${broken}` : `NOT CAUGHT: ${problem}`}\n`);
  });
}
