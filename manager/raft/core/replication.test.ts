import { describe, expect, it } from "vitest";
import { MemoryStorage } from "./memory-storage.js";
import { bytes, confOf, Network } from "./network.test-kit.js";
import type { Entry, Message, MessageOf, MessageType } from "./types.js";

const entry = (index: number, term: number, data = ""): Entry => ({ index, term, type: "normal", data: bytes(data) });

function storageOf(terms: number[], voters: number[], term = terms.at(-1) ?? 0): MemoryStorage {
  const storage = new MemoryStorage(confOf(voters));
  storage.append(terms.map((t, i) => entry(i + 1, t)));
  storage.setHardState({ term, vote: 0, commit: 0 });
  return storage;
}

function sentOf<T extends MessageType>(n: Network, type: T): MessageOf<T>[] {
  return n.sent.filter((m): m is MessageOf<T> => m.type === type);
}

describe("commit", () => {
  it("is what a majority has durably", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.propose(1, "a");
    n.propose(2, "b");
    for (const id of [1, 2, 3]) expect(n.of(id).applied).toEqual(["a", "b"]);
    n.isolate(2, 3);
    n.propose(1, "c");
    expect(n.raw(1).status()).toMatchObject({ commit: 3, lastIndex: 4 });
  });

  it("counts no entry of an earlier term (figure 8)", () => {
    // (c) of the figure: 1 leads term 4 with an entry of term 2 that a majority has.
    const n = new Network([], {}, confOf([1, 2, 3, 4, 5]));
    const all = [1, 2, 3, 4, 5];
    n.add(1, storageOf([1, 2], all, 3));
    n.add(2, storageOf([1, 2], all, 3));
    n.add(3, storageOf([1], all, 3));
    n.add(4, storageOf([1], all, 3));
    n.add(5, storageOf([1, 3], all, 3));
    // Only 2 and 3 hear the leader, and its own entry of term 4 never reaches anybody.
    n.cut((m) => [4, 5].includes(m.to) || (m.type === "MsgApp" && m.entries.some((e) => e.term === 4)));
    n.raw(1).campaign();
    n.settle();
    const stepped = (from: number): Message => ({
      type: "MsgAppResp",
      from,
      to: 1,
      term: 4,
      index: 2,
      reject: false,
      hintIndex: 0,
      hintTerm: 0,
    });
    for (const from of [2, 3]) n.raw(1).step(stepped(from));
    n.settle();
    expect(n.raw(1).status()).toMatchObject({ role: "leader", term: 4, commit: 0 });
    for (const from of [2, 3]) n.raw(1).step({ ...stepped(from), index: 3 } as Message);
    expect(n.raw(1).status().commit).toBe(3);
  });

  it("waits for the leader's own disk where it is needed, and not where it is not", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.raw(1).propose(bytes("a"));
    const ready = n.raw(1).ready();
    n.of(1).storage.append(ready.entries);
    const ack = (from: number): Message => ({
      type: "MsgAppResp",
      from,
      to: 1,
      term: 1,
      index: 2,
      reject: false,
      hintIndex: 0,
      hintTerm: 0,
    });
    n.raw(1).step(ack(2));
    expect(n.raw(1).status().commit).toBe(1);
    n.raw(1).step(ack(3));
    expect(n.raw(1).status().commit).toBe(2);
    n.raw(1).advance();
    expect(n.raw(1).status().progress.get(1)?.match).toBe(2);
  });

  it("reaches a follower no further than its last new entry", () => {
    const n = new Network([2], {}, confOf([1, 2]));
    n.add(2, storageOf([1, 1, 1], [1, 2]));
    const app = { type: "MsgApp", from: 1, to: 2, term: 2, prevTerm: 1, commit: 3, entries: [] } as const;
    n.raw(2).step({ ...app, prevIndex: 1 });
    expect(n.raw(2).status().commit).toBe(1);
  });

  it("is told by a heartbeat no further than the follower is known to have", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.isolate(3);
    n.propose(1, "a");
    n.sent = [];
    n.tick(1);
    const commits = sentOf(n, "MsgHeartbeat").map((m) => [m.to, m.commit]);
    expect(commits).toEqual([
      [2, 2],
      [3, 1],
    ]);
  });
});

