// The write-ahead log: what is to be kept comes in, changes to files come out as data, and the core reads what there is.
// Everything given is visible at once and durable when its ops were carried out.
//
// Op lists must be carried out in the order in which they were made, each `sync` before anything after it is begun:
// frames say what was synced before them, and recovery believes them. So syncs of several lists must not be merged.

import { emptyConfState } from "../core/conf-change.js";
import type { Storage } from "../core/storage.js";
import { type ConfState, type Entry, type HardState, RaftInvariantError, type SnapshotMeta } from "../core/types.js";
import type { Batch } from "../driver/host.js";
import type { DiskImage, DiskOp } from "./disk.js";
import { aligned, endOfData, frameBytes, frameKinds, headerBytes, makeFrame } from "./frame.js";
import { isLogFile, isSpare, nextFile, segmentFile, type SegmentState, spareFile, type Tail } from "./layout.js";
import { Log } from "./log.js";
import { encodeBatch, encodeSegment, type BatchRecord } from "./records.js";
import { read, type Refused, type SnapshotExists } from "./recovery.js";

export interface WalOptions {
  /** A multiple of eight; default 64 MiB. A larger batch makes its segment larger. */
  segmentBytes?: number;
  /** Entries that stay below a snapshot for followers that are behind; default 5,000. */
  keepEntries?: number;
  /** Bytes of their data at most; default no limit. */
  keepBytes?: number;
  /** Whether a segment is made ahead (see `spareWanted`); default true. */
  spare?: boolean;
}

export interface RecoveryOptions extends WalOptions {
  /** Whether the contents of this snapshot are there: a log that stands on one without contents is refused. */
  snapshotExists: SnapshotExists;
}

export type Recovery =
  | {
      wal: Wal;
      /** To be carried out before anything else. Can be cut off anywhere and begun again. */
      repairs: DiskOp[];
      /** In words, what was found and done; for the process's log. */
      notes: string[];
    }
  | { refusal: Refused };

/** Segments of this much are made when there is no spare and no room for one. */
const smallSegmentBytes = 64 * 1024;

export class Wal implements Storage {
  readonly #segmentBytes: number;
  readonly #keepEntries: number;
  readonly #keepBytes: number;
  readonly #useSpare: boolean;
  readonly #log: Log;
  /** Ascending, without gaps; the last is written to. */
  readonly #segments: SegmentState[];
  #tail: Tail;
  #spare: { state: "none" | "making" | "ready"; file: string } = { state: "none", file: "" };
  #diskFull: string | undefined;

