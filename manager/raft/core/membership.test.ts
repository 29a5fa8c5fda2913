import { describe, expect, it } from "vitest";
import { encodeConfChange, leaveJoint } from "./conf-change.js";
import { MemoryStorage } from "./memory-storage.js";
import { bytes, confOf, Network } from "./network.test-kit.js";
import type { ConfChange, Entry, Message, NodeId } from "./types.js";

type Change = ConfChange["changes"][number];
const addVoter = (id: NodeId): Change => ({ type: "add-voter", id });
const addLearner = (id: NodeId): Change => ({ type: "add-learner", id });
const remove = (id: NodeId): Change => ({ type: "remove", id });
const change = (changes: Change[], transition: ConfChange["transition"] = "auto"): ConfChange => ({
  transition,
  changes,
  context: new Uint8Array(0),
});

function make(n: Network, id: NodeId, cc: ConfChange): void {
  expect(n.raw(id).proposeConfChange(cc)).toBeUndefined();
  n.settle();
}

describe("a change of the membership", () => {
  it("brings a learner in, which gets the log and does not count, and then a vote", () => {
    const n = new Network([1], {}, confOf([1]));
    n.elect(1);
    n.propose(1, "a");
    make(n, 1, change([addLearner(2)]));
    n.add(2, new MemoryStorage(confOf([1])));
    n.tick(1, 2);
    expect(n.of(2).applied).toEqual(["a"]);
    expect(n.raw(2).confState).toEqual(confOf([1], [2]));
    n.isolate(2);
    n.propose(1, "b");
    expect(n.of(1).applied).toEqual(["a", "b"]);
    n.heal();
    make(n, 1, change([addVoter(2)]));
    n.tick(1);
    expect(n.raw(2).confState).toEqual(confOf([1, 2]));
    n.isolate(2);
    n.propose(1, "c");
    expect(n.of(1).applied).toEqual(["a", "b"]);
  });

  it("waits for an entry of the leader's own term", () => {
    const n = new Network([1, 2, 3]);
    n.cut((m) => m.type === "MsgAppResp");
    n.elect(1);
    expect(n.raw(1).proposeConfChange(change([addVoter(4)]))).toBe("change-pending");
    n.heal();
    n.tick(1);
    expect(n.raw(1).proposeConfChange(change([addVoter(4)]))).toBeUndefined();
  });

  it("is one at a time, until it is applied", () => {
    const n = new Network([1]);
    n.elect(1);
    const raw = n.raw(1);
    expect(raw.proposeConfChange(change([addLearner(4)]))).toBeUndefined();
    expect(raw.proposeConfChange(change([addLearner(5)]))).toBe("change-pending");
    n.of(1).storage.append(raw.ready().entries);
    raw.advance();
    const { committedEntries } = raw.ready();
    expect(committedEntries.map((e: Entry) => e.type)).toEqual(["conf-change"]);
    raw.advance();
    // Committed and handed out; in force and over only once applied.
    expect(raw.proposeConfChange(change([addLearner(5)]))).toBe("change-pending");
    expect(raw.confState).toEqual(confOf([1]));
    raw.applyConfChange(change([addLearner(4)]));
    raw.appliedTo(2);
    expect(raw.proposeConfChange(change([addLearner(5)]))).toBeUndefined();
  });

  it("that the application rejects is pending no more", () => {
    const n = new Network([1]);
    n.elect(1);
    const raw = n.raw(1);
    raw.proposeConfChange(change([addLearner(4)]));
    raw.rejectConfChange();
    expect(raw.proposeConfChange(change([addLearner(5)]))).toBe("change-pending");
    n.of(1).storage.append(raw.ready().entries);
    raw.advance();
    raw.ready();
    raw.advance();
    raw.rejectConfChange();
    expect(raw.proposeConfChange(change([addLearner(5)]))).toBeUndefined();
    expect(raw.confState).toEqual(confOf([1]));
  });

  it("that makes no sense is refused, or left out when it was forwarded", () => {
    const n = new Network([1, 2]);
    n.elect(1);
    for (const cc of [leaveJoint, change([remove(1), remove(2)]), change([addVoter(0)])]) {
      expect(n.raw(1).proposeConfChange(cc)).toBe("change-invalid");
    }
    expect(n.raw(1).proposeMany([{ type: "conf-change", data: new Uint8Array([9]) }])).toBe("change-invalid");
    // A refusal leaves nothing pending behind.
    const two = [change([addLearner(7)]), leaveJoint].map((cc) => ({
      type: "conf-change" as const,
      data: encodeConfChange(cc),
    }));
    expect(n.raw(1).proposeMany(two)).toBe("change-pending");
    expect(n.raw(1).proposeConfChange(change([addLearner(7)]))).toBeUndefined();
    n.settle();
    const forwarded: Message = {
      type: "MsgProp",
      from: 2,
      to: 1,
      term: 0,
      entries: [
        { type: "conf-change", data: new Uint8Array([9]) },
        { type: "normal", data: bytes("with it") },
      ],
    };
    expect(n.raw(1).step(forwarded)).toBeUndefined();
    n.settle();
    expect(n.of(2).applied).toEqual(["with it"]);
    expect(n.raw(1).status().lastIndex).toBe(4);
  });

  it("that a snapshot has overtaken changes nothing", () => {
    const n = new Network([3], {}, confOf([1]));
    const conf = confOf([1, 2], [3]);
    n.raw(3).step({ type: "MsgSnap", from: 1, to: 3, term: 4, snapshot: { index: 9, term: 3, confState: conf } });
    expect(n.raw(3).applyConfChange(change([addVoter(5)]), 9)).toEqual(conf);
    expect(n.raw(3).applyConfChange(change([addVoter(5)]), 10)).toEqual(confOf([1, 2, 5], [3]));
  });
});

