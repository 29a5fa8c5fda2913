import { describe, expect, test } from "vitest";
import {
  type ConfState,
  type Entry,
  type Message,
  MemoryStorage,
  type NodeId,
  RaftInvariantError,
  RawNode,
  type ReadState,
  type SnapshotMeta,
} from "../core/mod.js";
import { Driver, type DriverLimits } from "./driver.js";
import type { Batch, Host, Leadership } from "./host.js";

const voters = (...ids: NodeId[]): ConfState => ({
  voters: ids,
  votersOutgoing: [],
  learners: [],
  learnersNext: [],
  autoLeave: false,
});
const text = (data: Uint8Array): string => new TextDecoder().decode(data);
const bytes = (data: string): Uint8Array => new TextEncoder().encode(data);

/** A node that writes down what it was asked to do, and answers when the test says so, or at once while `auto`. */
class Node implements Host {
  readonly storage: MemoryStorage;
  readonly driver: Driver;
  /** What was asked of the host, in order. */
  readonly log: string[] = [];
  readonly batches: Batch[] = [];
  readonly leaderships: Leadership[] = [];
  sent: Message[] = [];
  auto = true;
  #given: number[] = [];

  constructor(id: NodeId, conf: ConfState, limits?: Partial<DriverLimits>) {
    this.storage = new MemoryStorage(conf);
    const raw = new RawNode({
      id,
      storage: this.storage,
      applied: 0,
      electionTick: 10,
      heartbeatTick: 1,
      random: () => 0,
    });
    this.driver = new Driver(raw, this, limits);
  }

  persist(batch: Batch): void {
    this.batches.push(batch);
    this.log.push(
      `persist ${batch.entries.map((e) => e.index).join(",")}${batch.snapshot ? `snapshot ${batch.snapshot.index}` : ""}`,
    );
    if (batch.snapshot !== undefined) {
      this.storage.applySnapshot(batch.snapshot);
    }
    this.storage.append(batch.entries);
    if (batch.hardState !== undefined) {
      this.storage.setHardState(batch.hardState);
    }
    if (this.auto) {
      this.driver.persisted();
    }
  }

  send(messages: readonly Message[]): void {
    this.sent.push(...messages);
    this.log.push(`send ${messages.map(({ type, to }) => `${type}→${to}`).join(" ")}`);
  }

  apply(entries: readonly Entry[]): void {
    this.log.push(`apply ${entries.map(({ data }) => text(data)).join(",")}`);
    this.#given = entries.map(({ index }) => index);
    if (this.auto) {
      this.applied();
    }
  }

  configured(entry: Entry, confState: ConfState): void {
    this.log.push(`configured ${confState.voters.join(",")}+${confState.learners.join(",")} at ${entry.index}`);
  }

  restore(snapshot: SnapshotMeta): void {
    this.log.push(`restore ${snapshot.index}`);
    this.#given = [snapshot.index];
    if (this.auto) {
      this.applied();
    }
  }

  readable(reads: readonly ReadState[]): void {
    this.log.push(`readable ${reads.map(({ context }) => context).join(",")}`);
  }

  leadership(now: Leadership): void {
    this.leaderships.push(now);
  }

  /** The state machine has done the first `count` of what it was given, default all. */
  applied(count = this.#given.length): void {
    const done = this.#given.splice(0, count).at(-1);
    if (done !== undefined) {
      this.driver.applied(done);
    }
  }

  take(): Message[] {
    return this.sent.splice(0);
  }

  /** What was asked since the last call. */
  asked(): string[] {
    return this.log.splice(0);
  }
}

/** Lets all messages through until there are none. */
function settle(...nodes: Node[]): void {
  for (let round = 0; round < 50; round++) {
    for (const node of nodes) {
      node.driver.flush();
    }
    const messages = nodes.flatMap((node) => node.take());
    if (messages.length === 0) {
      return;
    }
    for (const message of messages) {
      nodes.find((node) => node.driver.raw.id === message.to)?.driver.receive(message);
    }
  }
  throw new Error("the nodes never stop talking");
}

function leaderOf(ids: NodeId[], limits?: Partial<DriverLimits>): [Node, ...Node[]] {
  const conf = voters(...ids);
  const leader = new Node(1, conf, limits);
  const rest = ids.slice(1).map((id) => new Node(id, conf, limits));
  expect(leader.driver.campaign()).toBeUndefined();
  settle(leader, ...rest);
  expect(leader.driver.raw.status().role).toBe("leader");
  for (const node of [leader, ...rest]) {
    node.asked();
    node.batches.length = 0;
  }
  return [leader, ...rest];
}

