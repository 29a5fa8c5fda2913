// The managers as one: who they are, who leads, and the log that they share. The manager's parts depend on this and not
// on Raft.

import type { ClusterStatus } from "../../proto/gen/flotilla/control/v1/control.js";
import type { Member } from "../../proto/gen/flotilla/raft/v1/raft.js";

export type { Member };

/** The time in which this manager leads: nobody else may steer the cluster. */
export interface Tenure {
  readonly term: number;
  readonly epoch: number;
  /** Aborts as soon as leadership is lost, or may be. */
  readonly signal: AbortSignal;
}

/** The part of the replicated state that is the embedded store's; absent with etcd. See raft-ts's StateMachine. */
export interface StoreMachine {
  apply(entry: { index: number; term: number; data: Uint8Array }): unknown;
  snapshot(): Iterable<Uint8Array>;
  restore(chunks: AsyncIterable<Uint8Array>): Promise<void>;
}

export interface Consensus extends AsyncDisposable {
  readonly clusterId: string;
  readonly clusterName: string;
  readonly epoch: number;
  readonly self: Member;
  /** As applied here, by id. */
  members(): readonly Member[];
  /** Undefined while there is none, or none is known. */
  leader(): Member | undefined;
  /** Present from when the first entry of the own term is applied until leadership is lost. */
  tenure(): Tenure | undefined;
  /** After every change of leader, tenure or members. Returns how to stop it. */
  onChange(listener: () => void): () => void;
  /** Whether there is a leader and this manager is up to date with it; if not, why, in words. */
  health(): { ready: boolean; message: string };
  /**
   * Adds one entry to the log and resolves with what the machine's `apply` returned for it here. Only while this manager
   * leads. Rejects `not_leader` (with the leader's address in details.leader), `resource_exhausted`, `unavailable`
   * (not made) or `unknown_outcome`.
   */
  propose(data: Uint8Array): Promise<unknown>;
  /**
   * Resolves once everything that was committed anywhere before the call is applied here: on any manager.
   * `unavailable` when no quorum confirms it in time.
   */
  barrier(signal?: AbortSignal): Promise<void>;
  status(): ClusterStatus;
  /** See the calls of the same names in control.proto. */
  removeManager(manager: string, force: boolean): Promise<Member>;
  transferLeadership(manager: string): Promise<void>;
}
