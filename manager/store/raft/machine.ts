// The replicated state: every manager applies the same transactions in the order of the log, and so goes through the
// same states. A transaction names the revision that it was decided on and is refused at any other.
//
// Why a leader never decides on a state that lacks something: its updates run only while it has a tenure, which begins
// when the first entry of its term is applied. Entries of earlier terms that will ever be committed precede that entry
// in the log, so they are applied here by then; those of its own term are its own, proposed one at a time, each after
// the one before was applied. A transaction of an earlier leader that comes into the log late does so before the new
// leader's first entry, and so before anything that the new leader decided. The revision in the transaction is a
// second, cheap proof of the same: were any of this ever broken, the transaction would change nothing anywhere.

import type { Clock } from "../../../lib/mod.js";
import { messageOf } from "../../../lib/mod.js";
import { StoreTransaction, type StoreWrite } from "../../../proto/gen/flotilla/raft/v1/raft.js";
import { type Table, tables } from "../../../proto/mod.js";
import { type Stored, asBuffer, exportChunks, isTable, readChunks } from "../chunks.js";
import { type EncodedWrite, decodeObject } from "../committer.js";
import type { History } from "../history.js";
import type { Change } from "../store.js";
import { LiveView, tablesOf } from "../view.js";

/** Of one transaction, wherever it was proposed. */
export interface Applied {
  /** False when it was decided on another revision than the one it came upon: then it has changed nothing. */
  committed: boolean;
}

/** A transaction that this manager proposed, and what became of it. */
export interface Expected {
  readonly term: number;
  readonly number: number;
  outcome: Applied | undefined;
  /** A snapshot took the place of entries, and its own may have been among them: what became of it is not told any more. */
  skipped: boolean;
}

export class RaftMachine {
  readonly view = new LiveView();
  readonly #history: History;
  readonly #clock: Clock;
  readonly #expected = new Set<Expected>();

  constructor(history: History, clock: Clock) {
    this.#history = history;
    this.#clock = clock;
  }

  /** Notes what becomes of a transaction of this manager, until `forget`. */
  expect(term: number, number: number): Expected {
    const expected: Expected = { term, number, outcome: undefined, skipped: false };
    this.#expected.add(expected);
    return expected;
  }

  forget(expected: Expected): void {
    this.#expected.delete(expected);
  }

  apply({ index, term, data }: { index: number; term: number; data: Uint8Array }): Applied {
    const { baseRevision, number, writes } = decodeTransaction(index, data);
    const applied: Applied = { committed: baseRevision === this.view.revision };
    if (applied.committed) {
      const revision = this.view.revision + 1;
      const changes = writes.map((write) => this.#change(index, write, revision));
      const commit = { revision, changes };
      this.view.apply(commit);
      this.#history.add(commit);
    }
    for (const expected of this.#expected)
      if (expected.term === term && expected.number === number) expected.outcome = applied;
    return applied;
  }

  snapshot(): Iterable<Uint8Array> {
    return exportChunks(this.view);
  }

  /**
   * Becomes what the chunks hold, at once when all are read. Nothing else is applied meanwhile. Subscribers hear what
   * differs as one commit; objects that are the same stay the same; watches start again.
   */
  async restore(chunks: AsyncIterable<Uint8Array>): Promise<void> {
    const fresh = new LiveView();
    const changes: Change[] = [];
    const revision = await readChunks(chunks, this.#clock, (stored) => this.#take(fresh, stored, changes));
    for (const table of tables)
      for (const { meta } of tablesOf(this.view)[table].values())
        if (tablesOf(fresh)[table].get(meta.id) === undefined)
          changes.push(this.view.changeTo(table, meta.id, undefined));
    fresh.apply({ revision, changes: [] });
    this.view.takeOver(fresh);
    for (const expected of this.#expected) expected.skipped = true;
    this.#history.cut({ revision, changes });
  }

  /** Puts a restored object, or the same one that is here already, into the fresh view. */
  #take(fresh: LiveView, { table, object, version }: Stored, changes: Change[]): void {
    const { id } = object.meta;
    const here = tablesOf(this.view)[table].get(id);
    const same = here?.meta.version === version;
    if (!same) changes.push(this.view.changeTo(table, id, object));
    fresh.apply({ revision: version, changes: [fresh.changeTo(table, id, same ? here : object)] });
  }

  #change(index: number, { table, id, object }: StoreWrite, revision: number): Change {
    if (!isTable(table)) throw new Error(`entry ${index}: it writes the table ${JSON.stringify(table)}, unknown here`);
    return this.#changeTo(table, id, object, revision);
  }

  #changeTo(table: Table, id: string, bytes: Uint8Array | undefined, revision: number): Change {
    return this.view.changeTo(table, id, bytes === undefined ? undefined : decodeObject(table, bytes, revision));
  }
}

export function encodeTransaction(
  writes: readonly EncodedWrite[],
  base: { baseRevision: number; number: number },
): Uint8Array {
  return StoreTransaction.encode({
    ...base,
    writes: writes.map(({ table, id, bytes }) => ({
      table,
      id,
      object: bytes === undefined ? undefined : asBuffer(bytes),
    })),
  }).finish();
}

// What is in the log was agreed upon: a manager that cannot read it must stop rather than go on as if it were not there.
function decodeTransaction(index: number, data: Uint8Array): StoreTransaction {
  try {
    return StoreTransaction.decode(data);
  } catch (error) {
    throw new Error(`entry ${index}: it is no transaction that this version can read (${messageOf(error)})`, {
      cause: error,
    });
  }
}
