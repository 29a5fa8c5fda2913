import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ConfState, Entry, Message } from "../core/types.js";
import { WireError } from "./bytes.js";
import { decodeEntry, encodeEntry } from "./entry.js";
import { decodeMessage, encodeMessage } from "./message.js";

const number = fc.oneof(fc.nat(300), fc.maxSafeNat());
const id = number.map((n) => Math.max(1, n));
const data = fc.uint8Array({ maxLength: 200 });
const type = fc.constantFrom("normal", "conf-change");
const ids = fc.uniqueArray(id, { maxLength: 5 }).map((all) => all.sort((a, b) => a - b));
const confState: fc.Arbitrary<ConfState> = fc.record({
  voters: ids,
  votersOutgoing: ids,
  learners: ids,
  learnersNext: ids,
  autoLeave: fc.boolean(),
});
const head = { from: id, to: id, term: number };

/** As in a log: indexes follow each other, terms never go back. */
const app: fc.Arbitrary<Message> = fc
  .record({
    from: id,
    to: id,
    prevIndex: fc.nat(2 ** 40),
    prevTerm: fc.nat(2 ** 40),
    commit: number,
    steps: fc.array(fc.record({ type, data, later: fc.nat(3) }), { maxLength: 8 }),
  })
  .map(({ from, to, prevIndex, prevTerm, commit, steps }) => {
    let term = Math.max(1, prevTerm);
    const entries: Entry[] = steps.map((step, n) => {
      term += step.later;
      return { term, index: prevIndex + 1 + n, type: step.type, data: step.data };
    });
    return { type: "MsgApp", from, to, term: term + 1, prevIndex, prevTerm, commit, entries };
  });

const message: fc.Arbitrary<Message> = fc.oneof(
  app,
  fc.record({
    type: fc.constant("MsgAppResp" as const),
    ...head,
    index: number,
    reject: fc.boolean(),
    hintIndex: number,
    hintTerm: number,
  }),
  fc.record({
    type: fc.constantFrom("MsgVote" as const, "MsgPreVote" as const),
    ...head,
    lastIndex: number,
    lastTerm: number,
    force: fc.boolean(),
  }),
  fc.record({
    type: fc.constantFrom("MsgVoteResp" as const, "MsgPreVoteResp" as const),
    ...head,
    reject: fc.boolean(),
  }),
  fc.record({
    type: fc.constantFrom("MsgVoteResp" as const, "MsgPreVoteResp" as const),
    ...head,
    reject: fc.constant(true),
    committed: fc.record({ index: number, term: number }),
  }),
  fc.record({ type: fc.constant("MsgHeartbeat" as const), ...head, commit: number, readId: number }),
  fc.record({ type: fc.constant("MsgHeartbeatResp" as const), ...head, readId: number }),
  fc.record({
    type: fc.constant("MsgSnap" as const),
    ...head,
    snapshot: fc.record({ index: id, term: id, confState }),
  }),
  fc.record({
    type: fc.constant("MsgProp" as const),
    ...head,
    entries: fc.array(fc.record({ type, data }), { maxLength: 8 }),
  }),
  fc.record({ type: fc.constant("MsgReadIndex" as const), ...head, context: number }),
  fc.record({ type: fc.constant("MsgReadIndexResp" as const), ...head, context: number, index: number }),
  fc.record({ type: fc.constant("MsgTransferLeader" as const), ...head, transferee: id }),
  fc.record({ type: fc.constant("MsgTimeoutNow" as const), ...head }),
);

