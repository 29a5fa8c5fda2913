// Snapshots' contents, one file each: snapshot-<index>-<term>. A file has its name only once all of it is durable.
//
// Frames of 12 bytes and their data: kind ("HEAD", "DATA", "TAIL"), bytes of data, CRC-32C over both and the data,
// begun with the CRC of the frame before, so that no frame can be left out, doubled or moved. Little-endian. HEAD holds
// the format's version and the SnapshotMeta; TAIL, which ends the file, the number of chunks and of their bytes.

import { join } from "node:path";
import type { SnapshotMeta } from "../core/mod.js";
import { crc32c } from "../wal/crc.js";
import { ByteReader, ByteWriter, readSnapshotMeta, writeSnapshotMeta } from "../wire/mod.js";
import {
  call,
  DiskError,
  errorCode,
  type FileSystem,
  isFull,
  realFileSystem,
  syncDirectory,
  writeFully,
} from "./file-system.js";

/** Why a snapshot's contents could not be read; failures of the disk itself are DiskErrors. */
export class SnapshotError extends Error {
  override name = "SnapshotError";
  readonly code: "damaged" | "missing";
  /** What is wrong, without the advice that the message ends with. */
  readonly problem: string;

  constructor(code: SnapshotError["code"], problem: string, options?: ErrorOptions & { fix?: string }) {
    super(options?.fix === undefined ? problem : `${problem}. ${options.fix}`, options);
    this.code = code;
    this.problem = problem;
  }
}

export interface SnapshotPlace {
  index: number;
  term: number;
}

const formatVersion = 1;
const kinds = { head: 0x4441_4548, data: 0x4154_4144, tail: 0x4c49_4154 };
const frameHeaderBytes = 12;
/** What a chunk may have at most, so that a damaged length cannot ask for all the memory. */
export const chunkBytesMax = 64 * 1024 * 1024;
/** Synced this often, so that no large flush delays the log's syncs. */
const bytesPerSync = 8 * 1024 * 1024;

const digits = 16;
const fileName = /^snapshot-(\d{16})-(\d{16})$/;
const temporaryName = /^snapshot-\d{16}-\d{16}\.tmp-\d+$/;

export class SnapshotFiles {
  readonly #directory: string;
  readonly #fs: FileSystem;
  readonly #whole = new Map<string, SnapshotPlace>();
  #temporary = 0;

  private constructor(directory: string, fs: FileSystem) {
    this.#directory = directory;
    this.#fs = fs;
  }

  /**
   * Only the holder of the directory's lock may: what crashes left half written is removed. Call `keep` once it is
   * known on which snapshot the log stands.
   */
  static open(directory: string, fs: FileSystem = realFileSystem): SnapshotFiles {
    const files = new SnapshotFiles(directory, fs);
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
    for (const name of fs.readdirSync(directory)) {
      const match = fileName.exec(name);
      if (match !== null) files.#whole.set(name, { index: Number(match[1]), term: Number(match[2]) });
      else if (temporaryName.test(name)) files.#remove(name);
    }
    return files;
  }

