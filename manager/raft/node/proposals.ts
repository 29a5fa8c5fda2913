// Who waits for what he proposed. A proposal is queued until the turn's flush, then known by index and term of its
// entry, and answered when that entry is applied here.
//
// Invariant: every index in #byIndex was given in #term, the term in which this node leads; losing it answers them all.

import type { Entry, NodeId } from "../core/mod.js";
import { RaftError } from "./api.js";

/** Beyond these a proposal is refused, "busy". */
export const pendingMax = 10_000;

/** Of one proposal's data; a larger one is refused: it would hold up heartbeats on a slow network. */
export const proposalBytesMax = 8 << 20;

export interface Waiting {
  resolve: (answer: unknown) => void;
  reject: (error: RaftError) => void;
}

interface Queued extends Waiting {
  data: Uint8Array;
}

export class Proposals {
  #queued: Queued[] = [];
  readonly #byIndex = new Map<number, Waiting>();
  #term = 0;

  get queued(): number {
    return this.#queued.length;
  }

  /** Rejects "busy" where too many wait, "refused" where the data can't be an entry. */
  queue(data: Uint8Array, waiting: Waiting): boolean {
    if (data.length === 0 || data.length > proposalBytesMax) {
      waiting.reject(
        new RaftError(
          "refused",
          `a proposal has 1 to ${proposalBytesMax} bytes, this one ${data.length}; propose what is larger in parts`,
        ),
      );
      return false;
    }
    if (this.#queued.length + this.#byIndex.size >= pendingMax) {
      waiting.reject(new RaftError("busy", `${pendingMax} proposals wait for their answer; try again later`));
      return false;
    }
    this.#queued.push({ data, resolve: waiting.resolve, reject: waiting.reject });
    return true;
  }

  /** What to propose next, in order: at most `bytesMax` of data, but at least one. */
  take(bytesMax: number): Queued[] {
    let bytes = 0;
    let count = 0;
    for (const { data } of this.#queued) {
      bytes += data.length;
      if (bytes > bytesMax && count > 0) {
        break;
      }
      count++;
    }
    return this.#queued.splice(0, count);
  }

  /** They became the entries that end at `lastIndex`. */
  proposed(all: readonly Waiting[], lastIndex: number, term: number): void {
    if (term !== this.#term) {
      this.lost(0);
      this.#term = term;
    }
    let index = lastIndex - all.length;
    for (const waiting of all) {
      this.#byIndex.set(++index, waiting);
    }
  }

  /** What the state machine said of an entry goes to who proposed it, if that was here. */
  applied(entry: Entry, answer: unknown): void {
    const waiting = this.#byIndex.get(entry.index);
    if (waiting === undefined) {
      return;
    }
    this.#byIndex.delete(entry.index);
    if (entry.term === this.#term) {
      waiting.resolve(answer);
    } else {
      waiting.reject(new RaftError("not-leader", "not made: another leader's entry took its place in the log"));
    }
  }

  /** Leadership is lost: others may commit what was proposed, or overwrite it. What is only queued is certainly not made. */
  lost(lead: NodeId): void {
    const error = (): RaftError =>
      new RaftError("unknown", "leadership was lost while the proposal was under way: it may or may not be made", lead);
    for (const { reject } of this.#byIndex.values()) {
      reject(error());
    }
    this.#byIndex.clear();
  }

  refuseQueued(error: () => RaftError): void {
    for (const { reject } of this.#queued.splice(0)) {
      reject(error());
    }
  }

  /** The node ends. */
  close(cause?: Error): void {
    const options = cause === undefined ? {} : { cause };
    this.refuseQueued(() => new RaftError("closed", "not made: the node is closed", 0, options));
    for (const { reject } of this.#byIndex.values()) {
      reject(
        new RaftError(
          "unknown",
          "the node closed while the proposal was under way: it may or may not be made",
          0,
          options,
        ),
      );
    }
    this.#byIndex.clear();
  }
}
