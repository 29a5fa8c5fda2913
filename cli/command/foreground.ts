// A process that runs until it is told to end.

import { type Exit, Failure, exits } from "../exit.js";
import type { Io } from "../io.js";

/** The first signal asks the process to end, the second ends it. */
export async function foreground(io: Io, work: (signal: AbortSignal) => Promise<void>): Promise<Exit> {
  const controller = new AbortController();
  const off = io.onStop((signal) => {
    if (controller.signal.aborted) io.leave(signal === "SIGINT" ? 130 : 143);
    else controller.abort(new DOMException(`${signal} received`, "AbortError"));
  });
  try {
    await work(controller.signal);
    return exits.ok;
  } catch (error) {
    // A port in use, a folder that cannot be written: the host's doing, not a fault of the program.
    if (error instanceof Error && "syscall" in error) throw new Failure(exits.error, error.message, { cause: error });
    throw error;
  } finally {
    off();
  }
}
