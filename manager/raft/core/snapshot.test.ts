import { describe, expect, it } from "vitest";
import { bytes, confOf, Network } from "./network.test-kit.js";
import type { Entry, Message, MessageOf, MessageType } from "./types.js";

const entry = (index: number, term: number, data = ""): Entry => ({ index, term, type: "normal", data: bytes(data) });

function sentOf<T extends MessageType>(n: Network, type: T): MessageOf<T>[] {
  return n.sent.filter((m): m is MessageOf<T> => m.type === type);
}

describe("a snapshot", () => {
  function behind(settings = {}): Network {
    const n = new Network([1, 2, 3], settings);
    n.elect(1);
    n.isolate(3);
    for (let i = 0; i < 5; i++) n.propose(1, `${i}`);
    return n;
  }
  function compact(n: Network): void {
    n.of(1).storage.createSnapshot(n.raw(1).status().applied, n.of(1).confState);
    n.of(1).storage.compact(n.raw(1).status().applied);
  }

  it("goes to who needs it and was heard lately, and the log goes on from there", () => {
    const n = behind();
    compact(n);
    n.tick(1, 25);
    n.raw(1).reportUnreachable(3);
    n.propose(1, "before");
    expect(sentOf(n, "MsgSnap")).toEqual([]);
    expect(n.raw(1).status().progress.get(3)).toMatchObject({ state: "probe", recentActive: false });
    n.heal();
    n.tick(1);
    n.propose(1, "after");
    expect(sentOf(n, "MsgSnap").map((m) => [m.to, m.snapshot.index])).toEqual([[3, 6]]);
    expect(n.of(3).applied).toEqual(["snapshot 6", "before", "after"]);
    expect(n.raw(1).status().progress.get(3)).toMatchObject({ state: "replicate", match: 8 });
  });

  it("is tried again later while there is none, and when one failed", () => {
    const n = behind();
    n.heal();
    const { storage } = n.of(1);
    // Compacted, and the snapshot is not ready to be sent.
    compact(n);
    const snapshot = storage.snapshot();
    storage.snapshot = () => undefined;
    n.tick(1, 3);
    expect(n.raw(1).status().progress.get(3)?.state).toBe("probe");
    storage.snapshot = () => snapshot;
    n.cut((m) => m.type === "MsgSnap");
    n.tick(1);
    expect(n.raw(1).status().progress.get(3)).toMatchObject({ state: "snapshot", pendingSnapshot: 6 });
    n.raw(1).reportSnapshot(3, false);
    expect(n.raw(1).status().progress.get(3)).toMatchObject({ state: "probe", next: 2, paused: true });
    n.heal();
    n.tick(1, 2);
    expect(n.of(3).applied).toEqual(["snapshot 6"]);
  });

  it("is not waited for when an acknowledgement reaches the log", () => {
    const n = behind();
    compact(n);
    n.heal();
    n.cut((m) => m.type === "MsgSnap");
    n.tick(1);
    expect(n.raw(1).status().progress.get(3)?.state).toBe("snapshot");
    n.raw(1).step({
      type: "MsgAppResp",
      from: 3,
      to: 1,
      term: 1,
      index: 6,
      reject: false,
      hintIndex: 0,
      hintTerm: 0,
    });
    expect(n.raw(1).status().progress.get(3)).toMatchObject({ state: "replicate", match: 6 });
  });

  it("that is old, or of entries that are there, changes no log", () => {
    const n = new Network([1, 2]);
    n.elect(1);
    n.propose(1, "a");
    const snap = (index: number): Message => ({
      type: "MsgSnap",
      from: 1,
      to: 2,
      term: 1,
      snapshot: { index, term: 1, confState: confOf([1, 2]) },
    });
    n.raw(2).step(snap(1));
    expect(n.work(2).snapshot).toBeUndefined();
    n.raw(2).step({
      type: "MsgApp",
      from: 1,
      to: 2,
      term: 1,
      prevIndex: 2,
      prevTerm: 1,
      commit: 2,
      entries: [entry(3, 1, "b"), entry(4, 1, "c")],
    });
    n.raw(2).step(snap(3));
    expect(n.work(2).snapshot).toBeUndefined();
    expect(n.raw(2).status()).toMatchObject({ commit: 3, lastIndex: 4 });
  });

  it("brings the membership, and nothing is applied before it is durable", () => {
    const n = new Network([3], {}, confOf([1]));
    const conf = confOf([1, 2], [3]);
    n.raw(3).step({ type: "MsgSnap", from: 1, to: 3, term: 4, snapshot: { index: 9, term: 3, confState: conf } });
    n.raw(3).step({
      type: "MsgApp",
      from: 1,
      to: 3,
      term: 4,
      prevIndex: 9,
      prevTerm: 3,
      commit: 10,
      entries: [entry(10, 4, "a")],
    });
    const ready = n.work(3);
    expect(ready.snapshot?.index).toBe(9);
    expect([ready.mustSync, ready.committedEntries]).toEqual([true, []]);
    n.settle();
    expect(n.of(3).applied).toEqual(["snapshot 9", "a"]);
    expect(n.raw(3).confState).toEqual(conf);
  });
});
