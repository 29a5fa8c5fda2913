// A frame is what the log is made of: a header of 40 bytes, a body, zeros up to a multiple of eight. Little-endian.
//
//    0  magic "RWAL"
//    4  CRC-32C of bytes 8 … 40. As the next frame holds it as `previous`, it is the rolling CRC of the whole log.
//    8  the CRC of the frame before, also across segments; 0 in the very first
//   12  CRC-32C of the body
//   16  bytes of the body
//   20  kind
//   24  the segment's sequence number
//   28  where in the segment this frame begins, in units of eight bytes
//   32  up to where the segment was synced before this frame was written, in units of eight bytes
//   36  zero
//
// The header has a CRC of its own and says where it stands, so that it can be believed without the frames before it.
// `synced` is what tells a torn write from damage: if bytes are bad at X and a header further on says that everything
// up to beyond X had been synced before, then X once was good on disk, and may have been acknowledged.

import { crc32c } from "./crc.js";

export const headerBytes = 40;
const magic = 0x4c41_5752;
const unit = 8;

export const frameKinds = { segment: 1, batch: 2 } as const;

export interface FrameHeader {
  kind: number;
  /** The rolling CRC up to and with this frame. */
  crc: number;
  previousCrc: number;
  bodyCrc: number;
  bodyBytes: number;
  sequence: number;
  at: number;
  syncedTo: number;
}

export function aligned(bytes: number): number {
  return Math.ceil(bytes / unit) * unit;
}

/** From the header's begin to where the next one stands. */
export function frameBytes(bodyBytes: number): number {
  return aligned(headerBytes + bodyBytes);
}

const padding = new Uint8Array(unit);

/**
 * `head` begins with `headerBytes` of room for the header, then the first part of the body; `rest` is the remaining
 * body, which is not copied.
 */
export function makeFrame(
  place: { kind: number; previousCrc: number; sequence: number; at: number; syncedTo: number },
  head: Uint8Array,
  rest: readonly Uint8Array[],
): { parts: Uint8Array[]; bytes: number; crc: number } {
  let bodyCrc = crc32c(head, 0, headerBytes);
  let bodyBytes = head.length - headerBytes;
  const parts = [head];
  for (const part of rest) {
    bodyCrc = crc32c(part, bodyCrc);
    bodyBytes += part.length;
    parts.push(part);
  }
  const view = new DataView(head.buffer, head.byteOffset, headerBytes);
  view.setUint32(0, magic, true);
  view.setUint32(8, place.previousCrc, true);
  view.setUint32(12, bodyCrc, true);
  view.setUint32(16, bodyBytes, true);
  view.setUint32(20, place.kind, true);
  view.setUint32(24, place.sequence, true);
  view.setUint32(28, place.at / unit, true);
  view.setUint32(32, place.syncedTo / unit, true);
  view.setUint32(36, 0, true);
  const crc = crc32c(head, 0, 8, headerBytes);
  view.setUint32(4, crc, true);
  const bytes = frameBytes(bodyBytes);
  const pad = bytes - headerBytes - bodyBytes;
  if (pad > 0) {
    parts.push(padding.subarray(0, pad));
  }
  return { parts, bytes, crc };
}

/** The header at `at`, if there is a whole one that was written there. */
export function readHeader(segment: Uint8Array, sequence: number, at: number): FrameHeader | undefined {
  if (at + headerBytes > segment.length) {
    return undefined;
  }
  const view = new DataView(segment.buffer, segment.byteOffset + at, headerBytes);
  if (view.getUint32(0, true) !== magic || view.getUint32(4, true) !== crc32c(segment, 0, at + 8, at + headerBytes)) {
    return undefined;
  }
  const header: FrameHeader = {
    kind: view.getUint32(20, true),
    crc: view.getUint32(4, true),
    previousCrc: view.getUint32(8, true),
    bodyCrc: view.getUint32(12, true),
    bodyBytes: view.getUint32(16, true),
    sequence: view.getUint32(24, true),
    at: view.getUint32(28, true) * unit,
    syncedTo: view.getUint32(32, true) * unit,
  };
  return header.sequence === sequence && header.at === at ? header : undefined;
}

/** The frame's body if all of it is there and good. */
export function readBody(segment: Uint8Array, header: FrameHeader): Uint8Array | undefined {
  const from = header.at + headerBytes;
  const to = from + header.bodyBytes;
  if (to > segment.length || crc32c(segment, 0, from, to) !== header.bodyCrc) {
    return undefined;
  }
  return segment.subarray(from, to);
}

/** A header from `from` on that says that what stood at `bad` had been synced. */
export function proofOfSync(segment: Uint8Array, sequence: number, from: number, bad: number): FrameHeader | undefined {
  for (let at = from; at + headerBytes <= segment.length; at += unit) {
    // The magic's first byte, "R", keeps the search fast.
    if (segment[at] === 0x52) {
      const header = readHeader(segment, sequence, at);
      if (header !== undefined && header.syncedTo > bad) {
        return header;
      }
    }
  }
  return undefined;
}

/** Where the last byte that is not zero ends, at `from` or after it; `from` when there is none. */
export function endOfData(bytes: Uint8Array, from: number): number {
  let end = bytes.length;
  if (end <= from) return from;
  // Whole words where the memory allows it: a fresh segment is 64 MiB of zeros.
  while (end > from && (bytes.byteOffset + end) % unit !== 0) {
    if (bytes[end - 1] !== 0) return end;
    end--;
  }
  const words = Math.floor((end - from) / unit);
  const view = new BigUint64Array(bytes.buffer, bytes.byteOffset + end - words * unit, words);
  let word = words;
  while (word > 0 && view[word - 1] === 0n) {
    word--;
  }
  end -= (words - word) * unit;
  while (end > from && bytes[end - 1] === 0) {
    end--;
  }
  return end;
}
