// Reads what a crash left: all of the log, or all but a torn tail, or a refusal. README.md tells the rules.

import type { DiskImage, DiskOp } from "./disk.js";
import { endOfData, frameBytes, type FrameHeader, frameKinds, proofOfSync, readBody, readHeader } from "./frame.js";
import {
  backupCount,
  backupFile,
  backupsMax,
  isBackup,
  parseSegment,
  type SegmentName,
  type SegmentState,
  type Tail,
} from "./layout.js";
import { Log } from "./log.js";
import {
  type BatchRecord,
  decodeBatch,
  decodeSegment,
  formatVersion,
  type SegmentRecord,
  segmentVersion,
} from "./records.js";

export type SnapshotExists = (snapshot: { index: number; term: number }) => boolean;

export interface Refused {
  /** What is wrong, with file and offset. */
  reason: string;
  /** What to do about it. */
  fix: string;
  /** Whether this copy of the log is lost for good: the node has to join anew. */
  lost: boolean;
}

export interface Found {
  log: Log;
  segments: SegmentState[];
  tail: Tail;
  repairs: DiskOp[];
  notes: string[];
}

/** Why reading ended. Thrown within this file only. */
class Refusal extends Error {
  readonly fix: string;

  constructor(reason: string, fix: string) {
    super(reason);
    this.fix = fix;
  }
}

const rejoin =
  "This node's copy of the log cannot be trusted, and nothing was changed. Keep the directory for examination or wipe it, " +
  "remove this node from the cluster, and let it join again, empty, under a new id: the other members have what it had. " +
  "If it was the only member, restore a backup.";

export function read(image: DiskImage, snapshotExists: SnapshotExists): Found | { refusal: Refused } {
  try {
    return readAll(image, snapshotExists);
  } catch (error) {
    if (error instanceof Refusal) {
      const { message: reason, fix } = error;
      return { refusal: { reason, fix, lost: fix === rejoin } };
    }
    throw error;
  }
}

function readAll(image: DiskImage, snapshotExists: SnapshotExists): Found {
  const names = [...image.keys()].flatMap((file) => parseSegment(file) ?? []);
  names.sort((a, b) => a.sequence - b.sequence);
  checkSequence(names);
  const reader = new Reader();
  const repairs: DiskOp[] = [];
  const notes: string[] = [];
  names.forEach((name, n) => {
    const bytes = image.get(name.file) ?? new Uint8Array();
    reader.segment(name, bytes);
    if (n < names.length - 1) return;
    const end = endOfData(bytes, reader.tail.at);
    if (end > reader.tail.at) {
      refuseDamage(name, bytes, reader.tail.at);
      repairs.push(...cutTail(image, name, bytes, reader.tail.at, end));
      notes.push(
        `${name.file}: the last write, at byte ${reader.tail.at}, was cut short by a crash, as nothing shows that it was ever synced; ` +
          `its ${end - reader.tail.at} bytes are set aside in a torn-….bak and removed from the log`,
      );
    }
    repairs.push(...makeDurable(name.file, bytes, reader));
  });
  const log = reader.log;
  if (log === undefined) throw new Refusal("there is no segment of a log", rejoin);
  try {
    checkWhole(log, snapshotExists);
  } catch (error) {
    // A tail that is cut by rule may have been the damage of something that mattered.
    if (error instanceof Refusal && notes.length > 0)
      throw new Refusal(`${error.message}; ${notes.join("; ")}`, error.fix);
    throw error;
  }
  // Entries are views of whole segments so far.
  log.detach((entry) => {
    const encoded = entry.encoded?.slice() ?? new Uint8Array();
    return { ...entry, data: encoded.subarray(encoded.length - entry.data.length), encoded };
  });
  return { log, segments: reader.segments, tail: reader.tail, repairs, notes };
}

function checkSequence(names: readonly SegmentName[]): void {
  names.forEach((name, n) => {
    const before = names[n - 1];
    if (before === undefined) return;
    if (name.sequence === before.sequence) {
      throw new Refusal(`${name.file} and ${before.file} have the same sequence number`, rejoin);
    }
    if (name.sequence !== before.sequence + 1) {
      throw new Refusal(
        `segment ${before.sequence + 1} of the log is missing: ${before.file} is followed by ${name.file}`,
        `Put the missing file back if it was moved. Else: ${rejoin}`,
      );
    }
  });
}

