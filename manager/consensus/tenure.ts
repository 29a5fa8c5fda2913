// When this manager may steer the cluster: from when the first entry of its term is applied here, and the fence is
// taken where there is one, until leadership is lost. What it may write is decided elsewhere as well, by the log and by
// the fence: this only says when it is worth trying.

import {
  type Backoff,
  backoffMs,
  type Clock,
  ClusterError,
  type Logger,
  messageOf,
  pause,
  type Rng,
} from "../../lib/mod.js";
import type { Tenure } from "./consensus.js";

const retry: Backoff = { firstMs: 50, maxMs: 1_000, jitter: 0.5 };

export interface TenuresOptions {
  epoch: number;
  clock: Clock;
  rng: Rng;
  log: Logger;
  /** Makes every other manager's writes to etcd impossible. Absent with the embedded store: its log does that. */
  takeFence?: ((epoch: number, term: number, signal: AbortSignal) => Promise<void>) | undefined;
  onChange(): void;
}

export class Tenures {
  readonly #options: TenuresOptions;
  /** The term that this manager leads, and until when. */
  #leading: { term: number; controller: AbortController } | undefined;
  #tenure: Tenure | undefined;
  #problem = "";

  constructor(options: TenuresOptions) {
    this.#options = options;
  }

  get current(): Tenure | undefined {
    return this.#tenure;
  }

  /** Why a leader has no tenure yet; empty when there is nothing wrong. */
  get problem(): string {
    return this.#problem;
  }

  /** Told after every change of leadership; undefined when this manager does not lead, or not yet. */
  lead(term: number | undefined): void {
    if (term === this.#leading?.term) return;
    this.#end();
    if (term === undefined) return;
    const controller = new AbortController();
    this.#leading = { term, controller };
    void this.#begin(term, controller.signal);
  }

  close(): void {
    this.#end();
  }

  #end(): void {
    const leading = this.#leading;
    const tenure = this.#tenure;
    this.#leading = undefined;
    this.#tenure = undefined;
    this.#problem = "";
    leading?.controller.abort(new ClusterError("not_leader", "this manager does not lead any more"));
    if (tenure === undefined) return;
    this.#options.log.info({ term: tenure.term }, "this manager leads no more");
    this.#options.onChange();
  }

  async #begin(term: number, signal: AbortSignal): Promise<void> {
    const { epoch, clock, rng, log, takeFence, onChange } = this.#options;
    if (takeFence !== undefined) {
      for (let attempt = 1; ; attempt += 1) {
        try {
          await takeFence(epoch, term, signal);
          break;
        } catch (error) {
          if (signal.aborted) return;
          if (this.#problem !== messageOf(error)) {
            log.warn({ term, error: messageOf(error) }, "the fence cannot be taken: this manager leads and waits");
            this.#problem = messageOf(error);
            onChange();
          }
          await pause(clock, backoffMs(retry, attempt, rng), signal);
        }
        if (signal.aborted) return;
      }
    }
    if (signal.aborted) return;
    this.#problem = "";
    this.#tenure = { term, epoch, signal };
    log.info({ term, epoch }, "this manager leads");
    onChange();
  }
}
