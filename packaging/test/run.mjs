// npm test: everything that has to hold, from a fresh clone: lint, formatting, types, generated code, unit tests, and
// the integration tests on a lab of real Docker hosts. Runs it all, whatever fails, and ends with one line
// `N passed, N failed, N skipped`. Each check counts as one.
//
//   npm test                     all of it
//   npm test -- unit             checks and unit tests only: no root, no Docker
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ensureBuilt } from "../build/ensure-built.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const bin = (name) => join(root, "node_modules/.bin", name);
const scratch = mkdtempSync(join(tmpdir(), "flotilla-test-"));
const count = { passed: 0, failed: 0, skipped: 0 };
const slow = [];

/** The child under way, the first of a process group: what a test has started ends with it, whatever the end. */
let child;
let interrupted = false;
function signalGroup(signal) {
  try {
    process.kill(-child.pid, signal);
  } catch (failure) {
    // Nobody of the group is left.
    if (failure.code !== "ESRCH") throw failure;
  }
}
for (const signal of ["SIGINT", "SIGTERM"])
  process.on(signal, () => {
    interrupted = true;
    if (child !== undefined) signalGroup(signal);
  });

/** The labs that tests bring up; one that was up before is its user's. */
const testLabs = ["test", "engine", "agent", "discovery", "members", "etcd", "try", "try-too", "quickstart"];
let labsBefore = [];

/** A test run that was interrupted leaves nothing behind. */
async function removeLabs() {
  const { Lab } = await import("../../dist/packaging/lab/mod.js");
  for (const name of Lab.names())
    if (testLabs.includes(name) && !labsBefore.includes(name)) {
      console.log(`taking down the lab ${name}`);
      await Lab.down(name);
    }
}

function run(program, args) {
  return new Promise((resolve) => {
    child = spawn(program, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"], detached: true });
    child.on("error", (error) => {
      console.error(error.message);
      child = undefined;
      resolve(1);
    });
    child.on("close", (code) => {
      signalGroup("SIGKILL");
      child = undefined;
      resolve(code ?? 1);
    });
  });
}

async function step(name, work) {
  if (interrupted) return;
  console.log(`\n== ${name}`);
  const startMs = performance.now();
  await work();
  slow.push([performance.now() - startMs, name]);
}

async function check(name, program, args) {
  await step(name, async () => {
    const ok = (await run(program, args)) === 0;
    count[ok ? "passed" : "failed"] += 1;
    if (!ok) console.log(`${name}: FAILED`);
  });
}

async function tests(project) {
  await step(`${project} tests`, async () => {
    const report = join(scratch, `${project}.json`);
    const code = await run(bin("vitest"), [
      "run",
      "--project",
      project,
      "--reporter=default",
      "--reporter=json",
      `--outputFile.json=${report}`,
    ]);
    let results;
    try {
      results = JSON.parse(readFileSync(report, "utf8"));
    } catch (failure) {
      console.log(`${project} tests: no report (${failure.message})`);
      count.failed += 1;
      return;
    }
    count.passed += results.numPassedTests;
    count.skipped += results.numPendingTests + results.numTodoTests;
    const failed = results.numFailedTests;
    // A file that could not be loaded, or an error outside any test, fails the run without a failed test.
    count.failed += failed === 0 && code !== 0 ? 1 : failed;
    for (const file of results.testResults)
      for (const test of file.assertionResults)
        slow.push([test.duration ?? 0, `${file.name.replace(root, "")}: ${test.fullName}`]);
  });
}

async function main() {
  ensureBuilt();
  const [what = "all"] = process.argv.slice(2);
  if (!["all", "unit"].includes(what)) {
    console.error(`npm test -- ${what}: must be all or unit`);
    return 125;
  }
  if (what === "all") {
    const { ensureSystem, NEEDS } = await import("../../dist/packaging/setup/mod.js");
    await ensureSystem({ need: NEEDS, print: (line) => console.log(line) });
    const { Lab } = await import("../../dist/packaging/lab/mod.js");
    labsBefore = [...Lab.names()];
  }
  await check("generated code", process.execPath, ["packaging/build/generate.mjs", "--check"]);
  await check("lint", bin("oxlint"), ["--type-aware", "--deny-warnings"]);
  await check("formatting", bin("biome"), ["format", "."]);
  await check("types", process.execPath, ["node_modules/typescript/bin/tsc", "--noEmit", "-p", "tsconfig.json"]);
  await tests("unit");
  if (what === "all") {
    await tests("integration");
    await removeLabs();
  }
  console.log("\nWhat took long:");
  for (const [ms, name] of slow.sort((a, b) => b[0] - a[0]).slice(0, 12))
    console.log(`${(ms / 1000).toFixed(1).padStart(7)} s  ${name}`);
  if (interrupted) return 130;
  return count.failed === 0 ? 0 : 1;
}

let code = 1;
try {
  code = await main();
} catch (failure) {
  console.error(failure.message);
  count.failed += 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
console.log(`\n${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
process.exitCode = code;
