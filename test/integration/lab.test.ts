// The lab itself, tried by its own script: what it claims of cuts, kills, power, images and of leaving nothing behind.

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const script = fileURLToPath(new URL("../../dist/packaging/lab/e2e/try.js", import.meta.url));

it("the lab does what it claims", { timeout: 240_000 }, () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, "7"], { encoding: "utf8" });
  expect(status, stdout + stderr).toBe(0);
  expect(stdout).not.toContain("FAIL");
  expect(stdout.match(/^ok /gm)?.length).toBeGreaterThan(10);
});
