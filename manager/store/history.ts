// The last commits, remembered for readers that resume, and everybody who follows the view. Readers have no queue of
// their own: each holds a place in the one ring, so a slow reader costs nothing, and finds out when it was overtaken.
// When many readers wait, they are woken now and then and some at a time, and what has come by then is one commit to
// them: what they cost a commit does not grow with their number.

import { type Clock, ClusterError, systemClock } from "../../lib/mod.js";
import type { Change, Commit } from "./store.js";

export interface HistoryLimits {
  /** Most commits remembered. */
  commitsMax: number;
  /** Most changes remembered, over all commits: they keep the objects before and after alive. */
  changesMax: number;
}

export const historyLimits: HistoryLimits = { commitsMax: 4_096, changesMax: 20_000 };

/** As many readers that wait are woken by the commit itself. */
const wokenAtOnceMax = 32;
/**
 * How often more than those are woken: so seldom that it takes at most a twentieth of the time, within these bounds.
 */
const wakeEvery = { minMs: 50, maxMs: 1_000, perWakingMs: 20 };
/** How many of them in one turn of the event loop. */
const wokenPerTurn = 512;
/** Most changes of several commits given to them as one. */
const changesTogetherMax = 1_000;

export class History {
  readonly #limits: HistoryLimits;
  readonly #clock: Clock;
  /** Commit number n is at n % commitsMax; numbers are this history's own and dense, unlike revisions. */
  readonly #ring: (Remembered | undefined)[];
  #first = 0;
  #end = 0;
  #changes = 0;
  /** Every commit after this revision is remembered. */
  #floor = 0;
  #newest = 0;
  readonly #listeners = new Set<(commit: Commit) => void>();
  /** Those that wait for what comes after `#end`. */
  #waiting = new Set<Reader>();
  /** Those of them whose turn to be woken comes. */
  #beingWoken: Reader[] = [];
  #cancelWaking: (() => void) | undefined;
  /** How long it took to wake them all the last time, and what this time has taken so far. */
  #wakingMs = { last: 0, now: 0 };
  /** Commits and changes since readers were last woken. */
  #unread = { commits: 0, changes: 0 };
  /** What was last given as one, for those that were at the same place. */
  #together: { from: number; end: number; next: number; commit: Remembered } | undefined;
  #closed = false;

  constructor(limits: HistoryLimits = historyLimits, clock: Clock = systemClock) {
    this.#limits = limits;
    this.#clock = clock;
    this.#ring = Array.from({ length: limits.commitsMax }, () => undefined);
  }

