// Removes the cgroups that a host's containers leave behind. Works on cgroup v2, where there is one hierarchy, and on v1, where
// each controller has one of its own (and systemd's and the unified one stand beside them).
import { existsSync, readdirSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { sleep, systemClock } from "../../lib/mod.js";
import { isErrno } from "./proc.js";

const MOUNT = "/sys/fs/cgroup";

/** `path` as in /proc/PID/cgroup, with a leading slash. Waits for processes that are still leaving. */
export async function removeCgroup(path: string, withinMs = 5_000): Promise<void> {
  for (const root of hierarchies()) {
    for (let waitedMs = 0; ; waitedMs += 20) {
      try {
        removeTree(join(root, path));
        break;
      } catch (cause) {
        if (!isErrno(cause, "EBUSY") || waitedMs >= withinMs) throw cause;
        await sleep(systemClock, 20);
      }
    }
  }
}

/** Removes `path` where nothing is in it: the folder that all labs share goes with the last of them. */
export function removeEmptyCgroup(path: string): void {
  for (const root of hierarchies()) {
    try {
      rmdirSync(join(root, path));
    } catch (cause) {
      if (!["ENOENT", "EBUSY", "ENOTEMPTY"].some((code) => isErrno(cause, code))) throw cause;
    }
  }
}

function hierarchies(): readonly string[] {
  if (existsSync(join(MOUNT, "cgroup.controllers"))) return [MOUNT];
  if (!existsSync(MOUNT)) return [];
  return readdirSync(MOUNT, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(MOUNT, entry.name));
}

/** A cgroup's files cannot be unlinked and need not be: only folders are removed, the deepest first. */
function removeTree(dir: string): void {
  try {
    for (const entry of readdirSync(dir, { withFileTypes: true })) {
      if (entry.isDirectory()) removeTree(join(dir, entry.name));
    }
    rmdirSync(dir);
  } catch (cause) {
    if (!isErrno(cause, "ENOENT")) throw cause;
  }
}
