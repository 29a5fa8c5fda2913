// What a node of the protocol knows, and the transitions that only change it. What it does with messages is in
// election.ts, replication.ts, reads.ts and membership.ts; raft.ts hands each message to the right one.

import { RaftLog } from "./log.js";
import { ReadQueue } from "./read-only.js";
import type { Settings } from "./settings.js";
import { Tracker } from "./tracker.js";
import { type Message, type NodeId, nobody, type ReadState, type Role } from "./types.js";
import { Uncommitted } from "./uncommitted.js";

export class RaftState {
  readonly id: NodeId;
  readonly settings: Settings;
  readonly log: RaftLog;
  readonly tracker: Tracker;

  /** Never goes back. */
  term: number;
  /** In `term`. Never changes within a term, but from nobody to somebody. */
  vote: NodeId;
  role: Role = "follower";
  /** Of `term`; this node itself exactly when its role is leader. */
  lead: NodeId = nobody;

  /** Ticks since this node heard its leader, or began to campaign; a leader's, since it last checked its quorum. */
  electionElapsed = 0;
  heartbeatElapsed = 0;
  /** Drawn anew at each reset: electionTick ≤ this < 2 · electionTick. */
  electionTimeout = 0;
  /** Ticks since this node was made. */
  ticks = 0;

  /** Whom leadership is being handed to; proposals are refused meanwhile. */
  leadTransferee: NodeId = nobody;
  /** A MsgTimeoutNow went out in this term: somebody may win without regard for the lease. */
  leaseGivenAway = false;
  /** Of the empty entry that this leader began with. */
  termStart = 0;
  /** No membership change is proposed before this index is applied: there may be one at it, or below. */
  pendingConfIndex = 0;
  readonly uncommitted: Uncommitted;
  readonly reads: ReadQueue;
  /** Of the last snapshot that took the place of the log: changes up to it are in its configuration. */
  restoredIndex = 0;

  /** The term in which this node votes for itself, once its vote is durable; 0 if it does not. */
  selfVoteTerm = 0;
  /** Followers may miss entries or the commit; told at the next Ready, all that came together in one MsgApp. */
  appendsWanted = false;
  /** Bytes of proposals among `messages`. */
  forwardedBytes = 0;
  messages: Message[] = [];
  readStates: ReadState[] = [];

  constructor(settings: Settings) {
    const { storage } = settings;
    const { hardState, confState } = storage.initialState();
    this.id = settings.id;
    this.settings = settings;
    this.log = new RaftLog(storage, hardState.commit, settings.applied, settings.maxCommittedSizePerReady);
    this.tracker = new Tracker(confState, this.log.lastIndex, settings.maxInflightMsgs, settings.maxInflightBytes);
    this.uncommitted = new Uncommitted(settings.maxUncommittedSize);
    this.reads = new ReadQueue(settings.maxPendingReads);
    this.term = hardState.term;
    this.vote = hardState.vote;
    this.reset(hardState.term);
  }

  send(message: Message): void {
    this.messages.push(message);
  }

  /** Into a term, maybe the same one: all that was known of others is forgotten. */
  reset(term: number): void {
    if (term !== this.term) {
      this.term = term;
      this.vote = nobody;
    }
    this.lead = nobody;
    this.electionElapsed = 0;
    this.heartbeatElapsed = 0;
    this.drawElectionTimeout();
    this.leadTransferee = nobody;
    this.leaseGivenAway = false;
    this.selfVoteTerm = 0;
    this.tracker.reset(this.log.lastIndex);
    this.pendingConfIndex = 0;
    this.termStart = 0;
    this.uncommitted.reset();
    this.reads.reset();
    this.appendsWanted = false;
  }

  drawElectionTimeout(): void {
    this.electionTimeout = this.settings.electionTick + this.settings.random(this.settings.electionTick);
  }

  becomeFollower(term: number, lead: NodeId): void {
    const changed = this.role !== "follower" || this.term !== term;
    this.reset(term);
    this.role = "follower";
    this.lead = lead;
    if (changed) this.settings.log.info({ id: this.id, term, lead }, "follows");
  }

  /** A member with a vote that has the log that belongs to its configuration. */
  get promotable(): boolean {
    const progress = this.tracker.progress.get(this.id);
    return progress !== undefined && !progress.isLearner && this.log.pendingSnapshot === undefined;
  }

  /** A leader knows what is committed only once it has committed an entry of its own term (dissertation §6.4). */
  get committedInTerm(): boolean {
    return this.log.term(this.log.committed) === this.term;
  }
}
