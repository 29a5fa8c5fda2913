import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { rm } from "node:fs/promises";
import { seededRng, silentLogger, systemClock } from "../../lib/mod.js";
import { eventually, ListMachine, TestCluster, type TestManager } from "../../test/kit/consensus.js";
import { Member } from "../../proto/gen/flotilla/raft/v1/raft.js";
import { lockDataDir, markRemoved, readIdentity, recoverCluster, restoreCluster, writeBackup } from "./mod.js";

const bytes = (text: string) => Buffer.from(text);

describe("three managers", () => {
  let cluster: TestCluster;

  beforeEach(() => {
    cluster = new TestCluster();
  });

  afterEach(async () => {
    await cluster[Symbol.asyncDispose]();
  });

  it("elect one leader, apply the same entries, and read them anywhere after a barrier", async () => {
    const managers = await cluster.three();
    const leader = await cluster.leader();
    expect(managers.filter(({ consensus }) => consensus.tenure() !== undefined)).toHaveLength(1);
    for (let i = 1; i <= 20; i += 1) expect(await leader.consensus.propose(bytes(`e${i}`))).toBe(i);
    for (const { consensus, machine } of managers) {
      await consensus.barrier();
      expect(machine.list).toEqual(leader.machine.list);
      expect(consensus.members().map(({ id, name }) => [id, name])).toEqual([
        [1, "h1"],
        [2, "h2"],
        [3, "h3"],
      ]);
      await eventually("all know the leader", () => consensus.leader()?.id === leader.consensus.self.id);
    }
    const follower = managers.find((manager) => manager !== leader)!;
    await expect(follower.consensus.propose(bytes("x"))).rejects.toMatchObject({
      code: "not_leader",
      details: { leader: leader.address },
    });
    await expect(leader.consensus.propose(Buffer.alloc(3_000_000))).rejects.toMatchObject({
      code: "resource_exhausted",
    });
  });

  it("go on without their leader; one that comes back has what it missed", async () => {
    await cluster.three();
    const old = await cluster.leader();
    await old.consensus.propose(bytes("before"));
    const { dataDir } = old;
    const { tenure } = { tenure: old.consensus.tenure()! };
    await old[Symbol.asyncDispose]();
    expect(tenure.signal.aborted).toBe(true);
    const next = await cluster.leader();
    expect(next.consensus.tenure()!.term).toBeGreaterThan(tenure.term);
    await next.consensus.propose(bytes("after"));
    const back = await cluster.start(dataDir);
    await eventually("it knows the leader", () => back.consensus.health().ready);
    await back.consensus.barrier();
    expect(back.machine.list).toEqual(["before", "after"]);
  });

  it("without a quorum say so, write nothing and read nothing", async () => {
    const [a, b, c] = await cluster.three();
    const alone = await cluster.leader();
    for (const other of [a, b, c]) if (other !== alone) await other[Symbol.asyncDispose]();
    await eventually("its tenure ends", () => alone.consensus.tenure() === undefined);
    await eventually("it knows no leader", () => !alone.consensus.health().ready);
    expect(alone.consensus.health().message).toMatch(
      /^no leader for \d+ s: 1 of 3 voting managers reachable, 2 are needed; h\d \(127.0.0.1:\d+\): /,
    );
    await expect(alone.consensus.propose(bytes("x"))).rejects.toMatchObject({ code: "not_leader" });
    await expect(alone.consensus.barrier()).rejects.toMatchObject({ code: "unavailable" });
    expect(alone.consensus.status()).toMatchObject({ writable: false, leaderId: 0 });
  });

  it("hand leadership over, and to nobody who cannot lead", async () => {
    const managers = await cluster.three();
    const leader = await cluster.leader();
    const to = managers.find((manager) => manager !== leader)!;
    await leader.consensus.transferLeadership(to.name);
    await eventually("the other leads", () => to.consensus.tenure() !== undefined);
    expect(leader.consensus.tenure()).toBeUndefined();
    await to.consensus.transferLeadership(to.address);
    await expect(to.consensus.transferLeadership("h9")).rejects.toMatchObject({ code: "not_found" });
    await expect(leader.consensus.transferLeadership("")).rejects.toMatchObject({ code: "not_leader" });
  });

  it("take nobody for gone who has not answered the new leader yet", async () => {
    const managers = await cluster.three();
    // Nobody asks it for a vote: it is heard of only after the election.
    await cluster.join("h4", { learner: true });
    const leader = await cluster.leader();
    const to = managers.find((manager) => manager !== leader)!;
    await eventually("all are connected", () => to.consensus.reachable() === 4);
    // Its greeting was heard, and is forgotten by then.
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    let reachable: boolean[] | undefined;
    to.consensus.onChange(() => {
      if (to.consensus.leader()?.id === to.consensus.self.id)
        reachable ??= to.consensus.status().managers.map((manager) => manager.reachable);
    });
    await leader.consensus.transferLeadership(to.name);
    await eventually("the other leads", () => to.consensus.tenure() !== undefined);
    expect(reachable).toEqual([true, true, true, true]);
  });

  it("take one out, which learns it; the leader hands over before it goes; the last one stays", async () => {
    await cluster.three();
    const leader = await cluster.leader();
    const gone = cluster.managers.find((manager) => manager !== leader)!;
    expect(await leader.consensus.removeManager(gone.name, false)).toMatchObject({ address: gone.address });
    await eventually("it was told", () => gone.removed !== undefined);
    expect(gone.removed).toMatch(/was removed from the cluster/);
    await gone[Symbol.asyncDispose]();
    // Its directory, should somebody start it again, is of somebody whom the others refuse.
    const ghost = await cluster.start(gone.dataDir);
    await eventually("it is told again", () => ghost.removed !== undefined);
    await ghost[Symbol.asyncDispose]();

    await cluster.voters(2);
    const rest = cluster.managers.find((manager) => manager !== leader)!;
    await expect(leader.consensus.removeManager(leader.name, false)).rejects.toMatchObject({
      code: "not_leader",
      details: { leader: rest.address },
    });
    await eventually("the other leads", () => rest.consensus.tenure() !== undefined);
    await rest.consensus.removeManager(leader.name, false);
    await eventually("it was told", () => leader.removed !== undefined);
    await expect(rest.consensus.removeManager(rest.name, true)).rejects.toThrow(/the last voting manager/);
    expect(await rest.consensus.propose(bytes("alone"))).toBe(1);
  });

  it("refuse a removal that would leave no quorum, unless it is forced", async () => {
    const managers = await cluster.three();
    const leader = await cluster.leader();
    const [live, dead] = managers.filter((manager) => manager !== leader) as [TestManager, TestManager];
    await dead[Symbol.asyncDispose]();
    await eventually(
      "its silence is noticed",
      () => !leader.consensus.status().managers.find(({ name }) => name === dead.name)!.reachable,
    );
    await expect(leader.consensus.removeManager(live.name, false)).rejects.toThrow(
      /1 of 2 voting managers answer, and 2 are needed/,
    );
    await leader.consensus.removeManager(dead.name, false);
    await cluster.voters(2);
  });

  it("a manager with a wiped disk comes back as another one, in the place of the old", async () => {
    await cluster.three();
    const leader = await cluster.leader();
    await leader.consensus.propose(bytes("kept"));
    const wiped = cluster.managers.find((manager) => manager !== leader)!;
    await wiped[Symbol.asyncDispose]();
    await rm(wiped.dataDir, { recursive: true });
    const back = await cluster.join(wiped.name, { address: wiped.address });
    expect(back.identity.memberId).toBe(4);
    await cluster.voters(3);
    await back.consensus.barrier();
    expect(back.machine.list).toEqual(["kept"]);
    expect(leader.consensus.members().map(({ id }) => id)).not.toContain(wiped.identity.memberId);
  });

  it("a manager that is well is not taken out by one that gives its address by mistake", async () => {
    await cluster.three();
    const leader = await cluster.leader();
    const well = cluster.managers.find((manager) => manager !== leader)!;
    await eventually("it is heard", () => leader.consensus.status().managers.every(({ reachable }) => reachable));
    const { address } = well;
    await expect(
      leader.consensus.join({
        name: "h9",
        address,
        httpAddress: address,
        nonce: "nonce90000000000000",
        learner: false,
      }),
    ).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringMatching(/^manager \d \(h\d, .*\) has the address .* and answers: end it first/) as string,
    });
    expect(leader.consensus.members().map(({ id }) => id)).toEqual([1, 2, 3]);
  });

  it("the same join again is the same member; a name that is taken and an eighth voter are refused", async () => {
    const [first] = await cluster.three();
    const leader = await cluster.leader();
    const request = {
      name: "h4",
      address: "127.0.0.1:1",
      httpAddress: "127.0.0.1:2",
      nonce: "nonce00000000000000000000",
      learner: true,
    };
    const one = await leader.consensus.join(request);
    const again = await leader.consensus.join(request);
    expect([one.id, again.id]).toEqual([4, 4]);
    expect(again).toMatchObject({ cluster: "test", store: "raft", clusterId: first.identity.clusterId });
    await expect(
      leader.consensus.join({ ...request, nonce: "other0000000000000000000", address: "127.0.0.1:3" }),
    ).rejects.toMatchObject({ code: "already_exists" });
    await expect(leader.consensus.join({ ...request, address: "nowhere", name: "", nonce: "" })).rejects.toThrow(
      /address: "nowhere" must be HOST:PORT[^]*name: ""[^]*nonce: ""/,
    );
    const follower = cluster.managers.find((manager) => manager !== leader)!;
    await expect(follower.consensus.join({ ...request, nonce: "other0000000000000000000" })).rejects.toMatchObject({
      code: "not_leader",
      details: { leader: leader.address },
    });
    for (const n of [5, 6, 7])
      await leader.consensus.join({
        ...request,
        learner: true,
        name: `h${n}`,
        address: `127.0.0.1:${n}`,
        nonce: `nonce${n}0000000000000000000`,
      });
    // Learners for good count against another limit.
    const voter = await cluster.join("h8", { via: follower });
    await cluster.voters(4);
    expect(voter.identity.memberId).toBe(8);
  });
});

