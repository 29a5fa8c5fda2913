// Every example sees what its README claims, on the shared lab, and leaves the lab as it was.

import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterEach, expect, it } from "vitest";
import { labCluster } from "../kit/lab.js";

const cluster = labCluster();
const examples = fileURLToPath(new URL("../../examples", import.meta.url));
const names = readdirSync(examples, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

function run(name: string, args: readonly string[]): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(`${examples}/${name}/run`, args, { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => (output += data.toString()));
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, output }));
  });
}

afterEach(async () => {
  await cluster.clear();
});

it("there are examples", () => {
  expect(names).toContain("rolling-update");
});

it.each(names)(
  "%s shows what its README claims",
  async (name) => {
    expect(existsSync(`${examples}/${name}/README.md`)).toBe(true);
    const { code, output } = await run(name, ["--lab", cluster.lab.name]);
    expect(code, output).toBe(0);
    expect(output).toContain(`${name}: seen`);
    expect((await cluster.must("service", "ls", "-q")).trim()).toBe("");
  },
  300_000,
);

it("an example with wrong arguments ends with 125 and says how it is used", async () => {
  const { code, output } = await run("rolling-update", ["--lap", "x"]);
  expect(code).toBe(125);
  expect(output).toContain("usage: examples/rolling-update/run [--lab NAME]");
});
