// What the driver asks of the process around it. Everything here is a plain call without a result; what takes time is
// answered by a call back to the driver, so that the same driver runs on real disks and in the simulator.

import type { ConfState, Entry, HardState, Message, NodeId, ReadState, Role, SnapshotMeta } from "../core/mod.js";

/** Made durable as one, in this order; the state machine must never depend on a part of it. */
export interface Batch {
  /** Installed instead of the log up to its index. Its contents are durable already. */
  snapshot?: SnapshotMeta;
  entries: readonly Entry[];
  hardState?: HardState;
  /** Whether it must be synced before `Driver.persisted()`; without it, written is enough. */
  mustSync: boolean;
}

export interface Leadership {
  term: number;
  /** nobody (0) when unknown. */
  lead: NodeId;
  role: Role;
}

export interface Host {
  /** At most one is under way; ends with `driver.persisted()`. A failure is the host's to handle: it stops the process. */
  persist(batch: Batch): void;
  /** Handed over at once and in order per receiver; may be lost. */
  send(messages: readonly Message[]): void;
  /** Committed normal entries with data, in order; ends with `driver.applied(index)` for the last, maybe in slices. */
  apply(entries: readonly Entry[]): void;
  /** A membership change has come into force; called in order with `apply`. */
  configured(entry: Entry, confState: ConfState): void;
  /** The state machine is to become what the snapshot holds; ends with `driver.applied(snapshot.index)`. */
  restore(snapshot: SnapshotMeta): void;
  /** Reads that may be served now: everything up to their index is applied. */
  readable(reads: readonly ReadState[]): void;
  leadership(now: Leadership): void;
}