describe("a log with snapshots", () => {
  it("brings a newcomer up by a snapshot, members included", async () => {
    await using cluster = new TestCluster({ snapshotEntries: 20 });
    const first = await cluster.first();
    await eventually("it leads", () => first.consensus.tenure() !== undefined);
    for (let i = 0; i < 120; i += 1) await first.consensus.propose(bytes(`e${i}`));
    const second = await cluster.join("h2");
    await cluster.voters(2);
    await second.consensus.barrier();
    expect(second.machine.list).toEqual(first.machine.list);
    const known = ({ consensus }: TestManager) => consensus.members().map((member) => Member.fromPartial(member));
    expect(known(second)).toEqual(known(first));
    const { dataDir } = second;
    await second[Symbol.asyncDispose]();
    const again = await cluster.start(dataDir);
    await eventually("it is back", () => again.consensus.health().ready);
    await again.consensus.barrier();
    expect(again.machine.list).toEqual(first.machine.list);
    expect(known(again)).toEqual(known(first));
  });
});

describe("what is left of a cluster", () => {
  it("is recovered as a cluster of one, with all that its log has; the others are strangers then", async () => {
    await using cluster = new TestCluster();
    const managers = await cluster.three();
    const leader = await cluster.leader();
    for (let i = 0; i < 5; i += 1) await leader.consensus.propose(bytes(`e${i}`));
    const { dataDir } = managers[2];
    await expect(
      recoverCluster({ dataDir, clock: systemClock, rng: seededRng(1), log: silentLogger }),
    ).rejects.toThrow();
    await managers[2].consensus.barrier();
    const stranger = managers[0];
    for (const manager of managers) await manager[Symbol.asyncDispose]();
    const { identity, without } = await recoverCluster({
      dataDir,
      clock: systemClock,
      rng: seededRng(1),
      log: silentLogger,
    });
    expect([identity.epoch, without.map(({ id }) => id)]).toEqual([1, [1, 2]]);
    const recovered = await cluster.start(dataDir);
    await eventually("it leads", () => recovered.consensus.tenure() !== undefined);
    expect(recovered.consensus.tenure()).toMatchObject({ epoch: 1 });
    expect(recovered.machine.list).toEqual(["e0", "e1", "e2", "e3", "e4"]);
    expect(recovered.consensus.members().map(({ id }) => id)).toEqual([3]);
    // An old one that comes back takes no part: its log is of another time. It is told so, for good.
    const old = await cluster.start(stranger.dataDir);
    await eventually("it is refused", () => old.removed !== undefined);
    expect(old.removed).toMatch(/^manager 1 .* is of epoch 0, and the cluster was recovered without it since/);
    expect(old.consensus.health()).toEqual({
      ready: false,
      message: expect.stringContaining("is not of the cluster any more: manager 1"),
    });
    expect(recovered.consensus.members().map(({ id }) => id)).toEqual([3]);
    await old[Symbol.asyncDispose]();
    const joined = await cluster.join("h9");
    expect(joined.identity.memberId).toBe(4);
    await cluster.voters(2);
    await joined.consensus.barrier();
    expect(joined.machine.list).toEqual(["e0", "e1", "e2", "e3", "e4"]);
  });

  it("begins anew from a backup, under another identity", async () => {
    await using cluster = new TestCluster();
    const dir = await cluster.directory();
    const machine = new ListMachine();
    machine.list = ["a", "b"];
    const path = `${dir}/cluster.backup`;
    const header = { clusterId: "old", cluster: "prod", epoch: 3, revision: 7, createdAtMs: 5, version: "1" };
    await writeBackup(
      path,
      (async function* () {
        yield { header, chunk: Buffer.alloc(0) };
        for (const chunk of machine.snapshot()) yield { header: undefined, chunk: Buffer.from(chunk) };
      })(),
    );
    const dataDir = await cluster.directory();
    const address = "127.0.0.1:17431";
    const identity = await restoreCluster({
      dataDir,
      name: "h1",
      address,
      httpAddress: address,
      backup: path,
      clock: systemClock,
      rng: seededRng(9),
      log: silentLogger,
    });
    expect(identity).toMatchObject({ cluster: "prod", epoch: 4, memberId: 1 });
    expect(identity.clusterId).not.toBe("old");
    const restored = await cluster.start(dataDir);
    await eventually("it leads", () => restored.consensus.tenure() !== undefined);
    expect(restored.machine.list).toEqual(["a", "b"]);
    await restored.consensus.propose(bytes("c"));
    const second = await cluster.join("h2");
    await cluster.voters(2);
    await second.consensus.barrier();
    expect(second.machine.list).toEqual(["a", "b", "c"]);
  });
});

describe("a data directory", () => {
  it("belongs to one process, and a removed manager's is refused with what to do", async () => {
    await using cluster = new TestCluster();
    const dataDir = await cluster.directory();
    const lock = await lockDataDir(dataDir);
    await expect(lockDataDir(dataDir)).rejects.toThrow(/in use by another process/);
    await lock[Symbol.asyncDispose]();
    await using _again = await lockDataDir(dataDir);
    await markRemoved(dataDir, "manager 2 was removed");
    await expect(readIdentity(dataDir)).rejects.toThrow(/manager 2 was removed.*--join HOST:7400/);
  });
});
