import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RaftLog } from "./log.js";
import { MemoryStorage } from "./memory-storage.js";
import { type Entry, RaftInvariantError } from "./types.js";

const entry = (index: number, term: number, size = 1): Entry => ({
  index,
  term,
  type: "normal",
  data: new Uint8Array(size),
});
const from = (first: number, ...terms: number[]): Entry[] => terms.map((term, i) => entry(first + i, term));

/** The first `durable` of the terms are in storage, the others are not. */
function logOf(terms: number[], { durable = terms.length, commit = 0, page = 1000 } = {}): RaftLog {
  const storage = new MemoryStorage();
  storage.append(from(1, ...terms.slice(0, durable)));
  const log = new RaftLog(storage, Math.min(commit, durable), 0, page);
  for (const one of from(durable + 1, ...terms.slice(durable))) log.append(one);
  log.commitTo(commit);
  return log;
}

function termsOf(log: RaftLog): (number | undefined)[] {
  return Array.from({ length: log.lastIndex }, (_, i) => log.term(i + 1));
}

describe("a follower's log", () => {
  // Terms 1 2 3 with commit 1, each with a different part of it durable.
  const table: [string, [number, number, number, number[]], number | undefined, number, number[]][] = [
    ["no term that matches", [3, 2, 3, [4]], undefined, 1, [1, 2, 3]],
    ["beyond the end", [4, 3, 3, [4]], undefined, 1, [1, 2, 3]],
    ["empty, commit within", [3, 3, 2, []], 3, 2, [1, 2, 3]],
    ["empty, commit beyond", [3, 3, 9, []], 3, 3, [1, 2, 3]],
    ["empty and old: never shortens", [2, 2, 1, []], 2, 1, [1, 2, 3]],
    ["empty and old: commits no more than it says", [2, 2, 3, []], 2, 2, [1, 2, 3]],
    ["old entries: never shorten", [1, 1, 1, [2]], 2, 1, [1, 2, 3]],
    ["the same entries and one more", [1, 1, 4, [2, 3, 4]], 4, 4, [1, 2, 3, 4]],
    ["one more", [3, 3, 3, [4]], 4, 3, [1, 2, 3, 4]],
    ["a conflict cuts", [1, 1, 1, [4]], 2, 1, [1, 4]],
    ["a conflict further on cuts there", [1, 1, 2, [2, 4, 4]], 4, 2, [1, 2, 4, 4]],
  ];
  for (const durable of [0, 1, 2, 3]) {
    it.each(table)(
      `with ${durable} durable takes over: %s`,
      (_, [prev, term, commit, terms], last, newCommit, after) => {
        const log = logOf([1, 2, 3], { durable, commit: Math.min(1, durable) });
        log.commitTo(1);
        expect(log.maybeAppend(prev, term, commit, from(prev + 1, ...terms))).toBe(last);
        expect(log.committed).toBe(newCommit);
        expect(termsOf(log)).toEqual(after);
      },
    );
  }

  it("crashes on a conflict at or below its commit", () => {
    const log = logOf([1, 2, 3], { commit: 2 });
    expect(() => log.maybeAppend(1, 1, 2, from(2, 4))).toThrow(RaftInvariantError);
    expect(termsOf(log)).toEqual([1, 2, 3]);
  });

  it("crashes on a commit beyond its end", () => {
    expect(() => logOf([1, 2]).commitTo(3)).toThrow(/beyond the last entry/);
  });

  it("finds the last place where the logs can meet", () => {
    const log = logOf([1, 1, 2, 2, 5, 5]);
    const table = [
      [6, 5, 6, 5],
      [6, 4, 4, 2],
      [6, 1, 2, 1],
      [6, 0, 0, 0],
      [9, 3, 4, 2],
      [3, 9, 3, 2],
      [0, 3, 0, 0],
    ] as const;
    for (const [index, term, at, its] of table) {
      expect(log.findConflictByTerm(index, term)).toEqual({ index: at, term: its });
    }
  });
});

