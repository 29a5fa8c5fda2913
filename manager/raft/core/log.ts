// The log as the protocol sees it: what storage has, and after that what is not durable yet. Model: etcd-io/raft,
// log.go and log_unstable.go.

import type { Storage } from "./storage.js";
import { type Entry, RaftInvariantError, type SnapshotMeta } from "./types.js";

export class RaftLog {
  readonly #storage: Storage;
  /** Bytes of committed entries that may be handed out and not applied. */
  readonly #applyingBytesMax: number;

  /** Not durable yet: index `#offset + i` at place i. They shadow what storage has from `#offset` on. */
  #unstable: Entry[] = [];
  /** The index of the first unstable entry; everything below is durable. `lastIndex === #offset + #unstable.length - 1`. */
  #offset: number;
  /** Received and not durable: it takes the place of all that storage has. `#offset > #snapshot.index`. */
  #snapshot: SnapshotMeta | undefined;

  /** Durable on a quorum. Never goes back; `applied ≤ applying ≤ committed ≤ lastIndex`. */
  committed: number;
  /** Handed out to be applied. */
  applying: number;
  /** Applied by the application. */
  applied: number;
  /** What is handed out and not applied: last index and bytes of each Ready, oldest first. */
  readonly #handedOut: { last: number; bytes: number }[] = [];
  #applyingBytes = 0;

  constructor(storage: Storage, commit: number, applied: number, applyingBytesMax: number) {
    this.#storage = storage;
    this.#applyingBytesMax = applyingBytesMax;
    const before = storage.firstIndex() - 1;
    const last = storage.lastIndex();
    this.#offset = last + 1;
    // A snapshot says by itself that everything up to it is committed, also where the hard state was lost with a cut.
    this.committed = Math.max(commit, before);
    this.applying = applied;
    this.applied = applied;
    if (this.committed > last) {
      throw new RaftInvariantError(`commit ${commit} is beyond the last entry ${last}: entries were lost`);
    }
    if (applied < before || applied > this.committed) {
      throw new RaftInvariantError(
        `applied ${applied} is not within ${before}…${this.committed}, what the log can follow`,
      );
    }
  }

  get lastIndex(): number {
    return this.#offset + this.#unstable.length - 1;
  }

  get lastTerm(): number {
    const term = this.term(this.lastIndex);
    if (term === undefined) throw new RaftInvariantError(`the term of the last entry ${this.lastIndex} is not known`);
    return term;
  }

  get firstIndex(): number {
    return this.#snapshot === undefined ? this.#storage.firstIndex() : this.#snapshot.index + 1;
  }

  /** The last durable index. */
  get stableIndex(): number {
    return this.#offset - 1;
  }

  /** Undefined where it is compacted, or beyond the end. */
  term(index: number): number | undefined {
    if (index >= this.#offset) return this.#unstable[index - this.#offset]?.term;
    if (this.#snapshot !== undefined && index <= this.#snapshot.index) {
      return index === this.#snapshot.index ? this.#snapshot.term : undefined;
    }
    const term = this.#storage.term(index);
    return typeof term === "number" ? term : undefined;
  }

  matches(index: number, term: number): boolean {
    return this.term(index) === term;
  }

  /** Whether a log that ends so has all that this one has: compared by term, then by index (paper §5.4.1). */
  isUpToDate(lastIndex: number, lastTerm: number): boolean {
    const own = this.lastTerm;
    return lastTerm > own || (lastTerm === own && lastIndex >= this.lastIndex);
  }

  /** Entries of low ≤ index < high, cut after `bytesMax` of data but never to none; undefined if compacted. */
  entries(low: number, high: number, bytesMax: number): readonly Entry[] | undefined {
    if (high > this.lastIndex + 1) {
      throw new RaftInvariantError(`entries ${low}…${high - 1} are asked for, the last is ${this.lastIndex}`);
    }
    if (low >= high) return [];
    if (low < this.firstIndex) return undefined;
    if (low >= this.#offset) return this.#unstableOf(low, high, bytesMax);
    const stableHigh = Math.min(high, this.#offset);
    const stable = this.#storage.entries(low, stableHigh, bytesMax);
    if (stable === "compacted") return undefined;
    if (stable === "unavailable") {
      throw new RaftInvariantError(`storage has no entries ${low}…${stableHigh - 1}, though they were made durable`);
    }
    if (stableHigh === high || stable.length < stableHigh - low) return stable;
    const bytesLeft = bytesMax - bytesOf(stable);
    const next = this.#unstable[0];
    if (next === undefined || next.data.length > bytesLeft) return stable;
    return [...stable, ...this.#unstableOf(this.#offset, high, bytesLeft)];
  }

  #unstableOf(low: number, high: number, bytesMax: number): Entry[] {
    const from = low - this.#offset;
    const until = high - this.#offset;
    let bytes = 0;
    let to = from;
    for (; to < until; to++) {
      bytes += this.#unstable[to]?.data.length ?? 0;
      if (bytes > bytesMax && to > from) break;
    }
    return this.#unstable.slice(from, to);
  }

  /** A leader's: its own log only grows. `entry.index` is the last index + 1. */
  append(entry: Entry): void {
    if (entry.index !== this.lastIndex + 1) {
      throw new RaftInvariantError(`a leader appends ${entry.index} to a log that ends at ${this.lastIndex}`);
    }
    this.#unstable.push(entry);
  }

  /**
   * A follower's: takes over what is new of a leader's entries, and its commit as far as they reach. The index of the last
   * of them, which matches now; undefined if the logs do not meet before them. Only a real conflict cuts the log: a
   * message that was overtaken by a longer one never shortens it.
   */
  maybeAppend(prevIndex: number, prevTerm: number, commit: number, entries: readonly Entry[]): number | undefined {
    if (!this.matches(prevIndex, prevTerm)) return undefined;
    const lastNew = prevIndex + entries.length;
    const from = this.#firstNew(entries);
    if (from < entries.length) {
      const first = prevIndex + 1 + from;
      if (first <= this.committed) {
        throw new RaftInvariantError(`entry ${first} conflicts with the committed one (commit ${this.committed})`);
      }
      this.#replaceFrom(first, entries, from);
    }
    this.commitTo(Math.min(commit, lastNew));
    return lastNew;
  }

  /** The place in `entries` of the first that this log does not have. */
  #firstNew(entries: readonly Entry[]): number {
    const last = this.lastIndex;
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i];
      if (entry !== undefined && (entry.index > last || this.term(entry.index) !== entry.term)) return i;
    }
    return entries.length;
  }

