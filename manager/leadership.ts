// One set of controllers per tenure, and never two at a time: those of an ended tenure are gone, all of them, before
// the next are made.

import { type Clock, type Logger, ReconcileLoop, type Rng } from "../lib/mod.js";
import type { Consensus, Tenure } from "./consensus/mod.js";

export interface LeadershipOptions<C extends AsyncDisposable> {
  consensus: Pick<Consensus, "tenure" | "onChange">;
  /** May fail, and is then tried again while the tenure lasts. */
  start: (tenure: Tenure) => Promise<C>;
  clock: Clock;
  rng: Rng;
  log: Logger;
}

export class Leadership<C extends AsyncDisposable> implements AsyncDisposable {
  readonly #options: LeadershipOptions<C>;
  readonly #loop: ReconcileLoop;
  readonly #unsubscribe: () => void;
  #running: { tenure: Tenure; controllers: C } | undefined;

  constructor(options: LeadershipOptions<C>) {
    const { consensus, clock, rng, log } = options;
    this.#options = options;
    this.#loop = new ReconcileLoop({
      name: "leadership",
      clock,
      rng,
      log,
      run: (signal) => this.#look(signal),
      retry: { firstMs: 50, maxMs: 2_000, jitter: 0.3 },
    });
    this.#unsubscribe = consensus.onChange(() => this.#loop.wake());
    this.#loop.wake();
  }

  /** The controllers, if their tenure lasts. */
  current(): C | undefined {
    return this.#running?.tenure.signal.aborted === false ? this.#running.controllers : undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unsubscribe();
    await this.#loop[Symbol.asyncDispose]();
    await this.#end();
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { consensus, start, log } = this.#options;
    const wanted = () => (signal.aborted ? undefined : consensus.tenure());
    while (this.#running?.tenure !== wanted()) {
      await this.#end();
      const tenure = wanted();
      if (tenure === undefined) return;
      this.#running = { tenure, controllers: await start(tenure) };
      log.info({ term: tenure.term }, "controllers run");
    }
  }

  async #end(): Promise<void> {
    const running = this.#running;
    if (running === undefined) return;
    await running.controllers[Symbol.asyncDispose]();
    this.#running = undefined;
    this.#options.log.info({ term: running.tenure.term }, "controllers have ended");
  }
}
