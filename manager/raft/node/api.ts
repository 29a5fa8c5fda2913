// What the application gives to a node, and what it gets: types only.

import type { ConfState, Logger, Message, MessageOf, NodeId, SnapshotMeta } from "../core/mod.js";

/** The replicated state. Everything but `restore` is synchronous; the same entries in the same order give the same state. */
export interface StateMachine {
  /** One committed entry, never empty. What it returns goes to whoever proposed it here. Must not throw. */
  apply(entry: { index: number; term: number; data: Uint8Array }): unknown;
  /** A membership change came into force at this index. */
  configured(index: number, confState: ConfState, context: Uint8Array): void;
  /**
   * The state as it is at the call, in chunks of at most 1 MiB that are encoded as they are taken: later changes must
   * not show in them.
   */
  snapshot(): Iterable<Uint8Array>;
  /** Becomes what the chunks hold once all were read; a failure before the end leaves the state as it was. */
  restore(chunks: AsyncIterable<Uint8Array>, meta: SnapshotMeta): Promise<void>;
}

/** Carries messages to other nodes. Loss, delay and disorder between streams are expected of it; corruption is not. */
export interface Transport {
  /** Never waits: what a slow or absent peer cannot take is dropped, and the node told by `reportUnreachable`. */
  send(to: NodeId, messages: readonly Message[]): void;
  /** Resolves when the peer has all of it, on a stream of its own; rejects when it could not be sent. */
  sendSnapshot(message: MessageOf<"MsgSnap">, chunks: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void>;
}

/** Time as an argument; monotonic milliseconds. */
export interface Clock {
  monotonic(): number;
  /** Calls back once after `ms`; the answer cancels it. */
  after(ms: number, fn: () => void): () => void;
}

export interface RaftNodeOptions {
  id: NodeId;
  /** Where log and snapshots are; this node's alone. */
  directory: string;
  machine: StateMachine;
  transport: Transport;
  clock: Clock;
  /** An integer 0 ≤ r < n. */
  random(n: number): number;
  /** The first configuration: only when the directory is empty, and the same on every node that starts with it. */
  bootstrap?: ConfState;
  /**
   * Whether this node has taken part under this id before; default false. Then an empty directory is refused: the votes
   * that were in it are forgotten, and could be given twice. See `RaftNode.begin`.
   */
  begun?: boolean;
  /** Milliseconds per tick; default 50. */
  tickMs?: number;
  /** Ticks; default 10, that is elections after 500 to 1,000 ms. */
  electionTick?: number;
  /** Default 2. */
  heartbeatTick?: number;
  /**
   * Entries and bytes of log after which a snapshot is taken; default 10,000 entries or 64 MiB, on file systems below
   * 512 MiB an eighth of them.
   */
  snapshotEntries?: number;
  snapshotBytes?: number;
  /** Of each file of the log, made in advance; default 64 MiB, on file systems below 1 GiB a sixteenth of them. */
  segmentBytes?: number;
  /** Told once when the disk fails or an invariant breaks: the process must end. */
  onFatal(error: Error): void;
  log: Logger;
}

export interface PeerStatus {
  id: NodeId;
  voter: boolean;
  /** Only the leader knows the following; absent elsewhere. */
  state?: "probe" | "replicate" | "snapshot";
  match?: number;
  next?: number;
  /** Heard of within the last election timeout. */
  recentlyActive?: boolean;
}

export interface NodeStatus {
  id: NodeId;
  term: number;
  lead: NodeId;
  role: "follower" | "pre-candidate" | "candidate" | "leader";
  commit: number;
  applied: number;
  lastIndex: number;
  snapshotIndex: number;
  confState: ConfState;
  peers: readonly PeerStatus[];
  /** In words, why writes are refused by this node's disk; absent when they are not. */
  diskProblem?: string;
}

/** Why a proposal, read or change was refused or lost. */
export class RaftError extends Error {
  override name = "RaftError";
  readonly code: /** Not made: this node is not the leader, or lost leadership before it took the proposal in. `lead` says who is. */
    | "not-leader"
    /** Not made: too much is under way, or leadership is being handed over. Try again. */
    | "busy"
    /** Not made: the disk is full. */
    | "disk-full"
    /** Not made: the change is refused, see the message. */
    | "refused"
    /** It may or may not be made: leadership was lost, or the node closed, before it was known. */
    | "unknown"
    /** A read could not be confirmed: no quorum. */
    | "no-quorum"
    | "closed";
  readonly lead: NodeId;

  constructor(code: RaftError["code"], message: string, lead: NodeId = 0, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.lead = lead;
  }
}