  /** To be called after the commit is in the view. */
  add(commit: Commit): void {
    if (this.#end - this.#first === this.#limits.commitsMax) this.#forgetOldest();
    this.#ring[this.#end % this.#limits.commitsMax] = new Remembered(commit);
    this.#end += 1;
    this.#newest = commit.revision;
    this.#changes += commit.changes.length;
    while (this.#changes > this.#limits.changesMax) this.#forgetOldest();
    this.#tell(commit);
    this.#wakeSoon(commit);
  }

  /**
   * As `add`, where the view has gone from one state to a later one without the commits between: the commit is what
   * differs. Listeners hear it; readers are at a revision that it need not fit, and start again from the whole view.
   */
  cut(commit: Commit): void {
    while (this.#first < this.#end) this.#forgetOldest();
    // A place that no reader is at: all of them are overtaken.
    this.#end += 1;
    this.#first = this.#end;
    this.#floor = commit.revision;
    this.#newest = commit.revision;
    if (commit.changes.length > 0) this.#tell(commit);
    this.#wakeAll();
  }

  subscribe(listener: (commit: Commit) => void): () => void {
    // Wrapped, so that one function subscribed twice is two subscriptions.
    const entry = (commit: Commit) => listener(commit);
    this.#listeners.add(entry);
    return () => this.#listeners.delete(entry);
  }

  watch(afterRevision: number): AsyncIterable<Commit> {
    return { [Symbol.asyncIterator]: () => new Reader(this, this.#placeAfter(afterRevision)) };
  }

  /** Readers see the end of their loop, listeners hear nothing more. */
  close(): void {
    this.#closed = true;
    this.#listeners.clear();
    this.#wakeAll();
  }

  /** For readers: the commit at a place, or why there is none. */
  at(place: number): Remembered | "not yet" | "overtaken" | "closed" {
    if (place < this.#first) return "overtaken";
    if (place < this.#end) {
      const remembered = this.#ring[place % this.#limits.commitsMax];
      if (remembered === undefined) throw new Error(`history: no commit at ${place} of ${this.#first}..${this.#end}`);
      return remembered;
    }
    return this.#closed ? "closed" : "not yet";
  }

  /** For readers that are woken among many: all from a place on, as one commit, and the place after it. */
  allFrom(place: number): { next: number; commit: Remembered } {
    if (this.#together?.from === place && this.#together.end === this.#end) return this.#together;
    const changes: Change[] = [];
    let revision = 0;
    let next = place;
    for (; next < this.#end; next += 1) {
      const found = this.at(next);
      if (typeof found !== "object") throw new Error(`history: ${found} at ${next} of ${this.#first}..${this.#end}`);
      if (next > place && changes.length + found.commit.changes.length > changesTogetherMax) break;
      changes.push(...found.commit.changes);
      revision = found.commit.revision;
    }
    this.#together = { from: place, end: this.#end, next, commit: new Remembered({ revision, changes }) };
    return this.#together;
  }

  /** For readers: `wake` is called when there is more. */
  await(reader: Reader): void {
    this.#waiting.add(reader);
  }

  /** For readers that go. */
  forget(reader: Reader): void {
    this.#waiting.delete(reader);
  }

  #tell(commit: Commit): void {
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
  }

  #wakeSoon({ changes }: Commit): void {
    this.#unread.commits += 1;
    this.#unread.changes += changes.length;
    const { commitsMax, changesMax } = this.#limits;
    // Nobody who reads as soon as he is woken must be overtaken before that.
    const pressing = this.#unread.commits > commitsMax / 2 || this.#unread.changes > changesMax / 2;
    if (pressing || (this.#cancelWaking === undefined && this.#waiting.size <= wokenAtOnceMax)) this.#wakeAll();
    else this.#cancelWaking ??= this.#wakeLater();
  }

  #wakeAll(): void {
    this.#cancelWaking?.();
    this.#cancelWaking = undefined;
    const readers = [...this.#beingWoken, ...this.#waiting];
    this.#beingWoken = [];
    this.#waiting.clear();
    this.#unread = { commits: 0, changes: 0 };
    const many = readers.length > wokenAtOnceMax;
    for (const reader of readers) {
      if (many) reader.wakeAmongMany();
      else reader.wake();
    }
    this.#together = undefined;
  }

  #wakeLater(): () => void {
    const { minMs, maxMs, perWakingMs } = wakeEvery;
    const tookMs = Math.max(this.#wakingMs.last, this.#wakingMs.now);
    const ms = Math.min(maxMs, Math.max(minMs, tookMs * perWakingMs));
    return this.#clock.after(ms, () => this.#wakeSome());
  }

  #wakeSome(): void {
    const startedMs = this.#clock.monotonic();
    if (this.#beingWoken.length === 0) {
      this.#beingWoken = Array.from(this.#waiting);
      this.#waiting.clear();
      this.#unread = { commits: 0, changes: 0 };
      this.#wakingMs = { last: this.#wakingMs.now, now: 0 };
    }
    for (const reader of this.#beingWoken.splice(-wokenPerTurn)) reader.wakeAmongMany();
    this.#together = undefined;
    // What they do with it comes in the microtasks that follow these.
    queueMicrotask(() => queueMicrotask(() => queueMicrotask(() => this.#wokenSince(startedMs))));
    // What came while they were woken, one after another, has yet to be told to those that wait again.
    if (this.#beingWoken.length > 0) this.#cancelWaking = this.#clock.after(0, () => this.#wakeSome());
    else if (this.#unread.commits > 0) this.#cancelWaking = this.#wakeLater();
    else this.#cancelWaking = undefined;
  }

  #wokenSince(startedMs: number): void {
    this.#wakingMs.now += this.#clock.monotonic() - startedMs;
  }

  #placeAfter(revision: number): number {
    // Below the floor something is forgotten; above the newest the reader knows another history than this one.
    if (revision < this.#floor || revision > this.#newest) return -1;
    let low = this.#first;
    let high = this.#end;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const remembered = this.#ring[middle % this.#limits.commitsMax];
      if (remembered !== undefined && remembered.commit.revision <= revision) low = middle + 1;
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
    this.#changes -= oldest.commit.changes.length;
    this.#floor = oldest.commit.revision;
  }
}

/** A commit, and the one answer that every reader of it gets. */
class Remembered {
  readonly commit: Commit;
  readonly result: IteratorResult<Commit>;
  #answer: Promise<IteratorResult<Commit>> | undefined;

  constructor(commit: Commit) {
    this.commit = commit;
    this.result = { done: false, value: commit };
  }

  get answer(): Promise<IteratorResult<Commit>> {
    return (this.#answer ??= Promise.resolve(this.result));
  }
}

const done: IteratorResult<Commit> = { done: true, value: undefined };

class Reader implements AsyncIterator<Commit> {
  readonly #history: History;
  #place: number;
  #ended = false;
  #waiting: { resolve: (result: IteratorResult<Commit>) => void; reject: (error: ClusterError) => void } | undefined;

  constructor(history: History, place: number) {
    this.#history = history;
    this.#place = place;
  }

  next(): Promise<IteratorResult<Commit>> {
    if (this.#ended) return Promise.resolve(done);
    const found = this.#history.at(this.#place);
    if (typeof found === "object") {
      this.#place += 1;
      return found.answer;
    }
    if (found === "not yet") {
      if (this.#waiting !== undefined) throw new Error("watch: two reads at once");
      return new Promise((resolve, reject) => {
        this.#waiting = { resolve, reject };
        this.#history.await(this);
      });
    }
    this.#ended = true;
    return found === "closed" ? Promise.resolve(done) : Promise.reject(overtaken());
  }

  /** For the history: as `wake`, for one of many. */
  wakeAmongMany(): void {
    const waiting = this.#waiting;
    if (waiting === undefined || typeof this.#history.at(this.#place) !== "object") {
      this.wake();
      return;
    }
    const { next, commit } = this.#history.allFrom(this.#place);
    this.#waiting = undefined;
    this.#place = next;
    waiting.resolve(commit.result);
  }

  /** For the history: there may be more now. */
  wake(): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    const found = this.#history.at(this.#place);
    if (found === "not yet") {
      this.#history.await(this);
      return;
    }
    this.#waiting = undefined;
    if (typeof found === "object") {
      this.#place += 1;
      waiting.resolve(found.result);
      return;
    }
    this.#ended = true;
    if (found === "closed") waiting.resolve(done);
    else waiting.reject(overtaken());
  }

  return(): Promise<IteratorResult<Commit>> {
    this.#ended = true;
    this.#history.forget(this);
    this.#waiting?.resolve(done);
    this.#waiting = undefined;
    return Promise.resolve(done);
  }
}

function overtaken(): ClusterError {
  return new ClusterError(
    "resync_required",
    "the commits to go on from are no longer remembered: start again from the whole view",
  );
}
