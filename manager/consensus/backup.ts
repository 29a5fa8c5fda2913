// A backup as a file: what BackupCluster streams, each part with its length and checksum, and an end, so that a file
// that was cut short or changed is found out before anything is done with it.
//
//   "flotilla-backup 1\n", then frames: length (u32 LE), CRC-32 of the body (u32 LE), the body, a BackupPart.
//   The last frame has length 0; its checksum is that of all checksums before it.

import { type FileHandle, open, rename, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import { ClusterError, messageOf } from "../../lib/mod.js";
import { type BackupHeader, BackupPart } from "../../proto/gen/flotilla/control/v1/control.js";

const magic = Buffer.from("flotilla-backup 1\n");
/** A part is at most one chunk of a snapshot, 1 MiB, and its framing. */
const partBytesMax = 4 * 1024 * 1024;

export interface BackupSummary {
  header: BackupHeader;
  /** Of the file. */
  bytes: number;
}

/**
 * Writes the parts to a new file: under another name first, so that a file of this name is always complete. One that
 * is there already is refused (`already_exists`).
 */
export async function writeBackup(path: string, parts: AsyncIterable<BackupPart>): Promise<BackupSummary> {
  await refuseExisting(path);
  const temporary = `${path}.part`;
  const file = await open(temporary, "w", 0o600);
  try {
    const summary = await writeParts(path, file, parts);
    await file.sync();
    await file.close();
    await refuseExisting(path);
    await rename(temporary, path);
    const folder = await open(dirname(path), "r");
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
    return summary;
  } catch (error) {
    await file.close();
    await unlink(temporary);
    throw error;
  }
}

async function refuseExisting(path: string): Promise<void> {
  const there = await open(path, "r").catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  });
  if (there === undefined) return;
  await there.close();
  throw new ClusterError("already_exists", `${path} is there already: choose another name, or move it away`);
}

async function writeParts(path: string, file: FileHandle, parts: AsyncIterable<BackupPart>): Promise<BackupSummary> {
  let header: BackupHeader | undefined;
  let bytes = magic.length;
  let rolling = 0;
  await file.writeFile(magic);
  const frame = async (body: Uint8Array, checksum: number) => {
    const head = Buffer.alloc(8);
    head.writeUInt32LE(body.length, 0);
    head.writeUInt32LE(checksum, 4);
    await file.writeFile(head);
    await file.writeFile(body);
    bytes += head.length + body.length;
  };
  for await (const part of parts) {
    if ((header === undefined) !== (part.header !== undefined))
      throw new ClusterError("internal", `${path}: the manager sent a backup whose first part alone has no header`);
    header ??= part.header;
    const body = BackupPart.encode(part).finish();
    const checksum = crc32(body);
    rolling = crc32(checksumBytes(checksum), rolling);
    await frame(body, checksum);
  }
  if (header === undefined) throw new ClusterError("unavailable", "the manager ended the backup before it began");
  await frame(new Uint8Array(0), rolling);
  return { header, bytes };
}

function checksumBytes(checksum: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(checksum);
  return bytes;
}

/** Reads the whole file before it answers: `failed_precondition` says what is wrong with it. */
export async function checkBackup(path: string): Promise<BackupSummary> {
  let header: BackupHeader | undefined;
  let bytes = magic.length + 8;
  for await (const part of readBackup(path)) {
    header ??= part.header;
    bytes += 8 + BackupPart.encode(part).finish().length;
  }
  if (header === undefined) throw damaged(path, "has no header");
  return { header, bytes };
}

/** The chunks of the store, in order. Throws at what is damaged, at the latest at the end: nothing counts before. */
export async function* backupChunks(path: string): AsyncGenerator<Uint8Array> {
  for await (const { chunk } of readBackup(path)) if (chunk.length > 0) yield chunk;
}

async function* readBackup(path: string): AsyncGenerator<BackupPart> {
  const file = await open(path, "r");
  try {
    if (!(await take(path, file, magic.length)).equals(magic))
      throw damaged(path, `does not begin with ${JSON.stringify(magic.toString())}: it is no backup of this version`);
    let rolling = 0;
    for (;;) {
      const head = await take(path, file, 8);
      const length = head.readUInt32LE(0);
      const checksum = head.readUInt32LE(4);
      if (length === 0) {
        if (checksum !== rolling) throw damaged(path, "has parts that do not belong together");
        if ((await file.read(Buffer.alloc(1), 0, 1)).bytesRead !== 0) throw damaged(path, "goes on after its end");
        return;
      }
      if (length > partBytesMax) throw damaged(path, `has a part of ${length} bytes`);
      const body = await take(path, file, length);
      if (crc32(body) !== checksum) throw damaged(path, "has a part whose checksum is wrong");
      rolling = crc32(checksumBytes(checksum), rolling);
      yield decode(path, body);
    }
  } finally {
    await file.close();
  }
}

function decode(path: string, body: Buffer): BackupPart {
  try {
    return BackupPart.decode(body);
  } catch (cause) {
    throw damaged(path, `has a part that cannot be read (${messageOf(cause)})`);
  }
}

async function take(path: string, file: FileHandle, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  let read = 0;
  while (read < length) {
    const { bytesRead } = await file.read(bytes, read, length - read);
    if (bytesRead === 0) throw damaged(path, "was cut short");
    read += bytesRead;
  }
  return bytes;
}

function damaged(path: string, what: string): ClusterError {
  return new ClusterError("failed_precondition", `the backup ${path} ${what}: use another one`);
}
