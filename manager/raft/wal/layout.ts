// The names of the log's files.

/** A segment that had to be made at once, until it has its name. */
export const nextFile = "next.wal";
/** Backups of torn tails that are kept; the oldest go first. */
export const backupsMax = 8;

const digits = 16;
const segmentName = /^wal-(\d{16})-(\d{16})\.log$/;
const spareName = /^spare-\d{16}\.wal$/;
const backupName = /^torn-(\d{16})-(\d{12})-(\d{4})\.bak$/;

export interface SegmentName {
  file: string;
  /** From 1, without gaps. */
  sequence: number;
  /** The index after the last one of the log when the segment was begun. */
  firstIndex: number;
}

export interface SegmentState {
  file: string;
  sequence: number;
  /** The log's last index when it was begun: no entry of the segments before is above it. */
  lastBefore: number;
}

/** Where the next frame goes. */
export interface Tail {
  at: number;
  allocated: number;
  /** The rolling CRC. */
  crc: number;
  syncedTo: number;
}

export function segmentFile(sequence: number, firstIndex: number): string {
  return `wal-${pad(sequence, digits)}-${pad(firstIndex, digits)}.log`;
}

export function parseSegment(file: string): SegmentName | undefined {
  const match = segmentName.exec(file);
  return match === null ? undefined : { file, sequence: Number(match[1]), firstIndex: Number(match[2]) };
}

/**
 * A segment that is made ready before it is needed. It is made beside the writing, while the one before may still wait
 * for its name: so each has a name of its own, after the segment that it could become.
 */
export function spareFile(sequence: number): string {
  return `spare-${pad(sequence, digits)}.wal`;
}

export function isSpare(file: string): boolean {
  return spareName.test(file);
}

/** `count` tells repairs of the same place apart: the first backup is never overwritten. */
export function backupFile(sequence: number, at: number, count: number): string {
  return `torn-${pad(sequence, digits)}-${pad(at, 12)}-${pad(count, 4)}.bak`;
}

/** The count of a backup of this place; undefined for any other file. */
export function backupCount(file: string, sequence: number, at: number): number | undefined {
  const match = backupName.exec(file);
  return match !== null && Number(match[1]) === sequence && Number(match[2]) === at ? Number(match[3]) : undefined;
}

export function isBackup(file: string): boolean {
  return backupName.test(file);
}

/** Whether a file of this name belongs to the log. */
export function isLogFile(file: string): boolean {
  return file === nextFile || isSpare(file) || isBackup(file) || parseSegment(file) !== undefined;
}

function pad(value: number, width: number): string {
  return String(value).padStart(width, "0");
}
