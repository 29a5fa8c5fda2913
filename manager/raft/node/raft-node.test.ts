import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type { ConfChange, ConfChangeType, NodeId } from "../core/mod.js";
import { RaftError, type RaftNodeOptions } from "./api.js";
import { bytes, Cluster, clock, ListMachine, quiet, until, voters } from "./cluster.test-kit.js";
import { type FileSystem, realFileSystem } from "./file-system.js";
import { pendingMax, proposalBytesMax } from "./proposals.js";
import { RaftNode } from "./raft-node.js";

let cluster: Cluster | undefined;

async function start(count: number, more: Partial<RaftNodeOptions> = {}, files?: FileSystem): Promise<Cluster> {
  const ids = Array.from({ length: count }, (_, n) => n + 1);
  cluster = await Cluster.start(voters(...ids), more, files);
  return cluster;
}

afterEach(async () => {
  await cluster?.[Symbol.asyncDispose]();
  cluster = undefined;
});

function codeOf(error: unknown): string {
  return error instanceof RaftError ? error.code : String(error);
}

const noContext = new Uint8Array(0);

describe("a single node", () => {
  test("elects itself, answers proposals, and has them all after a restart", async () => {
    const one = await start(1);
    await one.leader();
    expect(await one.node(1).propose(bytes("a"))).toBe("a is number 1");
    const answers = await Promise.all(["b", "c", "d"].map((text) => one.node(1).propose(bytes(text))));
    expect(answers).toEqual(["b is number 2", "c is number 3", "d is number 4"]);
    const { term } = one.node(1).status();
    await one.close(1);
    await one.open(1);
    await one.leader();
    expect(one.machine(1).list).toEqual(["a", "b", "c", "d"]);
    expect(one.node(1).status().term).toBeGreaterThan(term);
    expect(await one.node(1).propose(bytes("e"))).toBe("e is number 5");
  });

  test("says that it leads only when the first entry of its term is applied", async () => {
    const one = await start(1);
    await one.leader();
    const told = one.leaderships.get(1) ?? [];
    expect(told.filter(({ role, leading }) => role === "leader" && !leading)).toHaveLength(1);
    expect(told.at(-1)).toMatchObject({ role: "leader", lead: 1, leading: true });
    const { applied, commit } = one.node(1).status();
    expect(applied).toBe(commit);
  });

  test("takes snapshots, and starts from the newest", async () => {
    const one = await start(1, { snapshotEntries: 20 });
    await one.leader();
    const list = Array.from({ length: 105 }, (_, n) => `entry ${n}`);
    for (const text of list) {
      await one.node(1).propose(bytes(text));
    }
    await until("a snapshot is of the last entries", () => one.node(1).status().snapshotIndex > 80);
    await one.close(1);
    await one.open(1);
    expect(one.machine(1).restores).toBe(1);
    expect(one.machine(1).list.length).toBeGreaterThan(60);
    await one.leader();
    expect(one.machine(1).list).toEqual(list);
  });

  test("refuses what is no entry, and more than it can keep in mind", async () => {
    const one = await start(1);
    await one.leader();
    const node = one.node(1);
    await expect(node.propose(noContext)).rejects.toThrow(`a proposal has 1 to ${proposalBytesMax} bytes, this one 0`);
    await expect(node.propose(new Uint8Array(proposalBytesMax + 1))).rejects.toMatchObject({ code: "refused" });
    const all = Array.from({ length: pendingMax + 1 }, (_, n) => node.propose(bytes(String(n))).catch(codeOf));
    expect(await all.at(-1)).toBe("busy");
    const answers = await Promise.all(all);
    expect(answers.filter((answer) => answer === "busy")).toHaveLength(1);
    expect(one.machine(1).list).toHaveLength(pendingMax);
  });

  test("that closes during a write leaves open what became of it", async () => {
    const one = await start(1);
    await one.leader();
    const node = one.node(1);
    await node.propose(bytes("a"));
    const pending = node.propose(bytes("b")).catch(codeOf);
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    const late = node.propose(bytes("c")).catch(codeOf);
    await one.close(1);
    expect(["unknown", "b is number 2"]).toContain(await pending);
    expect(["unknown", "closed"]).toContain(await late);
    expect(await node.propose(bytes("d")).catch(codeOf)).toBe("closed");
    expect(await node.readBarrier().catch(codeOf)).toBe("closed");
    await one.open(1);
    await one.leader();
    // What was written before the end is there; nothing is twice, and nothing that was refused.
    expect(["a", "a,b", "a,b,c"]).toContain(one.machine(1).list.join(","));
  });

  test("closes while a snapshot comes in that never ends", async () => {
    const one = await start(1);
    await one.leader();
    let taken = 0;
    const hangs = (async function* () {
      taken++;
      yield bytes("a chunk");
      taken++;
      await new Promise(() => {});
    })();
    const snapshot = { index: 1_000, term: 1_000, confState: voters(1, 2) };
    const received = one
      .node(1)
      .receiveSnapshot({ type: "MsgSnap", from: 2, to: 1, term: 1_000, snapshot }, hangs)
      .catch(codeOf);
    await until("the second chunk is asked for", () => taken === 2);
    await one.close(1);
    expect(await received).toBe("closed");
    await one.open(1);
    await one.leader();
  });

  test("ends when its state machine breaks: told once, nothing hangs, nothing more is done", async () => {
    const one = await start(1);
    await one.leader();
    one.machine(1).poison = "poison";
    const read = one.node(1).readBarrier();
    await read;
    const first = one.node(1).propose(bytes("poison"));
    const second = one.node(1).propose(bytes("after"));
    await expect(first).rejects.toMatchObject({ code: "unknown" });
    await expect(second).rejects.toMatchObject({ code: "unknown" });
    expect(one.fatal.map(({ message }) => message)).toEqual(["the state machine is broken"]);
    await expect(one.node(1).propose(bytes("more"))).rejects.toThrow(
      "the node has failed: the state machine is broken",
    );
    expect(one.leaderships.get(1)?.at(-1)).toMatchObject({ lead: 0, leading: false });
  });

  test("ends when its disk fails: told once, and with what to do", async () => {
    let broken = false;
    const one = await start(
      1,
      {},
      {
        ...realFileSystem,
        writevSync: (fd: number, parts: readonly NodeJS.ArrayBufferView[], at?: number) => {
          if (broken) {
            throw Object.assign(new Error("EIO: i/o error, write"), { code: "EIO" });
          }
          return realFileSystem.writevSync(fd, parts, at);
        },
      },
    );
    await one.leader();
    await one.node(1).propose(bytes("a"));
    broken = true;
    const pending = [one.node(1).propose(bytes("b")), one.node(1).propose(bytes("c"))].map((p) => p.catch(codeOf));
    expect(await Promise.all(pending)).toEqual(["unknown", "unknown"]);
    expect(one.fatal).toHaveLength(1);
    expect(one.fatal[0]?.message).toContain("replace it, remove this node from the cluster");
    expect(await one.node(1).readBarrier().catch(codeOf)).toBe("closed");
  });

  test("refuses proposals while its disk is full, serves reads, and goes on when there is room", async () => {
    let full = false;
    let directorySyncs = 0;
    const one = await start(
      1,
      {},
      {
        ...realFileSystem,
        fsyncSync: (fd: number) => {
          realFileSystem.fsyncSync(fd);
          directorySyncs++;
        },
        writev: ((...call: Parameters<typeof realFileSystem.writev>) => {
          const done = call.at(-1);
          if (full && typeof done === "function") {
            setImmediate(() => done(Object.assign(new Error("ENOSPC: no space left"), { code: "ENOSPC" }), 0, []));
          } else {
            realFileSystem.writev(...call);
          }
        }) as typeof realFileSystem.writev,
      },
    );
    await one.leader();
    const node = one.node(1);
    let made = 0;
    const propose = async (): Promise<string> => {
      try {
        await node.propose(new Uint8Array(10_000).fill(97));
        made++;
        return "made";
      } catch (error) {
        return codeOf(error);
      }
    };
    // Of the first file of the log, and of the one that is made in advance.
    await until("the log has its reserve", () => directorySyncs >= 2);
    full = true;
    let answer = "made";
    for (let n = 0; n < 40 && answer === "made"; n++) {
      answer = await propose();
    }
    expect(answer).toBe("disk-full");
    expect(node.status().diskProblem).toContain("ENOSPC");
    await node.readBarrier();
    expect(one.machine(1).list).toHaveLength(made);
    full = false;
    await until("there is room again", () => node.status().diskProblem === undefined);
    expect(await propose()).toBe("made");
    expect(one.fatal).toEqual([]);
  });

  test("refuses options that make no sense", async () => {
    const directory = await mkdtemp(join(tmpdir(), "raft-node-"));
    const options: RaftNodeOptions = {
      id: 1,
      directory,
      machine: new ListMachine(),
      transport: { send() {}, sendSnapshot: () => Promise.resolve() },
      clock,
      random: () => 0,
      onFatal() {},
      log: quiet,
    };
    await expect(RaftNode.open({ ...options, id: 0 })).rejects.toThrow("id is 0: give an integer from 1 on");
    await expect(RaftNode.open({ ...options, electionTick: 2 })).rejects.toThrow(
      "electionTick is 2, not more than heartbeatTick 2",
    );
    await rm(directory, { recursive: true });
  });
});