  #replaceFrom(first: number, entries: readonly Entry[], from: number): void {
    if (first < this.#offset) {
      this.#offset = first;
      this.#unstable = [];
    } else {
      this.#unstable.length = first - this.#offset;
    }
    for (let i = from; i < entries.length; i++) {
      const entry = entries[i];
      if (entry !== undefined) this.#unstable.push(entry);
    }
  }

  /**
   * The largest index ≤ `index` with a term ≤ `term`, and its term: below it the logs may meet, above it they cannot. The
   * term is 0 where it is not known.
   */
  findConflictByTerm(index: number, term: number): { index: number; term: number } {
    let at = Math.min(index, this.lastIndex);
    for (; at > 0; at--) {
      const own = this.term(at);
      if (own === undefined) return { index: at, term: 0 };
      if (own <= term) return { index: at, term: own };
    }
    return { index: 0, term: 0 };
  }

  /** Whether it moved. */
  commitTo(index: number): boolean {
    if (index <= this.committed) return false;
    if (index > this.lastIndex) {
      throw new RaftInvariantError(`commit ${index} is beyond the last entry ${this.lastIndex}: entries were lost`);
    }
    this.committed = index;
    return true;
  }

  /** The whole log is replaced by a snapshot that a leader sent. */
  restore(snapshot: SnapshotMeta): void {
    this.#snapshot = snapshot;
    this.#unstable = [];
    this.#offset = snapshot.index + 1;
    this.committed = snapshot.index;
    this.applying = snapshot.index;
  }

  get pendingSnapshot(): SnapshotMeta | undefined {
    return this.#snapshot;
  }

  get hasUnstable(): boolean {
    return this.#unstable.length > 0;
  }

  /** All that is not durable, as a list of its own. */
  unstable(): readonly Entry[] {
    return this.#unstable.slice();
  }

  /**
   * What a Ready handed out is durable. Entries that were replaced since are not: the term tells, since the same index and
   * term are the same entry, with the same ones before it.
   */
  stableTo(index: number, term: number): void {
    const place = index - this.#offset;
    if (place < 0 || this.#unstable[place]?.term !== term) return;
    this.#unstable = this.#unstable.slice(place + 1);
    this.#offset = index + 1;
  }

  stableSnapshotTo(index: number): void {
    if (this.#snapshot?.index === index) this.#snapshot = undefined;
  }

  /** Whether there is something to hand out to be applied. */
  get hasCommitted(): boolean {
    return (
      this.applying < this.committed && this.#snapshot === undefined && this.#applyingBytes < this.#applyingBytesMax
    );
  }

  /**
   * The next page to be applied. Nothing while a snapshot waits to be durable, and nothing while as much as a page is
   * handed out and not applied. May hold entries that are not durable here yet; they are in the same Ready, to be made
   * durable before.
   */
  handOutCommitted(): readonly Entry[] {
    if (!this.hasCommitted) return [];
    const entries = this.entries(this.applying + 1, this.committed + 1, this.#applyingBytesMax - this.#applyingBytes);
    const last = entries?.at(-1)?.index;
    if (entries === undefined || last === undefined) {
      throw new RaftInvariantError(`entry ${this.applying + 1} is compacted and was never handed out`);
    }
    const bytes = bytesOf(entries);
    this.applying = last;
    this.#handedOut.push({ last, bytes });
    this.#applyingBytes += bytes;
    return entries;
  }

  appliedTo(index: number): void {
    if (index > this.applying) {
      throw new RaftInvariantError(`${index} is said to be applied, but only ${this.applying} was handed out`);
    }
    if (index <= this.applied) return;
    this.applied = index;
    let done = 0;
    for (const { last, bytes } of this.#handedOut) {
      if (last > index) break;
      this.#applyingBytes -= bytes;
      done++;
    }
    if (done > 0) this.#handedOut.splice(0, done);
  }
}

export function bytesOf(entries: readonly { readonly data: Uint8Array }[]): number {
  let bytes = 0;
  for (const { data } of entries) bytes += data.length;
  return bytes;
}
