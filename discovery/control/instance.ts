// One ambassador per data directory: the socket that answers is the proof that one runs, its file alone is none.

import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { type Clock, ClusterError, withDeadline } from "../../lib/mod.js";

const probeTimeoutMs = 2_000;

/** Refuses when another ambassador serves the socket; removes a socket that nobody serves. */
export async function claimSocket(socketPath: string, pidPath: string, clock: Clock): Promise<void> {
  const alive = await withDeadline(clock, probeTimeoutMs, socketPath, () => answers(socketPath));
  if (alive) {
    const pid = (await readFile(pidPath, "utf8").catch(() => "")).trim();
    throw new ClusterError(
      "already_exists",
      `another ambassador${pid === "" ? "" : ` (pid ${pid})`} serves ${socketPath}: stop it first, or use another --data-dir`,
    );
  }
  await rm(socketPath, { force: true });
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path: socketPath });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ECONNREFUSED") resolve(false);
      else reject(new ClusterError("failed_precondition", `${socketPath}: ${error.message}`, { cause: error }));
    });
  });
}

/** Written whole or not at all. */
export async function writePid(pidPath: string): Promise<void> {
  const next = `${pidPath}.${process.pid}`;
  await writeFile(next, `${process.pid}\n`, { mode: 0o644 });
  await rename(next, pidPath);
}

/** Removes the pid file if it is still ours. */
export async function removePid(pidPath: string): Promise<void> {
  const pid = await readFile(pidPath, "utf8").catch(() => "");
  if (pid.trim() === String(process.pid)) await rm(pidPath, { force: true });
}
