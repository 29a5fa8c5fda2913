// How far a follower has come, as its leader sees it. Model: etcd-io/raft, tracker/progress.go.

import { Inflights } from "./inflights.js";
import { RaftInvariantError } from "./types.js";

/**
 * probe: where the logs meet is not known; one MsgApp at a time. replicate: they meet at `match`, MsgApps follow each
 * other without waiting. snapshot: the entries that it needs are gone; nothing is sent until it has the snapshot.
 */
export type ProgressState = "probe" | "replicate" | "snapshot";

export class Progress {
  /** The follower's log is the leader's up to here. Never goes back within a term. */
  match: number;
  /** The next entry to send; `match < next`. In replicate everything below is sent, in hope. */
  next: number;
  state: ProgressState = "probe";
  /** The index of the snapshot under way; 0 but in the state snapshot. */
  pendingSnapshot = 0;
  /** The largest commit that was sent; the follower has it unless the message was lost. */
  sentCommit = 0;
  /** Something came from it since the last check of the quorum. */
  recentActive = false;
  /** In probe: one MsgApp is out and unanswered. In replicate: full, and the empty MsgApp that asks is out. */
  paused = false;
  isLearner: boolean;
  readonly inflights: Inflights;

  constructor(match: number, next: number, isLearner: boolean, inflights: Inflights) {
    this.match = match;
    this.next = next;
    this.isLearner = isLearner;
    this.inflights = inflights;
  }

  becomeProbe(): void {
    // A snapshot that arrived has taken the follower to its index, whatever was acknowledged so far.
    const next = this.state === "snapshot" ? Math.max(this.match + 1, this.pendingSnapshot + 1) : this.match + 1;
    this.#enter("probe");
    this.next = next;
    this.sentCommit = Math.min(this.sentCommit, next - 1);
  }

  becomeReplicate(): void {
    this.#enter("replicate");
    this.next = this.match + 1;
  }

  becomeSnapshot(index: number): void {
    this.#enter("snapshot");
    this.pendingSnapshot = index;
    this.next = index + 1;
    this.sentCommit = index;
  }

  #enter(state: ProgressState): void {
    this.state = state;
    this.paused = false;
    this.pendingSnapshot = 0;
    this.inflights.reset();
  }

  /** Whether nothing is to be sent now. */
  get isPaused(): boolean {
    return this.state === "snapshot" || this.paused;
  }

  /** A MsgApp with `count` entries of `bytes` goes out. */
  sent(count: number, bytes: number): void {
    if (this.state === "replicate") {
      if (count > 0) {
        this.next += count;
        this.inflights.add(this.next - 1, bytes);
      }
      this.paused = this.inflights.full;
    } else if (this.state === "probe") {
      // An empty one says only where the commit is when nothing is missing; it too is answered, so it too is the one.
      this.paused = true;
    } else {
      throw new RaftInvariantError("a MsgApp was sent to a follower that waits for a snapshot");
    }
  }

  /** Whether a MsgApp sent now would tell it of a commit that it may not know and can use. */
  canBumpCommit(commit: number): boolean {
    return commit > this.sentCommit && this.sentCommit < this.next - 1;
  }

  /** The follower has everything up to `index`. Whether that was news. */
  acknowledged(index: number): boolean {
    if (index >= this.next) this.next = index + 1;
    if (index <= this.match) return false;
    this.match = index;
    this.paused = false;
    return true;
  }

  /**
   * The follower refused a MsgApp whose entries follow `rejected`, and the logs can meet at `hint` at the latest.
   * Whether that was news: an old refusal must not take `next` back.
   */
  refused(rejected: number, hint: number): boolean {
    if (this.state === "replicate") {
      if (rejected <= this.match) return false;
      this.next = this.match + 1;
      this.sentCommit = Math.min(this.sentCommit, this.next - 1);
      return true;
    }
    // A probe has always been sent at next - 1.
    if (this.next - 1 !== rejected) return false;
    this.next = Math.max(Math.min(rejected, hint + 1), this.match + 1);
    this.sentCommit = Math.min(this.sentCommit, this.next - 1);
    this.paused = false;
    return true;
  }
}