describe("a joint configuration", () => {
  it("is entered for two voters and left by itself", () => {
    const n = new Network([1], {}, confOf([1]));
    n.elect(1);
    for (const id of [2, 3]) n.add(id, new MemoryStorage(confOf([1])));
    make(n, 1, change([addVoter(2), addVoter(3)]));
    n.tick(1, 2);
    for (const id of [1, 2, 3]) expect(n.raw(id).confState).toEqual(confOf([1, 2, 3]));
  });

  it("needs both majorities, and stays until it is left where that was asked for", () => {
    const n = new Network([1, 2, 3, 4, 5], {}, confOf([1, 2, 3]));
    n.elect(1);
    make(n, 1, change([remove(2), remove(3), addVoter(4), addVoter(5)], "joint-explicit"));
    n.tick(1, 2);
    expect(n.raw(1).confState).toMatchObject({ voters: [1, 4, 5], votersOutgoing: [1, 2, 3], autoLeave: false });
    expect(n.raw(1).proposeConfChange(change([addVoter(6)]))).toBe("change-invalid");
    for (const [missing, commits] of [
      [[4, 5], false],
      [[2, 3], false],
      [[2, 4], true],
    ] as const) {
      const before = n.raw(1).status().commit;
      n.isolate(...missing);
      n.propose(1, "x");
      expect(n.raw(1).status().commit > before).toBe(commits);
      n.heal();
      n.tick(1, 2);
      expect(n.raw(1).status().commit).toBe(n.raw(1).status().lastIndex);
    }
    make(n, 1, leaveJoint);
    n.tick(1);
    expect(n.raw(1).confState).toEqual(confOf([1, 4, 5]));
    n.isolate(2, 3);
    n.propose(1, "y");
    expect(n.of(4).applied.at(-1)).toBe("y");
  });

  it("elects by both majorities", () => {
    const conf = { ...confOf([1, 4, 5]), votersOutgoing: [1, 2, 3] };
    const n = new Network([1, 2, 3, 4, 5], {}, conf);
    n.isolate(4, 5);
    n.tick(1, 40);
    expect(n.raw(1).status().role).toBe("pre-candidate");
    n.isolate(2, 4);
    n.raw(1).campaign();
    n.settle();
    expect(n.raw(1).status().role).toBe("leader");
  });

  it("keeps who is demoted a voter until it is left", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    make(n, 1, change([addLearner(3), addLearner(2)], "joint-explicit"));
    expect(n.raw(1).confState).toMatchObject({ voters: [1], learnersNext: [2, 3], learners: [] });
    expect(n.raw(1).status().progress.get(3)?.isLearner).toBe(false);
    make(n, 1, leaveJoint);
    expect(n.raw(1).confState).toEqual(confOf([1], [2, 3]));
  });

  it("is left as soon as a transfer that forbade it is given up", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.isolate(3);
    n.raw(1).proposeConfChange(change([addLearner(4)], "joint-implicit"));
    n.raw(1).transferLeader(3);
    n.settle();
    expect(n.raw(1).confState.votersOutgoing).toEqual([1, 2, 3]);
    n.tick(1, 12);
    expect(n.raw(1).status()).toMatchObject({ role: "leader", confState: confOf([1, 2, 3], [4]) });
  });

  it("is left by the next leader, where the first did not come to it", () => {
    const n = new Network([1, 2, 3, 4]);
    n.elect(1);
    // The change commits; the entry that leaves it reaches nobody.
    n.cut((m) => m.type === "MsgApp" && m.entries.some((e) => e.type === "conf-change" && e.data.length === 0));
    make(n, 1, change([remove(4), addLearner(3)]));
    n.tick(1, 2);
    expect(n.raw(2).confState).toMatchObject({ voters: [1, 2], votersOutgoing: [1, 2, 3, 4] });
    n.isolate(1);
    n.tickAll(30);
    expect(n.raw(2).status().role).toBe("pre-candidate");
    n.isolate(4);
    n.raw(1).transferLeader(2);
    n.settle();
    n.tickAll(40);
    const leader = [1, 2].find((id) => n.raw(id).status().role === "leader") ?? 0;
    n.tick(leader, 3);
    for (const id of [1, 2, 3]) expect(n.raw(id).confState).toEqual(confOf([1, 2], [3]));
  });
});

