// The engine for tests: commits are durable at once and lost at the end. Everything else, the order of things, the
// group commit, the trip through the stored bytes, is that of the real engines.

import { ClusterError } from "../../../lib/mod.js";
import { type HistoryLimits, History } from "../history.js";
import { Committer, type EncodedWrite, decodeObject } from "../committer.js";
import type { Change, Commit, Store, Transaction, View } from "../store.js";
import { LiveView } from "../view.js";

export interface MemoryStoreOptions {
  /** How much watch() can go back. */
  history?: HistoryLimits;
}

export function openMemoryStore(options: MemoryStoreOptions = {}): Store {
  return new MemoryStore(options);
}

class MemoryStore implements Store {
  readonly engine = "memory";
  readonly #view = new LiveView();
  readonly #history: History;
  readonly #committer: Committer;
  #closed = false;

  constructor(options: MemoryStoreOptions) {
    this.#history = new History(options.history);
    this.#committer = new Committer(this.#view, {
      writable: () => Promise.resolve(),
      commit: (writes) => {
        this.#commit(writes);
        return Promise.resolve(true);
      },
    });
  }

  health(): { ready: boolean; message: string } {
    return this.#closed ? { ready: false, message: "memory: closed" } : { ready: true, message: "memory: ready" };
  }

  view(): View {
    return this.#view;
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

  barrier(signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    // The only view there is shows every write as soon as it is acknowledged.
    return this.#closed ? Promise.reject(new ClusterError("unavailable", "the store is closed")) : Promise.resolve();
  }

  ready(signal?: AbortSignal): Promise<void> {
    return signal?.aborted ? Promise.reject(signal.reason as Error) : Promise.resolve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await this.#committer.close();
    this.#history.close();
  }

  #commit(writes: readonly EncodedWrite[]): void {
    const revision = this.#view.revision + 1;
    const changes: Change[] = writes.map(({ table, id, bytes }) =>
      // Frozen, because tests are where a change in place should be found out.
      this.#view.changeTo(
        table,
        id,
        bytes === undefined ? undefined : deepFreeze(decodeObject(table, bytes, revision)),
      ),
    );
    const commit: Commit = { revision, changes };
    this.#view.apply(commit);
    this.#history.add(commit);
  }
}

function deepFreeze<T>(value: T): T {
  // Views on buffers cannot be frozen; the elements of Buffer fields stay writable.
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
  for (const part of Object.values(value)) deepFreeze(part);
  return Object.freeze(value);
}
