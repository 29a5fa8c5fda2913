// What a node of the protocol is made with.

import type { Logger, NodeId } from "./types.js";
import type { Storage } from "./storage.js";

export interface RaftConfig {
  id: NodeId;
  storage: Storage;
  /** The last entry that the application has applied: it is not handed out again. */
  applied: number;
  /** Ticks without a leader before a node campaigns; each wait is this plus random(this). More than heartbeatTick. */
  electionTick: number;
  /** Ticks between heartbeats. */
  heartbeatTick: number;
  /** An integer 0 ≤ r < n, the only source of chance. */
  random(n: number): number;
  /** Campaign in two rounds, so that who comes back does not disturb; default true (dissertation §9.6). */
  preVote?: boolean;
  /** A leader that hears no quorum for an election timeout steps down; default true. */
  checkQuorum?: boolean;
  /** "safe" asks a quorum at each read; "lease" trusts the election timeout. Default "safe". */
  readOnly?: "safe" | "lease";
  /** Refuse proposals and reads on a follower instead of forwarding them to the leader; default false. */
  disableForwarding?: boolean;
  /** Step down on applying one's own removal; default true. */
  stepDownOnRemoval?: boolean;
  /** Bytes of data in one MsgApp; default 1 MiB. */
  maxSizePerMsg?: number;
  /** Bytes of data in one Ready's committed entries; default maxSizePerMsg. */
  maxCommittedSizePerReady?: number;
  /** Bytes of data of proposals that are not committed; the first is always taken. Default 64 MiB. */
  maxUncommittedSize?: number;
  /** MsgApps under way to one follower; default 256. */
  maxInflightMsgs?: number;
  /** Their bytes; default 16 MiB. */
  maxInflightBytes?: number;
  /** Reads that wait for their confirmation; default 10,000. */
  maxPendingReads?: number;
  log?: Logger;
}
