import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MemoryStorage } from "./memory-storage.js";
import { bytes, confOf, Network } from "./network.test-kit.js";
import { RawNode } from "./raw-node.js";
import { type Entry, type Message, RaftInvariantError } from "./types.js";

const entry = (index: number, term: number): Entry => ({ index, term, type: "normal", data: bytes(`${term}`) });

/** A log of these terms, in the last of them or in `term`, that has voted for nobody. */
function storageOf(terms: number[], voters: number[], term = terms.at(-1) ?? 0): MemoryStorage {
  const storage = new MemoryStorage(confOf(voters));
  storage.append(terms.map((t, i) => entry(i + 1, t)));
  storage.setHardState({ term, vote: 0, commit: 0 });
  return storage;
}

const roles = (n: Network): string[] => [...n.members.values()].map((m) => m.raw.status().role);
const terms = (n: Network): number[] => [...n.members.values()].map((m) => m.raw.status().term);

describe("an election", () => {
  it("comes after a wait, and has one leader", () => {
    const n = new Network([1, 2, 3]);
    n.tickAll(10);
    expect(roles(n)).toEqual(["follower", "follower", "follower"]);
    n.tickAll(1);
    expect(roles(n)).toEqual(["leader", "follower", "follower"]);
    expect([...n.members.values()].map((m) => m.raw.status().lead)).toEqual([1, 1, 1]);
    expect(n.raw(2).status().commit).toBe(1);
  });

  it("draws its wait anew each time", () => {
    const drawn: number[] = [];
    const n = new Network([1, 2, 3], {
      random: (max) => {
        drawn.push(max);
        return drawn.length % max;
      },
    });
    n.isolate(1);
    const before = drawn.length;
    n.tick(1, 60);
    expect(drawn.length).toBeGreaterThan(before + 2);
    expect(new Set(drawn)).toEqual(new Set([10]));
  });

  it("follows when the leader is gone, again and again", () => {
    const n = new Network([1, 2, 3, 4, 5]);
    n.elect(1);
    n.isolate(1);
    n.tickAll(25);
    expect(n.raw(2).status().role).toBe("leader");
    // The old one heard nobody, and gave up.
    expect(n.raw(1).status().role).not.toBe("leader");
    n.isolate(1, 2);
    n.tickAll(30);
    expect(n.raw(3).status().role).toBe("leader");
    n.heal();
    n.tickAll(30);
    expect(roles(n)).toEqual(["follower", "follower", "leader", "follower", "follower"]);
    expect(new Set(terms(n)).size).toBe(1);
  });

  it("is won by none without a majority", () => {
    const n = new Network([1, 2, 3, 4]);
    n.isolate(3, 4);
    n.tickAll(200);
    expect(roles(n)).not.toContain("leader");
    // Pre-votes that fail change no term.
    expect(terms(n)).toEqual([0, 0, 0, 0]);
  });

  it("is lost by a shorter log, whatever the terms", () => {
    const n = new Network([1, 2, 3], { preVote: false });
    n.add(1, storageOf([1, 1], [1, 2, 3], 7));
    n.add(2, storageOf([1, 2], [1, 2, 3]));
    n.add(3, storageOf([1, 2, 2], [1, 2, 3]));
    n.raw(1).campaign();
    n.settle();
    expect(n.raw(1).status()).toMatchObject({ role: "follower", term: 8 });
    n.raw(2).campaign();
    n.settle();
    // 1 has less than 2, 3 has more.
    expect(n.raw(2).status().role).toBe("leader");
  });

  it("counts the vote for oneself only once it is durable", () => {
    const storage = new MemoryStorage(confOf([1], [2]));
    const raw = new RawNode({
      id: 1,
      storage,
      applied: 0,
      electionTick: 10,
      heartbeatTick: 1,
      random: () => 0,
    });
    raw.campaign();
    expect(raw.status().role).toBe("candidate");
    const ready = raw.ready();
    expect(ready).toMatchObject({ hardState: { term: 1, vote: 1 }, mustSync: true, messages: [], entries: [] });
    expect(raw.status().role).toBe("candidate");
    raw.advance();
    expect(raw.status().role).toBe("leader");
    // And its own entry too: nothing is committed before it is durable.
    const next = raw.ready();
    expect(next.entries).toHaveLength(1);
    expect(next.committedEntries).toEqual([]);
    storage.append(next.entries);
    raw.advance();
    expect(raw.ready().committedEntries).toHaveLength(1);
  });

  it("does not count a voter twice, nor somebody who is no voter", () => {
    const n = new Network([1, 2, 3, 4, 5], { preVote: false });
    n.raw(1).campaign();
    n.work(1);
    for (const from of [2, 2, 2, 9]) {
      n.raw(1).step({ type: "MsgVoteResp", from, to: 1, term: 1, reject: false });
    }
    // The first answer counts.
    n.raw(1).step({ type: "MsgVoteResp", from: 4, to: 1, term: 1, reject: true });
    n.raw(1).step({ type: "MsgVoteResp", from: 4, to: 1, term: 1, reject: false });
    expect(n.raw(1).status().role).toBe("candidate");
    n.raw(1).step({ type: "MsgVoteResp", from: 3, to: 1, term: 1, reject: false });
    expect(n.raw(1).status().role).toBe("leader");
  });

  it("gives one vote in a term, also after a restart", () => {
    const n = new Network([1, 2, 3]);
    const ask = (from: number): Message => ({
      type: "MsgVote",
      from,
      to: 3,
      term: 1,
      lastIndex: 0,
      lastTerm: 0,
      force: false,
    });
    n.raw(3).step(ask(1));
    n.work(3);
    n.add(3, n.of(3).storage);
    n.raw(3).step(ask(2));
    n.raw(3).step(ask(1));
    const answers = n
      .raw(3)
      .ready()
      .messages.map((m) => [m.to, m.type === "MsgVoteResp" && m.reject]);
    expect(answers).toEqual([
      [2, true],
      [1, false],
    ]);
  });

  it("has no two leaders of one term under any order of campaigns and losses", () => {
    const step = fc.record({ id: fc.integer({ min: 1, max: 5 }), lost: fc.integer({ min: 0, max: 1023 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25 }), fc.boolean(), (steps, preVote) => {
        const n = new Network([1, 2, 3, 4, 5], { preVote });
        const leaders = new Map<number, number>();
        for (const { id, lost } of steps) {
          let count = 0;
          n.cut(() => ((lost >> (count++ % 10)) & 1) === 1);
          n.raw(id).campaign();
          n.tick(id);
          n.raw(id).propose(bytes("x"));
          n.settle();
          for (const m of n.sent.splice(0)) {
            if (m.type !== "MsgApp" && m.type !== "MsgHeartbeat") continue;
            expect(leaders.get(m.term) ?? m.from).toBe(m.from);
            leaders.set(m.term, m.from);
          }
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe("pre-vote and check-quorum", () => {
  const preVote = (m: Partial<Message> = {}): Message =>
    ({ type: "MsgPreVote", from: 2, to: 3, term: 6, lastIndex: 9, lastTerm: 5, force: false, ...m }) as Message;
  const voter = (settings = {}): Network => {
    const n = new Network([1, 2], settings, confOf([1, 2, 3]));
    const storage = storageOf([1, 2], [1, 2, 3], 3);
    n.add(3, storage);
    return n;
  };

  it("answers a pre-vote without a change of its own term or vote", () => {
    const n = voter();
    n.raw(3).step(preVote());
    const ready = n.raw(3).ready();
    expect(ready.messages).toMatchObject([{ type: "MsgPreVoteResp", to: 2, term: 6, reject: false }]);
    expect([ready.hardState, ready.mustSync]).toEqual([undefined, false]);
  });

  it("refuses a pre-vote with its own term, also one of a lower term", () => {
    const n = voter();
    n.raw(3).step(preVote({ lastTerm: 1 }));
    n.raw(3).step(preVote({ term: 2 }));
    expect(n.raw(3).ready().messages).toMatchObject([
      { type: "MsgPreVoteResp", term: 3, reject: true },
      { type: "MsgPreVoteResp", term: 3, reject: true },
    ]);
  });

  it("does not count a grant for an earlier round", () => {
    const n = new Network([1, 2, 3]);
    n.raw(1).campaign();
    n.raw(1).step({ type: "MsgHeartbeat", from: 2, to: 1, term: 4, commit: 0, readId: 0 });
    n.work(1);
    n.raw(1).campaign();
    // Of a round in term 3, which this node has left since.
    n.raw(1).step({ type: "MsgPreVoteResp", from: 3, to: 1, term: 4, reject: false });
    expect(n.raw(1).status().role).toBe("pre-candidate");
    n.raw(1).step({ type: "MsgPreVoteResp", from: 3, to: 1, term: 5, reject: false });
    expect(n.raw(1).status()).toMatchObject({ role: "candidate", term: 5 });
  });

  it("ignores candidates while a leader is recent, unless the leader wants them", () => {
    const n = voter();
    n.raw(3).step({ type: "MsgHeartbeat", from: 1, to: 3, term: 3, commit: 0, readId: 0 });
    n.work(3);
    const vote = { type: "MsgVote", from: 2, to: 3, term: 9, lastIndex: 9, lastTerm: 5 } as const;
    n.raw(3).step(preVote());
    n.raw(3).step({ ...vote, force: false });
    expect(n.raw(3).hasReady()).toBe(false);
    n.tick(3, 9);
    n.raw(3).step({ ...vote, force: false });
    expect(n.raw(3).hasReady()).toBe(false);
    n.raw(3).step({ ...vote, force: true });
    expect(n.raw(3).ready().messages).toMatchObject([{ type: "MsgVoteResp", term: 9, reject: false }]);
  });

  it("takes a node that was away back without a new election", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.isolate(3);
    n.tickAll(100);
    expect(n.raw(3).status()).toMatchObject({ role: "pre-candidate", term: 1 });
    n.heal();
    n.tickAll(20);
    expect(n.raw(1).status()).toMatchObject({ role: "leader", term: 1 });
    expect(n.raw(3).status().lead).toBe(1);
  });

  for (const preVoteToo of [true, false]) {
    it(`frees a node that is stuck at a higher term, pre-vote ${preVoteToo ? "on" : "off"}`, () => {
      const n = new Network([1, 2], { preVote: preVoteToo }, confOf([1, 2, 3]));
      n.add(3, storageOf([], [1, 2, 3], 20));
      n.isolate(3);
      n.elect(1);
      n.propose(1, "a");
      n.heal();
      n.tickAll(60);
      const leader = [1, 2, 3].filter((id) => n.raw(id).status().role === "leader");
      expect(leader).toHaveLength(1);
      expect(new Set(terms(n)).size).toBe(1);
      expect(terms(n)[0]).toBeGreaterThanOrEqual(20);
      n.propose(leader[0] ?? 0, "b");
      n.tickAll(2);
      expect(n.of(3).applied).toEqual(["a", "b"]);
    });
  }

  it("makes a leader step down that hears no quorum, and keep on with one", () => {
    const n = new Network([1, 2, 3, 4, 5]);
    n.elect(1);
    n.isolate(4, 5);
    n.tickAll(40);
    expect(n.raw(1).status().role).toBe("leader");
    n.isolate(2, 4, 5);
    n.tickAll(21);
    expect(n.raw(1).status().role).not.toBe("leader");
  });

  it("keeps one leader where only one link is cut", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.cut((m) => m.from + m.to === 4);
    n.tickAll(100);
    expect(n.raw(1).status()).toMatchObject({ role: "leader", term: 1 });
  });
});

describe("who may campaign", () => {
  it("is no learner, no stranger and no leader", () => {
    const n = new Network([1, 2], {}, confOf([1], [2]));
    expect(n.raw(2).campaign()).toBe("not-promotable");
    expect(new Network([3], {}, confOf([1])).raw(3).campaign()).toBe("not-member");
    n.elect(1);
    expect(n.raw(1).campaign()).toBe("not-promotable");
    n.isolate(2);
    n.tick(2, 100);
    expect(n.raw(2).status()).toMatchObject({ role: "follower", term: 1 });
  });

  it("is nobody with a committed membership change that is not applied", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.raw(1).proposeConfChange({
      transition: "auto",
      changes: [{ type: "add-learner", id: 4 }],
      context: new Uint8Array(0),
    });
    n.settle();
    // A restart: committed, and to be applied again.
    n.add(2, n.of(2).storage);
    n.raw(2).step({ type: "MsgHeartbeat", from: 1, to: 2, term: 1, commit: 2, readId: 0 });
    expect(n.raw(2).campaign()).toBe("not-promotable");
    n.raw(2).step({ type: "MsgTimeoutNow", from: 1, to: 2, term: 1 });
    expect(n.raw(2).status()).toMatchObject({ role: "follower", term: 1 });
    n.settle();
    expect(n.raw(2).campaign()).toBeUndefined();
  });

  it("gets a learner's vote, who may be a voter without knowing", () => {
    const n = new Network([1, 2, 3], {}, confOf([1, 2], [3]));
    n.raw(3).step({ type: "MsgVote", from: 1, to: 3, term: 1, lastIndex: 0, lastTerm: 0, force: false });
    expect(n.raw(3).ready().messages).toMatchObject([{ type: "MsgVoteResp", reject: false }]);
  });
});

describe("what cannot be", () => {
  it("stops the node: two leaders of one term", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    const m: Message = { type: "MsgHeartbeat", from: 3, to: 1, term: 1, commit: 0, readId: 0 };
    expect(() => n.raw(1).step(m)).toThrow(RaftInvariantError);
    expect(() => n.raw(2).step({ ...m, to: 2 })).toThrow(RaftInvariantError);
  });

  it("is ignored when it is only stale, foreign or misdirected", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.raw(1).transferLeader(2);
    n.settle();
    expect(n.raw(2).status()).toMatchObject({ role: "leader", term: 2 });
    const before = JSON.stringify(n.raw(1).status());
    const to = 1;
    const foreign: Message[] = [
      { type: "MsgAppResp", from: 9, to, term: 2, index: 5, reject: false, hintIndex: 0, hintTerm: 0 },
      { type: "MsgVoteResp", from: 2, to, term: 2, reject: false },
      { type: "MsgTimeoutNow", from: 3, to, term: 1 },
      { type: "MsgHeartbeat", from: 1, to, term: 9, commit: 5, readId: 0 },
      { type: "MsgHeartbeat", from: 2, to: 3, term: 9, commit: 5, readId: 0 },
      { type: "MsgApp", from: 2, to, term: 2, prevIndex: 1, prevTerm: 1, commit: 2, entries: [entry(4, 2)] },
    ];
    for (const m of foreign) n.raw(1).step(m);
    expect(JSON.stringify(n.raw(1).status())).toBe(before);
  });
});

describe("settings", () => {
  it("are refused with field, value and rule", () => {
    const make = (settings: object): RawNode => new Network([1], settings).raw(1);
    expect(() => make({ electionTick: 1 })).toThrow(/electionTick: 1 must be more than heartbeatTick \(1\)/);
    expect(() => make({ readOnly: "lease", checkQuorum: false })).toThrow(/needs checkQuorum/);
    expect(() => make({ maxInflightMsgs: 0 })).toThrow(/maxInflightMsgs: 0/);
  });
});

it("a learner names no leader that it has not heard for an election timeout", () => {
  const n = new Network([1, 2, 3], {}, confOf([1, 2], [3]));
  n.elect(1);
  n.propose(1, "a");
  expect(n.raw(3).status().lead).toBe(1);
  for (let i = 0; i < 30; i += 1) n.raw(3).tick();
  expect(n.raw(3).status()).toMatchObject({ lead: 0, role: "follower" });
});
