// Long reads at a manager that has lost touch with the others: what it told was true, and nothing new will come. Its
// readers are told so, and ask another manager, instead of waiting here for what has long happened.

import { type Clock, ClusterError } from "../../lib/mod.js";

/** How often is looked while somebody reads. */
const lookMs = 1_000;
/** An election is over by then. */
const awayMsMax = 5_000;

export interface InTouchOptions {
  /** `readable`: although it is not ready for everything, what it reads is current. */
  health: () => { ready: boolean; message: string; readable?: boolean };
  clock: Clock;
}

export class InTouch {
  readonly #options: InTouchOptions;
  readonly #readers = new Set<AbortController>();
  /** On the monotonic clock; undefined while it is in touch, or nobody reads. */
  #awaySinceMs: number | undefined;
  #cancelLook: (() => void) | undefined;

  constructor(options: InTouchOptions) {
    this.#options = options;
  }

  /** What `begin` makes, which must end when its signal aborts; `unavailable` when this manager has lost touch. */
  async *read<T>(begin: (signal: AbortSignal) => AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
    const reader = new AbortController();
    const leave = () => reader.abort(signal.reason);
    signal.addEventListener("abort", leave, { once: true });
    if (signal.aborted) leave();
    this.#readers.add(reader);
    this.#cancelLook ??= this.#lookLater();
    try {
      yield* begin(reader.signal);
      if (!signal.aborted) reader.signal.throwIfAborted();
    } finally {
      signal.removeEventListener("abort", leave);
      this.#readers.delete(reader);
      if (this.#readers.size === 0) this.#rest();
    }
  }

  #lookLater(): () => void {
    return this.#options.clock.after(lookMs, () => this.#look());
  }

  #look(): void {
    const { health, clock } = this.#options;
    this.#cancelLook = this.#lookLater();
    const { ready, readable, message } = health();
    if (ready || readable === true) {
      this.#awaySinceMs = undefined;
      return;
    }
    this.#awaySinceMs ??= clock.monotonic();
    if (clock.monotonic() - this.#awaySinceMs < awayMsMax) return;
    for (const reader of [...this.#readers]) reader.abort(new ClusterError("unavailable", message));
  }

  #rest(): void {
    this.#cancelLook?.();
    this.#cancelLook = undefined;
    this.#awaySinceMs = undefined;
  }
}