  /** Oldest first. */
  list(): SnapshotPlace[] {
    return [...this.#whole.values()].sort((a, b) => a.index - b.index || a.term - b.term);
  }

  has(place: SnapshotPlace): boolean {
    return this.#whole.has(nameOf(place));
  }

  /**
   * Durable when it resolves, unless `full` says that there was no room. Then, and when it rejects with a DiskError, the
   * signal's reason or what the chunks threw, nothing of it is left and all others are as before.
   */
  async write(
    meta: SnapshotMeta,
    chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
    signal?: AbortSignal,
  ): Promise<{ full?: string }> {
    signal?.throwIfAborted();
    const name = nameOf(meta);
    const temporary = `${name}.tmp-${++this.#temporary}`;
    let fd: number | undefined;
    try {
      fd = this.#guard("create", temporary, () => this.#fs.openSync(this.#path(temporary), "wx", 0o600));
      await this.#fill(fd, temporary, meta, chunks, signal);
      const done = fd;
      fd = undefined;
      this.#guard("close", temporary, () => this.#fs.closeSync(done));
      this.#guard("rename", temporary, () => this.#fs.renameSync(this.#path(temporary), this.#path(name)));
    } catch (error) {
      if (fd !== undefined) this.#fs.closeSync(fd);
      this.#remove(temporary);
      if (error instanceof DiskError && isFull(error.code)) {
        return { full: `${error.code}: no room for ${this.#path(name)}; the older snapshot and the log stay` };
      }
      throw error;
    }
    this.#guard("sync", name, () => syncDirectory(this.#fs, this.#directory));
    this.#whole.set(name, { index: meta.index, term: meta.term });
    return {};
  }

  async #fill(
    fd: number,
    file: string,
    meta: SnapshotMeta,
    chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    let at = 0;
    let crc = 0;
    let unsynced = 0;
    let count = 0;
    let total = 0;
    const put = async (kind: number, data: Uint8Array): Promise<void> => {
      const head = frameHeader(kind, data, crc);
      crc = head.crc;
      await this.#later("write", file, writeFully(this.#fs, fd, [head.bytes, data], at));
      at += frameHeaderBytes + data.length;
      unsynced += data.length;
    };
    const sync = () =>
      this.#later(
        "fdatasync",
        file,
        call<void>((done) => this.#fs.fdatasync(fd, done)),
      );
    const head = new ByteWriter().number(formatVersion);
    writeSnapshotMeta(head, meta);
    await put(kinds.head, head.end());
    // Each chunk is made only when the one before has been written, which is left to the thread pool: the event loop
    // has its turn in between.
    for await (const chunk of chunks) {
      signal?.throwIfAborted();
      if (chunk.length > chunkBytesMax) {
        throw new RangeError(`a snapshot's chunk has ${chunk.length} bytes; at most ${chunkBytesMax} are allowed`);
      }
      await put(kinds.data, chunk);
      count++;
      total += chunk.length;
      if (unsynced >= bytesPerSync) {
        unsynced = 0;
        await sync();
      }
    }
    signal?.throwIfAborted();
    await put(kinds.tail, new ByteWriter().number(count).number(total).end());
    await sync();
  }

  /**
   * The chunks as they were given; each is verified before it is handed out, the whole when the end is reached. A
   * SnapshotError "damaged" or "missing" says what is wrong. Goes on although the file is removed meanwhile.
   */
  async *read(place: SnapshotPlace): AsyncGenerator<Uint8Array, void, void> {
    const name = nameOf(place);
    const fd = this.#openToRead(name);
    try {
      const frames = this.#frames(fd, name);
      let count = 0;
      let total = 0;
      for await (const { kind, data } of frames) {
        if (kind === kinds.data) {
          count++;
          total += data.length;
          yield data;
        } else if (kind === kinds.head) {
          const meta = this.#meta(name, data);
          if (meta.index !== place.index || meta.term !== place.term) {
            throw this.#damaged(name, 0, `it is the snapshot of index ${meta.index}, term ${meta.term}`);
          }
        } else {
          const tail = new ByteReader(data, "snapshot's end");
          if (tail.number("chunks") !== count || tail.number("bytes") !== total) {
            throw this.#damaged(name, 0, `its end does not count its ${count} chunks of ${total} bytes`);
          }
        }
      }
    } finally {
      this.#fs.closeSync(fd);
    }
  }

