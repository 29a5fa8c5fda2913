// Messages as bytes: what one node sends to another.
//
//   byte    version: 1
//   byte    type
//   number  from, to, term
//   …       the fields of the type, as written below
//
// A MsgApp ends with its entries: their count, the length of each, then their bytes one after another, which are the
// memoised ones. A MsgProp ends with its proposals: their count, type and length of each, then their data.

import type { Entry, Message, MessageOf, MessageType, Proposal } from "../core/types.js";
import { ByteReader, ByteWriter } from "./bytes.js";
import { readFlag, readSnapshotMeta, writeSnapshotMeta } from "./conf-state.js";
import { decodeEntry, encodeEntry, entryBytesMin, entryTypeCode, entryTypeOf } from "./entry.js";

const version = 1;

/** A type's place is its code: new ones go to the end, none is ever taken out. */
const types = [
  "MsgApp",
  "MsgAppResp",
  "MsgVote",
  "MsgVoteResp",
  "MsgPreVote",
  "MsgPreVoteResp",
  "MsgHeartbeat",
  "MsgHeartbeatResp",
  "MsgSnap",
  "MsgProp",
  "MsgReadIndex",
  "MsgReadIndexResp",
  "MsgTransferLeader",
  "MsgTimeoutNow",
] as const satisfies readonly MessageType[];
const codes = new Map<MessageType, number>(types.map((type, code) => [type, code]));

/**
 * The message in parts to be sent one after another; entries are their memoised bytes and not copied. Any message the
 * core makes can be encoded.
 */
export function encodeMessage(m: Message): Uint8Array[] {
  const header = new ByteWriter();
  const parts: Uint8Array[] = [];
  header.byte(version).byte(codes.get(m.type) ?? 0xff);
  header.number(m.from).number(m.to).number(m.term);
  switch (m.type) {
    case "MsgApp":
      header.number(m.prevIndex).number(m.prevTerm).number(m.commit).number(m.entries.length);
      for (const entry of m.entries) {
        const bytes = encodeEntry(entry);
        header.number(bytes.length);
        parts.push(bytes);
      }
      break;
    case "MsgAppResp":
      header.number(m.index).byte(m.reject ? 1 : 0);
      header.number(m.hintIndex).number(m.hintTerm);
      break;
    case "MsgVote":
    case "MsgPreVote":
      header.number(m.lastIndex).number(m.lastTerm);
      header.byte(m.force ? 1 : 0);
      break;
    case "MsgVoteResp":
    case "MsgPreVoteResp":
      header.byte(m.reject ? 1 : 0).byte(m.committed === undefined ? 0 : 1);
      if (m.committed !== undefined) header.number(m.committed.index).number(m.committed.term);
      break;
    case "MsgHeartbeat":
      header.number(m.commit).number(m.readId);
      break;
    case "MsgHeartbeatResp":
      header.number(m.readId);
      break;
    case "MsgSnap":
      writeSnapshotMeta(header, m.snapshot);
      break;
    case "MsgProp":
      header.number(m.entries.length);
      for (const { type, data } of m.entries) {
        header.byte(entryTypeCode(type)).number(data.length);
        if (data.length > 0) {
          parts.push(data);
        }
      }
      break;
    case "MsgReadIndex":
      header.number(m.context);
      break;
    case "MsgReadIndexResp":
      header.number(m.context).number(m.index);
      break;
    case "MsgTransferLeader":
      header.number(m.transferee);
      break;
    case "MsgTimeoutNow":
      break;
  }
  parts.unshift(header.end());
  return parts;
}

/**
 * The message that the bytes are, all of them. Data and entries are views into the bytes, which must not be written to
 * any more. Throws a WireError and nothing else.
 */
export function decodeMessage(bytes: Uint8Array): Message {
  const reader = new ByteReader(bytes, "message");
  const found = reader.byte("version");
  if (found !== version) {
    throw reader.wrong("version", `is ${found}, of which this release knows nothing`);
  }
  const code = reader.byte("type");
  const type = types[code];
  if (type === undefined) {
    throw reader.wrong("type", `is ${code}, of which this release knows nothing`);
  }
  const from = reader.number("from", 1);
  const to = reader.number("to", 1);
  const term = reader.number("term");
  const message = readBody(reader, type, { from, to, term });
  reader.end();
  return message;
}

