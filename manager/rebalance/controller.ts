// The policy that clusters opt in to: now and then a few moves, never while anything else goes on that moves tasks.

import { settingsOf } from "../../deploy/spec/mod.js";
import { hasEnded, isWanted } from "../../deploy/strategy/mod.js";
import { type Clock, type Logger, ReconcileLoop, type Rng } from "../../lib/mod.js";
import { NodeState } from "../../proto/mod.js";
import type { Store, View } from "../store/mod.js";
import { leave } from "./command.js";
import { planMoves } from "./moves.js";

export interface RebalancerOptions {
  store: Store;
  clock: Clock;
  rng: Rng;
  log: Logger;
}

export class Rebalancer implements AsyncDisposable {
  readonly #options: RebalancerOptions;
  readonly #loop: ReconcileLoop;
  readonly #unsubscribe: () => void;
  /** A new leader begins with a whole interval: nodes have yet to find it. */
  #lookedAtMs: number;

  constructor(options: RebalancerOptions) {
    const { store, clock, rng, log } = options;
    this.#options = options;
    this.#lookedAtMs = clock.now();
    this.#loop = new ReconcileLoop({ name: "rebalancer", clock, rng, log, run: () => this.#run() });
    // Only settings say when the next look is due.
    this.#unsubscribe = store.subscribe(({ changes }) => {
      if (changes.some(({ table }) => table === "clusters")) this.#loop.wake();
    });
    this.#loop.wake();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unsubscribe();
    await this.#loop[Symbol.asyncDispose]();
  }

  async #run(): Promise<{ wakeAtMs: number | undefined }> {
    const { store, clock, log } = this.#options;
    const view = store.view();
    const [cluster] = view.clusters.values();
    const { rebalanceMoves, rebalanceIntervalMs } = settingsOf(cluster);
    if (rebalanceMoves === 0) return { wakeAtMs: undefined };
    const now = clock.now();
    const dueAtMs = this.#lookedAtMs + rebalanceIntervalMs;
    if (now < dueAtMs) return { wakeAtMs: dueAtMs };
    this.#lookedAtMs = now;
    const wakeAtMs = now + rebalanceIntervalMs;
    const budget = rebalanceMoves - leaving(view);
    if (cluster?.brake !== undefined || !allKnown(view) || budget <= 0) return { wakeAtMs };
    const made = await leave(store, planMoves(view, { now, maxMoves: budget }).moves, now);
    if (made.length > 0) log.info({ moves: made.length }, "tasks rebalanced");
    return { wakeAtMs };
  }
}

/** Whatever makes them leave: all of it is work for the orchestrator that is not done yet. */
function leaving(view: View): number {
  let count = 0;
  for (const task of view.tasks.values()) if (task.leave !== undefined && isWanted(task) && !hasEnded(task)) count += 1;
  return count;
}

/** What runs on a node that is not heard of may be there tomorrow, and may be not. */
function allKnown(view: View): boolean {
  for (const { status } of view.nodes.values()) if (status.state === NodeState.UNKNOWN) return false;
  return true;
}
