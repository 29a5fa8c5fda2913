// Whose turn it is to be sent everything. When a manager begins to lead, all agents open their streams at once: only so
// many are sent their COMPLETE in one turn of the event loop, and only so many at the same time, so that neither the
// loop nor the memory is theirs alone. Whoever does not read is not waited for.

import type { Clock } from "../../lib/mod.js";

/** Sent in one turn, and how long a turn is. */
const perTurn = 16;
const turnMs = 5;
/** Bytes made in one turn; the first one of a turn may be longer. */
const bytesPerTurn = 4_000_000;
/** Made and not yet taken by the socket. */
const openMax = 64;
/** A place is free again after that, taken or not. */
const placeMs = 2_000;

/** Gives the place back. */
export type Leave = () => void;

export class Admission {
  readonly #clock: Clock;
  /** How long one is now. */
  readonly #bytes: () => number;
  /** In order of coming; as many as there are streams. */
  readonly #waiting = new Set<(leave: Leave | undefined) => void>();
  #open = 0;
  #left = perTurn;
  #cancelTurn: (() => void) | undefined;
  #ended = false;

  constructor(clock: Clock, bytes: () => number) {
    this.#clock = clock;
    this.#bytes = bytes;
  }

  /** Resolves when it is the caller's turn; with undefined when the signal aborted or nobody is admitted any more. */
  enter(signal: AbortSignal): Promise<Leave | undefined> {
    return new Promise((resolve) => {
      if (this.#ended || signal.aborted) {
        resolve(undefined);
        return;
      }
      const onAbort = () => decide(undefined);
      const decide = (leave: Leave | undefined) => {
        signal.removeEventListener("abort", onAbort);
        this.#waiting.delete(decide);
        resolve(leave);
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiting.add(decide);
      this.#admit();
    });
  }

  end(): void {
    this.#ended = true;
    this.#cancelTurn?.();
    for (const decide of [...this.#waiting]) decide(undefined);
  }

  #admit(): void {
    for (const decide of this.#waiting) {
      if (this.#open >= openMax || this.#left <= 0) return;
      this.#left -= Math.max(1, Math.ceil((this.#bytes() * perTurn) / bytesPerTurn));
      this.#open += 1;
      this.#cancelTurn ??= this.#clock.after(turnMs, () => {
        this.#cancelTurn = undefined;
        this.#left = perTurn;
        this.#admit();
      });
      decide(this.#place());
    }
  }

  #place(): Leave {
    let isOpen = true;
    const leave = () => {
      if (!isOpen) return;
      isOpen = false;
      cancel();
      this.#open -= 1;
      if (!this.#ended) this.#admit();
    };
    const cancel = this.#clock.after(placeMs, leave);
    return leave;
  }
}
