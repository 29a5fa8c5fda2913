// The door to the protocol: one node of it, driven from outside. Between ready() and advance() anything may be stepped and
// proposed; what comes of it is in the next Ready.
//
// Every member of a cluster begins with the same ConfState (that of the cluster's first moment), also one that joins
// later and is not in it: the log has the changes from there on.

import type { RaftConfig } from "./config.js";
import { countSelfVote, hup } from "./election.js";
import { confChangeProblem, encodeConfChange } from "./conf-change.js";
import { applyConfChange, leaveJointIfDue, propose, rejectConfChange } from "./membership.js";
import type { ProgressState } from "./progress.js";
import { step, tick } from "./raft.js";
import { flushReads, readIndex } from "./reads.js";
import { acknowledgeSelf, flushAppends, reportSnapshot, reportUnreachable, transferLeader } from "./replication.js";
import { settingsOf } from "./settings.js";
import { RaftState } from "./state.js";
import {
  type ConfChange,
  type ConfState,
  type Entry,
  type Message,
  type NodeId,
  nobody,
  type Outcome,
  type Proposal,
  RaftInvariantError,
  type Ready,
  type Role,
} from "./types.js";

export interface ProgressStatus {
  /** The member's log is the leader's up to here. */
  match: number;
  next: number;
  state: ProgressState;
  /** It was heard since the leader last checked its quorum. */
  recentActive: boolean;
  isLearner: boolean;
  /** Nothing is sent to it until it answers. */
  paused: boolean;
  /** MsgApps under way to it. */
  inflight: number;
  /** The index of the snapshot under way to it; 0 if none is. */
  pendingSnapshot: number;
}

export interface Status {
  id: NodeId;
  term: number;
  vote: NodeId;
  commit: number;
  applied: number;
  lead: NodeId;
  role: Role;
  lastIndex: number;
  leadTransferee: NodeId;
  confState: ConfState;
  /** By id, ascending; empty where this node does not lead. */
  progress: Map<NodeId, ProgressStatus>;
}

const noEntries: readonly Entry[] = [];

export class RawNode {
  readonly id: NodeId;
  readonly #r: RaftState;
  /** What the last Ready said, to tell what changed. */
  #term: number;
  #vote: NodeId;
  #commit: number;
  #lead: NodeId = nobody;
  #role: Role = "follower";
  /** What the Ready under way makes durable. */
  #underWay: { last: Entry | undefined; snapshot: number; selfVoteTerm: number } | undefined;

  /** A RangeError for a bad setting; RaftInvariantError where storage contradicts itself. */
  constructor(config: RaftConfig) {
    this.id = config.id;
    this.#r = new RaftState(settingsOf(config));
    const { hardState } = config.storage.initialState();
    this.#term = hardState.term;
    this.#vote = hardState.vote;
    this.#commit = hardState.commit;
  }

