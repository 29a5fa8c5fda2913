// Writes tar archives (ustar, POSIX 1003.1-1988) whose bytes depend on their content alone: no times, no owners, entries in the
// given order. That is what gives an image the same id on every host and on every machine.
import { createReadStream, statSync } from "node:fs";

export type TarEntry =
  | {
      readonly kind: "file";
      readonly path: string;
      readonly mode: number;
      readonly body: Buffer | { readonly file: string; readonly size: number };
    }
  | { readonly kind: "folder"; readonly path: string; readonly mode: number }
  | { readonly kind: "link"; readonly path: string; readonly target: string };

const BLOCK = 512;
const NAME_BYTES_MAX = 100;
const TYPE = { file: "0", link: "2", folder: "5" } as const;

export function fileEntry(path: string, source: string, mode = 0o755): TarEntry {
  return { kind: "file", path, mode, body: { file: source, size: statSync(source).size } };
}

export function textEntry(path: string, text: string, mode = 0o644): TarEntry {
  return { kind: "file", path, mode, body: Buffer.from(text, "utf8") };
}

/** Bytes of the whole archive, known before any of it is read. */
export function tarSize(entries: readonly TarEntry[]): number {
  return entries.reduce((sum, entry) => sum + BLOCK + padded(bodySize(entry)), 2 * BLOCK);
}

export async function* tarChunks(entries: readonly TarEntry[]): AsyncGenerator<Buffer> {
  for (const entry of entries) yield* entryChunks(entry);
  yield TAR_END;
}

/** Two empty blocks end an archive. */
export const TAR_END = Buffer.alloc(2 * BLOCK);

export async function* entryChunks(entry: TarEntry): AsyncGenerator<Buffer> {
  const size = bodySize(entry);
  yield header(entry, size);
  if (entry.kind !== "file") return;
  if (Buffer.isBuffer(entry.body)) yield entry.body;
  else {
    let read = 0;
    for await (const chunk of createReadStream(entry.body.file, {
      highWaterMark: 1024 * 1024,
    }) as AsyncIterable<Buffer>) {
      read += chunk.length;
      yield chunk;
    }
    if (read !== size)
      throw new Error(`${entry.body.file} changed while it was read: ${read} bytes instead of ${size}`);
  }
  yield padding(size);
}

/** The header of a file whose content the caller writes itself, followed by `padding`. */
export function header(entry: TarEntry, size: number): Buffer {
  const path = entry.kind === "folder" && !entry.path.endsWith("/") ? `${entry.path}/` : entry.path;
  const block = Buffer.alloc(BLOCK);
  text(block, path, 0, NAME_BYTES_MAX);
  octal(block, entry.kind === "link" ? 0o777 : entry.mode, 100, 8);
  octal(block, 0, 108, 8);
  octal(block, 0, 116, 8);
  octal(block, size, 124, 12);
  octal(block, 0, 136, 12);
  block.write(TYPE[entry.kind], 156);
  if (entry.kind === "link") text(block, entry.target, 157, NAME_BYTES_MAX);
  block.write("ustar\x0000", 257, "latin1");
  // The checksum is counted with its own field full of spaces.
  block.fill(" ", 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

export function padding(size: number): Buffer {
  return Buffer.alloc(padded(size) - size);
}

function bodySize(entry: TarEntry): number {
  if (entry.kind !== "file") return 0;
  return Buffer.isBuffer(entry.body) ? entry.body.length : entry.body.size;
}

function padded(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK;
}

function text(block: Buffer, value: string, at: number, max: number): void {
  const bytes = Buffer.from(value, "utf8");
  if (bytes.length > max) throw new Error(`a tar path of more than ${max} bytes: ${value}`);
  bytes.copy(block, at);
}

function octal(block: Buffer, value: number, at: number, width: number): void {
  block.write(`${value.toString(8).padStart(width - 1, "0")}\0`, at, "latin1");
}
