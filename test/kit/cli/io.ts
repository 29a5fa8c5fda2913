// For tests of the command line: an outside world that is remembered, and signals that a test gives.

import { type Clock, systemClock } from "../../../lib/clock.js";
import { seededRng } from "../../../lib/rng.js";
import type { Io, StopSignal } from "../../../cli/io.js";

export class FakeIo implements Io {
  stdout = "";
  stderr = "";
  outTty = false;
  errTty = false;
  inTty = false;
  /** Lines that the user will type. */
  answers: string[] = [];
  env: Record<string, string | undefined> = {};
  readonly clock: Clock;
  readonly rng = seededRng(7);
  readonly #gone = new AbortController();
  readonly #stops = new Set<(signal: StopSignal) => void>();
  readonly left: number[] = [];
  width = 80;
  /** Called with each message, so that a test can act when it sees something. */
  onErr: (text: string) => void = () => undefined;

  constructor(clock: Clock = systemClock) {
    this.clock = clock;
  }

  out(chunk: string | Uint8Array): void {
    this.stdout += typeof chunk === "string" ? chunk : Buffer.from(chunk).toString("utf8");
  }

  err(chunk: string | Uint8Array): void {
    const text = typeof chunk === "string" ? chunk : Buffer.from(chunk).toString("utf8");
    this.stderr += text;
    this.onErr(text);
  }

  async ask(question: string): Promise<string | undefined> {
    this.err(question);
    return await Promise.resolve(this.answers.shift());
  }

  columns(): number {
    return this.width;
  }

  get readerGone(): AbortSignal {
    return this.#gone.signal;
  }

  readerLeaves(): void {
    this.#gone.abort();
  }

  onStop(fn: (signal: StopSignal) => void): () => void {
    this.#stops.add(fn);
    return () => this.#stops.delete(fn);
  }

  /** False when nobody listens: the signal would have ended the process. */
  stop(signal: StopSignal = "SIGINT"): boolean {
    for (const fn of [...this.#stops]) fn(signal);
    return this.#stops.size > 0;
  }

  leave(code: number): void {
    this.left.push(code);
  }
}
