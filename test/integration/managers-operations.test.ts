// What an operator does to a whole cluster, as it is typed: backups, recovery, leaving, handing over. Real manager
// processes on this machine, and the command line beside them. Whatever is refused changes nothing.

import { createHash } from "node:crypto";
import { cp, readFile, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { History } from "../kit/history.js";
import { type CliResult, eventually } from "../kit/lab.js";
import { type ManagerProcess, Managers } from "../kit/managers.js";
import { makeSpec } from "../kit/objects.js";

const seconds = (n: number) => new Promise((resolve) => setTimeout(resolve, n * 1_000));
const spec = (name: string) => makeSpec({ name, replicas: 0, ports: [] });

/** Users who make services one after another, and what they were told. */
class Writer implements AsyncDisposable {
  /** By name, the store's revision of its creation. */
  readonly acknowledged = new Map<string, number>();
  readonly #running: Promise<void>;
  #stop = false;

  constructor(managers: Managers, prefix: string) {
    this.#running = this.#run(managers, prefix);
  }

  async #run(managers: Managers, prefix: string): Promise<void> {
    using api = managers.api();
    for (let n = 1; !this.#stop; n += 1) {
      const { service } = await api.createService(spec(`${prefix}-${n}`));
      this.acknowledged.set(`${prefix}-${n}`, service?.meta?.version ?? 0);
    }
  }

  /** Until so many are acknowledged. */
  async reached(count: number): Promise<void> {
    await Promise.race([
      this.#running,
      eventually(`${count} services are acknowledged`, () => this.acknowledged.size >= count),
    ]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop = true;
    await this.#running;
  }
}

/** By name, the revision that each was stored with, as one manager says after it asked a quorum. */
async function servicesAt(managers: Managers, { address }: ManagerProcess): Promise<Map<string, number>> {
  using api = managers.api([address]);
  return new Map((await api.services()).map(({ service }) => [service?.spec?.name ?? "", service?.meta?.version ?? 0]));
}

async function make(managers: Managers, ...names: string[]): Promise<void> {
  using api = managers.api(managers.members.filter(({ running }) => running).map(({ address }) => address));
  for (const name of names) await api.createService(spec(name));
}

/** Every file of a directory with what is in it, but for room kept for the log, and the mark of who had it last. */
async function contents(directory: string): Promise<string[]> {
  const all = await readdir(directory, { recursive: true, withFileTypes: true });
  const entries = all.filter(({ name }) => name !== "lock" && !name.startsWith("spare-"));
  const lines = entries.map(async (entry) => {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isFile()) return `${path} ${entry.isDirectory() ? "directory" : "other"}`;
    return `${path} ${createHash("sha256")
      .update(await readFile(path))
      .digest("hex")}`;
  });
  return (await Promise.all(lines)).sort();
}

function refused({ code, stdout, stderr }: CliResult, exit: number, words: RegExp): void {
  expect({ code, stdout, stderr }).toEqual({ code: exit, stdout: "", stderr: expect.stringMatching(words) });
}

async function must(managers: Managers, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await managers.cli(args);
  if (code !== 0) throw new Error(`flotilla ${args.join(" ")} exited with ${code}\n${stdout}${stderr}`);
  return stdout;
}

/** A process that ends by itself: what a start that is refused says, and whether the directory stayed as it was. */
async function startRefused(manager: ManagerProcess, words: RegExp, join: readonly string[] = []): Promise<void> {
  const before = await contents(manager.dataDir);
  const said = manager.log().length;
  manager.start(join);
  expect(await manager.ended()).toBe(1);
  expect(manager.log().slice(said)).toMatch(words);
  expect(await contents(manager.dataDir)).toEqual(before);
}

async function others(managers: Managers, than: ManagerProcess): Promise<[ManagerProcess, ManagerProcess]> {
  const [a, b] = managers.members.filter((member) => member !== than && member.running);
  if (a === undefined || b === undefined) throw new Error("there are no two others");
  return [a, b];
}

