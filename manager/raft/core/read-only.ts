// Reads that wait until their leader has heard that it still leads (dissertation §6.4).

import type { NodeId } from "./types.js";

export interface Read {
  /** Who asked; the leader itself for its own reads. */
  from: NodeId;
  context: number;
}

interface Batch {
  /** Confirmed once a quorum has answered a heartbeat with this number or a later one. */
  readId: number;
  /** The commit when the batch was made: what is read must have everything up to it. */
  index: number;
  reads: readonly Read[];
}

/** Bounded by `readsMax` in all. Of one leader's term: it is emptied when the leader changes. */
export class ReadQueue {
  readonly #readsMax: number;
  /** Made by this leader, rising; numbers of the askers can repeat and are never compared. */
  #counter = 0;
  /** Not confirmed and not asked about: no commit in this term yet, or none was flushed since. */
  #unasked: Read[] = [];
  /** Asked about; oldest first. */
  #asked: Batch[] = [];
  #count = 0;
  /** The largest number that each member answered. */
  readonly #answered = new Map<NodeId, number>();
  /** When the rounds of heartbeats that are not confirmed were sent, in ticks; kept for the lease only. */
  #rounds: { readId: number; tick: number }[] = [];
  /** When the newest confirmed round was sent. */
  #leaseTick = -Infinity;

  constructor(readsMax: number) {
    this.#readsMax = readsMax;
  }

  /** False at the limit. */
  add(read: Read): boolean {
    if (this.#count >= this.#readsMax) return false;
    this.#unasked.push(read);
    this.#count++;
    return true;
  }

  get hasUnasked(): boolean {
    return this.#unasked.length > 0;
  }

  /** All that were not asked about are asked about now; the number that their heartbeats carry. */
  ask(index: number): number {
    const readId = ++this.#counter;
    this.#asked.push({ readId, index, reads: this.#unasked });
    this.#unasked = [];
    return readId;
  }

  /** Those that were not asked about, answered at once. */
  takeUnasked(): readonly Read[] {
    const reads = this.#unasked;
    this.#unasked = [];
    this.#count -= reads.length;
    return reads;
  }

  /** What a heartbeat carries to ask again for all that wait; 0 if none does. */
  get lastAsked(): number {
    return this.#asked.at(-1)?.readId ?? 0;
  }

  get waiting(): boolean {
    return this.#asked.length > 0;
  }

  answered(from: NodeId, readId: number): void {
    // A number that was never given comes from no heartbeat of this leader.
    if (readId <= this.#counter && readId > (this.#answered.get(from) ?? 0)) this.#answered.set(from, readId);
  }

  /** The number that `id` has confirmed; the leader itself confirms everything. */
  confirmedBy(id: NodeId, self: NodeId): number {
    return id === self ? this.#counter : (this.#answered.get(id) ?? 0);
  }

  /** The batches that a quorum has confirmed, oldest first. */
  takeConfirmed(readId: number): readonly Batch[] {
    let done = 0;
    for (const batch of this.#asked) {
      if (batch.readId > readId) break;
      this.#count -= batch.reads.length;
      done++;
    }
    return done === 0 ? [] : this.#asked.splice(0, done);
  }

  /** A round of heartbeats that serves to renew the lease; rounds older than `ticksKept` cannot any more. */
  startRound(tick: number, ticksKept: number): number {
    const readId = ++this.#counter;
    this.#rounds = this.#rounds.filter((round) => tick - round.tick <= ticksKept);
    this.#rounds.push({ readId, tick });
    return readId;
  }

  confirmRounds(readId: number): void {
    for (const round of this.#rounds)
      if (round.readId <= readId) this.#leaseTick = Math.max(this.#leaseTick, round.tick);
    this.#rounds = this.#rounds.filter((round) => round.readId > readId);
  }

  /** When the heartbeats were sent that a quorum last answered. */
  get leaseTick(): number {
    return this.#leaseTick;
  }

  /** The counter goes on, so that no answer of an earlier term can fit. */
  reset(): void {
    this.#unasked = [];
    this.#asked = [];
    this.#count = 0;
    this.#answered.clear();
    this.#rounds = [];
    this.#leaseTick = -Infinity;
  }
}
