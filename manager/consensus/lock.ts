// One process per data directory: a name that the kernel frees when the process ends, however it ends.

import { mkdir, stat } from "node:fs/promises";
import { createServer } from "node:net";
import { ClusterError } from "../../lib/mod.js";

/** Makes the directory if need be. `failed_precondition` while another process of this host has it. */
export async function lockDataDir(dataDir: string): Promise<AsyncDisposable> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  // Not the path: the same one may be another directory to a process in another mount namespace.
  const { dev, ino } = await stat(dataDir);
  const server = createServer((socket) => socket.destroy());
  server.unref();
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) =>
      reject(
        cause.code === "EADDRINUSE"
          ? new ClusterError(
              "failed_precondition",
              `${dataDir} is in use by another process: end it first, or choose another --data-dir`,
              { cause },
            )
          : cause,
      ),
    );
    // An abstract Unix socket: no file, and gone with the process.
    server.listen(`\0flotilla-manager-${dev}-${ino}`, resolve);
  });
  return {
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}