describe("backup and restore", () => {
  it("a file made amid writes holds one moment of them, and begins a new cluster; the old one is foreign to it", async () => {
    await using old = await Managers.start({ count: 3 });
    const file = join(old.directory, "cluster.backup");
    let writer: Writer;
    let summary: { revision: number; objects: number; file: string };
    {
      await using writing = new Writer(old, "w");
      writer = writing;
      await writing.reached(20);
      const before = writing.acknowledged.size;
      summary = JSON.parse(await must(old, "cluster", "backup", "--json", file)) as typeof summary;
      const then = [...writing.acknowledged.values()];
      expect(Math.max(...then.slice(0, before))).toBeLessThanOrEqual(summary.revision);
      await writing.reached(writing.acknowledged.size + 10);
    }
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await readdir(old.directory)).filter((name) => name.startsWith("cluster.backup"))).toEqual([
      "cluster.backup",
    ]);
    const whole = await readFile(file);
    refused(await old.cli(["cluster", "backup", file]), 1, /already/);
    expect(await readFile(file)).toEqual(whole);

    // A new cluster on the addresses of the old one's managers, two of which run on.
    const [m1, m2, m3] = old.members as [ManagerProcess, ManagerProcess, ManagerProcess];
    await m1.kill();
    await old.whole(2);
    await using fresh = await Managers.prepare({
      count: 3,
      inPlaceOf: old.members,
      directory: join(old.directory, "restored"),
    });
    const [r1, r2, r3] = fresh.members as [ManagerProcess, ManagerProcess, ManagerProcess];
    const restore = (from: string, dataDir = r1.dataDir) =>
      fresh.cli([
        ...["cluster", "restore", "--data-dir", dataDir, "--name", "m1"],
        ...["--advertise-addr", r1.address, "--http-advertise-addr", r1.httpAddress, from],
      ]);

    const damaged = join(old.directory, "damaged.backup");
    const flipped = (at: number) => whole.map((byte, i) => (i === at ? byte ^ 0x10 : byte));
    const other = "no backup at all, and longer than its first line\n";
    for (const [bytes, words] of [
      [whole.subarray(0, whole.length - 1), /was cut short/],
      [whole.subarray(0, Math.floor(whole.length / 2)), /was cut short/],
      [whole.subarray(0, 0), /was cut short/],
      [flipped(3), /it is no backup of this version/],
      [flipped(40), /checksum is wrong|cut short|a part of/],
      [flipped(Math.floor(whole.length / 2)), /checksum is wrong|cut short|a part of/],
      [flipped(whole.length - 1), /parts that do not belong together/],
      [Buffer.concat([whole, Buffer.from("x")]), /goes on after its end/],
      [Buffer.from(other), /it is no backup of this version/],
    ] as const) {
      await writeFile(damaged, bytes);
      refused(await restore(damaged), 1, words);
      await expect(readdir(fresh.directory)).rejects.toThrow(/ENOENT/);
    }
    const used = await contents(m1.dataDir);
    refused(await restore(file, m1.dataDir), 1, /is that of manager 1 of cluster "test"/);
    expect(await contents(m1.dataDir)).toEqual(used);

    expect(await restore(file)).toMatchObject({ code: 0, stdout: expect.stringContaining("begins again at revision") });
    r1.start();
    const status = await fresh.whole(1);
    const first = await old.status([m2.address]);
    expect([status.epoch, first.epoch, status.cluster]).toEqual([1, 0, "test"]);
    expect(status.clusterId).not.toBe(first.clusterId);
    const expected = new Map([...writer.acknowledged].filter(([, revision]) => revision <= summary.revision));
    expect(expected.size).toBeGreaterThanOrEqual(20);
    expect(expected.size).toBeLessThan(writer.acknowledged.size);
    expect(await servicesAt(fresh, r1)).toEqual(expected);
    await make(fresh, "after");
    expect((await servicesAt(fresh, r1)).get("after")).toBeGreaterThan(summary.revision);

    // The old cluster, whose first manager was at that address, finds a stranger there, and says so.
    await eventually("the old ones are refused", () =>
      new RegExp(`is of cluster ${status.clusterId}, and manager \\d .* of cluster ${first.clusterId}`).test(m2.log()),
    );
    await make(old, "old-goes-on");
    await m2.kill();
    await rm(r2.dataDir, { recursive: true, force: true });
    r2.start([r1.address]);
    await fresh.whole(2);
    await r2.kill();
    m2.start();
    await eventually("the restored ones are refused", () =>
      new RegExp(`is of cluster ${first.clusterId}, and manager 1 .* of cluster ${status.clusterId}`).test(r1.log()),
    );
    await Promise.all([m2.kill(), m3.kill()]);
    r2.start();
    r3.start([r1.address]);
    await fresh.whole(3);
    const names = await servicesAt(fresh, r1);
    expect([...names.keys()].sort()).toEqual([...expected.keys(), "after"].sort());
    for (const member of fresh.members) expect(await servicesAt(fresh, member)).toEqual(names);
  }, 300_000);
});

