// How long no manager has heard this agent: what tasks with `stop_after_disconnect` go by. Counted from when the last
// call that was answered was sent, so that the managers never think that it is longer ago than this agent does.

import type { Clock } from "../../lib/mod.js";

export class Contact {
  readonly #clock: Clock;
  /** The same moment on both scales: the one does not run while the host sleeps, the other can be set. */
  #monotonicMs: number;
  #wallMs: number;

  /** `atMs` is what the state file knows, on the wall clock; 0 when it knows nothing. */
  constructor(clock: Clock, atMs: number) {
    this.#clock = clock;
    const agoMs = atMs === 0 ? 0 : Math.max(0, clock.now() - atMs);
    this.#monotonicMs = clock.monotonic() - agoMs;
    this.#wallMs = clock.now() - agoMs;
  }

  /** A call that was sent then, on the monotonic clock, was answered. */
  made(sentMs: number): void {
    if (sentMs < this.#monotonicMs) return;
    this.#monotonicMs = sentMs;
    this.#wallMs = this.#clock.now() - (this.#clock.monotonic() - sentMs);
  }

  /** On the wall clock. */
  get atMs(): number {
    return Math.round(this.#wallMs);
  }

  /** The longer of what the two clocks say: rather too early a stop than two of a task. */
  get agoMs(): number {
    return Math.max(this.#clock.monotonic() - this.#monotonicMs, this.#clock.now() - this.#wallMs, 0);
  }
}
