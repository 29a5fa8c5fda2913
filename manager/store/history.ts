// The last commits, remembered for readers that resume, and everybody who follows the view. Readers have no queue of
// their own: each holds a place in the one ring, so a slow reader costs nothing, and finds out when it was overtaken.

import { ClusterError } from "../../lib/mod.js";
import type { Commit } from "./store.js";

export interface HistoryLimits {
  /** Most commits remembered. */
  commitsMax: number;
  /** Most changes remembered, over all commits: they keep the objects before and after alive. */
  changesMax: number;
}

export const historyLimits: HistoryLimits = { commitsMax: 4_096, changesMax: 20_000 };

export class History {
  readonly #limits: HistoryLimits;
  /** Commit number n is at n % commitsMax; numbers are this history's own and dense, unlike revisions. */
  readonly #ring: (Commit | undefined)[];
  #first = 0;
  #end = 0;
  #changes = 0;
  /** Every commit after this revision is remembered. */
  #floor = 0;
  #newest = 0;
  readonly #listeners = new Set<(commit: Commit) => void>();
  readonly #readers = new Set<Reader>();
  #closed = false;

  constructor(limits: HistoryLimits = historyLimits) {
    this.#limits = limits;
    this.#ring = Array.from({ length: limits.commitsMax }, () => undefined);
  }

  /** To be called after the commit is in the view. */
  add(commit: Commit): void {
    if (this.#end - this.#first === this.#limits.commitsMax) this.#forgetOldest();
    this.#ring[this.#end % this.#limits.commitsMax] = commit;
    this.#end += 1;
    this.#newest = commit.revision;
    this.#changes += commit.changes.length;
    while (this.#changes > this.#limits.changesMax) this.#forgetOldest();
    // A copy: who subscribes meanwhile has this commit in its view already.
    for (const listener of Array.from(this.#listeners)) {
      try {
        listener(commit);
      } catch (broken) {
        // Listeners promise not to throw. The commit stands and the others must hear of it; then the process ends.
        queueMicrotask(() => {
          throw broken;
        });
      }
    }
    for (const reader of this.#readers) reader.wake();
  }

  subscribe(listener: (commit: Commit) => void): () => void {
    // Wrapped, so that one function subscribed twice is two subscriptions.
    const entry = (commit: Commit) => listener(commit);
    this.#listeners.add(entry);
    return () => this.#listeners.delete(entry);
  }

  watch(afterRevision: number): AsyncIterable<Commit> {
    return { [Symbol.asyncIterator]: () => new Reader(this, this.#readers, this.#placeAfter(afterRevision)) };
  }

  /** Readers see the end of their loop, listeners hear nothing more. */
  close(): void {
    this.#closed = true;
    this.#listeners.clear();
    for (const reader of this.#readers) reader.wake();
  }

  /** For readers: the commit at a place, or why there is none. */
  at(place: number): Commit | "not yet" | "overtaken" | "closed" {
    if (place < this.#first) return "overtaken";
    if (place < this.#end) {
      const commit = this.#ring[place % this.#limits.commitsMax];
      if (commit === undefined) throw new Error(`history: no commit at ${place} of ${this.#first}..${this.#end}`);
      return commit;
    }
    return this.#closed ? "closed" : "not yet";
  }

  #placeAfter(revision: number): number {
    // Below the floor something is forgotten; above the newest the reader knows another history than this one.
    if (revision < this.#floor || revision > this.#newest) return -1;
    let low = this.#first;
    let high = this.#end;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const commit = this.#ring[middle % this.#limits.commitsMax];
      if (commit !== undefined && commit.revision <= revision) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #forgetOldest(): void {
    const index = this.#first % this.#limits.commitsMax;
    const oldest = this.#ring[index];
    if (oldest === undefined) throw new Error(`history: nothing to forget at ${this.#first}..${this.#end}`);
    this.#ring[index] = undefined;
    this.#first += 1;
    this.#changes -= oldest.changes.length;
    this.#floor = oldest.revision;
  }
}

class Reader implements AsyncIterator<Commit> {
  readonly #history: History;
  readonly #readers: Set<Reader>;
  #place: number;
  #ended = false;
  #wake: (() => void) | undefined;

  constructor(history: History, readers: Set<Reader>, place: number) {
    this.#history = history;
    this.#readers = readers;
    this.#place = place;
    readers.add(this);
  }

  wake(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  async next(): Promise<IteratorResult<Commit>> {
    for (;;) {
      if (this.#ended) return { done: true, value: undefined };
      const found = this.#history.at(this.#place);
      if (typeof found === "object") {
        this.#place += 1;
        return { done: false, value: found };
      }
      if (found !== "not yet") this.#end();
      if (found === "overtaken")
        throw new ClusterError(
          "resync_required",
          "the commits to go on from are no longer remembered: start again from the whole view",
        );
      if (found === "closed") continue;
      if (this.#wake !== undefined) throw new Error("watch: two reads at once");
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  return(): Promise<IteratorResult<Commit>> {
    this.#end();
    this.wake();
    return Promise.resolve({ done: true, value: undefined });
  }

  #end(): void {
    this.#ended = true;
    this.#readers.delete(this);
  }
}
