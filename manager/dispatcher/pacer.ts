// When each session is told what all are told alike. A few sessions are told at once, all together. Of many, each is
// told at most once per interval that grows with their number, some in every turn of the event loop, those first that
// have waited longest: what everyone is told then costs a fixed share of the leader's time, not more with every agent
// and every change.

import type { Clock } from "../../lib/mod.js";

/** Up to so many sessions are told at once. */
const atOnceMax = 50;
/** Told per turn, where there are more, and how long a turn is. */
const perTurn = 50;
const turnMs = 5;
/** Bytes that are made for the sessions of a turn: long news takes more turns. */
const bytesPerTurn = 2_000_000;
/** Of the interval between two times that one session is told. */
const intervalMsPerSession = 0.25;

export interface PacerOptions<T> {
  clock: Clock;
  /** Of what all are told, now. */
  revision(): number;
  /** How long what came since then is. */
  bytesSince(revision: number): number;
  tell(session: T): void;
}

export class Pacer<T> {
  readonly #options: PacerOptions<T>;
  /** In the order in which they were told last: so revisions and times only grow along it. */
  readonly #told = new Map<T, { revision: number; atMs: number }>();
  #cancel: (() => void) | undefined;
  #ended = false;

  constructor(options: PacerOptions<T>) {
    this.#options = options;
  }

  /** Least time between two times that one session is told, unless it must be told something of its own. */
  get intervalMs(): number {
    return this.#told.size <= atOnceMax ? 0 : Math.ceil(this.#told.size * intervalMsPerSession);
  }

  /** How long it may take from a change until all that read have been sent it; of news of common length. */
  get announceMs(): number {
    return this.#told.size <= atOnceMax ? 0 : this.intervalMs + Math.ceil(this.#told.size / perTurn) * turnMs;
  }

  /** The session is being told everything up to now, for whatever reason. */
  told(session: T): void {
    this.#told.delete(session);
    this.#told.set(session, { revision: this.#options.revision(), atMs: this.#options.clock.monotonic() });
  }

  delete(session: T): void {
    this.#told.delete(session);
  }

  /** There is news. */
  changed(): void {
    if (this.#cancel === undefined && !this.#ended) this.#turn();
  }

  end(): void {
    this.#ended = true;
    this.#cancel?.();
    this.#told.clear();
  }

  #turn(): void {
    const nowMs = this.#options.clock.monotonic();
    const revision = this.#options.revision();
    const { intervalMs } = this;
    const isSmall = this.#told.size <= atOnceMax;
    let count = 0;
    let bytes = 0;
    for (const [session, last] of this.#told) {
      // Nor have those behind it anything to be told.
      if (last.revision >= revision) return;
      const dueMs = last.atMs + intervalMs;
      if (dueMs > nowMs) {
        this.#again(dueMs - nowMs);
        return;
      }
      if (!isSmall && (count >= perTurn || bytes >= bytesPerTurn)) {
        this.#again(turnMs);
        return;
      }
      count += 1;
      bytes += this.#options.bytesSince(last.revision);
      this.told(session);
      this.#options.tell(session);
    }
  }

  #again(inMs: number): void {
    this.#cancel = this.#options.clock.after(Math.max(inMs, turnMs), () => {
      this.#cancel = undefined;
      this.#turn();
    });
  }
}
