// What stands in the frames' bodies.

import type { Entry, HardState, SnapshotMeta } from "../core/types.js";
import { ByteReader, ByteWriter } from "../wire/bytes.js";
import { readConfState, writeConfState } from "../wire/conf-state.js";
import { decodeEntry, encodeEntry } from "../wire/entry.js";
import { headerBytes } from "./frame.js";

/** Of the segments; another one is refused. */
export const formatVersion = 1;

export interface Position {
  index: number;
  term: number;
}

/** The first frame of every segment: with it, the segments before are not needed but for their entries. */
export interface SegmentRecord {
  /** Where the segment before ended; 0 in the first. */
  previousEnd: number;
  /** The file was made this long, and synced, before it was used: a shorter one was cut by other hands. */
  allocated: number;
  /** The last entry of the log when the segment was begun. */
  last: Position;
  hardState: HardState;
  /** Index 0 with the first configuration while there is none. */
  snapshot: SnapshotMeta;
}

export interface BatchRecord {
  hardState?: HardState;
  /** The log becomes empty and stands on this. */
  installed?: SnapshotMeta;
  /** A snapshot was made of what the log holds up to here. */
  marker?: SnapshotMeta;
  entries: readonly Entry[];
  /** The entry before the first of `entries`. */
  before: Position;
}

const flags = { hardState: 1, installed: 2, marker: 4, entries: 8 };
const headerRoom = new Uint8Array(headerBytes);

/** With room for the frame's header in front. */
export function encodeSegment(record: SegmentRecord): Uint8Array {
  const to = new ByteWriter(256).raw(headerRoom);
  to.number(formatVersion).number(record.previousEnd).number(record.allocated);
  to.number(record.last.index).number(record.last.term);
  writeHardState(to, record.hardState);
  writeSnapshot(to, record.snapshot);
  return to.end();
}

/** The version alone, for what cannot be read further. */
export function segmentVersion(body: Uint8Array): number {
  return new ByteReader(body, "segment header").number("version");
}

/** Throws a WireError. */
export function decodeSegment(body: Uint8Array): SegmentRecord {
  const from = new ByteReader(body, "segment header");
  from.number("version");
  const previousEnd = from.number("previous end");
  const allocated = from.number("allocated bytes");
  const last = { index: from.number("last index"), term: from.number("last term") };
  const hardState = readHardState(from);
  const snapshot = readSnapshot(from);
  from.end();
  return { previousEnd, allocated, last, hardState, snapshot };
}

/** `head` has room for the frame's header in front; the entries' bytes follow it, as the network has them too. */
export function encodeBatch(record: BatchRecord): { head: Uint8Array; entries: Uint8Array[] } {
  const { hardState, installed, marker } = record;
  const to = new ByteWriter(headerBytes + 48 + record.entries.length * 2).raw(headerRoom);
  to.byte(
    (hardState === undefined ? 0 : flags.hardState) |
      (installed === undefined ? 0 : flags.installed) |
      (marker === undefined ? 0 : flags.marker) |
      (record.entries.length === 0 ? 0 : flags.entries),
  );
  if (hardState !== undefined) writeHardState(to, hardState);
  if (installed !== undefined) writeSnapshot(to, installed);
  if (marker !== undefined) writeSnapshot(to, marker);
  const entries: Uint8Array[] = [];
  if (record.entries.length > 0) {
    to.number(record.entries.length).number(record.before.index).number(record.before.term);
    for (const entry of record.entries) {
      const bytes = encodeEntry(entry);
      to.number(bytes.length);
      entries.push(bytes);
    }
  }
  return { head: to.end(), entries };
}

/** Entries are views into `body`. Throws a WireError. */
export function decodeBatch(body: Uint8Array): BatchRecord {
  const from = new ByteReader(body, "batch");
  const has = from.byte("flags");
  if (has > 15) {
    throw from.wrong("flags", `are ${has}, of which this release knows nothing`);
  }
  const record: BatchRecord = { entries: [], before: { index: 0, term: 0 } };
  if (has & flags.hardState) record.hardState = readHardState(from);
  if (has & flags.installed) record.installed = readSnapshot(from);
  if (has & flags.marker) record.marker = readSnapshot(from);
  if (has & flags.entries) {
    const count = from.count("number of entries", 1);
    record.before = { index: from.number("index before"), term: from.number("term before") };
    const lengths: number[] = [];
    for (let n = 0; n < count; n++) lengths.push(from.number("entry's length"));
    const entries: Entry[] = [];
    for (const length of lengths) {
      const entry = decodeEntry(from.take("entry", length));
      if (entry.index !== record.before.index + entries.length + 1) {
        throw from.wrong("entry's index", `is ${entry.index}, not ${record.before.index + entries.length + 1}`);
      }
      entries.push(entry);
    }
    record.entries = entries;
  }
  from.end();
  return record;
}

function writeHardState(to: ByteWriter, state: HardState): void {
  to.number(state.term).number(state.vote).number(state.commit);
}

function readHardState(from: ByteReader): HardState {
  return { term: from.number("term"), vote: from.number("vote"), commit: from.number("commit") };
}

// Not wire's: here index 0 is the configuration that the log began with.
function writeSnapshot(to: ByteWriter, snapshot: SnapshotMeta): void {
  to.number(snapshot.index).number(snapshot.term);
  writeConfState(to, snapshot.confState);
}

function readSnapshot(from: ByteReader): SnapshotMeta {
  const index = from.number("snapshot's index");
  const term = from.number("snapshot's term");
  return { index, term, confState: readConfState(from) };
}