describe("a leader that is removed", () => {
  it("commits its removal without counting itself, and steps down", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    make(n, 1, change([remove(1)]));
    expect(n.raw(1).status()).toMatchObject({ role: "follower", lead: 0 });
    expect(n.raw(1).campaign()).toBe("not-member");
    n.tickAll(25);
    const leaders = [1, 2, 3].filter((id) => n.raw(id).status().role === "leader");
    expect(leaders).toEqual([2]);
    expect(n.raw(2).confState).toEqual(confOf([2, 3]));
  });

  it("tells the one that is left that it is alone, though it never heard of the commit and has not every entry", () => {
    const n = new Network([1, 2]);
    n.elect(1);
    // What 2 gets is the removal alone: neither the entry behind it nor that it is committed.
    n.cut((m) => m.type === "MsgApp" && (m.commit > 1 || m.prevIndex > 1));
    expect(n.raw(1).proposeConfChange(change([remove(1)]))).toBeUndefined();
    n.work(1);
    expect(n.raw(1).propose(bytes("only on 1"))).toBeUndefined();
    n.settle();
    expect(n.raw(1).confState).toEqual(confOf([2]));
    expect(n.raw(2).confState).toEqual(confOf([1, 2]));
    // As long as 1 is away one of two is no majority.
    n.isolate(1);
    n.tickAll(60);
    expect(n.raw(2).status()).toMatchObject({ role: "pre-candidate", commit: 1 });
    n.heal();
    n.tickAll(40);
    expect(n.raw(2).status().role).toBe("leader");
    expect(n.raw(2).confState).toEqual(confOf([2]));
    n.isolate(1);
    n.propose(2, "alone");
    expect(n.of(2).applied).toEqual(["alone"]);
  });

  it("goes on where it is to, and does not count", () => {
    const n = new Network([1, 2, 3], { stepDownOnRemoval: false });
    n.elect(1);
    make(n, 1, change([remove(1)]));
    expect(n.raw(1).status().role).toBe("leader");
    expect(n.raw(1).propose(bytes("x"))).toBe("not-member");
    n.tick(1, 30);
    expect(n.raw(1).status().role).toBe("leader");
    // Of the two that are left one is no majority, with this leader or without.
    n.isolate(3);
    n.tick(1, 20);
    expect(n.raw(1).status().role).toBe("follower");
  });

  it("commits with the others what a removal makes committed", () => {
    const n = new Network([1, 2, 3, 4]);
    n.elect(1);
    n.isolate(4);
    make(n, 1, change([remove(4)]));
    n.isolate(3, 4);
    n.propose(1, "x");
    expect(n.of(2).raw.status().commit).toBe(n.raw(1).status().commit);
    expect(n.of(1).applied).toEqual(["x"]);
  });
});

describe("handing leadership over", () => {
  it("waits until the other has all, and refuses proposals meanwhile", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.isolate(3);
    for (const data of ["a", "b", "c"]) n.propose(1, data);
    expect(n.raw(1).transferLeader(3)).toBeUndefined();
    n.settle();
    expect(n.raw(1).propose(bytes("d"))).toBe("transferring");
    expect(n.raw(1).status()).toMatchObject({ role: "leader", leadTransferee: 3 });
    n.heal();
    n.tick(1);
    expect(n.raw(3).status()).toMatchObject({ role: "leader", term: 2 });
    n.propose(1, "e");
    expect(n.of(1).applied).toEqual(["a", "b", "c", "e"]);
  });

  it("is given up after an election timeout", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.isolate(3);
    n.raw(1).transferLeader(3);
    n.tick(1, 9);
    expect(n.raw(1).propose(bytes("x"))).toBe("transferring");
    n.tick(1);
    expect(n.raw(1).propose(bytes("x"))).toBeUndefined();
  });

  it("is given up when the other is removed", () => {
    const n = new Network([1, 2, 3]);
    n.elect(1);
    n.isolate(3);
    n.raw(1).proposeConfChange(change([remove(3)]));
    n.raw(1).transferLeader(3);
    n.settle();
    expect(n.raw(1).status().leadTransferee).toBe(0);
    expect(n.raw(1).propose(bytes("x"))).toBeUndefined();
  });

  it("goes to no learner and no stranger; a follower passes the wish on", () => {
    const n = new Network([1, 2, 3], {}, confOf([1, 2], [3]));
    expect(n.raw(2).transferLeader(2)).toBe("no-leader");
    n.elect(1);
    expect(n.raw(1).transferLeader(3)).toBe("not-promotable");
    expect(n.raw(1).transferLeader(9)).toBe("not-member");
    expect(n.raw(1).transferLeader(1)).toBeUndefined();
    expect(n.raw(2).transferLeader(2)).toBeUndefined();
    n.settle();
    expect(n.raw(2).status().role).toBe("leader");
  });
});
