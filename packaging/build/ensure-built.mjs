// Makes a fresh clone runnable: packages as the lock file says, and dist/ from today's sources. Fast when both are
// there already. Importable, and a command of its own.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));

function mustRun(what, program, args) {
  console.error(`${what} …`);
  const done = spawnSync(program, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
  if (done.error !== undefined) throw new Error(`${what}: ${done.error.message}`);
  if (done.status !== 0) throw new Error(`${what} failed (exit code ${done.status})`);
}

export function ensureBuilt() {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major < 20 || (major === 20 && minor < 11))
    throw new Error(`Node.js 20.11 or newer is needed, this is ${process.versions.node}; see https://nodejs.org`);
  const wanted = readFileSync(`${root}/package-lock.json`, "utf8");
  const installed = `${root}/node_modules/.package-lock.json`;
  if (!existsSync(installed)) mustRun("installing packages", "npm", ["ci", "--no-audit", "--ignore-scripts"]);
  else if (!sameVersions(wanted, readFileSync(installed, "utf8")))
    mustRun("packages differ from the lock file: installing again", "npm", ["ci", "--no-audit", "--ignore-scripts"]);
  mustRun("building", process.execPath, [`${root}/packaging/build/build.mjs`]);
}

/** Whether what is installed is what the lock file says; packages for other platforms may be missing. */
function sameVersions(wantedText, installedText) {
  const wanted = JSON.parse(wantedText).packages;
  const installed = JSON.parse(installedText).packages;
  return Object.entries(wanted).every(
    ([path, { version, optional }]) =>
      path === "" || (installed[path] === undefined ? optional === true : installed[path].version === version),
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    ensureBuilt();
  } catch (failure) {
    console.error(failure.message);
    process.exit(1);
  }
}
