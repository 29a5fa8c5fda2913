// The words of the protocol. Names are those of etcd-io/raft and of the Raft paper and dissertation.

/** 1 … 2^53 - 1; 0 is nobody. */
export type NodeId = number;
export const nobody: NodeId = 0;

/** Who takes part. Sets have no order; arrays here are ascending and without doubles. */
export interface ConfState {
  voters: readonly NodeId[];
  /** The voters of the configuration that a joint one leaves; empty when it is not joint. */
  votersOutgoing: readonly NodeId[];
  /** Receive the log and have no vote. Disjoint from both sets of voters. */
  learners: readonly NodeId[];
  /** Voters of the outgoing configuration that become learners when the joint one is left. */
  learnersNext: readonly NodeId[];
  /** Whether the leader leaves a joint configuration by itself. */
  autoLeave: boolean;
}

/** What must be on disk before anything that depends on it is said. */
export interface HardState {
  /** Never goes back. */
  term: number;
  /** Whom this node voted for in `term`; nobody (0) for no one. */
  vote: NodeId;
  /** Never goes back. */
  commit: number;
}

export type Role = "follower" | "pre-candidate" | "candidate" | "leader";

export interface SoftState {
  /** The leader of the term as known here; nobody (0) when unknown. */
  lead: NodeId;
  role: Role;
}

export type EntryType = "normal" | "conf-change";

/** One entry of the log; index from 1, without gaps. An empty normal entry is the one that a new leader begins with. */
export interface Entry {
  readonly term: number;
  readonly index: number;
  readonly type: EntryType;
  readonly data: Uint8Array;
  /** The entry as bytes, made once by the wire codec and reused for disk and peers. Never part of what it means. */
  encoded?: Uint8Array;
}

/** What a proposer gives: the leader adds term and index. */
export interface Proposal {
  readonly type: EntryType;
  readonly data: Uint8Array;
}

export type ConfChangeType = "add-voter" | "add-learner" | "remove";

export interface ConfChange {
  /**
   * How a change is made: "auto" is simple (one voter differs) where possible, else joint and left by itself;
   * "joint-implicit" is joint and left by itself; "joint-explicit" is joint until an empty change leaves it.
   */
  transition: "auto" | "joint-implicit" | "joint-explicit";
  /** Empty leaves a joint configuration. */
  changes: readonly { type: ConfChangeType; id: NodeId }[];
  /** The application's own, carried along: addresses, an id of the request. */
  context: Uint8Array;
}

/**
 * A snapshot as the core sees it. Its contents are the application's and never pass through the core: who sends a
 * MsgSnap sends them along, and who receives one steps it only when it has them.
 */
export interface SnapshotMeta {
  index: number;
  term: number;
  confState: ConfState;
}

interface Addressed {
  from: NodeId;
  to: NodeId;
  /** The sender's term; 0 in messages that are of no term: MsgProp, MsgReadIndex. */
  term: number;
}

export type Message = Addressed &
  (
    | {
        type: "MsgApp" /** Index and term of the entry before. */;
        prevIndex: number;
        prevTerm: number;
        commit: number;
        entries: readonly Entry[];
      }
    | {
        type: "MsgAppResp";
        /** The last index that is now known to match; of a refusal, the prevIndex that was refused. */
        index: number;
        reject: boolean;
        /** Of a refusal: the largest index here with a term ≤ prevTerm, and its term. */
        hintIndex: number;
        hintTerm: number;
      }
    | {
        type: "MsgVote" | "MsgPreVote";
        lastIndex: number;
        lastTerm: number /** By transfer: voters do not protect their leader. */;
        force: boolean;
      }
    | {
        type: "MsgVoteResp" | "MsgPreVoteResp";
        reject: boolean;
        /** Of a refusal by a node that cannot campaign itself: what it knows to be committed, for who knows less. */
        committed?: { index: number; term: number };
      }
    | {
        type: "MsgHeartbeat" /** min(match, commit) of the receiver. */;
        commit: number /** Of pending reads; 0 is none. Made by the leader. */;
        readId: number;
      }
    | { type: "MsgHeartbeatResp"; readId: number }
    | { type: "MsgSnap"; snapshot: SnapshotMeta }
    | { type: "MsgProp"; entries: readonly Proposal[] }
    | { type: "MsgReadIndex" /** The asker's own, opaque. */; context: number }
    | { type: "MsgReadIndexResp"; context: number; index: number }
    | { type: "MsgTransferLeader" /** Who is to lead. */; transferee: NodeId }
    | { type: "MsgTimeoutNow" }
  );

export type MessageType = Message["type"];
export type MessageOf<T extends MessageType> = Extract<Message, { type: T }>;

/** `context` was given to readIndex; reads of a state with everything up to `index` applied are current. */
export interface ReadState {
  context: number;
  index: number;
}

/**
 * What has to be done now, in this order: MsgApps and heartbeats of a leader may go at once; then entries, hard state
 * and snapshot are made durable, with a sync when mustSync; then the other messages are sent and the committed entries
 * applied; then `advance()`.
 */
export interface Ready {
  /** Present when it changed. */
  softState?: SoftState;
  /** Present when it changed. */
  hardState?: HardState;
  /** To be appended to the log; the first may replace what is there from its index on. */
  entries: readonly Entry[];
  /** To be made durable and installed, before the entries. Its contents are there already. */
  snapshot?: SnapshotMeta;
  /** Durable on a quorum; at most `maxCommittedSizePerReady` bytes of data, at least one if there is any. */
  committedEntries: readonly Entry[];
  messages: readonly Message[];
  readStates: readonly ReadState[];
  mustSync: boolean;
}

/** Why something was not taken. Values, not exceptions: they are everyday. */
export type Refusal =
  /** There is no leader, or none known here. */
  | "no-leader"
  /** This node is not the leader, and forwarding is switched off. */
  | "not-leader"
  /** The uncommitted log, or the list of pending reads, is full. */
  | "too-much-pending"
  /** Leadership is being handed over. */
  | "transferring"
  /** This node is not in the configuration. */
  | "not-member"
  /** A membership change is under way, or not yet possible in this term. */
  | "change-pending"
  /** The change makes no sense: the last voter removed, a joint one entered twice. */
  | "change-invalid"
  /** The node may not become leader: it is a learner, or already leads, or has changes to apply. */
  | "not-promotable"
  /** The leader is not forgotten, since it may be reading by its lease. */
  | "lease-held";

/** Undefined is done. */
export type Outcome = Refusal | undefined;

/** A rule that holds in every correct execution was found broken: the process must stop before it does harm. */
export class RaftInvariantError extends Error {
  override name = "RaftInvariantError";
}

export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}
