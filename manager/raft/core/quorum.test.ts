import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { jointIndex, jointVote, majorityIndex, majorityVote } from "./quorum.js";

const ids = fc.uniqueArray(fc.integer({ min: 1, max: 9 }), { maxLength: 7 });
const indexes = fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 10, maxLength: 10 });
const votes = fc.array(fc.constantFrom(true, false, undefined), { minLength: 10, maxLength: 10 });

/** By definition: the largest index that more than half have reached. */
function indexByCounting(voters: number[], index: (number | undefined)[]): number {
  if (voters.length === 0) return Infinity;
  for (let candidate = 12; candidate > 0; candidate--) {
    if (voters.filter((id) => (index[id] ?? 0) >= candidate).length * 2 > voters.length) return candidate;
  }
  return 0;
}

/** By definition: over every way that the missing votes can turn out. */
function voteByTrying(groups: number[][], vote: (boolean | undefined)[]): string {
  const missing = [...new Set(groups.flat())].filter((id) => vote[id] === undefined);
  const results = new Set<boolean>();
  for (let bits = 0; bits < 1 << missing.length; bits++) {
    const granted = (id: number): boolean => vote[id] ?? ((bits >> missing.indexOf(id)) & 1) === 1;
    results.add(groups.every((group) => group.length === 0 || group.filter(granted).length * 2 > group.length));
  }
  if (results.size === 2) return "pending";
  return results.has(true) ? "won" : "lost";
}

describe("quorum", () => {
  it("finds the index of a majority as counting does", () => {
    fc.assert(
      fc.property(ids, indexes, (voters, index) => {
        expect(majorityIndex(voters, (id) => index[id] ?? 0)).toBe(indexByCounting(voters, index));
      }),
    );
  });

  it("finds the index of a joint quorum as counting does in both halves", () => {
    fc.assert(
      fc.property(ids, ids, indexes, (incoming, outgoing, index) => {
        const expected = Math.min(indexByCounting(incoming, index), indexByCounting(outgoing, index));
        expect(jointIndex(incoming, outgoing, (id) => index[id] ?? 0)).toBe(expected);
      }),
    );
  });

  it("knows an election's result as soon as no missing vote can change it", () => {
    fc.assert(
      fc.property(ids, votes, (voters, vote) => {
        expect(majorityVote(voters, (id) => vote[id])).toBe(voteByTrying([voters], vote));
      }),
    );
  });

  it("wins a joint election in both halves only", () => {
    fc.assert(
      fc.property(ids, ids, votes, (incoming, outgoing, vote) => {
        // "Lost" is said once a half is lost; before that no missing vote may be able to decide alone.
        const expected = [incoming, outgoing].map((group) => voteByTrying([group], vote));
        const joint = expected.includes("lost") ? "lost" : expected.includes("pending") ? "pending" : "won";
        expect(jointVote(incoming, outgoing, (id) => vote[id])).toBe(joint);
      }),
    );
  });
});