describe("a quorum that is lost for good", () => {
  it("one manager goes on with all that there was; the others join anew, and one of the old time is told and ends", async () => {
    await using managers = await Managers.start({ count: 3 });
    const [m1, m2, m3] = managers.members as [ManagerProcess, ManagerProcess, ManagerProcess];
    await make(managers, ...Array.from({ length: 20 }, (_, i) => `s${i}`));
    const services = await servicesAt(managers, m3);
    expect(services.size).toBe(20);
    const recover = (...more: string[]) => managers.cli(["cluster", "recover", "--data-dir", m3.dataDir, ...more]);
    refused(await recover("--yes", "test"), 1, /is in use by another process/);
    await Promise.all([m1.kill(), m2.kill()]);
    const away = join(managers.directory, "m1-of-then");
    await cp(m1.dataDir, away, { recursive: true });
    for (const { dataDir } of [m1, m2]) await rm(dataDir, { recursive: true });
    refused(await recover("--yes", "test"), 1, /is in use by another process/);
    await m3.kill();

    const before = await contents(m3.dataDir);
    refused(await recover(), 125, /--yes is needed.*write --yes test, the cluster's name/);
    refused(await recover("--yes", "tset"), 125, /--yes: "tset" must be the cluster's name, test/);
    expect(await contents(m3.dataDir)).toEqual(before);
    const { code, stdout, stderr } = await recover("--yes", "test");
    expect([code, stdout]).toEqual([0, expect.stringMatching(/goes on with manager \d, m3, .*recovery epoch 1/)]);
    expect(stderr).toMatch(/forgotten: m1 \(manager 1, .*m2 \(manager \d, /);
    m3.start();
    await managers.whole(1);
    expect(await servicesAt(managers, m3)).toEqual(services);
    await make(managers, "alone");
    m1.start([m3.address]);
    m2.start([m3.address]);
    const status = await managers.whole(3);
    // Two of three ids are new ones.
    expect(
      status.managers
        .filter(({ id }) => id > 3)
        .map(({ name }) => name)
        .sort(),
    ).toEqual(["m1", "m2"]);
    const all = await servicesAt(managers, m3);
    expect([...all.keys()].sort()).toEqual([...services.keys(), "alone"].sort());
    for (const member of managers.members) expect(await servicesAt(managers, member)).toEqual(all);

    // The first one's disk turns up.
    await m1.kill();
    const now = join(managers.directory, "m1-of-now");
    await rename(m1.dataDir, now);
    await rename(away, m1.dataDir);
    const said = m1.log().length;
    m1.start([m3.address]);
    expect(await m1.ended()).toBe(0);
    const words = /manager 1 \(.*\) is of epoch 0, and the cluster was recovered without it since: .* is at epoch 1/;
    expect(m1.log().slice(said)).toMatch(words);
    expect(m1.log().slice(said)).toContain(`flotilla manager --data-dir ${m1.dataDir} --join HOST:7400`);
    expect(await readFile(join(m1.dataDir, "removed"), "utf8")).toMatch(words);
    await startRefused(m1, /was removed from its cluster .* join as a new manager with flotilla manager/, [m3.address]);
    await rm(m1.dataDir, { recursive: true });
    await rename(now, m1.dataDir);
    m1.start([m3.address]);
    await managers.whole(3);
    expect(await servicesAt(managers, m1)).toEqual(all);
  }, 300_000);

  it("is not believed while the others are one", async () => {
    await using managers = await Managers.start({ count: 3 });
    const [, , m3] = managers.members as [ManagerProcess, ManagerProcess, ManagerProcess];
    await m3.kill();
    await managers.whole(2);
    const before = await contents(m3.dataDir);
    const line = ["cluster", "recover", "--data-dir", m3.dataDir, "--yes", "test"];
    refused(await managers.cli(line), 1, /m1 \(.*\) answers, and says that .* leads: the managers have their quorum/);
    expect(await contents(m3.dataDir)).toEqual(before);
    m3.start();
    await managers.whole(3);
  }, 120_000);
});

describe("leaving", () => {
  it("a follower, the leader amid writes, and then neither the last nor a quorum's; they come back as was printed", async () => {
    await using managers = await Managers.start({ count: 3 });
    const leave = (member: ManagerProcess, ...more: string[]) =>
      managers.cli(["cluster", "leave", "--yes", ...more, member.name]);
    /** What a removed manager is told, and the way back that it prints. */
    const comesBack = async (member: ManagerProcess) => {
      expect(await member.ended()).toBe(0);
      expect(member.log()).toMatch(/not of the cluster any more, and ends; to join anew/);
      await startRefused(member, /was removed from its cluster .* and cannot come back as it was: move .* away/);
      await rename(member.dataDir, `${member.dataDir}.removed`);
      const { members } = managers;
      member.start(members.filter(({ running }) => running).map(({ address }) => address));
      await managers.whole(3);
      await rm(`${member.dataDir}.removed`, { recursive: true });
    };
    await make(managers, "one");
    const follower = (await others(managers, await managers.leader()))[0];
    expect(await leave(follower)).toMatchObject({ code: 0, stdout: expect.stringContaining("is out") });
    await comesBack(follower);

    const apis = [managers.api(), managers.api(), managers.api()];
    const history = new History({ apis, prefix: "leave", registers: 10, writesPerSecond: 60 });
    await history.start();
    await seconds(1);
    const leader = await managers.leader();
    const term = (await managers.status()).term;
    expect(await leave(leader)).toMatchObject({ code: 0 });
    const after = await managers.status();
    expect(after.term).toBe(term + 1);
    expect(leader.log()).toMatch(/the leader is to be removed: it hands over first/);
    await seconds(1);
    await history.stop();
    await history.check(apis[0]!);
    expect(history.failures).toEqual([]);
    for (const api of apis) api[Symbol.dispose]();
    await comesBack(leader);

    // Without one, the other is as needed as the leader.
    const [away, needed] = await others(managers, await managers.leader());
    await away.kill();
    await eventually("it is missed", async () =>
      (await managers.status()).managers.some(({ name, reachable }) => name === away.name && !reachable),
    );
    refused(await leave(needed), 1, new RegExp(`have no quorum: .*${away.name} cannot be reached.*--force`, "s"));
    expect(needed.running).toBe(true);
    expect((await managers.status()).managers).toHaveLength(3);
    expect(await leave(away)).toMatchObject({ code: 0 });
    expect(await leave(needed)).toMatchObject({ code: 0 });
    expect(await needed.ended()).toBe(0);
    refused(await leave(await managers.leader()), 1, /only manager with a vote/);
    refused(await leave(await managers.leader(), "--force"), 1, /only manager with a vote/);
    await make(managers, "last");
    // One that was away when it was taken out is told when it comes back.
    away.start();
    expect(await away.ended()).toBe(0);
    await startRefused(away, /was removed from its cluster/);
  }, 300_000);
});

describe("handing over", () => {
  it("to a named manager, again and again amid writes: none is lost, none done twice", async () => {
    await using managers = await Managers.start({ count: 3 });
    const apis = [managers.api(), managers.api(), managers.api([...managers.addresses].reverse())];
    const history = new History({ apis, prefix: "t", registers: 10, writesPerSecond: 60 });
    await history.start();
    for (const to of [...managers.members, ...managers.members]) {
      expect(await must(managers, "cluster", "transfer", to.name)).toMatch(
        new RegExp(`^${to.name} leads now, in term`),
      );
      expect((await managers.leader()).name).toBe(to.name);
      await seconds(0.5);
    }
    await history.stop();
    await history.check(apis[0]!);
    expect(history.failures).toEqual([]);
    expect(history.acknowledged).toBeGreaterThan(50);
    refused(await managers.cli(["cluster", "transfer", "m9"]), 1, /no manager "m9"; there are manager 1 \(m1, /);
    for (const api of apis) api[Symbol.dispose]();
  }, 300_000);
});

describe("who somebody else is already", () => {
  it("a directory that runs, and a copy of one, is refused; the cluster does not notice", async () => {
    await using managers = await Managers.start({ count: 3 });
    const [twin] = await others(managers, await managers.leader());
    const before = await managers.status();
    const free = await Managers.prepare({ count: 1, directory: join(managers.directory, "free") });
    const elsewhere = ["--listen", free.member(1).address, "--http-listen", free.member(1).httpAddress];
    const run = (dataDir: string, ...more: string[]) => managers.cli(["manager", "--data-dir", dataDir, ...more]);
    const said = ({ code, stdout, stderr }: CliResult) => ({ code, text: stdout + stderr });

    expect(said(await run(twin.dataDir, ...elsewhere))).toEqual({
      code: 1,
      text: expect.stringMatching(/is in use by another process/),
    });
    const copy = join(managers.directory, "copy");
    await cp(twin.dataDir, copy, { recursive: true });
    expect(said(await run(copy))).toEqual({ code: 1, text: expect.stringMatching(/--listen .*EADDRINUSE/) });
    expect(said(await run(copy, "--name", "m9"))).toEqual({
      code: 1,
      text: expect.stringMatching(/whose name is m\d and not m9/),
    });
    expect(said(await run(copy, "--advertise-addr", free.member(1).address))).toEqual({
      code: 1,
      text: expect.stringMatching(/which the other managers know at/),
    });
    // The log's own mark was copied, too; on another host the process that it names would not be there.
    expect(said(await run(copy, ...elsewhere))).toEqual({
      code: 1,
      text: expect.stringMatching(/is in use by process \d+: two processes on one log destroy it/),
    });
    await rm(join(copy, "raft", "lock"));
    expect(said(await run(copy, ...elsewhere))).toEqual({
      code: 1,
      text: expect.stringMatching(/from another process: its directory was copied, and both copies run/),
    });
    // Made to say another address, it is found out by that.
    const file = join(copy, "manager.json");
    await writeFile(file, (await readFile(file, "utf8")).replaceAll(twin.address, free.member(1).address));
    await using moved = await Managers.prepare({
      count: 1,
      inPlaceOf: [free.member(1)],
      directory: join(managers.directory, "moved"),
    });
    await cp(copy, moved.member(1).dataDir, { recursive: true });
    await writeFile(
      join(moved.member(1).dataDir, "manager.json"),
      (await readFile(file, "utf8")).replaceAll(`"${twin.name}"`, '"m1"'),
    );
    await rm(join(moved.member(1).dataDir, "raft", "lock"), { force: true });
    moved.member(1).start();
    await eventually("it is refused", () => /says that it is the same one/.test(moved.member(1).log()));
    await make(managers, "goes-on");
    expect(await managers.status()).toMatchObject({ term: before.term, leaderId: before.leaderId });
    expect((await managers.whole(3)).managers).toHaveLength(3);
  }, 180_000);
});

describe("a manager without a vote", () => {
  it("gets everything, never votes, and can be taken out", async () => {
    await using managers = await Managers.prepare({ count: 2 });
    const [voter, learner] = managers.members as [ManagerProcess, ManagerProcess];
    await managers.init();
    voter.start();
    await managers.whole(1);
    await make(managers, "one", "two");
    const at = ["--data-dir", learner.dataDir, "--name", "m2", "--advertise-addr", learner.address];
    const http = ["--http-advertise-addr", learner.httpAddress];
    await must(managers, "cluster", "join", "--learner", "--managers", voter.address, ...at, ...http);
    learner.start();
    await eventually("it has everything", async () => (await servicesAt(managers, learner)).size === 2);
    const roles = async () => {
      const text = await must(managers, "cluster", "status", "--format", "{{.Name}} {{.Role}} {{.Lag}}");
      return text.trim().split("\n").sort();
    };
    await seconds(2);
    expect(await roles()).toEqual(["m1 voter 0", "m2 learner 0"]);
    refused(await managers.cli(["cluster", "transfer", "m2"]), 1, /m2.* has no vote/);
    await learner.kill();
    await make(managers, "three");
    learner.start();
    await eventually("it has caught up", async () => (await servicesAt(managers, learner)).size === 3);
    // Alone it is nothing.
    await voter.kill();
    await seconds(3);
    const alone = await managers.cli(["--host", learner.address, "cluster", "status", "--json"]);
    expect(alone.code).toBe(1);
    expect(JSON.parse(alone.stdout)).toMatchObject({ writable: false });
    voter.start();
    await eventually("both", async () => (await roles()).join() === "m1 voter 0,m2 learner 0");
    expect(await managers.cli(["cluster", "leave", "--yes", "m2"])).toMatchObject({ code: 0 });
    expect(await learner.ended()).toBe(0);
    expect(await roles()).toEqual(["m1 voter 0"]);
  }, 120_000);
});

describe("eight managers", () => {
  it("the eighth is told the rule, may be there without a vote, or takes the place of another", async () => {
    await using managers = await Managers.prepare({ count: 8 });
    await managers.init();
    managers.member(1).start();
    for (let n = 2; n <= 7; n += 1) managers.member(n).start([managers.member(1).address]);
    await managers.whole(7, 120_000);
    const eighth = managers.member(8);
    const line = (...more: string[]) => [
      ...["cluster", "join", "--managers", managers.member(1).address, "--data-dir", eighth.dataDir],
      ...["--name", eighth.name, "--advertise-addr", eighth.address],
      ...["--http-advertise-addr", eighth.httpAddress, ...more],
    ];
    refused(
      await managers.cli(line()),
      1,
      /has 7 voting managers, and at most 7 can be: .*flotilla cluster leave NAME/,
    );
    expect((await managers.status()).managers).toHaveLength(7);
    eighth.start([managers.member(1).address]);
    expect(await eighth.ended()).toBe(1);
    expect(eighth.log()).toMatch(/at most 7 can be/);
    const leaving = (await others(managers, await managers.leader()))[1];
    await must(managers, "cluster", "leave", "--yes", leaving.name);
    expect(await leaving.ended()).toBe(0);
    await must(managers, ...line());
    eighth.start();
    await managers.whole(7, 120_000);
  }, 300_000);
});