  /** For `create` and `recover`. */
  private constructor(options: WalOptions, log: Log, segments: SegmentState[], tail: Tail) {
    this.#segmentBytes = options.segmentBytes ?? 64 * 1024 * 1024;
    this.#keepEntries = options.keepEntries ?? 5000;
    this.#keepBytes = options.keepBytes ?? Number.POSITIVE_INFINITY;
    this.#useSpare = options.spare ?? true;
    if (!Number.isSafeInteger(this.#segmentBytes) || this.#segmentBytes < 512 || this.#segmentBytes % 8 !== 0) {
      throw new RangeError(`segmentBytes is ${this.#segmentBytes}; it must be a multiple of 8 and at least 512`);
    }
    if (!Number.isSafeInteger(this.#keepEntries) || this.#keepEntries < 0) {
      throw new RangeError(`keepEntries is ${this.#keepEntries}; it must be an integer from 0 on`);
    }
    this.#log = log;
    this.#segments = segments;
    this.#tail = tail;
  }

  /** Whether `create` is the way in: nothing of a log that was in use. */
  static isEmpty(image: DiskImage): boolean {
    for (const file of image.keys()) {
      if (isLogFile(file) && !isSpare(file) && file !== nextFile) return false;
    }
    return true;
  }

  /**
   * A new log. With `bootstrap` it begins at index 0 with that configuration, the same on every member of the cluster;
   * without, it waits for a leader.
   */
  static create(options: WalOptions & { bootstrap?: ConfState } = {}): { wal: Wal; ops: DiskOp[] } {
    const nothing = { index: 0, term: 0 };
    const confState = options.bootstrap ?? emptyConfState;
    const log = new Log(nothing, { term: 0, vote: 0, commit: 0 }, { ...nothing, confState });
    const wal = new Wal(options, log, [], { at: 0, allocated: 0, crc: 0, syncedTo: 0 });
    return { wal, ops: wal.#begin([]) };
  }

  static recover(image: DiskImage, options: RecoveryOptions): Recovery {
    const found = read(image, options.snapshotExists);
    if ("refusal" in found) return found;
    const wal = new Wal(options, found.log, found.segments, found.tail);
    const repairs = found.repairs;
    for (const [file, bytes] of image) {
      if (!isSpare(file)) continue;
      const good = bytes.length === wal.#segmentBytes && endOfData(bytes, 0) === 0;
      // Under no other name: the one that is made while this one is being used must never be this one.
      if (wal.#useSpare && good && file === spareFile(wal.#current.sequence + 1)) {
        wal.#spare = { state: "ready", file };
        repairs.push({ op: "sync", file });
      } else {
        repairs.push({ op: "remove", file });
      }
    }
    if (image.has(nextFile)) repairs.push({ op: "remove", file: nextFile });
    repairs.push({ op: "sync-directory" });
    wal.#freeTail();
    repairs.push(...wal.#release());
    return { wal, repairs, notes: found.notes };
  }

  initialState(): { hardState: HardState; confState: ConfState } {
    return this.#log.initialState();
  }

  firstIndex(): number {
    return this.#log.firstIndex();
  }

  lastIndex(): number {
    return this.#log.lastIndex();
  }

  term(index: number): number | "compacted" | "unavailable" {
    return this.#log.term(index);
  }

  entries(low: number, high: number, bytesMax: number): readonly Entry[] | "compacted" | "unavailable" {
    return this.#log.entries(low, high, bytesMax);
  }

  snapshot(): SnapshotMeta | undefined {
    return this.#log.snapshot();
  }

  /** All of the batch comes back after a crash, or nothing of it. Throws a RaftInvariantError, then nothing changed. */
  append(batch: Batch): DiskOp[] {
    const { entries, hardState, snapshot: installed } = batch;
    if (entries.length === 0 && hardState === undefined && installed === undefined) {
      return batch.mustSync ? this.#sync() : [];
    }
    const change = {
      entries,
      ...(hardState === undefined ? {} : { hardState }),
      ...(installed === undefined ? {} : { installed }),
    };
    this.#log.check(change);
    const first = entries[0];
    return this.#write(
      { ...change, before: first === undefined ? this.#log.last : this.#beforeOf(first, installed) },
      () => {
        if (installed !== undefined) this.#log.install(installed);
        this.#log.append(entries);
        if (hardState !== undefined) this.#log.setHardState(hardState);
      },
      batch.mustSync,
    );
  }

  /**
   * The state up to `index` is in a snapshot whose contents are durable: to be called only then. Free the log with
   * `compact` once the ops are carried out, and remove older snapshots only after them.
   */
  createSnapshot(index: number, confState: ConfState): { snapshot: SnapshotMeta; ops: DiskOp[] } {
    const term = this.#log.term(index);
    const { commit } = this.#log.initialState().hardState;
    if (typeof term !== "number" || index > commit) {
      throw new RaftInvariantError(
        `no snapshot can be made at ${index}: the log has ${this.firstIndex()} … ${this.lastIndex()}, committed is ${commit}`,
      );
    }
    if (index <= this.#log.standsOn.index) {
      throw new RaftInvariantError(`a snapshot at ${this.#log.standsOn.index} is as new as one at ${index}`);
    }
    const snapshot = { index, term, confState };
    const ops = this.#write(
      { entries: [], before: this.#log.last, marker: snapshot },
      () => this.#log.mark(snapshot),
      true,
    );
    return { snapshot, ops };
  }

  /** Frees the entries up to `index`, default what `keepEntries` leaves, and the segments that hold nothing else. */
  compact(index?: number): DiskOp[] {
    if (index === undefined) {
      this.#freeTail();
    } else if (index >= this.firstIndex()) {
      this.#log.compact(index);
    }
    return this.#release();
  }

  /** Bytes of the segments on disk, without the spare. */
  get logBytes(): number {
    return (this.#segments.length - 1) * this.#segmentBytes + this.#tail.at;
  }

  /**
   * In words, that there is no room for the next segment; undefined is normal. Proposals are to be refused then: what
   * remains (`reserveBytes`) is for votes, hard states and snapshots' markers.
   */
  get diskFull(): string | undefined {
    return this.#diskFull;
  }

  /** What can be written before another segment is needed. */
  get reserveBytes(): number {
    return Math.max(0, this.#tail.allocated - this.#tail.at) + (this.#spare.state === "ready" ? this.#segmentBytes : 0);
  }

  /**
   * Ops that make the next segment, when there is none; they may be carried out beside all others, and are answered
   * by `spareMade` or `spareFailed`. Ask after each batch; while `diskFull`, after each compaction and every few
   * seconds.
   */
  spareWanted(): DiskOp[] | undefined {
    if (!this.#useSpare || this.#spare.state !== "none") return undefined;
    const file = spareFile(this.#current.sequence + 1);
    this.#spare = { state: "making", file };
    return [{ op: "create", file, bytes: this.#segmentBytes }, { op: "sync", file }, { op: "sync-directory" }];
  }

  spareMade(): void {
    this.#spare.state = "ready";
    this.#diskFull = undefined;
  }

  /** There was no room; the file must be gone. Any other failure of the disk is fatal. */
  spareFailed(reason: string): void {
    this.#spare.state = "none";
    this.#diskFull = reason;
  }

  #freeTail(): void {
    const upTo = this.#log.freeable(this.#keepEntries, this.#keepBytes);
    if (upTo >= this.firstIndex()) this.#log.compact(upTo);
  }

  /**
   * Oldest first, each removal durable before the next: a segment that is missing between others is taken for a loss.
   * The directory is synced only after the ops before, so that a marker is durable before what it replaces goes.
   */
  #release(): DiskOp[] {
    const ops: DiskOp[] = [];
    for (;;) {
      const [oldest, next] = this.#segments;
      if (oldest === undefined || next === undefined || next.lastBefore >= this.firstIndex()) return ops;
      this.#segments.shift();
      ops.push({ op: "remove", file: oldest.file }, { op: "sync-directory" });
    }
  }

  #beforeOf(first: Entry, installed: SnapshotMeta | undefined): { index: number; term: number } {
    const index = first.index - 1;
    const term = installed?.index === index ? installed.term : this.#log.term(index);
    if (typeof term !== "number") {
      throw new RaftInvariantError(`the term of entry ${index} is ${term}`);
    }
    return { index, term };
  }

  #write(record: BatchRecord, apply: () => void, mustSync: boolean): DiskOp[] {
    const { head, entries } = encodeBatch(record);
    let bodyBytes = head.length - headerBytes;
    for (const part of entries) bodyBytes += part.length;
    const ops: DiskOp[] = [];
    if (this.#tail.at + frameBytes(bodyBytes) > this.#tail.allocated) {
      this.#begin(ops);
    }
    apply();
    this.#frame(frameKinds.batch, head, entries, this.#current.file, ops);
    if (mustSync) ops.push(...this.#sync());
    return ops;
  }

  get #current(): SegmentState {
    const segment = this.#segments.at(-1);
    if (segment === undefined) throw new RaftInvariantError("the log has no segment");
    return segment;
  }

  #frame(kind: number, head: Uint8Array, rest: readonly Uint8Array[], file: string, ops: DiskOp[]): void {
    const { at, crc, syncedTo } = this.#tail;
    const frame = makeFrame({ kind, previousCrc: crc, sequence: this.#current.sequence, at, syncedTo }, head, rest);
    ops.push({ op: "write", file, at, parts: frame.parts });
    this.#tail.at = at + frame.bytes;
    this.#tail.crc = frame.crc;
  }

  #sync(): DiskOp[] {
    if (this.#tail.syncedTo === this.#tail.at) return [];
    this.#tail.syncedTo = this.#tail.at;
    return [{ op: "sync", file: this.#current.file }];
  }

  /**
   * The next segment. It gets its name only when its header is durable, and is used only when its name is; all before
   * is synced first: so only the last segment can ever be torn, and never its header.
   */
  #begin(ops: DiskOp[]): DiskOp[] {
    const before = this.#segments.at(-1);
    const previousEnd = this.#tail.at;
    if (before !== undefined) ops.push(...this.#sync());
    const last = this.#log.last;
    const sequence = (before?.sequence ?? 0) + 1;
    const file = segmentFile(sequence, last.index + 1);
    const hardState = this.#log.initialState().hardState;
    const record = { previousEnd, last, hardState, snapshot: this.#log.standsOn };
    let from = this.#spare.file;
    let allocated = this.#segmentBytes;
    if (this.#spare.state === "ready") {
      this.#spare.state = "none";
    } else {
      from = nextFile;
      if (this.#diskFull !== undefined) {
        const needed = aligned(encodeSegment({ ...record, allocated }).length);
        allocated = Math.min(allocated, Math.max(smallSegmentBytes, needed));
      }
      ops.push({ op: "create", file: from, bytes: allocated });
    }
    this.#segments.push({ file, sequence, lastBefore: last.index });
    this.#tail = { at: 0, allocated, crc: this.#tail.crc, syncedTo: 0 };
    this.#frame(frameKinds.segment, encodeSegment({ ...record, allocated }), [], from, ops);
    this.#tail.syncedTo = this.#tail.at;
    ops.push({ op: "sync", file: from }, { op: "rename", from, to: file }, { op: "sync-directory" });
    return ops;
  }
}
