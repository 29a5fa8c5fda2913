// The reconcile loop: an event only says "look again". One runner at a time, one owner, one signal; a wake during a
// run means one more run after it, however many wakes there were. A failed run is repeated with back-off.

import { type Backoff, backoffMs } from "./backoff.js";
import type { Clock } from "./clock.js";
import { messageOf } from "./errors.js";
import type { Logger } from "./log.js";
import type { Rng } from "./rng.js";

export interface LoopOptions {
  name: string;
  clock: Clock;
  rng: Rng;
  log: Logger;
  /** Looks at the state and acts on it; the answer is when to look again without being woken. */
  run(signal: AbortSignal): Promise<{ wakeAtMs?: number | undefined } | void>;
  /** How long to gather wakes before a run. Default 0: the next turn of the event loop. */
  debounceMs?: number;
  retry?: Backoff;
}

export class ReconcileLoop implements AsyncDisposable {
  readonly #options: LoopOptions;
  readonly #controller = new AbortController();
  #cancelTimer: (() => void) | undefined;
  #timerDueMs = Number.POSITIVE_INFINITY;
  #running: Promise<void> | undefined;
  #wokenWhileRunning = false;
  #failures = 0;

  constructor(options: LoopOptions) {
    this.#options = options;
  }

  /** Asks for a run soon. Cheap: call it for every event. */
  wake(): void {
    if (this.#controller.signal.aborted) return;
    if (this.#running !== undefined) this.#wokenWhileRunning = true;
    else if (this.#failures === 0) this.#schedule(this.#options.debounceMs ?? 0);
  }

  /** Ends after the run that is under way, whose signal aborts. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#controller.abort(new DOMException(`loop ${this.#options.name} ended`, "AbortError"));
    this.#cancelTimer?.();
    await this.#running;
  }

  #schedule(inMs: number): void {
    const { clock } = this.#options;
    const dueMs = clock.monotonic() + inMs;
    if (dueMs >= this.#timerDueMs) return;
    this.#cancelTimer?.();
    this.#timerDueMs = dueMs;
    this.#cancelTimer = clock.after(inMs, () => {
      this.#cancelTimer = undefined;
      this.#timerDueMs = Number.POSITIVE_INFINITY;
      this.#running = this.#runOnce();
    });
  }

  async #runOnce(): Promise<void> {
    const { name, clock, rng, log, retry } = this.#options;
    const { signal } = this.#controller;
    this.#wokenWhileRunning = false;
    let next: number | undefined;
    try {
      const outcome = await this.#options.run(signal);
      this.#failures = 0;
      if (outcome?.wakeAtMs !== undefined) next = Math.max(0, outcome.wakeAtMs - clock.now());
    } catch (failure) {
      if (!signal.aborted) {
        this.#failures += 1;
        next = backoffMs(retry ?? { firstMs: 100, maxMs: 10_000, jitter: 0.3 }, this.#failures, rng);
        log.warn({ loop: name, error: messageOf(failure), failures: this.#failures, nextMs: next }, "loop run failed");
      }
    }
    this.#running = undefined;
    if (signal.aborted) return;
    if (next !== undefined) this.#schedule(next);
    if (this.#wokenWhileRunning) this.wake();
  }
}