describe("what is not durable", () => {
  it("stays until the entries that were written are those that are there", () => {
    const log = logOf([1, 1, 1], { durable: 1 });
    expect(log.unstable().map((e) => e.index)).toEqual([2, 3]);
    // Between the Ready and its end another leader replaced the last entry.
    log.maybeAppend(2, 1, 0, from(3, 2));
    log.stableTo(3, 1);
    expect(log.stableIndex).toBe(1);
    log.stableTo(3, 2);
    expect(log.stableIndex).toBe(3);
    expect(log.hasUnstable).toBe(false);
  });

  it("is not confused by an entry that went and came back (ABA)", () => {
    const storage = new MemoryStorage();
    const log = new RaftLog(storage, 0, 0, 1000);
    log.maybeAppend(0, 0, 0, from(1, 1, 1));
    const first = log.unstable();
    storage.append(first);
    log.maybeAppend(0, 0, 0, from(1, 2));
    log.maybeAppend(0, 0, 0, from(1, 1, 1));
    log.stableTo(2, 1);
    expect([log.term(1), log.term(2), log.stableIndex]).toEqual([1, 1, 2]);
    expect([storage.term(1), storage.term(2)]).toEqual([1, 1]);
  });

  it("shadows what storage has", () => {
    const log = logOf([1, 1, 1, 1], { commit: 1 });
    log.maybeAppend(1, 1, 1, from(2, 2));
    expect(termsOf(log)).toEqual([1, 2]);
    expect(log.entries(1, 3, 100)?.map((e) => e.term)).toEqual([1, 2]);
    expect(log.unstable().map((e) => e.index)).toEqual([2]);
  });

  it("is replaced by a snapshot, as is what storage has", () => {
    const log = logOf([1, 1, 1], { durable: 2, commit: 1 });
    log.restore({
      index: 10,
      term: 3,
      confState: { voters: [1], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false },
    });
    expect([log.firstIndex, log.lastIndex, log.lastTerm, log.committed]).toEqual([11, 10, 3, 10]);
    expect([log.term(2), log.entries(2, 3, 9)]).toEqual([undefined, undefined]);
    // What was under way when it came is of no account.
    log.stableTo(3, 1);
    expect(log.stableIndex).toBe(10);
    expect(log.hasCommitted).toBe(false);
  });
});

describe("entries", () => {
  it("are those asked for up to the bytes given, and at least one, wherever they are", () => {
    const sizes = fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(sizes, fc.nat(), fc.nat(), fc.nat(), fc.integer({ min: 0, max: 30 }), (all, a, b, c, max) => {
        const durable = a % (all.length + 1);
        const low = 1 + (b % all.length);
        const high = low + 1 + (c % (all.length - low + 1));
        const entries = all.map((size, i) => entry(i + 1, 1, size));
        const storage = new MemoryStorage();
        storage.append(entries.slice(0, durable));
        const log = new RaftLog(storage, 0, 0, 1000);
        for (const one of entries.slice(durable)) log.append(one);
        const expected: number[] = [];
        let sum = 0;
        for (let i = low; i < high; i++) {
          sum += all[i - 1] ?? 0;
          if (sum > max && expected.length > 0) break;
          expected.push(i);
        }
        expect(log.entries(low, high, max)?.map((e) => e.index)).toEqual(expected);
      }),
    );
  });

  it("are handed out in pages, and wait while a page is not applied", () => {
    const log = logOf([1, 1, 1, 1, 1], { commit: 4, page: 2 });
    expect(log.handOutCommitted().map((e) => e.index)).toEqual([1, 2]);
    expect(log.hasCommitted).toBe(false);
    log.appliedTo(1);
    expect(log.handOutCommitted()).toEqual([]);
    log.appliedTo(2);
    expect(log.handOutCommitted().map((e) => e.index)).toEqual([3, 4]);
    expect(() => log.appliedTo(5)).toThrow(RaftInvariantError);
  });
});

describe("a log that is opened", () => {
  it("refuses what cannot be", () => {
    const storage = new MemoryStorage();
    storage.append(from(1, 1, 1));
    expect(() => new RaftLog(storage, 3, 0, 10)).toThrow(/entries were lost/);
    expect(() => new RaftLog(storage, 1, 2, 10)).toThrow(/applied 2/);
  });

  it("takes its snapshot for committed", () => {
    const storage = new MemoryStorage();
    storage.applySnapshot({ index: 5, term: 2, confState: storage.initialState().confState });
    expect(new RaftLog(storage, 0, 5, 10).committed).toBe(5);
  });
});