function readBody(reader: ByteReader, type: MessageType, head: { from: number; to: number; term: number }): Message {
  const { from, to, term } = head;
  switch (type) {
    case "MsgApp": {
      const prevIndex = reader.number("previous index");
      const prevTerm = reader.number("previous term");
      const commit = reader.number("commit");
      const entries = readEntries(reader, prevIndex, prevTerm, term);
      return { type, from, to, term, prevIndex, prevTerm, commit, entries };
    }
    case "MsgAppResp": {
      const index = reader.number("index");
      const reject = readFlag(reader, "reject");
      const hintIndex = reader.number("hint's index");
      return { type, from, to, term, index, reject, hintIndex, hintTerm: reader.number("hint's term") };
    }
    case "MsgVote":
    case "MsgPreVote": {
      const lastIndex = reader.number("last index");
      const lastTerm = reader.number("last term");
      return { type, from, to, term, lastIndex, lastTerm, force: readFlag(reader, "force") };
    }
    case "MsgVoteResp":
    case "MsgPreVoteResp":
      return readVoteAnswer(reader, { type, from, to, term, reject: readFlag(reader, "reject") });
    case "MsgHeartbeat": {
      const commit = reader.number("commit");
      return { type, from, to, term, commit, readId: reader.number("read's id") };
    }
    case "MsgHeartbeatResp":
      return { type, from, to, term, readId: reader.number("read's id") };
    case "MsgSnap":
      return { type, from, to, term, snapshot: readSnapshotMeta(reader) };
    case "MsgProp":
      return { type, from, to, term, entries: readProposals(reader) };
    case "MsgReadIndex":
      return { type, from, to, term, context: reader.number("context") };
    case "MsgReadIndexResp": {
      const context = reader.number("context");
      return { type, from, to, term, context, index: reader.number("index") };
    }
    case "MsgTransferLeader":
      return { type, from, to, term, transferee: reader.number("transferee", 1) };
    case "MsgTimeoutNow":
      return { type, from, to, term };
  }
}

function readVoteAnswer(reader: ByteReader, answer: MessageOf<"MsgVoteResp" | "MsgPreVoteResp">): Message {
  if (!readFlag(reader, "whether it has a commit")) return answer;
  return { ...answer, committed: { index: reader.number("committed index"), term: reader.number("committed term") } };
}

/** Entries follow each other and the previous one, and none is of a later term than the message: as a log must be. */
function readEntries(reader: ByteReader, prevIndex: number, prevTerm: number, term: number): Entry[] {
  const lengths = readLengths(reader, reader.count("number of entries", 1 + entryBytesMin));
  const entries: Entry[] = [];
  let index = prevIndex;
  let least = prevTerm;
  for (const length of lengths) {
    const entry = decodeEntry(reader.take("entry", length));
    index++;
    if (entry.index !== index) {
      throw reader.wrong("entry", `has index ${entry.index} where ${index} is expected`);
    }
    if (entry.term < least || entry.term > term) {
      throw reader.wrong("entry", `has term ${entry.term}, not between ${least} and the message's ${term}`);
    }
    least = entry.term;
    entries.push(entry);
  }
  return entries;
}

function readLengths(reader: ByteReader, count: number): number[] {
  const lengths: number[] = [];
  for (let n = 0; n < count; n++) {
    lengths.push(reader.number("entry's length", entryBytesMin));
  }
  return lengths;
}

function readProposals(reader: ByteReader): Proposal[] {
  const count = reader.count("number of proposals", 2);
  const heads: { type: Proposal["type"]; length: number }[] = [];
  for (let n = 0; n < count; n++) {
    const code = reader.byte("proposal's type");
    const type = entryTypeOf(code);
    if (type === undefined) {
      throw reader.wrong("proposal's type", `is ${code}, of which this release knows nothing`);
    }
    heads.push({ type, length: reader.number("proposal's length") });
  }
  return heads.map(({ type, length }) => ({ type, data: reader.take("proposal", length) }));
}
