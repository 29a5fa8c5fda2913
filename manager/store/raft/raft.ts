// The embedded engine: transactions are entries of the log that the managers share, and every manager holds all
// objects in memory. Writes are made only by the manager that leads; reads are of the view, current after `barrier`.

import { setMaxListeners } from "node:events";
import { type Clock, ClusterError, toClusterError } from "../../../lib/mod.js";
import { Committer, type EncodedWrite } from "../committer.js";
import { type HistoryLimits, History } from "../history.js";
import { newsOf, notLeader, tenureWithin } from "../leadership.js";
import type { Commit, Store, Transaction, View } from "../store.js";
import type { StoreLog } from "./log.js";
import { type Applied, type Expected, RaftMachine, encodeTransaction } from "./machine.js";

/** Most writes in one entry, of all its updates together. */
const writesPerEntryMax = 1_024;
/** How long an update waits for the tenure of a manager that has just been elected. */
const tenureBudgetMs = 4_000;
/** How long the outcome of a transaction is looked for when its answer was lost. */
const decideBudgetMs = 4_000;
/** How long a store that closes waits for the transaction under way. */
const closingMsMax = 1_000;
/** How often is looked for what the log does not tell of. */
const lookEveryMs = 50;

export interface RaftStoreOptions {
  clock: Clock;
  /** How much watch() can go back. */
  history?: HistoryLimits;
}

export interface RaftStore extends Store {
  /** For the log: what its entries and snapshots are applied to. */
  readonly machine: Pick<RaftMachine, "apply" | "snapshot" | "restore">;
  /** Hands over the log, once; it needs the machine before it can be opened. Until then nothing can be written. */
  attach(log: StoreLog): void;
}

export function openRaftStore(options: RaftStoreOptions): RaftStore {
  return new EmbeddedStore(options);
}

class EmbeddedStore implements RaftStore {
  readonly engine = "raft";
  readonly machine: RaftMachine;
  readonly #clock: Clock;
  readonly #history: History;
  readonly #committer: Committer;
  readonly #closing = new AbortController();
  #log: StoreLog | undefined;
  /** Of this manager's transactions. */
  #number = 0;

  constructor({ clock, history }: RaftStoreOptions) {
    // Everybody who waits for readiness listens; more than ten is no leak.
    setMaxListeners(0, this.#closing.signal);
    this.#clock = clock;
    this.#history = new History(history, clock);
    this.machine = new RaftMachine(this.#history, clock);
    this.#committer = new Committer(this.machine.view, {
      writesMax: writesPerEntryMax,
      clock,
      writable: () => this.#writable(),
      commit: (writes) => this.#commit(writes),
    });
  }