function pair(): [Node, Node] {
  const [leader, follower] = leaderOf([1, 2]);
  if (follower === undefined) {
    throw new Error("no follower");
  }
  return [leader, follower];
}

describe("the order of writing and sending", () => {
  test("a leader's MsgApp leaves before its own write is done", () => {
    const [leader] = pair();
    leader.auto = false;
    expect(leader.driver.propose(bytes("a"))).toBeUndefined();
    leader.driver.flush();
    expect(leader.asked()).toEqual(["send MsgApp→2", "persist 2"]);
  });

  test("a follower acknowledges only after persisted()", () => {
    const [leader, follower] = pair();
    follower.auto = false;
    leader.driver.propose(bytes("a"));
    leader.driver.flush();
    for (const message of leader.take()) {
      follower.driver.receive(message);
    }
    follower.driver.flush();
    expect(follower.asked()).toEqual(["persist 2"]);
    expect(follower.batches.at(-1)?.mustSync).toBe(true);
    follower.driver.flush();
    expect(follower.asked()).toEqual([]);
    follower.driver.persisted();
    expect(follower.asked()).toEqual(["send MsgAppResp→1"]);
  });

  test("a vote is given only after persisted()", () => {
    const node = new Node(2, voters(1, 2, 3));
    node.auto = false;
    const ask: Message = { type: "MsgVote", from: 1, to: 2, term: 7, lastIndex: 0, lastTerm: 0, force: false };
    node.driver.receive(ask);
    node.driver.flush();
    expect(node.asked()).toEqual(["persist "]);
    expect(node.batches[0]).toMatchObject({ hardState: { term: 7, vote: 1 }, mustSync: true });
    node.driver.persisted();
    expect(node.asked()).toEqual(["send MsgVoteResp→1"]);
  });

  test("a refusal to vote that comes with a new term waits for it too", () => {
    const node = new Node(2, voters(1, 2, 3));
    node.driver.receive({
      type: "MsgApp",
      from: 3,
      to: 2,
      term: 5,
      prevIndex: 0,
      prevTerm: 0,
      commit: 0,
      entries: [entry(1, 5, "a")],
    });
    node.driver.flush();
    node.driver.raw.forgetLeader();
    node.asked();
    node.auto = false;
    node.driver.receive({ type: "MsgVote", from: 1, to: 2, term: 9, lastIndex: 0, lastTerm: 0, force: false });
    node.driver.flush();
    expect(node.asked()).toEqual(["persist "]);
    node.driver.persisted();
    expect(node.asked()).toEqual(["send MsgVoteResp→1"]);
  });

  test("a single node applies only what it has written", () => {
    const [node] = leaderOf([1]);
    node.auto = false;
    node.driver.propose(bytes("a"));
    node.driver.flush();
    expect(node.asked()).toEqual(["persist 2"]);
    node.driver.persisted();
    expect(node.asked()).toEqual(["apply a"]);
  });

  test("what comes during a write is the next batch, written once", () => {
    const [node] = leaderOf([1]);
    node.auto = false;
    node.driver.propose(bytes("a"));
    node.driver.flush();
    for (const data of ["b", "c", "d"]) {
      node.driver.propose(bytes(data));
      node.driver.flush();
    }
    expect(node.asked()).toEqual(["persist 2"]);
    node.driver.persisted();
    expect(node.asked()).toEqual(["persist 3,4,5", "apply a"]);
  });

  test("what is committed and durable is applied while later entries are being written", () => {
    const [leader, follower] = pair();
    leader.auto = false;
    leader.driver.propose(bytes("a"));
    leader.driver.flush();
    leader.driver.propose(bytes("b"));
    for (const message of leader.take()) {
      follower.driver.receive(message);
    }
    follower.driver.flush();
    const acks = follower.take();
    for (const message of acks) {
      leader.driver.receive(message);
    }
    leader.asked();
    leader.driver.persisted();
    expect(leader.driver.writing).toBe(true);
    expect(leader.asked().filter((line) => !line.startsWith("send"))).toEqual(["persist 3", "apply a"]);
  });

  test("an acknowledgement that commits is applied in the same flush, without a write of its own", () => {
    const [leader, follower] = pair();
    leader.driver.propose(bytes("a"));
    leader.driver.flush();
    for (const message of leader.take()) {
      follower.driver.receive(message);
    }
    follower.driver.flush();
    leader.asked();
    leader.auto = false;
    for (const message of follower.take()) {
      leader.driver.receive(message);
    }
    leader.driver.flush();
    expect(leader.asked().filter((line) => !line.startsWith("send"))).toEqual(["apply a"]);
  });
});

