// Group commit: updates that arrive while a transaction is under way are run one after another, each seeing what
// those before it wrote, and committed together as one. An update never straddles two transactions, and nobody is
// answered before the group is durable: not even those that threw, for they may have thrown at another's writes.

import { type Clock, ClusterError, toClusterError } from "../../lib/mod.js";
import { type Objects, type Table, codecs } from "../../proto/mod.js";
import { type Transaction, type View, writesPerTransactionMax } from "./store.js";
import { Layer, type Write } from "./transaction.js";

/** Most bytes of objects in one transaction; etcd refuses requests beyond 1.5 MiB. */
export const bytesPerTransactionMax = 1_048_576;
/** Most updates that wait; more are refused, which slows down whoever makes them. */
const queueMax = 10_000;
/** Most updates run in one group, and the time from which on no more are: bounds how long the event loop is held. */
const groupMax = 256;
const groupMsMax = 10;
/** Most runs of one update before it is given up as a conflict. */
const runsMax = 16;
/** From this run on an update goes alone, so that one that keeps conflicting holds nobody back. */
const runsTogetherMax = 2;
/** Counted for each object besides its bytes: key, compare and framing. */
export const overheadPerWrite = 256;

/** A write and what goes into the engine; `bytes` is undefined when the object goes. */
export type EncodedWrite = Write & { bytes: Uint8Array | undefined };

export interface Backend {
  /** Most writes in one transaction, of all its updates together; at least, and without it, `writesPerTransactionMax`. */
  writesMax?: number;
  /** Without it, time does not bound a group. */
  clock?: Clock;
  /** Resolves when transactions can be made; throws why they cannot within reasonable time. */
  writable(): Promise<void>;
  /**
   * Commits all writes or none, against the view as it is at the call, and resolves once the view shows them: true.
   * False when somebody else wrote one of the objects in between, once the view shows that.
   */
  commit(writes: readonly EncodedWrite[]): Promise<boolean>;
}

interface Pending {
  run: (tx: Transaction) => unknown;
  resolve: (answer: unknown) => void;
  reject: (error: unknown) => void;
  runs: number;
}

/** What a run in a group came to; told to its caller when the group is committed. */
type Outcome = { pending: Pending; writes: boolean } & ({ answer: unknown } | { error: unknown });

export class Committer {
  readonly #view: View;
  readonly #backend: Backend;
  #queue: Pending[] = [];
  #working: Promise<void> | undefined;
  #closed = false;
  #provisional = Number.MAX_SAFE_INTEGER;

  constructor(view: View, backend: Backend) {
    this.#view = view;
    this.#backend = backend;
  }

  update<R>(fn: (tx: Transaction) => R): Promise<R> {
    return new Promise<R>((resolve, reject) => {
      if (this.#closed) {
        reject(closedError());
      } else if (this.#queue.length >= queueMax) {
        reject(new ClusterError("resource_exhausted", `the store has ${queueMax} updates waiting: try again later`));
      } else {
        // The answer is what `fn` returned: R.
        this.#queue.push({ run: fn, resolve: (answer) => resolve(answer as R), reject, runs: 0 });
        this.#working ??= this.#work();
      }
    });
  }

