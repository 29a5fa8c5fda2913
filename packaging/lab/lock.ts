// One command at a time may build up or take down a lab. The lock is an abstract Unix socket: the kernel frees it with the
// process that holds it, so that no killed command leaves a lock behind.
import { createServer } from "node:net";
import { ClusterError, sleep, systemClock } from "../../lib/mod.js";
import { isErrno } from "./proc.js";

export interface Lock extends AsyncDisposable {
  readonly name: string;
}

/** Waits up to `waitMs` for another holder; then `failed_precondition`. */
export async function lock(name: string, what: string, waitMs = 0, signal?: AbortSignal): Promise<Lock> {
  for (let waitedMs = 0; ; waitedMs += 50) {
    signal?.throwIfAborted();
    const taken = await tryLock(name);
    if (taken !== null) return taken;
    if (waitedMs >= waitMs) {
      throw new ClusterError(
        "failed_precondition",
        `another command is working on ${what}; wait for it to end, or end it`,
      );
    }
    await sleep(systemClock, 50);
  }
}

function tryLock(name: string): Promise<Lock | null> {
  return new Promise((done, fail) => {
    const server = createServer((socket) => socket.destroy());
    server.on("error", (cause) => (isErrno(cause, "EADDRINUSE") ? done(null) : fail(cause)));
    server.listen(`\0flotilla-lab/${name}`, () => {
      server.unref();
      done({ name, [Symbol.asyncDispose]: () => new Promise<void>((closed) => server.close(() => closed())) });
    });
  });
}
