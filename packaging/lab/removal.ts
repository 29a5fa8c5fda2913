// Takes a lab down from whatever it left: works from names and marks alone, never from state.json, since a lab that was killed
// half way is taken down by the same code as one that is well.
import { existsSync, rmSync, rmdirSync } from "node:fs";
import { removeCgroup, removeEmptyCgroup } from "./cgroup.js";
import { removeRootInterface } from "./network.js";
import { CGROUP_ROOT, DATA_ROOT, RUN_ROOT, dataDir, runDir } from "./paths.js";
import { isErrno, killAll, marked } from "./proc.js";

/** Is there anything of a lab of that name? */
export function hasTraces(lab: string): boolean {
  return existsSync(runDir(lab)) || existsSync(dataDir(lab)) || marked(lab).length > 0;
}

/** Removes everything. Safe to repeat, and safe to be killed in. */
export async function removeLab(lab: string): Promise<void> {
  // Anything that bears the mark holds a host or the switch; what runs on a host ends with it.
  await killAll(marked(lab));
  await removeRootInterface(lab);
  await removeCgroup(`/${CGROUP_ROOT}/${lab}`);
  rmSync(dataDir(lab), { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  rmSync(runDir(lab), { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  removeEmptyCgroup(`/${CGROUP_ROOT}`);
  for (const root of [DATA_ROOT, RUN_ROOT]) removeIfEmpty(root);
}

function removeIfEmpty(dir: string): void {
  try {
    rmdirSync(dir);
  } catch (cause) {
    // EBUSY: somebody mounted a disk of its own there.
    if (!["ENOENT", "ENOTEMPTY", "EBUSY"].some((code) => isErrno(cause, code))) throw cause;
  }
}