  /** Refuses what waits; what is under way is answered, and then this resolves. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#refuseQueue(closedError());
    await this.#working;
  }

  async #work(): Promise<void> {
    // One turn later, so that updates made in the same turn are one group.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      try {
        // In turn, not at once: a group sees what the one before it wrote.
        await this.#backend.writable();
      } catch (error) {
        this.#refuseQueue(error);
        break;
      }
      await this.#commitGroup();
    }
    this.#working = undefined;
  }

  #refuseQueue(error: unknown): void {
    const refused = this.#queue;
    this.#queue = [];
    for (const { reject } of refused) reject(error);
  }

  async #commitGroup(): Promise<void> {
    const group = new Layer(this.#view);
    const encoded = new Map<string, EncodedWrite>();
    const outcomes: Outcome[] = [];
    const writesMax = this.#backend.writesMax ?? writesPerTransactionMax;
    const untilMs = (this.#backend.clock?.monotonic() ?? 0) + groupMsMax;
    let bytes = 0;
    let taken = 0;
    while (taken < this.#queue.length && outcomes.length < groupMax) {
      const pending = this.#queue[taken];
      if (pending === undefined) break;
      const alone = pending.runs >= runsTogetherMax;
      if (alone && outcomes.length > 0) break;
      // What is written is also decoded and applied in one turn, everywhere: two short groups rather than a long one.
      if (outcomes.length > 0 && (this.#backend.clock?.monotonic() ?? 0) >= untilMs) break;
      const { outcome, writes } = this.#run(pending, group);
      const grown = grownBy(encoded, writes);
      const bytesThen = bytes + grown.bytes;
      const fits = bytesThen <= bytesPerTransactionMax && encoded.size + grown.count <= writesMax;
      // What does not fit here is run again in the next group; what does not fit alone never will.
      if (!fits && encoded.size > 0) break;
      taken += 1;
      if (!fits) {
        outcomes.push({
          pending,
          writes: false,
          error: new ClusterError(
            "resource_exhausted",
            `a transaction may write at most ${bytesPerTransactionMax} bytes, this one has ${bytesThen}: split the work into several`,
          ),
        });
        continue;
      }
      pending.runs += 1;
      outcomes.push(outcome);
      for (const write of writes) {
        absorb(group, write, this.#provisional);
        encoded.set(keyOf(write), write);
      }
      // Each update's writes get a version of their own that no commit ever has: whoever holds an older version and
      // comes later in the group is in conflict, as it would be in a transaction of its own.
      if (writes.length > 0) this.#provisional -= 1;
      bytes = bytesThen;
      if (alone || bytes >= bytesPerTransactionMax) break;
    }
    this.#queue.splice(0, taken);
    // An object created and removed within the group leaves nothing to write.
    const remaining = new Set(group.writes().map(keyOf));
    await this.#settle(
      outcomes,
      [...encoded.values()].filter((write) => remaining.has(keyOf(write))),
    );
  }

  #run(pending: Pending, group: Layer): { outcome: Outcome; writes: EncodedWrite[] } {
    const layer = new Layer(group);
    try {
      const answer = pending.run(layer);
      layer.end();
      if (isThenable(answer))
        throw new Error("a transaction's function must be synchronous: wait before or after the update");
      const writes = layer.writes().map(encode);
      return { outcome: { pending, writes: writes.length > 0, answer }, writes };
    } catch (error) {
      layer.end();
      return { outcome: { pending, writes: false, error }, writes: [] };
    }
  }

  async #settle(outcomes: readonly Outcome[], writes: readonly EncodedWrite[]): Promise<void> {
    let committed: boolean;
    try {
      committed = writes.length === 0 || (await this.#backend.commit(writes));
    } catch (thrown) {
      const error = toClusterError(thrown);
      for (const { pending, writes: wrote } of outcomes) {
        // Whoever wrote nothing has nothing unknown about it, but saw what may not be.
        if (wrote || error.code !== "unknown_outcome") pending.reject(error);
        else pending.reject(new ClusterError("unavailable", error.message, { cause: error }));
      }
      return;
    }
    if (committed) {
      for (const outcome of outcomes) {
        if ("error" in outcome) outcome.pending.reject(outcome.error);
        else outcome.pending.resolve(outcome.answer);
      }
      return;
    }
    const again: Pending[] = [];
    for (const { pending } of outcomes) {
      if (this.#closed) pending.reject(closedError());
      else if (pending.runs < runsMax) again.push(pending);
      else
        pending.reject(
          new ClusterError("conflict", `others wrote the same objects ${runsMax} times in between: try again later`),
        );
    }
    this.#queue.unshift(...again);
  }
}

function closedError(): ClusterError {
  return new ClusterError("unavailable", "the store is closed");
}

function isThenable(value: unknown): boolean {
  return typeof value === "object" && value !== null && "then" in value && typeof value.then === "function";
}

function keyOf({ table, id }: { table: Table; id: string }): string {
  return `${table}/${id}`;
}

function encode(write: Write): EncodedWrite {
  return { ...write, bytes: encodeAfter(write) };
}

function encodeAfter<K extends Table>(write: { table: K; after: Objects[K] | undefined }): Uint8Array | undefined {
  return write.after === undefined ? undefined : encodeObject(write.table, write.after);
}

/** The stored bytes; the version is the engine's to know. */
export function encodeObject<K extends Table>(table: K, object: Objects[K]): Uint8Array {
  return codecs[table].encode({ ...object, meta: { ...object.meta, version: 0 } });
}

/** An object from its stored bytes: what every reader of the store sees, and nobody else holds. */
export function decodeObject<K extends Table>(table: K, bytes: Uint8Array, version: number): Objects[K] {
  const object = codecs[table].decode(bytes);
  // Only a foreign writer could leave it out; proto/mod.ts promises that it is there.
  if ((object.meta as Objects[K]["meta"] | undefined) === undefined)
    throw new ClusterError("internal", `${table}: the stored object has no meta`);
  object.meta.version = version;
  dropEmptyUnknownFields(object);
  return object;
}

/**
 * The generated code gives every message an object for fields that this version does not know. Nearly all are empty:
 * with 100,000 tasks that would be memory for nothing. Those with something in them stay and are written back.
 */
function dropEmptyUnknownFields(value: object): void {
  // With for-in, which needs no list of what it goes through: this runs for every message of every write.
  const parts = value as Record<string, unknown>;
  for (const name in parts) {
    const part = parts[name];
    if (typeof part !== "object" || part === null || ArrayBuffer.isView(part)) continue;
    if (name !== "_unknownFields") dropEmptyUnknownFields(part);
    else if (isEmpty(part)) parts[name] = undefined;
  }
}

function isEmpty(value: object): boolean {
  for (const _ in value) return false;
  return true;
}

function absorb(group: Layer, write: EncodedWrite, version: number): void {
  if (write.bytes === undefined) group.absorb(write.table, write.id, undefined);
  else group.absorb(write.table, write.id, decodeObject(write.table, write.bytes, version));
}

/** By how much a transaction grows with more writes, of objects that it may have written already. */
function grownBy(
  encoded: ReadonlyMap<string, EncodedWrite>,
  more: readonly EncodedWrite[],
): { bytes: number; count: number } {
  let bytes = 0;
  let count = 0;
  for (const write of more) {
    const replaced = encoded.get(keyOf(write));
    bytes += sizeOf(write) - (replaced === undefined ? 0 : sizeOf(replaced));
    if (replaced === undefined) count += 1;
  }
  return { bytes, count };
}

function sizeOf({ bytes }: EncodedWrite): number {
  return (bytes?.length ?? 0) + overheadPerWrite;
}
