// Log lines out of the engine's log stream. Without a terminal the stream is framed, `[type, 0, 0, 0, length]` before
// each entry, and each entry starts with its time; with one it is raw lines. Iterative, whatever the frames' size.

import type { EngineLogLine } from "../engine.js";

/** A longer line is cut here; the rest of it is dropped. */
export const lineBytesMax = 16 * 1024;
/** The engine's entries are at most 16 KiB and a time; more means that the stream lost its frame. */
const frameBytesMax = 8 << 20;
const headerBytes = 8;
const stdoutType = 1;
const stderrType = 2;
const lineFeed = 10;

type StreamName = EngineLogLine["stream"];

/** Frames as [stream, entry], in order. Types other than stdout and stderr (0 stdin, 3 system) are skipped. */
export async function* frames(chunks: AsyncIterable<Buffer>): AsyncGenerator<[StreamName, Buffer], void, undefined> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of chunks) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let at = 0;
    while (rest.length - at >= headerBytes) {
      const length = rest.readUInt32BE(at + 4);
      if (length > frameBytesMax) throw new Error(`the engine's log stream has a frame of ${length} bytes`);
      if (rest.length - at < headerBytes + length) break;
      const type = rest[at];
      const entry = rest.subarray(at + headerBytes, at + headerBytes + length);
      at += headerBytes + length;
      if (type === stdoutType) yield ["stdout", entry];
      else if (type === stderrType) yield ["stderr", entry];
    }
    rest = rest.subarray(at);
  }
}

/** A terminal's raw output in pieces that end with a line feed, as far as there is one. */
export async function* rawEntries(
  chunks: AsyncIterable<Buffer>,
): AsyncGenerator<[StreamName, Buffer], void, undefined> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of chunks) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(lineFeed); end >= 0; end = rest.indexOf(lineFeed)) {
      yield ["stdout", rest.subarray(0, end + 1)];
      rest = rest.subarray(end + 1);
    }
    if (rest.length > frameBytesMax) rest = rest.subarray(0, frameBytesMax);
  }
  if (rest.length > 0) yield ["stdout", rest];
}

interface Open {
  atMs: number;
  parts: Buffer[];
  bytes: number;
}

/** Entries as lines: the engine splits long lines into entries without a line feed at the end, each with a time. */
export async function* logLines(
  entries: AsyncIterable<[StreamName, Buffer]>,
): AsyncGenerator<EngineLogLine, void, undefined> {
  const open: Partial<Record<StreamName, Open>> = {};
  for await (const [stream, entry] of entries) {
    const space = entry.indexOf(32);
    const timed = space > 0 ? Date.parse(entry.subarray(0, space).toString("latin1")) : Number.NaN;
    const hasTime = !Number.isNaN(timed);
    const line = (open[stream] ??= { atMs: hasTime ? timed : 0, parts: [], bytes: 0 });
    let text = hasTime ? entry.subarray(space + 1) : entry;
    const ends = text.at(-1) === lineFeed;
    if (ends) text = text.subarray(0, text.at(-2) === 13 ? -2 : -1);
    const kept = text.subarray(0, lineBytesMax - line.bytes);
    if (kept.length > 0) line.parts.push(kept);
    line.bytes += kept.length;
    if (!ends) continue;
    yield closed(stream, line);
    delete open[stream];
  }
  for (const stream of ["stdout", "stderr"] as const) {
    const line = open[stream];
    if (line !== undefined) yield closed(stream, line);
  }
}

function closed(stream: StreamName, line: Open): EngineLogLine {
  // A copy, so that a kept line does not keep the whole chunk that it came in.
  return { atMs: line.atMs, stream, text: Uint8Array.from(Buffer.concat(line.parts)) };
}