describe("logs that differ", () => {
  // Figure 7 of the paper: the leader of term 8, and the followers (a)–(f).
  const leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
  const followers = {
    a: [1, 1, 1, 4, 4, 5, 5, 6, 6],
    b: [1, 1, 1, 4],
    c: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    d: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    e: [1, 1, 1, 4, 4, 4, 4],
    f: [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
  };
  it.each(Object.entries(followers))("become the leader's: (%s) of figure 7", (_, terms) => {
    const all = [1, 2, 3];
    const n = new Network([], {}, confOf(all));
    n.add(1, storageOf(leader, all, 7));
    n.add(2, storageOf(leader, all, 7));
    n.add(3, storageOf(terms, all, 7));
    n.elect(1);
    n.tickAll(2);
    expect(n.terms(3)).toEqual([...leader, 8]);
    expect(n.raw(3).status().commit).toBe(11);
    // At most one refusal for each term that differs.
    expect(sentOf(n, "MsgAppResp").filter((m) => m.reject).length).toBeLessThanOrEqual(2);
  });

  it("meet after one refusal where both sides skip by term", () => {
    const all = [1, 2, 3];
    for (const [own, theirs] of [
      [
        [1, 3, 3, 3, 5, 5, 5, 5, 5],
        [1, 1, 1, 1, 2, 2],
      ],
      [
        [1, 3, 3, 3, 3, 3, 3, 3, 3],
        [1, 3, 3, 4, 4, 5, 5, 5],
      ],
    ] as const) {
      const n = new Network([], {}, confOf(all));
      n.add(1, storageOf([...own], all, 7));
      n.add(2, storageOf([...theirs], all, 7));
      n.add(3, storageOf([...own], all, 7));
      n.elect(1);
      n.tickAll(2);
      expect(sentOf(n, "MsgAppResp").filter((m) => m.reject)).toHaveLength(1);
      expect(n.terms(2)).toEqual([...own, 8]);
    }
  });

  it("are not cut by a message that comes late", () => {
    const n = new Network([1, 2]);
    n.elect(1);
    n.sent = [];
    n.propose(1, "a");
    const old = sentOf(n, "MsgApp").find((m) => m.entries.length === 1);
    for (const data of ["b", "c"]) n.propose(1, data);
    expect(old).toBeDefined();
    if (old !== undefined) n.raw(2).step(old);
    n.settle();
    expect(n.raw(2).status().lastIndex).toBe(4);
    expect(n.of(2).applied).toEqual(["a", "b", "c"]);
  });
});

describe("flow", () => {
  it("puts all that was proposed together into one message", () => {
    const n = new Network([1, 2]);
    n.elect(1);
    n.sent = [];
    for (let i = 0; i < 50; i++) n.raw(1).propose(bytes("x"));
    n.settle();
    expect(sentOf(n, "MsgApp").filter((m) => m.entries.length > 0)).toHaveLength(1);
    expect(n.of(2).applied).toHaveLength(50);
  });

  it("has no more messages under way than it may, and goes on when all of them were lost", () => {
    const n = new Network([1, 2, 3], { maxInflightMsgs: 3, maxSizePerMsg: 1 });
    n.elect(1);
    n.sent = [];
    n.isolate(3);
    for (let i = 0; i < 10; i++) n.raw(1).propose(bytes("x"));
    n.settle();
    expect(sentOf(n, "MsgApp").filter((m) => m.to === 3 && m.entries.length > 0)).toHaveLength(3);
    expect(n.raw(1).status().progress.get(3)).toMatchObject({ state: "replicate", paused: true, inflight: 3 });
    n.heal();
    // Asked by an empty message after the heartbeat's answer.
    n.tick(1);
    expect(n.of(3).applied).toHaveLength(9 + 1);
  });

  it("bounds what is under way by bytes, too", () => {
    const n = new Network([1, 2], { maxInflightBytes: 100, maxSizePerMsg: 60 });
    n.elect(1);
    n.isolate(2);
    n.sent = [];
    for (let i = 0; i < 10; i++) n.raw(1).propose(new Uint8Array(50));
    n.settle();
    expect(sentOf(n, "MsgApp").filter((m) => m.entries.length > 0)).toHaveLength(2);
  });

  it("probes with one message at a time", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.isolate(3);
    n.raw(1).reportUnreachable(3);
    n.sent = [];
    for (let i = 0; i < 5; i++) n.propose(1, "x");
    expect(sentOf(n, "MsgApp").filter((m) => m.to === 3)).toHaveLength(1);
    n.heal();
    n.tick(1);
    expect(n.raw(1).status().progress.get(3)).toMatchObject({ state: "replicate", match: 6 });
  });

  it("comes back from a probe with nothing to send by an empty message", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.raw(1).reportUnreachable(3);
    expect(n.raw(1).status().progress.get(3)?.state).toBe("probe");
    n.tick(1);
    expect(n.raw(1).status().progress.get(3)?.state).toBe("replicate");
  });

  it("sends few messages when nothing happens", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.sent = [];
    n.tickAll(50);
    expect(n.sent).toHaveLength(50 * 4);
  });

  it("bounds what is not committed, but takes the first of any size", () => {
    const n = new Network([1, 2, 3], { maxUncommittedSize: 100 });
    n.elect(1);
    n.isolate(2, 3);
    const raw = n.raw(1);
    expect(raw.propose(new Uint8Array(500))).toBeUndefined();
    expect(raw.propose(new Uint8Array(1))).toBe("too-much-pending");
    expect(raw.propose(new Uint8Array(0))).toBeUndefined();
    n.settle();
    n.heal();
    n.tick(1, 2);
    expect(raw.propose(new Uint8Array(60))).toBeUndefined();
    expect(raw.propose(new Uint8Array(60))).toBe("too-much-pending");
    // Committed, though not applied: there is room again.
    n.settle();
    expect(raw.propose(new Uint8Array(60))).toBeUndefined();
  });

  it("lets a new leader's empty entry in whatever waits", () => {
    const n = new Network([1, 2, 3], { maxUncommittedSize: 10 });
    n.elect(1);
    n.cut((m) => m.type === "MsgAppResp");
    n.raw(1).propose(new Uint8Array(500));
    n.settle();
    n.heal();
    n.tick(1);
    n.raw(1).transferLeader(2);
    n.settle();
    expect(n.raw(2).status()).toMatchObject({ role: "leader", commit: 3, lastIndex: 3 });
  });

  it("hands committed entries out in pages", () => {
    const n = new Network([1], { maxCommittedSizePerReady: 100, maxSizePerMsg: 1000 });
    n.elect(1);
    for (let i = 0; i < 10; i++) n.raw(1).propose(new Uint8Array(40));
    const pages: number[] = [];
    while (n.raw(1).hasReady()) pages.push(n.work(1).committedEntries.length);
    expect(pages.filter((size) => size > 0)).toEqual([2, 2, 2, 2, 2]);
  });
});

