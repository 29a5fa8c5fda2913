// All objects as chunks: how the embedded store's snapshots and the backups of any engine hold them.

import { type Clock, ClusterError, messageOf, sleep } from "../../lib/mod.js";
import { StoreChunk, type StoredObject } from "../../proto/gen/flotilla/raft/v1/raft.js";
import { type Objects, type Table, tables } from "../../proto/mod.js";
import { bytesPerTransactionMax, decodeObject, encodeObject, overheadPerWrite } from "./committer.js";
import { type Store, type Transaction, type View, writesPerTransactionMax } from "./store.js";
import { tablesOf } from "./view.js";

/** A chunk is closed once it has this many bytes: encoding or reading one holds the event loop for some 5 ms. */
const chunkBytes = 256 * 1_024;
/** The most that a chunk may have; an object, which is smaller than a transaction may be, fits in any case. */
export const chunkBytesMax = bytesPerTransactionMax;
/** Beside an object's bytes: table, version and framing. */
const framingBytes = 64;
/** How long reading chunks may hold the event loop. */
const sliceMs = 8;
/** Objects between two looks at the clock. */
const objectsPerLook = 64;

/** An object and where it belongs. */
export type Stored = {
  [K in Table]: { table: K; version: number; object: Objects[K] };
}[Table];

const tableNames: ReadonlySet<string> = new Set(tables);

/**
 * The view as it is at the call. References only are taken then, for objects are never changed in place; the chunks
 * are encoded as they are asked for. There is at least one.
 */
export function exportChunks(view: View): Iterable<Uint8Array> {
  const { revision } = view;
  const taken = tables.map((table) => ({ table, objects: [...tablesOf(view)[table].values()] }));
  return encodeChunks(revision, taken);
}

function* encodeChunks(
  revision: number,
  taken: readonly { table: Table; objects: readonly Objects[Table][] }[],
): Generator<Uint8Array, void, undefined> {
  let objects: StoredObject[] = [];
  let bytes = framingBytes;
  let chunks = 0;
  for (const { table, objects: ofTable } of taken)
    for (const object of ofTable) {
      const encoded = asBuffer(encodeObject(table, object));
      const size = encoded.length + framingBytes;
      if (objects.length > 0 && bytes + size > chunkBytes) {
        yield StoreChunk.encode({ revision, objects }).finish();
        chunks += 1;
        objects = [];
        bytes = framingBytes;
      }
      objects.push({ table, object: encoded, version: object.meta.version });
      bytes += size;
    }
  if (objects.length > 0 || chunks === 0) yield StoreChunk.encode({ revision, objects }).finish();
}

/**
 * Gives `take` every object of the chunks, a slice of time after another, and resolves with the revision that they
 * are of. `failed_precondition` when they are not what exportChunks made.
 */
export async function readChunks(
  chunks: AsyncIterable<Uint8Array>,
  clock: Clock,
  take: (stored: Stored) => void,
): Promise<number> {
  let revision: number | undefined;
  let startedMs = clock.monotonic();
  let sinceLook = 0;
  for await (const bytes of chunks) {
    const chunk = decodeChunk(bytes);
    revision ??= chunk.revision;
    if (chunk.revision !== revision)
      throw damaged(`has chunks of different revisions, ${revision} and ${chunk.revision}`);
    for (const stored of chunk.objects) {
      take(decodeStored(stored));
      sinceLook += 1;
      if (sinceLook < objectsPerLook) continue;
      sinceLook = 0;
      if (clock.monotonic() - startedMs < sliceMs) continue;
      await sleep(clock, 0);
      startedMs = clock.monotonic();
    }
  }
  if (revision === undefined) throw damaged("has no chunk");
  return revision;
}

/**
 * Puts the objects of a backup into a store that has none, whatever its engine, and resolves with how many there are.
 * Not atomic: after a failure the store holds a part, and is to be emptied before another attempt.
 */
export async function importChunks(store: Store, chunks: AsyncIterable<Uint8Array>, clock: Clock): Promise<number> {
  await store.barrier();
  const view = tablesOf(store.view());
  const there = tables.filter((table) => view[table].size > 0);
  if (there.length > 0)
    throw new ClusterError(
      "failed_precondition",
      `the store is not empty (it has ${there.join(", ")}): restore a backup into a new cluster only`,
    );
  // Read whole before anything is written: a damaged backup leaves no trace.
  const all: Stored[] = [];
  await readChunks(chunks, clock, (stored) => all.push(stored));
  let batch: Stored[] = [];
  let bytes = 0;
  for (const stored of all) {
    const size = encodeObject(stored.table, stored.object).length + overheadPerWrite;
    if (batch.length === writesPerTransactionMax || (batch.length > 0 && bytes + size > bytesPerTransactionMax)) {
      await createAll(store, batch);
      batch = [];
      bytes = 0;
    }
    batch.push(stored);
    bytes += size;
  }
  await createAll(store, batch);
  return all.length;
}

async function createAll(store: Store, batch: readonly Stored[]): Promise<void> {
  await store.update((tx) => {
    for (const stored of batch) create(tx, stored);
  });
}

function create<K extends Table>(tx: Transaction, { table, object }: { table: K; object: Objects[K] }): void {
  tx.create(table, object);
}

function decodeChunk(bytes: Uint8Array): StoreChunk {
  try {
    return StoreChunk.decode(bytes);
  } catch (error) {
    throw damaged(`has a chunk that cannot be read (${messageOf(error)})`);
  }
}

function decodeStored({ table, object, version }: StoredObject): Stored {
  if (!isTable(table))
    throw damaged(`has an object of the table ${JSON.stringify(table)}, which this version does not know`);
  try {
    // Table and object belong together, which the compiler cannot follow through the union.
    return { table, version, object: decodeObject(table, object, version) } as Stored;
  } catch (error) {
    throw damaged(`has an object of ${table} that cannot be read (${messageOf(error)})`);
  }
}

export function isTable(name: string): name is Table {
  return tableNames.has(name);
}

export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function damaged(what: string): ClusterError {
  return new ClusterError("failed_precondition", `what the store is to become ${what}`);
}
