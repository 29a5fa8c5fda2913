// The etcd engine: objects live in a real etcd, 3.4 or later, and every manager holds all of them in memory.
// Reads are of that view; writes are etcd transactions; leadership is not etcd's business.

import { setMaxListeners } from "node:events";
import { type Clock, ClusterError, type Logger, type Rng, messageOf } from "../../../lib/mod.js";
import { Committer, type EncodedWrite } from "../committer.js";
import { type HistoryLimits, History } from "../history.js";
import { type Leadership, tenureWithin } from "../leadership.js";
import type { Commit, Store, Transaction, View } from "../store.js";
import { EtcdClient } from "./client.js";
import { SharedQuestion } from "../shared-question.js";
import { Feed } from "./feed.js";
import { Fence, type FenceOptions } from "./fence.js";
import { Keys } from "./keys.js";
import { Replica } from "./replica.js";
import { Writer } from "./writer.js";

/** How long an update waits for etcd before it is refused. */
const writableBudgetMs = 4_000;
/** How long a barrier may take, from its call. */
const barrierBudgetMs = 4_000;
/** How long the view may be without a stream before it counts as behind: one member's end is no event. */
const behindMsMax = 3_000;
/** How long a commit that is under way at the end may still take. */
const closingMsMax = 1_000;

export interface EtcdStoreOptions {
  /** "http://host:port" of one or more members of one etcd cluster. */
  endpoints: readonly string[];
  /** The Flotilla cluster's name: several can live in one etcd. */
  cluster: string;
  clock: Clock;
  rng: Rng;
  log: Logger;
  /** How much watch() can go back. */
  history?: HistoryLimits;
  /** Who leads, and whom to tell when another leader writes. Without it anybody may write: for tests of the store alone. */
  fence?: FenceOptions;
  /** Whether own commits are taken over before the watch brings them, where that is provably the same; default true. */
  applyOwn?: boolean;
}

/** Returns at once, whether or not etcd answers; `ready()` waits, `health()` says what is wrong. */
export function openEtcdStore(options: EtcdStoreOptions): Store {
  requireOptions(options);
  return new EtcdStore(options);
}

class EtcdStore implements Store {
  readonly engine = "etcd";
  readonly #clock: Clock;
  readonly #client: EtcdClient;
  readonly #replica: Replica;
  readonly #history: History;
  readonly #feed: Feed;
  readonly #fence: { fence: Fence; leadership: Leadership } | undefined;
  readonly #writer: Writer;
  readonly #committer: Committer;
  /** The revision of the newest transaction that etcd has. */
  readonly #newest: SharedQuestion<number>;
  /** Ends reading. */
  readonly #reading = new AbortController();
  /** Ends what is being written. */
  readonly #writing = new AbortController();
  readonly #running: Promise<unknown>;
  readonly #waiting = new Set<() => void>();
  #followedAtMs: number;
  #closing: Promise<void> | undefined;