describe("proposals", () => {
  it("are refused without a leader, and by a follower that does not forward", () => {
    const n = new Network([1, 2, 3], { disableForwarding: true });
    expect(n.raw(1).propose(bytes("x"))).toBe("no-leader");
    n.elect(1);
    expect(n.raw(2).propose(bytes("x"))).toBe("not-leader");
    expect(n.raw(2).readIndex(1)).toBe("not-leader");
  });

  it("are forwarded once: nobody passes on what another forwarded", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    const m: Message = { type: "MsgProp", from: 3, to: 2, term: 0, entries: [{ type: "normal", data: bytes("x") }] };
    expect(n.raw(2).step(m)).toBe("not-leader");
    expect(n.raw(2).hasReady()).toBe(false);
    n.raw(1).step({ ...m, to: 1 });
    n.settle();
    expect(n.of(3).applied).toEqual(["x"]);
  });

  it("that wait to be forwarded are bounded", () => {
    const n = new Network([1, 2], { maxUncommittedSize: 100 });
    n.elect(1);
    expect(n.raw(2).propose(new Uint8Array(90))).toBeUndefined();
    expect(n.raw(2).propose(new Uint8Array(20))).toBe("too-much-pending");
  });
});

describe("a Ready", () => {
  it("must be finished before the next, and anything may be proposed meanwhile", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.raw(1).propose(bytes("a"));
    const ready = n.raw(1).ready();
    expect(() => n.raw(1).ready()).toThrow(/advance/);
    n.raw(1).propose(bytes("b"));
    expect(ready.entries.map((e) => e.index)).toEqual([2]);
    n.of(1).storage.append(ready.entries);
    n.raw(1).advance();
    expect(
      n
        .raw(1)
        .ready()
        .entries.map((e) => e.index),
    ).toEqual([3]);
    n.raw(1).advance();
    expect(() => n.raw(1).advance()).toThrow(/without a Ready/);
  });

  it("asks for a sync for entries, terms and votes, not for a commit alone", () => {
    const n = new Network([1, 2]);
    n.elect(1);
    n.raw(2).step({
      type: "MsgApp",
      from: 1,
      to: 2,
      term: 1,
      prevIndex: 1,
      prevTerm: 1,
      commit: 1,
      entries: [entry(2, 1, "a")],
    });
    expect(n.work(2).mustSync).toBe(true);
    n.raw(2).step({ type: "MsgHeartbeat", from: 1, to: 2, term: 1, commit: 2, readId: 0 });
    const ready = n.work(2);
    expect([ready.mustSync, ready.hardState]).toEqual([false, { term: 1, vote: 1, commit: 2 }]);
    expect(n.raw(2).hasReady()).toBe(false);
  });
});