const joined = (parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

/** What a message means: without the memo of its entries' bytes. */
function meaning(m: Message): Message {
  return m.type === "MsgApp"
    ? {
        ...m,
        entries: m.entries.map((e) => ({ term: e.term, index: e.index, type: e.type, data: new Uint8Array(e.data) })),
      }
    : m;
}

function decodedOrWireError(bytes: Uint8Array): Message | undefined {
  try {
    return decodeMessage(bytes);
  } catch (error) {
    expect(error).toBeInstanceOf(WireError);
    return undefined;
  }
}

describe("messages", () => {
  test("come back as they were", () => {
    fc.assert(
      fc.property(message, (m) => {
        expect(meaning(decodeMessage(joined(encodeMessage(m))))).toEqual(meaning(m));
      }),
      { numRuns: 1000 },
    );
  });

  test("have one form: what can be read is written the same again", () => {
    fc.assert(
      fc.property(message, fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 3 }), (m, flips) => {
        const bytes = joined(encodeMessage(m));
        for (const [at, value] of flips) {
          bytes[at % bytes.length] = value;
        }
        const read = decodedOrWireError(bytes);
        if (read !== undefined) {
          expect(joined(encodeMessage(read))).toEqual(bytes);
        }
      }),
      { numRuns: 3000 },
    );
  });

  test("of any bytes are read or refused with a WireError", () => {
    const beginning = fc.tuple(fc.constantFrom(0, 1, 2), fc.nat(20)).map((both) => Uint8Array.from(both));
    fc.assert(
      fc.property(beginning, fc.uint8Array({ maxLength: 60 }), (first, rest) => {
        decodedOrWireError(joined([first, rest]));
      }),
      { numRuns: 5000 },
    );
  });

  test("cut short or longer than they are, are refused", () => {
    fc.assert(
      fc.property(message, fc.nat(400), (m, cut) => {
        const bytes = joined(encodeMessage(m));
        expect(() => decodeMessage(bytes.subarray(0, cut % bytes.length))).toThrow(WireError);
        expect(() => decodeMessage(joined([bytes, Uint8Array.of(0)]))).toThrow(WireError);
      }),
    );
  });

  test("carry the entries' own bytes, made once", () => {
    const entry: Entry = { term: 3, index: 8, type: "normal", data: Uint8Array.of(1, 2, 3) };
    const m: Message = {
      type: "MsgApp",
      from: 1,
      to: 2,
      term: 3,
      prevIndex: 7,
      prevTerm: 3,
      commit: 7,
      entries: [entry],
    };
    const bytes = encodeEntry(entry);
    expect(encodeMessage(m)[1]).toBe(bytes);
    expect(encodeMessage({ ...m, to: 3 })[1]).toBe(bytes);
    const wire = joined(encodeMessage(m));
    const read = decodeMessage(wire);
    const again = read.type === "MsgApp" ? read.entries[0] : undefined;
    expect(again?.encoded?.buffer).toBe(wire.buffer);
    expect(again?.encoded).toEqual(bytes);
  });

  test("say what is wrong with them, and where", () => {
    const bytes = joined(encodeMessage({ type: "MsgHeartbeat", from: 1, to: 2, term: 9, commit: 300, readId: 0 }));
    expect(() => decodeMessage(bytes.subarray(0, 6))).toThrow(
      "malformed message: commit is missing: the bytes end before it (at byte 6 of 6)",
    );
    expect(() => decodeMessage(Uint8Array.of(2, 0))).toThrow("version is 2, of which this release knows nothing");
    expect(() => decodeMessage(Uint8Array.of(1, 99))).toThrow("type is 99, of which this release knows nothing");
    expect(() => decodeMessage(Uint8Array.of(1, 13, 0, 2, 9))).toThrow("from is 0, less than 1");
    expect(() => decodeMessage(Uint8Array.of(1, 13, 0x81, 0, 2, 9))).toThrow("from is not in its shortest form");
  });

  test("never make a receiver believe in more than there is", () => {
    const count = [0xff, 0xff, 0xff, 0xff, 0x0f];
    expect(() => decodeMessage(Uint8Array.of(1, 0, 1, 2, 3, 0, 0, 0, ...count))).toThrow(
      "number of entries says 4294967295, more than the 0 bytes after it can hold",
    );
  });

  test("with entries that are no piece of a log are refused", () => {
    const entry = (index: number, term: number): Entry => ({ index, term, type: "normal", data: new Uint8Array(0) });
    const of = (...entries: Entry[]): Uint8Array =>
      joined(encodeMessage({ type: "MsgApp", from: 1, to: 2, term: 5, prevIndex: 4, prevTerm: 3, commit: 0, entries }));
    expect(() => decodeMessage(of(entry(6, 3)))).toThrow("has index 6 where 5 is expected");
    expect(() => decodeMessage(of(entry(5, 4), entry(6, 3)))).toThrow("has term 3, not between 4 and the message's 5");
    expect(() => decodeMessage(of(entry(5, 6)))).toThrow("has term 6, not between 3 and the message's 5");
  });
});

describe("entries", () => {
  test("come back as they were, and keep their bytes", () => {
    fc.assert(
      fc.property(id, id, type, data, (term, index, type, data) => {
        const entry: Entry = { term, index, type, data };
        const bytes = encodeEntry(entry);
        expect(encodeEntry(entry)).toBe(bytes);
        const read = decodeEntry(bytes);
        expect(read).toEqual({ term, index, type, data, encoded: bytes });
        expect(encodeEntry(read)).toBe(bytes);
      }),
    );
  });

  test("of any bytes are read or refused with a WireError", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 30 }), (bytes) => {
        try {
          decodeEntry(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(WireError);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test("of a number beyond what is exact are not written", () => {
    const beyond: Entry = { term: 1, index: 2 ** 53, type: "normal", data: new Uint8Array(0) };
    expect(() => encodeEntry(beyond)).toThrow(RangeError);
  });
});