describe("three nodes", () => {
  test("elect one, and have the same entries", async () => {
    const three = await start(3);
    const leader = await three.leader();
    const list = Array.from({ length: 50 }, (_, n) => `entry ${n}`);
    await Promise.all(list.map((text) => three.node(leader).propose(bytes(text))));
    await three.caughtUp(list, 1, 2, 3);
    const { peers, confState } = three.node(leader).status();
    expect(confState).toEqual(voters(1, 2, 3));
    expect(peers.map(({ id, voter }) => ({ id, voter }))).toEqual([1, 2, 3].map((id) => ({ id, voter: true })));
    await until("the leader knows what the others have", () =>
      three
        .node(leader)
        .status()
        .peers.every(({ match }) => match === three.node(leader).status().lastIndex),
    );
  });

  test("go on without one, which catches up after its restart", async () => {
    const three = await start(3);
    const leader = await three.leader();
    const follower = leader === 1 ? 2 : 1;
    await three.node(leader).propose(bytes("a"));
    await three.caughtUp(["a"], 1, 2, 3);
    await three.close(follower);
    await three.make("b");
    await three.make("c");
    await three.open(follower);
    await three.caughtUp(["a", "b", "c"], 1, 2, 3);
    expect(three.fatal).toEqual([]);
  });

  test("proposals on a follower are refused with the leader's id", async () => {
    const three = await start(3);
    const leader = await three.leader();
    const follower = leader === 1 ? 2 : 1;
    await expect(three.node(follower).propose(bytes("a"))).rejects.toMatchObject({ code: "not-leader", lead: leader });
    await expect(
      three.node(follower).changeMembers({ transition: "auto", changes: [], context: noContext }),
    ).rejects.toMatchObject({ code: "not-leader", lead: leader });
  });

  test("a barrier on any node shows all that was answered before", async () => {
    const three = await start(3);
    const leader = await three.leader();
    for (let n = 0; n < 20; n++) {
      await three.node(leader).propose(bytes(`entry ${n}`));
      const follower = three.node((leader % 3) + 1);
      await Promise.all([follower.readBarrier(), follower.readBarrier(), three.node(leader).readBarrier()]);
      expect(three.machine((leader % 3) + 1).list).toHaveLength(n + 1);
    }
  });

  test("a barrier without a quorum ends, or with its signal", async () => {
    const three = await start(3);
    const leader = await three.leader();
    three.cut.add(leader);
    const abort = new AbortController();
    const read = three.node(leader).readBarrier(abort.signal);
    const patient = three.node(leader).readBarrier().catch(codeOf);
    abort.abort(new Error("never mind"));
    await expect(read).rejects.toThrow("never mind");
    expect(await patient).toBe("no-quorum");
    await expect(three.node(leader).readBarrier(AbortSignal.abort(new Error("too late")))).rejects.toThrow("too late");
  });

  test("a leader that is cut off leaves open what became of its proposals, and nothing is there twice", async () => {
    const three = await start(3);
    const old = await three.leader();
    await three.node(old).propose(bytes("before"));
    three.cut.add(old);
    const lost = Array.from({ length: 5 }, (_, n) =>
      three
        .node(old)
        .propose(bytes(`lost ${n}`))
        .catch(codeOf),
    );
    const now = await three.leader();
    expect(now).not.toBe(old);
    expect(await Promise.all(lost)).toEqual(Array.from({ length: 5 }, () => "unknown"));
    await three.node(now).propose(bytes("after"));
    await expect(three.node(old).propose(bytes("refused"))).rejects.toMatchObject({ code: "not-leader" });
    three.cut.clear();
    await three.caughtUp(["before", "after"], 1, 2, 3);
  });

  test("under changes of leader every answered proposal is there once, and none that was refused", async () => {
    const three = await start(3);
    const made: string[] = [];
    const refused: string[] = [];
    const run = { going: true };
    const client = async (name: string): Promise<void> => {
      for (let n = 0; run.going; n++) {
        const text = `${name} ${n}`;
        const leading = [...three.nodes.values()].find((node) => node.status().role === "leader") ?? three.node(1);
        try {
          await leading.propose(bytes(text));
          made.push(text);
        } catch (error) {
          if (codeOf(error) !== "unknown") {
            refused.push(text);
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
        }
      }
    };
    const clients = ["x", "y", "z"].map(client);
    for (let round = 0; round < 3; round++) {
      const leader = await three.leader();
      const before = made.length;
      await until("more is made", () => made.length > before + 20);
      three.cut.add(leader);
      await three.leader();
      three.cut.clear();
    }
    run.going = false;
    await Promise.all(clients);
    const leader = await three.leader();
    await three.node(leader).readBarrier();
    const { list } = three.machine(leader);
    expect(new Set(list).size).toBe(list.length);
    expect(made.filter((text) => !list.includes(text))).toEqual([]);
    expect(refused.filter((text) => list.includes(text))).toEqual([]);
    await three.caughtUp(list, 1, 2, 3);
  });

  test("one that is far behind gets a snapshot", async () => {
    const three = await start(3, { snapshotEntries: 20 });
    const leader = await three.leader();
    const follower = (leader % 3) + 1;
    three.cut.add(follower);
    const list = Array.from({ length: 120 }, (_, n) => `entry ${n}`);
    for (const text of list) {
      await three.make(text);
    }
    await until("the leader has a snapshot", () =>
      [...three.nodes.values()].some((node) => node.status().role === "leader" && node.status().snapshotIndex > 80),
    );
    three.cut.clear();
    await three.caughtUp(list, 1, 2, 3);
    expect(three.machine(follower).restores).toBeGreaterThan(0);
    expect(three.snapshotsSent).toBeGreaterThan(0);
    await three.close(follower);
    await three.open(follower);
    await three.caughtUp(list, follower);
  });

  test("one that lost its directory is replaced by a new one", async () => {
    const three = await start(3, { snapshotEntries: 20 });
    const leader = await three.leader();
    const lost = (leader % 3) + 1;
    const list = Array.from({ length: 60 }, (_, n) => `entry ${n}`);
    for (const text of list) {
      await three.make(text);
    }
    await three.close(lost);
    await rm(three.directory(lost), { recursive: true });
    const change = (type: ConfChangeType, id: NodeId, context: string): ConfChange => ({
      transition: "auto",
      changes: [{ type, id }],
      context: bytes(context),
    });
    await three.change(change("remove", lost, "its disk is gone"), ({ voters }) => !voters.includes(lost));
    await three.change(change("add-learner", 4, "a new one"), ({ learners }) => learners.includes(4));
    await three.open(4);
    await three.caughtUp(list, 4);
    await three.change(change("add-voter", 4, ""), ({ voters }) => voters.includes(4));
    await until("the new one knows", () => three.node(4).status().confState.voters.includes(4));
    expect(three.node(4).status().confState.voters).not.toContain(lost);
    expect(three.machine(leader).contexts.slice(0, 2)).toEqual(["its disk is gone", "a new one"]);
    await three.make("more");
    await three.caughtUp([...list, "more"], leader, 4);
  });

  test("a change that makes no sense is refused, and a joint one resolves when it has left", async () => {
    const three = await start(3);
    const leader = await three.leader();
    await expect(
      three.node(leader).changeMembers({
        transition: "auto",
        changes: [1, 2, 3].map((id) => ({ type: "remove", id })),
        context: noContext,
      }),
    ).rejects.toMatchObject({ code: "refused" });
    await three.open(4);
    await three.open(5);
    await three.change(
      {
        transition: "joint-implicit",
        changes: [4, 5].map((id) => ({ type: "add-voter", id })),
        context: noContext,
      },
      ({ voters, votersOutgoing }) => voters.length === 5 && votersOutgoing.length === 0,
    );
    expect(three.node(await three.leader()).status().confState).toEqual(voters(1, 2, 3, 4, 5));
  });

  test("leadership is handed over, and back by a node that does not lead", async () => {
    const three = await start(3);
    const first = await three.leader();
    const second = (first % 3) + 1;
    await three.node(first).propose(bytes("a"));
    await three.node(first).transferLeadership(second);
    await until("the second leads", () => three.node(second).status().role === "leader");
    await three.leader();
    await three.node((second % 3) + 1).transferLeadership(first);
    await until("the first leads again", () => three.node(first).status().role === "leader");
    await expect(three.node(first).transferLeadership(99)).rejects.toBeInstanceOf(RaftError);
  });

  test("a handover to who is out of reach ends, and the leader goes on", async () => {
    const three = await start(3);
    const leader = await three.leader();
    const away = (leader % 3) + 1;
    three.cut.add(away);
    await three.node(leader).propose(bytes("a"));
    await expect(three.node(leader).transferLeadership(away)).rejects.toMatchObject({ code: "busy" });
    expect(await three.node(leader).propose(bytes("b"))).toBe("b is number 2");
  });
});

describe("a log that is gone", () => {
  test("is not begun again where snapshots or a mark say that there was one", async () => {
    const one = await start(1, { snapshotEntries: 20 });
    await one.leader();
    for (let n = 0; n < 50; n++) await one.node(1).propose(bytes(`entry ${n}`));
    await until("there is a snapshot", () => one.node(1).status().snapshotIndex > 0);
    await one.close(1);
    const directory = one.directory(1);
    for (const file of await readdir(directory)) if (file.endsWith(".log")) await rm(join(directory, file));
    await expect(one.open(1)).rejects.toThrow(
      /there are snapshots, as that of index \d+, and no file wal-….* under a new id/,
    );
    // A refusal changes nothing.
    expect((await readdir(directory)).some((file) => file.startsWith("snapshot-"))).toBe(true);
    for (const file of await readdir(directory)) await rm(join(directory, file));
    await one.open(1);
    await one.close(1);
  });

  test("of a node that has taken part is refused; one that is only about to begins with RaftNode.begin", async () => {
    const directory = await mkdtemp(join(tmpdir(), "raft-begun-"));
    try {
      const options: RaftNodeOptions = {
        id: 1,
        directory,
        machine: new ListMachine(),
        transport: { send: () => {}, sendSnapshot: () => Promise.reject(new Error("there is nobody")) },
        clock,
        random: () => 0,
        bootstrap: voters(1, 2),
        onFatal: () => {},
        log: quiet,
        segmentBytes: 64 * 1024,
        begun: true,
      };
      await expect(RaftNode.open(options)).rejects.toMatchObject({ name: "LogRefusedError", lost: true });
      await RaftNode.begin({ ...options, begun: false });
      await using node = await RaftNode.open(options);
      expect(node.status()).toMatchObject({ lastIndex: 0, term: 0 });
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});

test("a follower takes no entries from what its full disk has left for votes, and catches up when there is room", async () => {
  // The spare segments of one node find no room.
  let full = false;
  const files: FileSystem = {
    ...realFileSystem,
    openSync: ((path: string, ...more: [string, number]) => {
      if (full && path.includes(`${cluster?.directory(3)}/spare-`))
        throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
      return realFileSystem.openSync(path, ...more);
    }) as FileSystem["openSync"],
  };
  const three = await start(3, {}, files);
  let leader = await three.leader();
  for (let tries = 0; leader === 3 && tries < 20; tries++) {
    await three
      .node(3)
      .transferLeadership(1)
      .catch(() => undefined);
    leader = await three.leader();
  }
  full = true;
  const text = "x".repeat(1_000);
  for (let n = 0; n < 300; n++) await three.make(`${n} ${text}`);
  const follower = three.node(3);
  await until("the follower's disk is full", () => follower.status().diskProblem !== undefined);
  expect(follower.status().diskProblem).toMatch(/the disk of .*\/3 is full \(ENOSPC while .*\); free space there/);
  await until("the others have all", () => three.node(leader).status().applied >= 300);
  expect(follower.status().lastIndex).toBeLessThan(300);
  expect(three.fatal).toEqual([]);
  full = false;
  await until("it has all", () => three.machine(3).list.length === three.machine(leader).list.length);
  expect(follower.status().diskProblem).toBeUndefined();
});
