// When this manager may steer the cluster: from when the first entry of its term is applied here until leadership is
// lost. What it may write is decided elsewhere as well, by the log or by etcd's fence: this says when it is worth trying.

import { ClusterError, type Logger } from "../../lib/mod.js";
import type { Tenure } from "./consensus.js";

export interface TenuresOptions {
  epoch: number;
  log: Logger;
  onChange: () => void;
}

export class Tenures {
  readonly #options: TenuresOptions;
  #current: { tenure: Tenure; controller: AbortController } | undefined;
  /** The newest term that was given up before it ended. */
  #resigned: { term: number; reason: string } | undefined;

  constructor(options: TenuresOptions) {
    this.#options = options;
  }

  get current(): Tenure | undefined {
    return this.#current?.tenure;
  }

  /** Told after every change of leadership; undefined when this manager does not lead, or not yet. */
  lead(term: number | undefined): void {
    if (term === this.#current?.tenure.term) return;
    this.#end("this manager does not lead any more");
    if (term === undefined || term === this.#resigned?.term) return;
    const { epoch, log, onChange } = this.#options;
    const controller = new AbortController();
    this.#current = { tenure: { term, epoch, signal: controller.signal }, controller };
    log.info({ term, epoch }, "this manager leads");
    onChange();
  }

  /** Ends the tenure of that term for good, whatever Raft says. */
  resign(term: number, reason: string): void {
    this.#resigned = { term, reason };
    if (this.#current?.tenure.term === term) this.#end(reason);
  }

  /** Why this manager leads in that term without a tenure; undefined where there is nothing wrong. */
  problemIn(term: number): string | undefined {
    return this.#resigned?.term === term ? this.#resigned.reason : undefined;
  }

  close(): void {
    this.#end("this manager is stopping");
  }

  #end(reason: string): void {
    const current = this.#current;
    if (current === undefined) return;
    this.#current = undefined;
    this.#options.log.info({ term: current.tenure.term, reason }, "this manager leads no more");
    current.controller.abort(new ClusterError("not_leader", reason));
    this.#options.onChange();
  }
}
