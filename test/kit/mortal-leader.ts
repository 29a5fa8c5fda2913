// The controllers that a leader runs, on a store that outlives it: after every so many writes the leader is gone, with
// everything that it had in memory, and the next one has only the store.

import { ClusterError, type Rng, silentLogger } from "../../lib/mod.js";
import { Orchestrator } from "../../manager/orchestrator/mod.js";
import { Scheduler } from "../../manager/scheduler/mod.js";
import { openMemoryStore, type Store, type Transaction } from "../../manager/store/mod.js";
import { makeNode } from "./objects.js";
import { FakeClock } from "./clock.js";
import { type Behaviour, ModelAgents } from "./service-agents.js";

const tickMs = 250;

export interface MortalOptions {
  rng: Rng;
  /** Writes that each leader's orchestrator makes; undefined: it lives on. */
  writesPerLeader: number | undefined;
  nodes: number;
  /** By image; others are good. */
  images: Record<string, Behaviour>;
}

export class MortalLeader implements AsyncDisposable {
  readonly clock = new FakeClock();
  readonly store = openMemoryStore();
  /** Leaders that there were before this one. */
  deaths = 0;
  readonly #options: MortalOptions;
  readonly #agents = new ModelAgents();
  #dead = false;
  #controllers: AsyncDisposable[] = [];

  private constructor(options: MortalOptions) {
    this.#options = options;
  }

  static async open(options: MortalOptions): Promise<MortalLeader> {
    const leader = new MortalLeader(options);
    await leader.store.update((tx) => {
      for (let i = 1; i <= options.nodes; i += 1) tx.create("nodes", makeNode(`h${i}`));
    });
    leader.#lead();
    return leader;
  }

  /** Lets time pass, agents work and leaders follow one another until it holds; whether it did within `ms`. */
  async run(ms: number, holds: () => boolean): Promise<boolean> {
    for (let left = ms; left >= 0; left -= tickMs) {
      await this.clock.advance(tickMs);
      while (this.#dead) await this.#succeed();
      if (holds()) return true;
      await this.#act();
    }
    return false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const controller of this.#controllers) await controller[Symbol.asyncDispose]();
    await this.store[Symbol.asyncDispose]();
  }

  async #succeed(): Promise<void> {
    for (const controller of this.#controllers) await controller[Symbol.asyncDispose]();
    this.deaths += 1;
    this.#lead();
    await this.clock.advance(10);
  }

  #lead(): void {
    this.#dead = false;
    const { rng } = this.#options;
    const options = { clock: this.clock, rng, log: silentLogger };
    const orchestrator = new Orchestrator({ ...options, store: this.#mortal() });
    const scheduler = new Scheduler({ ...options, store: this.store });
    this.#controllers = [orchestrator, scheduler];
    orchestrator.start();
    scheduler.start();
  }

  /** The store as one leader has it: cut off from it right after its last write, whose answer it never hears. */
  #mortal(): Store {
    let left = this.#options.writesPerLeader ?? Number.POSITIVE_INFINITY;
    const gone = () => new ClusterError("not_leader", "another manager leads now");
    const update = async <R>(fn: (tx: Transaction) => R): Promise<R> => {
      if (left <= 0) throw gone();
      const before = this.store.view().revision;
      const done = await this.store.update((tx) => {
        if (left <= 0) throw gone();
        return fn(tx);
      });
      if (this.store.view().revision !== before) left -= 1;
      if (left > 0) return done;
      this.#dead = true;
      throw gone();
    };
    return new Proxy(this.store, {
      get: (store, key) => {
        if (key === "update") return update;
        const value: unknown = Reflect.get(store, key, store);
        return typeof value === "function" ? value.bind(store) : value;
      },
    });
  }

  async #act(): Promise<void> {
    const { images } = this.#options;
    await this.store.update((tx) => {
      for (const task of [...tx.tasks.values()]) {
        if (task.nodeId === "") continue;
        const image = tx.revisionOfService(task.serviceId, task.revision)?.spec.task.container.image ?? "";
        const pace = { startMs: 500, stopMs: 500, sickAfterMs: 3000 };
        const after = this.#agents.act(task, images[image] ?? "good", pace, this.clock.now());
        if (after !== undefined) tx.put("tasks", after);
      }
    });
  }
}