function checkWhole(log: Log, snapshotExists: SnapshotExists): void {
  const { commit } = log.initialState().hardState;
  const { index, term } = log.standsOn;
  if (log.firstIndex() > index + 1) {
    throw new Refusal(
      `the log begins at entry ${log.firstIndex()}, but its newest snapshot ends at ${index}: what was between is missing`,
      rejoin,
    );
  }
  if (log.lastIndex() < Math.max(commit, index)) {
    throw new Refusal(
      `the log ends at entry ${log.lastIndex()}, but entries up to ${Math.max(commit, index)} were committed`,
      rejoin,
    );
  }
  if (index > 0 && !snapshotExists({ index, term })) {
    throw new Refusal(
      `the log stands on the snapshot of index ${index}, term ${term}, and that one is missing or not whole`,
      `Put the snapshot's file back if it was moved. Else: ${rejoin}`,
    );
  }
}

/** Takes segments in their order, and stops in each at the first bytes that do not continue the log. */
class Reader {
  log: Log | undefined;
  readonly segments: SegmentState[] = [];
  tail: Tail = { at: 0, allocated: 0, crc: 0, syncedTo: 0 };
  /** What the last good frame says was synced before it, with the tail made by it. */
  lastSyncedTo = 0;
  #name: SegmentName | undefined;

  segment(name: SegmentName, bytes: Uint8Array): void {
    const header = readHeader(bytes, name.sequence, 0);
    const body = header === undefined ? undefined : readBody(bytes, header);
    if (header === undefined || body === undefined || header.kind !== frameKinds.segment) {
      throw new Refusal(`${name.file}: the header at byte 0 is damaged, or this is not a segment of a log`, rejoin);
    }
    const version = parse(name.file, 0, () => segmentVersion(body));
    if (version !== formatVersion) {
      throw new Refusal(
        `${name.file} is of format version ${version}; this release reads version ${formatVersion}`,
        "Start the release that wrote it, or a newer one.",
      );
    }
    const record = parse(name.file, 0, () => decodeSegment(body));
    this.#enter(name, bytes, header, record);
    for (;;) {
      const next = readHeader(bytes, name.sequence, this.tail.at);
      if (next === undefined || next.previousCrc !== this.tail.crc) return;
      const batch = readBody(bytes, next);
      if (batch === undefined) return;
      if (next.kind !== frameKinds.batch) {
        throw new Refusal(`${name.file}: the frame at byte ${next.at} is of kind ${next.kind}, unknown here`, rejoin);
      }
      this.#apply(
        name,
        next,
        parse(name.file, next.at, () => decodeBatch(batch)),
      );
      this.#passed(next);
    }
  }

  #enter(name: SegmentName, bytes: Uint8Array, header: FrameHeader, record: SegmentRecord): void {
    if (record.last.index + 1 !== name.firstIndex) {
      throw new Refusal(
        `${name.file}: its header says that it begins at entry ${record.last.index + 1}: the file was renamed`,
        rejoin,
      );
    }
    if (bytes.length < record.allocated) {
      throw new Refusal(
        `${name.file} has ${bytes.length} bytes, but was made with ${record.allocated}: it was truncated`,
        rejoin,
      );
    }
    if (this.log === undefined || this.#name === undefined) {
      this.log = new Log(record.last, record.hardState, record.snapshot);
    } else {
      // What the next segment continues must be all of this one.
      if (record.previousEnd !== this.tail.at || header.previousCrc !== this.tail.crc) {
        throw new Refusal(
          `${this.#name.file} is damaged at byte ${this.tail.at}: the log continues up to byte ${record.previousEnd} ` +
            `and in ${name.file}, so this part had been written and synced`,
          rejoin,
        );
      }
      const last = this.log.last;
      if (last.index !== record.last.index || last.term !== record.last.term) {
        throw new Refusal(
          `${name.file} continues a log that ends at entry ${record.last.index}, but the one before it ends at ${last.index}`,
          rejoin,
        );
      }
    }
    this.#name = name;
    this.segments.push({ file: name.file, sequence: name.sequence, lastBefore: record.last.index });
    this.tail.allocated = Math.max(record.allocated, bytes.length);
    this.#passed(header);
    // The header was synced before the segment got its name.
    this.lastSyncedTo = this.tail.at;
  }

  #passed(header: FrameHeader): void {
    this.tail.at = header.at + frameBytes(header.bodyBytes);
    this.tail.crc = header.crc;
    this.lastSyncedTo = header.syncedTo;
  }

  #apply(name: SegmentName, header: FrameHeader, record: BatchRecord): void {
    const log = this.log;
    if (log === undefined) return;
    if (record.installed !== undefined) log.install(record.installed);
    const first = record.entries[0];
    if (first !== undefined) {
      if (first.index > log.lastIndex() + 1) {
        throw new Refusal(
          `${name.file}: entry ${first.index} at byte ${header.at} follows entry ${log.lastIndex()}: those between are missing`,
          rejoin,
        );
      }
      // Entries that a released segment held, replaced later on.
      if (first.index < log.firstIndex()) log.rebase(record.before);
      log.append(record.entries);
    }
    if (record.marker !== undefined) log.mark(record.marker);
    if (record.hardState !== undefined) log.setHardState(record.hardState);
  }
}

