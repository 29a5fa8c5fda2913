import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { changed, checkedConfState } from "./changer.js";
import { decodeConfChange, encodeConfChange, leaveJoint, parseConfChange } from "./conf-change.js";
import { type ConfChange, type ConfState, RaftInvariantError } from "./types.js";

const none = new Uint8Array(0);

const someChange: fc.Arbitrary<ConfChange> = fc.record({
  transition: fc.constantFrom("auto", "joint-implicit", "joint-explicit"),
  changes: fc.array(
    fc.record({
      type: fc.constantFrom("add-voter", "add-learner", "remove"),
      id: fc.integer({ min: 1, max: 7 }),
    }),
    { maxLength: 5 },
  ),
  context: fc.uint8Array({ maxLength: 20 }),
});

/** "+4" adds a voter, "~4" a learner, "-4" removes. */
function change(text: string, transition: ConfChange["transition"] = "auto"): ConfChange {
  const types = { "+": "add-voter", "~": "add-learner", "-": "remove" } as const;
  const changes = text
    .split(" ")
    .filter((word) => word !== "")
    .map((word) => ({ type: types[word[0] as "+" | "~" | "-"], id: Number(word.slice(1)) }));
  return { transition, changes, context: none };
}

/** "1 2 & 3 ~4 *3" is voters 1 2, outgoing 3, learner 4, learnersNext 3; "auto" at the end if left by itself. */
function show(conf: ConfState | { invalid: string }): string {
  if ("invalid" in conf) return conf.invalid;
  const parts = [conf.voters.join(" ")];
  if (conf.votersOutgoing.length > 0) parts.push("&", conf.votersOutgoing.join(" "));
  for (const id of conf.learners) parts.push(`~${id}`);
  for (const id of conf.learnersNext) parts.push(`*${id}`);
  if (conf.autoLeave) parts.push("auto");
  return parts.join(" ");
}

const conf = (voters: number[], outgoing: number[] = [], learners: number[] = [], next: number[] = []): ConfState => ({
  voters,
  votersOutgoing: outgoing,
  learners,
  learnersNext: next,
  autoLeave: false,
});

describe("a membership change as bytes", () => {
  it("comes back as it was", () => {
    fc.assert(
      fc.property(someChange, (one) => {
        const back = decodeConfChange(encodeConfChange(one));
        const leaves = one.changes.length === 0 && one.context.length === 0;
        expect(back).toEqual(leaves ? leaveJoint : one);
      }),
    );
  });

  it("keeps the largest id", () => {
    const big = change("+9007199254740991");
    expect(decodeConfChange(encodeConfChange(big))).toEqual(big);
  });

  it("is of no bytes where it leaves a joint configuration", () => {
    expect(encodeConfChange(leaveJoint)).toHaveLength(0);
  });

  it("is refused where the bytes are of nothing it makes", () => {
    const good = encodeConfChange(change("+1 -2"));
    for (const bad of [good.slice(0, 1), good.slice(0, 10), good.map((b, i) => (i === 0 ? 9 : b))]) {
      expect(parseConfChange(bad)).toBeUndefined();
      expect(() => decodeConfChange(bad)).toThrow(RaftInvariantError);
    }
    expect(parseConfChange(good.map((b, i) => (i === 2 ? 7 : b)))).toBeUndefined();
    expect(parseConfChange(new Uint8Array([0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]))).toBeUndefined();
    expect(() => encodeConfChange(change("+0"))).toThrow(/id: 0/);
  });

  it("never makes reading throw, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (data) => {
        const parsed = parseConfChange(data);
        // One way only to write each: what is read is written as it was.
        if (parsed !== undefined) expect(encodeConfChange(parsed)).toEqual(data);
      }),
      { examples: [[new Uint8Array([1, 0])], [new Uint8Array([2, 0, 9])], [new Uint8Array([0, 0])]] },
    );
  });
});

describe("what a change makes of a configuration", () => {
  const table: [ConfState, ConfChange, string][] = [
    [conf([1]), change("+2"), "1 2"],
    [conf([1, 2]), change("-1"), "2"],
    [conf([1, 2]), change("~3"), "1 2 ~3"],
    [conf([1, 2], [], [3]), change("+3"), "1 2 3"],
    [conf([1, 2, 3]), change("~3"), "1 2 ~3"],
    [conf([1, 2]), change("-9"), "1 2"],
    [conf([1]), change("~2 ~3"), "1 ~2 ~3"],
    [conf([1]), change("-1"), "no voter would be left"],
    [conf([1]), change("~1"), "no voter would be left"],
    [conf([1]), change("+2 +3"), "1 2 3 & 1 auto"],
    [conf([1, 2, 3]), change("-3 +4"), "1 2 4 & 1 2 3 auto"],
    [conf([1, 2, 3]), change("~3 +4"), "1 2 4 & 1 2 3 *3 auto"],
    [conf([1, 2, 3], [], [4]), change("+4 ~1"), "2 3 4 & 1 2 3 *1 auto"],
    [conf([1]), change("+2", "joint-implicit"), "1 2 & 1 auto"],
    [conf([1]), change("+2", "joint-explicit"), "1 2 & 1"],
    [conf([1, 2], [1, 2, 3], [4], [3]), leaveJoint, "1 2 ~3 ~4"],
    [conf([1, 2], [1]), change("+3"), "the joint configuration must be left first"],
    [conf([1, 2]), leaveJoint, "there is no joint configuration to leave"],
  ];
  it.each(table)("%j with %j", (before, one, after) => {
    expect(show(changed(before, one))).toBe(after);
  });

  it("is a sound configuration whose quorums meet those of the one before", () => {
    fc.assert(
      fc.property(fc.array(someChange, { maxLength: 12 }), (changes) => {
        let at = conf([1, 2, 3]);
        for (const one of changes) {
          const next = changed(at, one);
          if ("invalid" in next) continue;
          expect(checkedConfState(next)).toEqual(next);
          // Simple steps differ in a voter at most; others share a whole half.
          const halves = (c: ConfState): string[] => [c.voters.join(), c.votersOutgoing.join()].filter((h) => h !== "");
          const shared = halves(next).some((half) => halves(at).includes(half));
          const differing =
            at.voters.filter((id) => !next.voters.includes(id)).length +
            next.voters.filter((id) => !at.voters.includes(id)).length;
          expect(shared || differing === 1).toBe(true);
          at = next;
        }
      }),
    );
  });

  it("refuses a configuration from elsewhere that contradicts itself", () => {
    expect(checkedConfState(conf([3, 1, 3]))).toEqual(conf([1, 3]));
    for (const bad of [
      conf([1], [], [1]),
      conf([1], [2], [], [3]),
      conf([1], [1], [], [1]),
      conf([], [1]),
      { ...conf([1]), autoLeave: true },
    ]) {
      expect(() => checkedConfState(bad)).toThrow(RaftInvariantError);
    }
  });
});
