// An entry as bytes: the same on disk and between peers, so it is encoded once in its life on a node.
//
//   byte    version (high four bits: 1) and type (low four bits: 0 normal, 1 conf-change)
//   number  term
//   number  index
//   …       data, to the end: whoever carries the bytes says where that is

import type { Entry, EntryType } from "../core/types.js";
import { ByteReader, numberBytes, putNumber } from "./bytes.js";

const version = 0x10;
const types: readonly EntryType[] = ["normal", "conf-change"];

/** The shortest entry: its type, a term and an index of one byte each, no data. */
export const entryBytesMin = 3;

/** Made at the first call and kept in `entry.encoded`. Never to be written to. */
export function encodeEntry(entry: Entry): Uint8Array {
  return (entry.encoded ??= encode(entry));
}

function encode(entry: Entry): Uint8Array {
  const { term, index, type, data } = entry;
  const header = 1 + numberBytes(term) + numberBytes(index);
  const bytes = new Uint8Array(header + data.length);
  bytes[0] = version | entryTypeCode(type);
  putNumber(bytes, putNumber(bytes, 1, term), index);
  bytes.set(data, header);
  return bytes;
}

/** The entry's data is a view into `bytes`, which become its `encoded`. Throws a WireError and nothing else. */
export function decodeEntry(bytes: Uint8Array): Entry {
  const reader = new ByteReader(bytes, "entry");
  const first = reader.byte("type");
  if ((first & 0xf0) !== version) {
    throw reader.wrong("version", `is ${first >> 4}, of which this release knows nothing`);
  }
  const type = entryTypeOf(first & 0x0f);
  if (type === undefined) {
    throw reader.wrong("type", `is ${first & 0x0f}, of which this release knows nothing`);
  }
  const term = reader.number("term", 1);
  const index = reader.number("index", 1);
  return { term, index, type, data: reader.rest(), encoded: bytes };
}

export function entryTypeCode(type: EntryType): number {
  return type === "normal" ? 0 : 1;
}

export function entryTypeOf(code: number): EntryType | undefined {
  return types[code];
}
