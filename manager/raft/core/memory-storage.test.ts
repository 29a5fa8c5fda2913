import { describe, expect, it } from "vitest";
import { MemoryStorage } from "./memory-storage.js";
import { confOf } from "./network.test-kit.js";
import { type Entry, RaftInvariantError } from "./types.js";

const entries = (first: number, ...terms: number[]): Entry[] =>
  terms.map((term, i) => ({ index: first + i, term, type: "normal", data: new Uint8Array(10) }));

describe("a log in memory", () => {
  it("answers compacted and unavailable around what it has", () => {
    const storage = new MemoryStorage(confOf([1]));
    storage.append(entries(1, 1, 1, 2, 2));
    storage.createSnapshot(3, confOf([1, 2]));
    storage.compact(2);
    expect([1, 2, 3, 4, 5].map((i) => storage.term(i))).toEqual(["compacted", 1, 2, 2, "unavailable"]);
    expect([storage.firstIndex(), storage.lastIndex()]).toEqual([3, 4]);
    expect(storage.entries(2, 4, 99)).toBe("compacted");
    expect(storage.entries(3, 6, 99)).toBe("unavailable");
    expect(storage.entries(3, 5, 0)).toHaveLength(1);
    expect(storage.initialState().confState).toEqual(confOf([1, 2]));
  });

  it("replaces from the first entry on, and leaves no gap", () => {
    const storage = new MemoryStorage();
    storage.append(entries(1, 1, 1, 1));
    storage.append(entries(2, 2));
    expect([storage.lastIndex(), storage.term(2)]).toEqual([2, 2]);
    expect(() => storage.append(entries(4, 2))).toThrow(RaftInvariantError);
  });

  it("makes no snapshot of what it does not have, and frees nothing that no snapshot covers", () => {
    const storage = new MemoryStorage();
    storage.append(entries(1, 1, 1));
    expect(() => storage.createSnapshot(3, confOf([1]))).toThrow(RaftInvariantError);
    expect(() => storage.compact(1)).toThrow(/needs a snapshot/);
    storage.createSnapshot(2, confOf([1]));
    expect(() => storage.createSnapshot(1, confOf([1]))).toThrow(/newer/);
  });

  it("is replaced by a snapshot, unless that is old", () => {
    const storage = new MemoryStorage();
    storage.append(entries(1, 1, 1));
    storage.applySnapshot({ index: 9, term: 3, confState: confOf([4]) });
    storage.applySnapshot({ index: 5, term: 2, confState: confOf([5]) });
    expect([storage.firstIndex(), storage.lastIndex(), storage.term(9)]).toEqual([10, 9, 3]);
    expect(storage.initialState()).toMatchObject({ hardState: { commit: 9 }, confState: confOf([4]) });
  });
});
