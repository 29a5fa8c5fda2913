// The outside world of a command, as an argument: tests give another one.

import { type Clock, systemClock } from "../lib/clock.js";
import { type Rng, systemRng } from "../lib/rng.js";

export type StopSignal = "SIGINT" | "SIGTERM";

export interface Io {
  /** Data: what the user asked for. */
  out(chunk: string | Uint8Array): void;
  /** Messages: everything else. */
  err(chunk: string | Uint8Array): void;
  readonly outTty: boolean;
  readonly errTty: boolean;
  /** Whether somebody can be asked. */
  readonly inTty: boolean;
  /** Shows the question and waits for a line; undefined when there is none, as at the end of the input. */
  ask(question: string): Promise<string | undefined>;
  /** Width of the terminal that `err` is; 80 when it is none. */
  columns(): number;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly rng: Rng;
  /** Aborts when whoever read `out` has left, as `| head` does. */
  readonly readerGone: AbortSignal;
  /** From now on these signals call `fn` instead of ending the process; the answer undoes it. */
  onStop(fn: (signal: StopSignal) => void): () => void;
  /** Ends the process without waiting for anything. */
  leave(code: number): void;
}

/** The process's own. */
export function processIo(): Io {
  const gone = new AbortController();
  const quiet = (stream: NodeJS.WriteStream, onGone: () => void) => {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE" && error.code !== "ERR_STREAM_DESTROYED") throw error;
      onGone();
    });
  };
  let errGone = false;
  quiet(process.stdout, () => gone.abort());
  quiet(process.stderr, () => {
    errGone = true;
  });
  return {
    out: (chunk) => {
      if (!gone.signal.aborted) process.stdout.write(chunk);
    },
    err: (chunk) => {
      if (!errGone) process.stderr.write(chunk);
    },
    outTty: process.stdout.isTTY,
    errTty: process.stderr.isTTY,
    inTty: process.stdin.isTTY,
    ask: async (question) => {
      const { createInterface } = await import("node:readline");
      const reader = createInterface({ input: process.stdin, output: process.stderr });
      return await new Promise((resolve) => {
        let answer: string | undefined;
        // Also when the input ends, and on Ctrl-C.
        reader.on("close", () => resolve(answer));
        reader.question(question, (text) => {
          answer = text;
          reader.close();
        });
      });
    },
    columns: () => process.stderr.columns || 80,
    env: process.env,
    clock: systemClock,
    rng: systemRng,
    readerGone: gone.signal,
    onStop(fn) {
      const signals: StopSignal[] = ["SIGINT", "SIGTERM"];
      for (const signal of signals) process.on(signal, fn);
      return () => {
        for (const signal of signals) process.off(signal, fn);
      };
    },
    leave: (code) => process.exit(code),
  };
}