  /** What the file itself says that it is. */
  async meta(place: SnapshotPlace): Promise<SnapshotMeta> {
    const name = nameOf(place);
    const fd = this.#openToRead(name);
    try {
      for await (const { data } of this.#frames(fd, name)) return this.#meta(name, data);
      throw this.#damaged(name, 0, "it is empty");
    } finally {
      this.#fs.closeSync(fd);
    }
  }

  /**
   * The log's durable marker is at `current`: that one and the newest before it stay, older ones go. At a start also
   * `newer` ones go, which a crash left without a marker; later they may be about to be installed.
   */
  keep(current: SnapshotPlace | undefined, options: { removeNewer: boolean } = { removeNewer: false }): void {
    const index = current?.index ?? 0;
    const own = current === undefined ? "" : nameOf(current);
    const others = this.list().filter((place) => nameOf(place) !== own);
    const older = others.filter((place) => place.index <= index);
    const newer = options.removeNewer ? others.filter((place) => place.index > index) : [];
    for (const place of [...older.slice(0, -1), ...newer]) this.#remove(nameOf(place));
  }

  /** Every frame in its order; ends after the tail, which must end the file. */
  async *#frames(fd: number, name: string): AsyncGenerator<{ kind: number; data: Uint8Array }, void, void> {
    let at = 0;
    let crc = 0;
    for (let kind = 0; kind !== kinds.tail; ) {
      const head = await this.#readAt(fd, name, at, frameHeaderBytes);
      if (head === undefined) throw this.#damaged(name, at, "it ends early");
      const view = new DataView(head.buffer, head.byteOffset, head.length);
      const before = kind;
      kind = view.getUint32(0, true);
      const bytes = view.getUint32(4, true);
      const inPlace = before === 0 ? kind === kinds.head : kind === kinds.data || kind === kinds.tail;
      if (!inPlace || bytes > chunkBytesMax) throw this.#damaged(name, at, "a frame's header is not one");
      const data = await this.#readAt(fd, name, at + frameHeaderBytes, bytes);
      if (data === undefined) throw this.#damaged(name, at, "it ends early");
      crc = crc32c(data, crc32c(head, crc, 0, 8));
      if (crc !== view.getUint32(8, true)) throw this.#damaged(name, at, "a checksum is wrong");
      at += frameHeaderBytes + bytes;
      if (kind === kinds.tail && (await this.#readAt(fd, name, at, 1)) !== undefined) {
        throw this.#damaged(name, at, "something follows its end");
      }
      yield { kind, data };
    }
  }

  #meta(name: string, data: Uint8Array): SnapshotMeta {
    const from = new ByteReader(data, "snapshot's head");
    const version = from.number("version");
    if (version !== formatVersion) {
      throw new SnapshotError(
        "damaged",
        `${this.#path(name)} is of format version ${version}; this release reads version ${formatVersion}: start the release that wrote it`,
      );
    }
    return readSnapshotMeta(from);
  }

  /** Undefined when the file ends before. */
  async #readAt(fd: number, name: string, at: number, bytes: number): Promise<Uint8Array | undefined> {
    const into = new Uint8Array(bytes);
    for (let have = 0; have < bytes; ) {
      const offset = have;
      const got = await this.#later(
        "read",
        name,
        call<number>((done) => this.#fs.read(fd, into, offset, bytes - offset, at + offset, done)),
      );
      if (got === 0) return undefined;
      have += got;
    }
    return into;
  }

  #openToRead(name: string): number {
    try {
      return this.#fs.openSync(this.#path(name), "r");
    } catch (error) {
      if (errorCode(error) !== "ENOENT") throw this.#failure("open", name, error);
      throw new SnapshotError("missing", `${this.#path(name)} is not there`, { cause: error });
    }
  }

  #remove(name: string): void {
    this.#whole.delete(name);
    try {
      this.#fs.unlinkSync(this.#path(name));
    } catch (error) {
      if (errorCode(error) !== "ENOENT") throw this.#failure("remove", name, error);
    }
  }

  #damaged(name: string, at: number, problem: string): SnapshotError {
    return new SnapshotError("damaged", `${this.#path(name)} is damaged at byte ${at}: ${problem}`, {
      fix:
        "Nothing of it may be used: remove this node from the cluster, wipe its directory, and let it join again, empty, " +
        "under a new id",
    });
  }

  #path(name: string): string {
    return join(this.#directory, name);
  }

  #guard<T>(operation: string, file: string, body: () => T): T {
    try {
      return body();
    } catch (error) {
      throw this.#failure(operation, file, error);
    }
  }

  async #later<T>(operation: string, file: string, running: Promise<T>): Promise<T> {
    try {
      return await running;
    } catch (error) {
      throw this.#failure(operation, file, error);
    }
  }

  #failure(operation: string, file: string, error: unknown): DiskError {
    return new DiskError(operation, this.#path(file), error);
  }
}

function nameOf({ index, term }: SnapshotPlace): string {
  return `snapshot-${String(index).padStart(digits, "0")}-${String(term).padStart(digits, "0")}`;
}

function frameHeader(kind: number, data: Uint8Array, previous: number): { bytes: Uint8Array; crc: number } {
  const bytes = new Uint8Array(frameHeaderBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, kind, true);
  view.setUint32(4, data.length, true);
  const crc = crc32c(data, crc32c(bytes, previous, 0, 8));
  view.setUint32(8, crc, true);
  return { bytes, crc };
}