describe("a commit alone", () => {
  test("goes with the next batch", () => {
    const [node] = leaderOf([1]);
    node.driver.propose(bytes("a"));
    node.driver.flush();
    node.driver.propose(bytes("b"));
    node.driver.flush();
    expect(node.batches.at(-1)).toMatchObject({ entries: [{ index: 3 }], hardState: { commit: 2 } });
  });

  test("is written with a tick when nothing else is, and only once", () => {
    const [node] = leaderOf([1]);
    node.driver.propose(bytes("a"));
    node.driver.flush();
    const before = node.batches.length;
    node.driver.tick();
    node.driver.flush();
    expect(node.batches.slice(before)).toEqual([
      { entries: [], hardState: expect.objectContaining({ commit: 2 }), mustSync: false },
    ]);
    node.driver.tick();
    expect(node.batches).toHaveLength(before + 1);
  });

  test("is handed to a host that writes a snapshot's marker", () => {
    const [node] = leaderOf([1]);
    node.driver.propose(bytes("a"));
    node.driver.flush();
    expect(node.driver.takeUnwritten()).toMatchObject({ commit: 2 });
    expect(node.driver.takeUnwritten()).toBeUndefined();
  });
});

describe("the order of applying", () => {
  test("membership changes come into force at their place", () => {
    const [node] = leaderOf([1]);
    node.auto = false;
    node.driver.propose(bytes("a"));
    const context = new Uint8Array(0);
    expect(
      node.driver.proposeConfChange({ transition: "auto", changes: [{ type: "add-learner", id: 9 }], context }),
    ).toBeUndefined();
    node.driver.propose(bytes("b"));
    node.driver.flush();
    node.driver.persisted();
    expect(node.asked()).toEqual(["persist 2,3,4", "apply a"]);
    expect(node.driver.raw.confState.learners).toEqual([]);
    node.applied();
    // Its commit first, synced: a node that forgot it would count votes as before the change.
    expect(node.driver.raw.confState.learners).toEqual([]);
    expect(node.asked()).toEqual(["persist "]);
    expect(node.batches.at(-1)).toMatchObject({ hardState: { commit: 4 }, mustSync: true });
    node.driver.persisted();
    expect(node.asked().filter((line) => !line.startsWith("send"))).toEqual(["configured 1+9 at 3", "apply b"]);
    node.applied();
    expect(node.driver.appliedIndex).toBe(4);
  });

  test("nothing is applied while the state machine is at work, and slices count", () => {
    const [node] = leaderOf([1]);
    node.auto = false;
    for (const data of ["a", "b", "c"]) {
      node.driver.propose(bytes(data));
    }
    node.driver.flush();
    node.driver.persisted();
    node.driver.propose(bytes("d"));
    node.driver.flush();
    node.driver.persisted();
    expect(node.asked()).toEqual(["persist 2,3,4", "apply a,b,c", "persist 5"]);
    node.applied(2);
    expect(node.driver.appliedIndex).toBe(3);
    expect(node.asked()).toEqual([]);
    node.applied();
    expect(node.asked()).toEqual(["apply d"]);
  });

  test("a snapshot is restored before the entries after it", () => {
    const node = new Node(2, voters());
    node.auto = false;
    node.driver.receive({
      type: "MsgSnap",
      from: 1,
      to: 2,
      term: 3,
      snapshot: { index: 20, term: 2, confState: voters(1, 2, 3) },
    });
    node.driver.flush();
    expect(node.asked()).toEqual(["persist snapshot 20"]);
    node.driver.persisted();
    expect(node.asked()).toEqual(["send MsgAppResp→1", "restore 20"]);
    node.driver.receive({
      type: "MsgApp",
      from: 1,
      to: 2,
      term: 3,
      prevIndex: 20,
      prevTerm: 2,
      commit: 21,
      entries: [entry(21, 3, "a")],
    });
    node.driver.flush();
    node.driver.persisted();
    expect(node.asked()).toEqual(["persist 21", "send MsgAppResp→1"]);
    node.applied();
    expect(node.asked()).toEqual(["apply a"]);
    node.applied();
    expect(node.driver.appliedIndex).toBe(21);
  });

  test("new entries are dropped while too much waits to be applied, and come again", () => {
    const [leader, follower] = leaderOf([1, 2], { backlogBytes: 10 });
    if (follower === undefined) {
      throw new Error("no follower");
    }
    leader.auto = true;
    const propose = (data: string): void => {
      expect(leader.driver.propose(bytes(data))).toBeUndefined();
      settle(leader, follower);
    };
    follower.auto = false;
    const written = (): void => {
      while (follower.driver.writing) {
        follower.driver.persisted();
        settle(leader, follower);
      }
    };
    for (const data of ["a", "bbbbbbbbbbbbbbbbbbbb", "c", "d", "e"]) {
      propose(data);
      written();
    }
    const last = follower.storage.lastIndex();
    expect(last).toBeLessThan(leader.storage.lastIndex());
    for (let n = 0; n < 40; n++) {
      leader.driver.tick();
      settle(leader, follower);
      written();
      follower.applied();
    }
    expect(follower.driver.appliedIndex).toBe(leader.storage.lastIndex());
    expect(leader.driver.raw.status().role).toBe("leader");
  });
});

