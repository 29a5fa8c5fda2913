import { describe, expect, it } from "vitest";
import { bytes, Network } from "./network.test-kit.js";
import type { Message } from "./types.js";

const heartbeats = (n: Network): number => n.sent.filter((m) => m.type === "MsgHeartbeat").length;

describe("a consistent read", () => {
  it("is confirmed by a quorum, on the leader and on a follower", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.propose(1, "a");
    expect(n.raw(1).readIndex(11)).toBeUndefined();
    expect(n.raw(3).readIndex(33)).toBeUndefined();
    n.settle();
    expect(n.of(1).reads).toEqual([{ context: 11, index: 2 }]);
    expect(n.of(3).reads).toEqual([{ context: 33, index: 2 }]);
  });

  it("is not served by a leader that nobody hears, and is lost with it", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.isolate(1);
    n.raw(1).readIndex(1);
    n.tick(1, 9);
    expect(n.of(1).reads).toEqual([]);
    n.tick(1, 30);
    n.heal();
    n.tickAll(40);
    expect(n.of(1).reads).toEqual([]);
  });

  it("is asked again with each heartbeat when the answers were lost", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.cut((m) => m.type === "MsgHeartbeatResp");
    n.raw(1).readIndex(1);
    n.raw(1).readIndex(2);
    n.settle();
    expect(n.of(1).reads).toEqual([]);
    n.heal();
    n.tick(1);
    expect(n.of(1).reads.map((r) => r.context)).toEqual([1, 2]);
  });

  it("waits until the leader has committed in its term", () => {
    const n = new Network([1, 2, 3]);
    n.cut((m) => m.type === "MsgAppResp");
    n.elect(1);
    n.raw(1).readIndex(1);
    n.raw(2).readIndex(2);
    n.settle();
    expect([n.of(1).reads, n.of(2).reads]).toEqual([[], []]);
    n.heal();
    n.tick(1);
    expect(n.of(1).reads).toEqual([{ context: 1, index: 1 }]);
    expect(n.of(2).reads).toEqual([{ context: 2, index: 1 }]);
  });

  it("waits for that where the leader is alone, too: its commit may be older than what it acknowledged", () => {
    const n = new Network([1]);
    n.elect(1);
    n.propose(1, "a");
    n.of(1).storage.setHardState({ term: 1, vote: 1, commit: 1 });
    n.add(1, n.of(1).storage);
    n.raw(1).campaign();
    n.work(1);
    expect(n.raw(1).status()).toMatchObject({ role: "leader", commit: 1 });
    n.raw(1).readIndex(5);
    n.settle();
    expect(n.of(1).reads).toEqual([{ context: 5, index: 3 }]);
  });

  it("is never confirmed by an answer to an older question, whatever the asker's numbers", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.raw(1).readIndex(7);
    n.settle();
    const old = n.sent.findLast((m) => m.type === "MsgHeartbeatResp");
    expect(old).toBeDefined();
    n.isolate(1);
    n.raw(1).readIndex(7);
    n.settle();
    if (old !== undefined) n.raw(1).step(old);
    n.raw(1).step({ type: "MsgHeartbeatResp", from: 2, to: 1, term: 1, readId: 999 });
    n.settle();
    expect(n.of(1).reads).toHaveLength(1);
  });

  it("is confirmed by no learner", () => {
    const n = new Network(
      [1, 2, 3],
      {},
      {
        voters: [1, 2],
        votersOutgoing: [],
        learners: [3],
        learnersNext: [],
        autoLeave: false,
      },
    );
    n.elect(1);
    n.isolate(2);
    n.raw(1).readIndex(1);
    n.tick(1, 3);
    expect(n.of(1).reads).toEqual([]);
  });

  it("shares its round of heartbeats with those that come at the same time", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.sent = [];
    for (let i = 0; i < 100; i++) n.raw(1).readIndex(i);
    n.settle();
    expect(heartbeats(n)).toBe(2);
    expect(n.of(1).reads.map((r) => r.context)).toEqual(Array.from({ length: 100 }, (_, i) => i));
  });

  it("is refused when too many wait", () => {
    const n = new Network([1, 2, 3], { maxPendingReads: 2 });
    n.elect(1);
    n.isolate(1);
    expect([1, 2, 3].map((context) => n.raw(1).readIndex(context))).toEqual([undefined, undefined, "too-much-pending"]);
    n.settle();
    expect(n.raw(1).readIndex(4)).toBe("too-much-pending");
    n.heal();
    n.tick(1);
    expect(n.of(1).reads).toHaveLength(2);
    expect(n.raw(1).readIndex(5)).toBeUndefined();
  });

  it("is refused without a leader, and when a stranger asks", () => {
    const n = new Network([1, 2, 3]);
    expect(n.raw(1).readIndex(1)).toBe("no-leader");
    n.elect(1);
    const m: Message = { type: "MsgReadIndex", from: 9, to: 1, term: 0, context: 1 };
    expect(n.raw(1).step(m)).toBe("not-member");
    expect(n.raw(2).step({ ...m, from: 3, to: 2 })).toBe("not-leader");
  });
});

describe("a read by lease", () => {
  const leased = (): Network => {
    const n = new Network([1, 2, 3], { readOnly: "lease" });
    // Nobody votes for an election timeout after its start.
    expect(n.raw(1).campaign()).toBeUndefined();
    n.settle();
    expect(n.raw(1).status().role).toBe("pre-candidate");
    n.tickAll(20);
    expect(n.raw(1).status().role).toBe("leader");
    return n;
  };

  it("asks nobody while a quorum answered lately", () => {
    const n = leased();
    n.tick(1, 2);
    n.isolate(1);
    n.sent = [];
    n.raw(1).readIndex(1);
    n.settle();
    expect(heartbeats(n)).toBe(0);
    expect(n.of(1).reads).toHaveLength(1);
  });

  it("is over before anybody can have been elected", () => {
    const n = leased();
    n.tickAll(1);
    n.isolate(1);
    for (let context = 0; n.raw(2).status().role !== "leader" && n.raw(3).status().role !== "leader"; context++) {
      n.of(1).reads = [];
      n.raw(1).readIndex(context);
      n.tickAll(1);
    }
    expect(n.of(1).reads).toEqual([]);
  });

  it("is over for the term once leadership was offered to another", () => {
    const n = leased();
    n.tick(1, 2);
    n.isolate(1);
    n.raw(1).transferLeader(2);
    n.raw(1).readIndex(1);
    n.settle();
    expect(n.of(1).reads).toEqual([]);
  });

  it("forbids to forget the leader, which is allowed otherwise", () => {
    const n = leased();
    expect(n.raw(2).forgetLeader()).toBe("lease-held");
    const safe = new Network([1, 2, 3]);
    safe.elect(1);
    safe.propose(1, "a");
    expect(safe.raw(1).forgetLeader()).toBeUndefined();
    for (const id of [2, 3]) expect(safe.raw(id).forgetLeader()).toBeUndefined();
    expect(safe.raw(3).status().lead).toBe(0);
    expect(safe.raw(3).propose(bytes("x"))).toBe("no-leader");
    safe.elect(2);
  });
});
