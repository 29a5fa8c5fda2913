// `npm run quickstart` as its user has it: what it checks, and that nothing is left of it, whatever ends it.

import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";
import { Lab } from "../../packaging/lab/mod.js";
import { eventually } from "../kit/lab.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const name = "quickstart";

interface Run {
  readonly child: ChildProcess;
  readonly code: Promise<number | null>;
  output(): string;
}

function quickstart(...args: string[]): Run {
  const child = spawn(process.execPath, ["packaging/quickstart/quickstart.mjs", ...args], {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => (output += data.toString()));
  return { child, code: new Promise((resolve) => child.on("close", resolve)), output: () => output };
}

afterAll(async () => {
  await Lab.down(name);
});

it("sees all of it with --once after a run that was killed, and leaves nothing", async () => {
  const killed = quickstart();
  await eventually("its cluster comes up", () => Lab.names().includes(name), 60_000);
  killed.child.kill("SIGKILL");
  await killed.code;
  const { code, output } = quickstart("--once");
  expect(await code, output()).toBe(0);
  expect(output()).toContain("All of it was seen");
  expect(output()).toContain("removed what an earlier run left");
  // Two loads during the update, two while the leading manager dies.
  expect(output().match(/ 0 failed/g)).toHaveLength(4);
  expect(output()).toMatch(/h[1-3] leads; the write was taken [\d.]+ s after the kill/);
  expect(output()).toContain("the 6 containers run on, none restarted");
  expect(output().split("\n").length).toBeLessThan(60);
  expect(Lab.names()).not.toContain(name);
}, 360_000);

it("ends on a signal in the middle with 130, and leaves nothing; a second one at the same time is refused", async () => {
  const { child, code, output } = quickstart();
  await eventually("it brings its cluster up", () => output().includes("[2/"), 60_000);
  const second = quickstart("--once");
  expect(await second.code).toBe(1);
  expect(second.output()).toContain("a machine has room for one");
  child.kill("SIGINT");
  // As npm does, which hands on what the terminal has already sent.
  child.kill("SIGINT");
  expect(await code, output()).toBe(130);
  expect(Lab.names()).not.toContain(name);
}, 120_000);
