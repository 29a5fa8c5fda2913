// The store as controllers see it: an indexed view of all objects in memory, an ordered watch, and transactions.
// Engines (etcd/, memory/) decide where commits become durable; what they must hold is the contract suite.

import type { Cluster, Node, Objects, Revision, Rollout, Service, Table, Task } from "../../proto/mod.js";

/** One table, read-only. Objects are never changed in place: a write puts a new object there. */
export interface TableView<T> {
  get(id: string): T | undefined;
  values(): IterableIterator<T>;
  readonly size: number;
}

/**
 * All objects at one store revision. It is the live view: between two awaits it does not change, after an await it
 * may have; whoever needs a moment for longer takes what it needs before it waits.
 */
export interface View {
  /** Of the newest commit in it. Grows with every commit, not always by one. */
  readonly revision: number;
  readonly clusters: TableView<Cluster>;
  readonly services: TableView<Service>;
  readonly revisions: TableView<Revision>;
  readonly tasks: TableView<Task>;
  readonly nodes: TableView<Node>;
  readonly rollouts: TableView<Rollout>;
  serviceByName(name: string): Service | undefined;
  /** In no order. */
  tasksOfService(serviceId: string): Iterable<Task>;
  /** In no order. */
  tasksOfNode(nodeId: string): Iterable<Task>;
  /** By number, ascending. */
  revisionsOfService(serviceId: string): Revision[];
  revisionOfService(serviceId: string, number: number): Revision | undefined;
}

/** A view that sees its own writes. Everything happens at `update`'s end, or nothing does. */
export interface Transaction extends View {
  /** `already_exists` when the id is taken. `meta.version` is ignored. */
  create<K extends Table>(table: K, object: Objects[K]): void;
  /** `conflict` unless `meta.version` is that of the object now there. */
  put<K extends Table>(table: K, object: Objects[K]): void;
  /** `not_found` when it is not there. */
  remove(table: Table, id: string): void;
}

export type Change = {
  [K in Table]: {
    table: K;
    /** Absent when it was created. */
    before: Objects[K] | undefined;
    /** Absent when it was removed. */
    after: Objects[K] | undefined;
  };
}[Table];

/** What one commit changed. */
export interface Commit {
  revision: number;
  changes: readonly Change[];
}

/** The most writes that one transaction may make; etcd's default limit is 128 operations. More throws `resource_exhausted`. */
export const writesPerTransactionMax = 100;

export interface Store extends AsyncDisposable {
  /** "raft", "etcd" or "memory". */
  readonly engine: string;
  /** Whether reads are current and writes can be made; if not, why, in words. */
  health(): { ready: boolean; message: string };
  view(): View;
  /**
   * Runs `fn` on the newest view and commits its writes atomically. `fn` is synchronous, has no other effects, and
   * may run again when somebody else wrote in between; the answer is that of the run which was committed. Once
   * resolved, `view()` shows the writes. Concurrent updates are committed together where they fit.
   * Only where this manager leads; `not_leader` elsewhere, with the leader's address in details.leader.
   * Rejects with what `fn` threw; `conflict` after too many reruns; `unavailable` when the write was not made for
   * lack of a quorum or connection; `unknown_outcome` when it may or may not have been made (it is read back first).
   */
  update<R>(fn: (tx: Transaction) => R): Promise<R>;
  /** Calls back after each commit is in the view, in order. Must not throw. Returns how to stop it. */
  subscribe(listener: (commit: Commit) => void): () => void;
  /**
   * The commits after `afterRevision`, in order, and then the new ones; when very many readers wait, several commits
   * may come as one. `resync_required` when they are no longer remembered or the reader is too slow.
   */
  watch(afterRevision: number): AsyncIterable<Commit>;
  /**
   * Resolves once the view shows every write that was acknowledged anywhere before the call: what is read then is
   * current. Calls that come together share one question. `unavailable` when no quorum answers in time.
   */
  barrier(signal?: AbortSignal): Promise<void>;
  /** Resolves when the view is loaded and current; on the leader, writes can then be made. */
  ready(signal?: AbortSignal): Promise<void>;
}