describe("what waits for the state machine", () => {
  test("counts also where the core has not handed it out", () => {
    const [node] = leaderOf([1], { backlogBytes: 2 << 20 });
    node.auto = false;
    const large = "a".repeat(600 << 10);
    for (let n = 0; n < 4; n++) {
      expect(node.driver.propose(bytes(large))).toBeUndefined();
    }
    node.driver.flush();
    node.driver.persisted();
    expect(node.driver.propose(bytes("b"))).toBe("too-much-pending");
    while (node.driver.appliedIndex < 5) {
      node.applied();
    }
    expect(node.driver.propose(bytes("b"))).toBeUndefined();
  });

  test("is dropped for a snapshot that has it all, as are older snapshots", () => {
    const node = new Node(2, voters());
    const snapshot = (index: number): Message => ({
      type: "MsgSnap",
      from: 1,
      to: 2,
      term: 3,
      snapshot: { index, term: 2, confState: voters(1, 2, 3) },
    });
    node.auto = false;
    const take = (message: Message): void => {
      node.driver.receive(message);
      node.driver.flush();
      node.driver.persisted();
    };
    take(snapshot(20));
    take({
      type: "MsgApp",
      from: 1,
      to: 2,
      term: 3,
      prevIndex: 20,
      prevTerm: 2,
      commit: 21,
      entries: [entry(21, 3, "a")],
    });
    take(snapshot(30));
    take(snapshot(40));
    node.asked();
    node.applied();
    expect(node.asked()).toEqual(["restore 40"]);
    node.applied();
    expect(node.driver.appliedIndex).toBe(40);
    expect(node.driver.raw.status().applied).toBe(40);
  });
});

describe("reads", () => {
  test("wait until what they must see is applied", () => {
    const [node] = leaderOf([1]);
    node.auto = false;
    node.driver.propose(bytes("a"));
    node.driver.flush();
    node.driver.persisted();
    expect(node.driver.readIndex(77)).toBeUndefined();
    node.driver.flush();
    expect(node.asked()).toEqual(["persist 2", "apply a"]);
    node.applied();
    expect(node.asked()).toEqual(["readable 77"]);
  });

  test("are served without a write", () => {
    const [leader, follower] = pair();
    leader.auto = false;
    expect(leader.driver.readIndex(5)).toBeUndefined();
    leader.driver.flush();
    for (const message of leader.take()) {
      follower.driver.receive(message);
    }
    follower.driver.flush();
    for (const message of follower.take()) {
      leader.driver.receive(message);
    }
    leader.driver.flush();
    expect(leader.asked()).toEqual(["send MsgHeartbeat→2", "readable 5"]);
  });
});

describe("leadership", () => {
  test("is told with its term, whenever either changes", () => {
    const [leader] = pair();
    expect(leader.leaderships.at(-1)).toMatchObject({ lead: 1, role: "leader", term: leader.driver.raw.status().term });
    leader.driver.receive({ type: "MsgHeartbeat", from: 2, to: 1, term: 50, commit: 0, readId: 0 });
    leader.driver.flush();
    expect(leader.leaderships.at(-1)).toEqual({ term: 50, lead: 2, role: "follower" });
  });
});

