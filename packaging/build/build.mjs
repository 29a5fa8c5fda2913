// Compiles the project to dist/ and marks the command line executable.
// Plain JavaScript, because it has to run before there is anything compiled.
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const tsc = fileURLToPath(new URL("../../node_modules/typescript/bin/tsc", import.meta.url));
// The package first: what imports it wants its types.
for (const project of ["manager/raft/tsconfig.json", "tsconfig.build.json"]) {
  const done = spawnSync(process.execPath, [tsc, "-p", project], { cwd: root, stdio: "inherit" });
  if (done.status !== 0) process.exit(done.status ?? 1);
}
// What quickstart reads before there is a compiled file, and compiled files import too.
cpSync(`${root}/packaging/setup/programs.mjs`, `${root}/dist/packaging/setup/programs.mjs`);
chmodSync(`${root}/dist/cli/main.js`, 0o755);