  /** One tick passed; a late timer is one tick, too. */
  tick(): void {
    tick(this.#r);
  }

  /** Throws nothing but RaftInvariantError. What is stale, or not for this node, is ignored. */
  step(message: Message): Outcome {
    return step(this.#r, message);
  }

  campaign(): Outcome {
    return hup(this.#r, this.#r.settings.preVote ? "pre" : "vote");
  }

  propose(data: Uint8Array): Outcome {
    return this.proposeMany([{ type: "normal", data }]);
  }

  /** All or none. A follower forwards them to its leader, and nobody says what became of them there. */
  proposeMany(proposals: readonly Proposal[]): Outcome {
    return propose(this.#r, this.id, proposals);
  }

  proposeConfChange(change: ConfChange): Outcome {
    if (confChangeProblem(change) !== undefined) return "change-invalid";
    return this.proposeMany([{ type: "conf-change", data: encodeConfChange(change) }]);
  }

  /**
   * The entry is being applied, in the order of the log. With its `index`, one that a snapshot has overtaken changes
   * nothing.
   */
  applyConfChange(change: ConfChange, index?: number): ConfState {
    return applyConfChange(this.#r, change, index);
  }

  /** Instead of applyConfChange: every member's application decided, by the same rule, that nothing changes. */
  rejectConfChange(): void {
    rejectConfChange(this.#r);
  }

  /**
   * Answered by a ReadState with the same context, or never: a read is lost with a message or a leader, and is asked
   * again with another context, one that was not used before a restart either.
   */
  readIndex(context: number): Outcome {
    return readIndex(this.#r, this.id, context);
  }

  transferLeader(to: NodeId): Outcome {
    return transferLeader(this.#r, this.id, to);
  }

  /** A follower that knows its leader to be gone votes for another at once. */
  forgetLeader(): Outcome {
    const r = this.#r;
    if (r.role !== "follower" || r.lead === nobody) return undefined;
    if (r.settings.readOnly === "lease") return "lease-held";
    r.lead = nobody;
    return undefined;
  }

  /** The last message to it was probably lost. */
  reportUnreachable(id: NodeId): void {
    reportUnreachable(this.#r, id);
  }

  /** What became of a MsgSnap. Every one must be reported on: until then nothing else is sent there. */
  reportSnapshot(id: NodeId, ok: boolean): void {
    reportSnapshot(this.#r, id, ok);
  }

  /** Whether ready() has anything to say; false until advance(). */
  hasReady(): boolean {
    if (this.#underWay !== undefined) return false;
    this.#flush();
    const r = this.#r;
    return (
      r.messages.length > 0 ||
      r.readStates.length > 0 ||
      r.log.hasUnstable ||
      r.log.hasCommitted ||
      r.log.pendingSnapshot !== undefined ||
      this.#hardStateChanged ||
      this.#softStateChanged
    );
  }

  /** What was proposed and acknowledged since goes out together. */
  #flush(): void {
    flushReads(this.#r);
    flushAppends(this.#r);
  }

  get #hardStateChanged(): boolean {
    const r = this.#r;
    return r.log.committed !== this.#commit || r.term !== this.#term || r.vote !== this.#vote;
  }

  get #softStateChanged(): boolean {
    return this.#r.lead !== this.#lead || this.#r.role !== this.#role;
  }

  /** Throws if the Ready before was not finished with advance(). */
  ready(): Ready {
    if (this.#underWay !== undefined) {
      throw new RaftInvariantError("ready() was called before the Ready before was finished with advance()");
    }
    this.#flush();
    const r = this.#r;
    const { log } = r;
    const snapshot = log.pendingSnapshot;
    const entries = log.hasUnstable ? log.unstable() : noEntries;
    const voteChanged = r.term !== this.#term || r.vote !== this.#vote;
    const ready: Ready = {
      entries,
      committedEntries: log.handOutCommitted(),
      messages: r.messages,
      readStates: r.readStates,
      mustSync: entries.length > 0 || voteChanged || snapshot !== undefined,
    };
    if (snapshot !== undefined) ready.snapshot = snapshot;
    if (this.#softStateChanged) {
      this.#lead = r.lead;
      this.#role = r.role;
      ready.softState = { lead: r.lead, role: r.role };
    }
    if (this.#hardStateChanged) {
      this.#term = r.term;
      this.#vote = r.vote;
      this.#commit = log.committed;
      ready.hardState = { term: r.term, vote: r.vote, commit: log.committed };
    }
    this.#underWay = { last: entries.at(-1), snapshot: snapshot?.index ?? 0, selfVoteTerm: r.selfVoteTerm };
    r.selfVoteTerm = 0;
    r.messages = [];
    r.readStates = [];
    r.forwardedBytes = 0;
    return ready;
  }

  /**
   * Heartbeats and their answers, of the term that the last Ready told: of what is durable they say no more than that
   * term. So they need not wait for advance(); what is taken here is not in the next Ready.
   */
  takeHeartbeats(): readonly Message[] {
    const r = this.#r;
    if (r.term !== this.#term || !r.messages.some(isHeartbeat)) return [];
    const taken = r.messages.filter(isHeartbeat);
    r.messages = r.messages.filter((m) => !isHeartbeat(m));
    return taken;
  }

  /** What the last Ready asked for is durable, and its committed entries are handed to the application. */
  advance(): void {
    const done = this.#underWay;
    if (done === undefined) throw new RaftInvariantError("advance() was called without a Ready");
    this.#underWay = undefined;
    const r = this.#r;
    if (done.snapshot > 0) r.log.stableSnapshotTo(done.snapshot);
    if (done.last !== undefined) r.log.stableTo(done.last.index, done.last.term);
    if (done.selfVoteTerm > 0) countSelfVote(r, done.selfVoteTerm);
    if (r.role === "leader") acknowledgeSelf(r);
  }

  /** The application has applied everything up to `index`, which was handed out. */
  appliedTo(index: number): void {
    this.#r.log.appliedTo(index);
    leaveJointIfDue(this.#r);
  }

  status(): Status {
    const r = this.#r;
    const progress = new Map<NodeId, ProgressStatus>();
    if (r.role === "leader") {
      for (const [id, p] of r.tracker.progress) {
        const { match, next, state, recentActive, isLearner, pendingSnapshot } = p;
        const inflight = p.inflights.count;
        progress.set(id, {
          match,
          next,
          state,
          recentActive,
          isLearner,
          paused: p.isPaused,
          inflight,
          pendingSnapshot,
        });
      }
    }
    return {
      id: r.id,
      term: r.term,
      vote: r.vote,
      commit: r.log.committed,
      applied: r.log.applied,
      lead: r.lead,
      role: r.role,
      lastIndex: r.log.lastIndex,
      leadTransferee: r.leadTransferee,
      confState: r.tracker.conf,
      progress,
    };
  }

  get confState(): ConfState {
    return this.#r.tracker.conf;
  }

  /** Now; what a Ready tells may be behind. */
  get leads(): boolean {
    return this.#r.role === "leader";
  }
}

function isHeartbeat({ type }: Message): boolean {
  return type === "MsgHeartbeat" || type === "MsgHeartbeatResp";
}