  constructor(options: EtcdStoreOptions) {
    const { clock, rng, log } = options;
    // Every barrier under way listens; more than ten is no leak.
    setMaxListeners(0, this.#reading.signal, this.#writing.signal);
    this.#clock = clock;
    this.#history = new History(options.history);
    const keys = new Keys(options.cluster);
    this.#client = new EtcdClient(options);
    this.#replica = new Replica(keys, this.#history);
    const parts = { client: this.#client, replica: this.#replica, keys, clock, rng, log };
    this.#followedAtMs = clock.monotonic();
    this.#feed = new Feed(parts, () => this.#changed());
    const signal = this.#writing.signal;
    if (options.fence !== undefined)
      this.#fence = {
        fence: new Fence({ ...options.fence, client: this.#client, key: keys.fence, clock, log, signal }),
        leadership: options.fence.leadership,
      };
    this.#writer = new Writer({
      ...parts,
      signal,
      fence: this.#fence?.fence,
      applyOwn: options.applyOwn ?? true,
    });
    this.#committer = new Committer(this.#replica.view, {
      writable: () => this.#writable(),
      commit: (writes) => this.#commit(writes),
    });
    this.#newest = new SharedQuestion(() => this.#writer.newestTransaction(barrierBudgetMs, this.#reading.signal));
    this.#running = Promise.all([this.#feed.run(this.#reading.signal), this.#feed.probe(this.#reading.signal)]);
  }

  health(): { ready: boolean; message: string } {
    if (this.#closing !== undefined) return { ready: false, message: "etcd: closed" };
    const { loaded, quorum, following, message } = this.#feed.state;
    const behind = !following && this.#clock.monotonic() - this.#followedAtMs > behindMsMax;
    if (loaded && quorum && !behind)
      return { ready: true, message: `etcd: ready at revision ${this.#replica.applied}` };
    return { ready: false, message: message === "" ? "etcd: loading" : message };
  }

  view(): View {
    return this.#replica.view;
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
    if (this.#closing !== undefined) throw closed();
    signal?.throwIfAborted();
    const budget = new AbortController();
    const stop = () => budget.abort();
    const cancel = this.#clock.after(barrierBudgetMs, stop);
    for (const end of [signal, this.#reading.signal]) end?.addEventListener("abort", stop, { once: true });
    try {
      const revision = await abortable(this.#newest.ask(), budget.signal);
      if (revision !== undefined && (await this.#replica.until(() => this.#replica.applied >= revision, budget.signal)))
        return;
    } catch (error) {
      signal?.throwIfAborted();
      if (this.#reading.signal.aborted) throw closed();
      throw unavailable(error);
    } finally {
      cancel();
      for (const end of [signal, this.#reading.signal]) end?.removeEventListener("abort", stop);
    }
    signal?.throwIfAborted();
    if (this.#reading.signal.aborted) throw closed();
    const { message } = this.#feed.state;
    throw new ClusterError(
      "unavailable",
      message === "" ? `etcd: the newest writes have not come by the watch within ${barrierBudgetMs} ms` : message,
    );
  }

  async ready(signal?: AbortSignal): Promise<void> {
    await this.#until(() => this.health().ready, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    const cancel = this.#clock.after(closingMsMax, () => this.#writing.abort(closed()));
    await this.#committer.close();
    cancel();
    this.#reading.abort(closed());
    this.#changed();
    this.#writing.abort(closed());
    await this.#running;
    this.#client.close();
    this.#history.close();
  }

  async #commit(writes: readonly EncodedWrite[]): Promise<boolean> {
    try {
      return await this.#writer.commit(writes);
    } catch (error) {
      // Known at once by health(), and by the next update, which waits for etcd instead of trying. A leader that has
      // been followed by another says nothing about etcd.
      const refused = error instanceof ClusterError && error.code === "not_leader";
      if (!refused && !this.#writing.signal.aborted) this.#feed.lostQuorum(error);
      throw error;
    }
  }

  async #writable(): Promise<void> {
    // First of all: who does not lead has no business with etcd, whatever its state.
    const leading = this.#fence;
    const { signal } = this.#writing;
    if (leading !== undefined) await tenureWithin(leading.leadership, this.#clock, writableBudgetMs, signal);
    await this.#usable();
    if (leading === undefined) return;
    // Waiting took time: it is the tenure of now that counts.
    const tenure = await tenureWithin(leading.leadership, this.#clock, writableBudgetMs, signal);
    await this.#writer.begin(leading.fence, tenure);
  }

  async #usable(): Promise<void> {
    const usable = () => {
      const { loaded, quorum, refused } = this.#feed.state;
      return this.#closing !== undefined || refused || (loaded && quorum);
    };
    if (!usable()) {
      const budget = new AbortController();
      const cancel = this.#clock.after(writableBudgetMs, () => budget.abort());
      // At its end the state itself says why.
      await this.#until(usable, budget.signal).catch(() => undefined);
      cancel();
    }
    if (this.#closing !== undefined) throw closed();
    const { loaded, quorum, refused, message } = this.#feed.state;
    if (refused) throw new ClusterError("failed_precondition", message);
    if (!loaded || !quorum) throw new ClusterError("unavailable", message);
  }

  #changed(): void {
    if (this.#feed.state.following) this.#followedAtMs = Number.POSITIVE_INFINITY;
    else if (this.#followedAtMs === Number.POSITIVE_INFINITY) this.#followedAtMs = this.#clock.monotonic();
    for (const look of Array.from(this.#waiting)) look();
  }

  /** Resolves once `holds`, looking after every change of state; rejects with the signal's reason. */
  #until(holds: () => boolean, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = () => {
        if (holds()) settle(resolve);
        else if (this.#closing !== undefined) settle(() => reject(closed()));
      };
      const stop = () => settle(() => reject(signal?.reason as Error));
      const settle = (how: () => void) => {
        this.#waiting.delete(look);
        signal?.removeEventListener("abort", stop);
        how();
      };
      this.#waiting.add(look);
      signal?.addEventListener("abort", stop, { once: true });
      if (signal?.aborted) stop();
      else look();
    });
  }
}

/** The answer, or undefined when the signal aborts first; then it is dropped when it comes. */
function abortable<T>(answer: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const stop = () => resolve(undefined);
    signal.addEventListener("abort", stop, { once: true });
    answer.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
    if (signal.aborted) stop();
  });
}

/** A read that failed: nothing was done, whatever the reason. What is refused for good stays that. */
function unavailable(error: unknown): ClusterError {
  if (error instanceof ClusterError && error.code === "failed_precondition") return error;
  return new ClusterError("unavailable", messageOf(error), { cause: error });
}

function closed(): ClusterError {
  return new ClusterError("unavailable", "the store is closed");
}

function requireOptions({ endpoints, cluster }: EtcdStoreOptions): void {
  const violations = [];
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(cluster))
    violations.push({
      field: "cluster",
      value: cluster,
      rule: 'must have 1 to 63 of a-z, 0-9 and "-", with no "-" at its ends',
      fix: "write for example --cluster main",
    });
  if (endpoints.length === 0)
    violations.push({
      field: "etcd",
      value: "",
      rule: "must name at least one etcd endpoint",
      fix: "write for example --etcd http://127.0.0.1:2379",
    });
  for (const endpoint of endpoints) {
    const rule = endpointRule(endpoint);
    if (rule !== undefined)
      violations.push({
        field: "etcd",
        value: endpoint,
        rule,
        fix: "write for example --etcd http://10.0.0.1:2379,http://10.0.0.2:2379",
      });
  }
  if (violations.length > 0) throw ClusterError.invalid(violations);
}

/** What an endpoint breaks, if anything. */
function endpointRule(endpoint: string): string | undefined {
  const rule = "must be http://host:port";
  try {
    const url = new URL(endpoint.includes("://") ? endpoint : `http://${endpoint}`);
    if (url.protocol !== "http:") return `${rule}: ${url.protocol.slice(0, -1)} is not supported`;
    if (url.hostname === "" || !/:\d+\/?$/.test(endpoint) || (url.pathname !== "/" && url.pathname !== "")) return rule;
    return undefined;
  } catch (error) {
    return `${rule}: ${messageOf(error)}`;
  }
}