function parse<T>(file: string, at: number, decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    // The CRC is good: these bytes were written so.
    throw new Refusal(
      `${file}: the frame at byte ${at} cannot be read: ${error instanceof Error ? error.message : String(error)}`,
      rejoin,
    );
  }
}

/** Bytes are bad at `bad`. If anything behind says that they had been synced, they may have been acknowledged. */
function refuseDamage(name: SegmentName, bytes: Uint8Array, bad: number): void {
  // Inside of a frame whose header is good there are no headers but those that somebody proposed as data.
  const header = readHeader(bytes, name.sequence, bad);
  const from = header === undefined ? bad : bad + frameBytes(header.bodyBytes);
  const proof = proofOfSync(bytes, name.sequence, from, bad);
  if (proof !== undefined) {
    throw new Refusal(
      `${name.file} is damaged at byte ${bad}: the frame at byte ${proof.at} was begun after this part had been synced, ` +
        "so it was whole then, and may have been acknowledged",
      rejoin,
    );
  }
}

const zerosAtOnce = 64 * 1024;

/** The backup is durable before anything is overwritten: whoever is interrupted here finds the same again, or less. */
function cutTail(image: DiskImage, name: SegmentName, bytes: Uint8Array, from: number, to: number): DiskOp[] {
  const backups = [...image.keys()].filter(isBackup).sort();
  // Never over one that is there: it may hold more than what is left now.
  const newest = backups.findLast((file) => backupCount(file, name.sequence, from) !== undefined) ?? "";
  const count = (backupCount(newest, name.sequence, from) ?? -1) + 1;
  const backup = backupFile(name.sequence, from, count);
  const ops: DiskOp[] = [
    { op: "create", file: backup, bytes: 0 },
    { op: "write", file: backup, at: 0, parts: [bytes.slice(from, to)] },
    { op: "sync", file: backup },
    { op: "sync-directory" },
  ];
  const zeros = new Uint8Array(zerosAtOnce);
  for (let at = from; at < to; at += zerosAtOnce) {
    ops.push({ op: "write", file: name.file, at, parts: [zeros.subarray(0, Math.min(zerosAtOnce, to - at))] });
  }
  ops.push({ op: "sync", file: name.file });
  for (const file of backups.slice(0, Math.max(0, backups.length + 1 - backupsMax))) {
    ops.push({ op: "remove", file });
  }
  return ops;
}

/**
 * What was read may be in the memory of the operating system only: the process crashed before its sync, or the sync
 * failed, after which a system may take the pages for clean. So what is not known to be synced is written once more.
 * Sectors are whole, old or new, and both are the same here: this cannot tear anything.
 */
function makeDurable(file: string, bytes: Uint8Array, reader: Reader): DiskOp[] {
  const { at } = reader.tail;
  const from = reader.lastSyncedTo;
  reader.tail.syncedTo = at;
  const write: DiskOp[] = from < at ? [{ op: "write", file, at: from, parts: [bytes.slice(from, at)] }] : [];
  return [...write, { op: "sync", file }];
}
