// What the managers' log is applied to: the membership, and the embedded store if this cluster has one.

import type { ConfState, SnapshotMeta } from "raft-ts";
import type { StateMachine } from "raft-ts/node";
import { ClusterError } from "../../lib/mod.js";
import type { StoreMachine } from "./consensus.js";
import type { Members } from "./members.js";

export class Machine implements StateMachine {
  readonly #members: Members;
  readonly #store: StoreMachine | undefined;
  readonly #onChange: () => void;

  constructor(members: Members, store: StoreMachine | undefined, onChange: () => void) {
    this.#members = members;
    this.#store = store;
    this.#onChange = onChange;
  }

  apply(entry: { index: number; term: number; data: Uint8Array }): unknown {
    // Only the embedded store proposes entries with data; a log with them belongs to a cluster that has one.
    if (this.#store === undefined)
      throw new ClusterError(
        "failed_precondition",
        `entry ${entry.index} of the log is one of the embedded store, and this cluster's store is etcd`,
      );
    return this.#store.apply(entry);
  }

  configured(_index: number, confState: ConfState, context: Uint8Array): void {
    this.#members.configured(confState, context);
    this.#onChange();
  }

  snapshot(): Iterable<Uint8Array> {
    // Both are taken now, while nothing else is applied; the store encodes its own as they are read.
    const header = this.#members.header();
    const store = this.#store?.snapshot() ?? [];
    return (function* () {
      yield header;
      yield* store;
    })();
  }

  async restore(chunks: AsyncIterable<Uint8Array>, meta: SnapshotMeta): Promise<void> {
    const source = chunks[Symbol.asyncIterator]();
    const first = await source.next();
    if (first.done === true) throw new ClusterError("failed_precondition", "the snapshot has no header");
    const rest: AsyncIterable<Uint8Array> = { [Symbol.asyncIterator]: () => source };
    if (this.#store === undefined) for await (const _ of rest);
    else await this.#store.restore(rest);
    this.#members.restore(first.value, meta.confState);
    this.#onChange();
  }
}