  attach(log: StoreLog): void {
    if (this.#log !== undefined) throw new Error("the store has its log already");
    this.#log = log;
  }

  health(): { ready: boolean; message: string; readable?: boolean } {
    if (this.#closing.signal.aborted) return { ready: false, message: "raft: closed" };
    return this.#log?.health() ?? { ready: false, message: "raft: starting" };
  }

  view(): View {
    return this.machine.view;
  }

  update<R>(fn: (tx: Transaction) => R): Promise<R> {
    return this.#committer.update(fn);
  }

  subscribe(listener: (commit: Commit) => void): () => void {
    return this.#history.subscribe(listener);
  }

  watch(afterRevision: number): AsyncIterable<Commit> {
    return this.#history.watch(afterRevision);
  }

  async barrier(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#closing.signal.aborted) throw closed();
    if (this.#log === undefined) throw starting();
    await this.#log.barrier(signal);
  }

  async ready(signal?: AbortSignal): Promise<void> {
    for (;;) {
      signal?.throwIfAborted();
      if (this.#closing.signal.aborted) throw closed();
      const log = this.#log;
      const { ready, readable } = this.health();
      if ((ready || readable === true) && (log?.leader()?.id !== log?.self.id || log?.tenure() !== undefined)) return;
      // Nobody tells when the log is attached or this manager has caught up.
      await newsOf(log, this.#clock, lookEveryMs, signal, this.#closing.signal);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(closed());
    await this.#committer.close();
    this.#history.close();
  }

  async #writable(): Promise<void> {
    if (this.#log === undefined) throw starting();
    await tenureWithin(this.#log, this.#clock, tenureBudgetMs, this.#closing.signal);
  }

  async #commit(writes: readonly EncodedWrite[]): Promise<boolean> {
    const log = this.#log;
    if (log === undefined) throw starting();
    const tenure = log.tenure();
    if (tenure === undefined) throw notLeader(log);
    this.#number += 1;
    const number = this.#number;
    const expected = this.machine.expect(tenure.term, number);
    try {
      const data = encodeTransaction(writes, { baseRevision: this.machine.view.revision, number });
      await this.#orClosing(log.propose(data));
      return outcomeOf(expected).committed;
    } catch (thrown) {
      const error = toClusterError(thrown);
      if (error.code !== "unknown_outcome") throw error;
      const outcome = await this.#decide(log, expected, error);
      if (outcome === undefined) throw notLeader(log);
      return outcome.committed;
    } finally {
      this.machine.forget(expected);
    }
  }

  /**
   * What became of a transaction whose answer was lost, where that can be found out within the budget; undefined when
   * it was not made and never will be. It was made when it is applied here. It never will be when everything is
   * applied here that was committed in a later term: the entries of its own term precede those of a later one, and
   * only this manager can have proposed it. A snapshot in place of entries says nothing of it: then it stays unknown.
   */
  async #decide(log: StoreLog, expected: Expected, unknown: ClusterError): Promise<Applied | undefined> {
    const budget = new AbortController();
    const stop = () => budget.abort();
    const cancel = this.#clock.after(decideBudgetMs, stop);
    this.#closing.signal.addEventListener("abort", stop, { once: true });
    if (this.#closing.signal.aborted) stop();
    try {
      while (expected.outcome === undefined && !budget.signal.aborted) {
        if (await passedAfter(expected.term, log, budget.signal)) {
          if (expected.outcome === undefined && expected.skipped) break;
          return expected.outcome;
        }
        await newsOf(log, this.#clock, lookEveryMs, budget.signal);
      }
      if (expected.outcome === undefined) throw unknown;
      return expected.outcome;
    } finally {
      cancel();
      this.#closing.signal.removeEventListener("abort", stop);
    }
  }

  /** The answer to a proposal; a store that closes does not wait for it for long. */
  #orClosing(answer: Promise<unknown>): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const { signal } = this.#closing;
      let cancel: (() => void) | undefined;
      const begin = () => {
        cancel = this.#clock.after(closingMsMax, () =>
          reject(new ClusterError("unknown_outcome", "the store was closed before a write was answered")),
        );
      };
      signal.addEventListener("abort", begin, { once: true });
      if (signal.aborted) begin();
      const settled = () => {
        signal.removeEventListener("abort", begin);
        cancel?.();
      };
      answer.then(resolve, reject).finally(settled);
    });
  }
}

/**
 * Whether a barrier was passed in a term later than that; in that term itself it would show nothing, for the entry may
 * still be on its way. Without a leader or a quorum it is not passed now, and may be a little later.
 */
async function passedAfter(term: number, log: StoreLog, signal: AbortSignal): Promise<boolean> {
  try {
    if (log.status().term <= term) return false;
    await log.barrier(signal);
    return true;
  } catch {
    // Whatever it was, even the end of the log: it is not found out by this, and the caller says so in the end.
    return false;
  }
}

function outcomeOf({ term, number, outcome }: Expected): Applied {
  if (outcome === undefined) throw new Error(`transaction ${number} of term ${term} was answered but not applied here`);
  return outcome;
}

function starting(): ClusterError {
  return new ClusterError("unavailable", "raft: starting");
}

function closed(): ClusterError {
  return new ClusterError("unavailable", "the store is closed");
}