describe("a disk that is slow", () => {
  function three(): [Node, Node, Node] {
    const [leader, one, two] = leaderOf([1, 2, 3], { stallTicks: 30 });
    if (one === undefined || two === undefined) {
      throw new Error("no followers");
    }
    return [leader, one, two];
  }

  function tick(ticks: number, ...nodes: Node[]): void {
    for (let n = 0; n < ticks; n++) {
      for (const node of nodes) {
        node.driver.tick();
      }
      settle(...nodes);
    }
  }

  test("costs no leader its place while one write lasts longer than an election timeout", () => {
    const nodes = three();
    const [leader, one, two] = nodes;
    for (const node of nodes) {
      node.auto = false;
    }
    const { term } = leader.driver.raw.status();
    leader.driver.propose(bytes("a"));
    // The followers write it, too, and their disks are as slow.
    settle(...nodes);
    expect(nodes.map((node) => node.driver.writing)).toEqual([true, true, true]);
    tick(29, ...nodes);
    expect(nodes.map((node) => node.driver.raw.status())).toEqual(
      nodes.map(() => expect.objectContaining({ lead: 1, term })),
    );
    expect(leader.storage.lastIndex()).toBe(2);
    for (const node of [leader, one, two]) {
      node.auto = true;
      node.driver.persisted();
    }
    settle(...nodes);
    tick(1, ...nodes);
    expect(nodes.map((node) => node.driver.appliedIndex)).toEqual([2, 2, 2]);
  });

  test("acknowledges nothing before its time", () => {
    const nodes = three();
    const [leader, one, two] = nodes;
    one.auto = false;
    two.auto = false;
    leader.driver.propose(bytes("a"));
    settle(...nodes);
    one.asked();
    tick(20, ...nodes);
    expect(new Set(one.asked())).toEqual(new Set(["send MsgHeartbeatResp→1"]));
    expect(leader.driver.raw.status().commit).toBe(1);
  });

  test("that hangs makes way for another leader, and who led is told at once", () => {
    const nodes = three();
    const [leader, one, two] = nodes;
    leader.auto = false;
    leader.driver.propose(bytes("a"));
    settle(...nodes);
    const { term } = leader.driver.raw.status();
    for (let n = 0; n < 60; n++) {
      leader.driver.tick();
      one.driver.tick();
      if (n % 2 === 0) {
        // Its clock is slower: with no chance in these tests two would campaign together for ever.
        two.driver.tick();
      }
      settle(...nodes);
    }
    expect(leader.driver.writing).toBe(true);
    expect(leader.leaderships.at(-1)).toEqual({ term, lead: 0, role: "follower" });
    const { lead } = one.driver.raw.status();
    expect([2, 3]).toContain(lead);
    leader.driver.persisted();
    leader.auto = true;
    tick(5, ...nodes);
    expect(leader.leaderships.at(-1)).toMatchObject({ lead, role: "follower" });
  });

  test("shows no term before it is durable", () => {
    const node = new Node(2, voters(1, 2, 3));
    node.auto = false;
    const heartbeat: Message = { type: "MsgHeartbeat", from: 1, to: 2, term: 7, commit: 0, readId: 0 };
    node.driver.receive(heartbeat);
    node.driver.flush();
    node.driver.receive(heartbeat);
    node.driver.tick();
    node.driver.flush();
    expect(node.asked()).toEqual(["persist "]);
    node.driver.persisted();
    expect(node.asked()).toEqual(["send MsgHeartbeatResp→1", "send MsgHeartbeatResp→1"]);
  });
});

describe("a host that is wrong", () => {
  test("is told so", () => {
    const [node] = leaderOf([1]);
    expect(() => node.driver.persisted()).toThrow(RaftInvariantError);
    expect(() => node.driver.applied(1)).toThrow(RaftInvariantError);
    node.auto = false;
    node.driver.propose(bytes("a"));
    node.driver.flush();
    node.driver.persisted();
    expect(() => node.driver.applied(9)).toThrow(RaftInvariantError);
  });
});

function entry(index: number, term: number, data: string): Entry {
  return { index, term, type: "normal", data: bytes(data) };
}
