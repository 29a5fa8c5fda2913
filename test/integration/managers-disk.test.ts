// What a manager does when its disk lies, fails, is full or gone: real processes, real directories, small tmpfs.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, open, readdir, readFile, rename, rm, truncate, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { ControlApi } from "../../cli/client/mod.js";
import { eventually } from "../kit/lab.js";
import { type ManagerProcess, Managers } from "../kit/managers.js";
import { makeSpec } from "../kit/objects.js";

const failingSync = fileURLToPath(new URL("../kit/failing-sync.mjs", import.meta.url));
const ballast = `BALLAST=${"x".repeat(2_000)}`;
let [made, moved] = [0, 0];

/** So many services, of about five kilobytes of log each, and what they are called. */
async function create(api: ControlApi, count = 1): Promise<string[]> {
  const names = Array.from({ length: count }, () => `s${(made += 1)}`);
  const spec = (name: string) => {
    const plain = makeSpec({ name, replicas: 0, ports: [] });
    const container = { ...plain.task.container, env: [ballast] };
    return { ...plain, task: { ...plain.task, container } };
  };
  const rest = [...names];
  const next = async (): Promise<void> => {
    for (let name = rest.shift(); name !== undefined; name = rest.shift()) await api.createService(spec(name));
  };
  await Promise.all([next(), next(), next(), next()]);
  return names;
}

/** As that manager alone says, after it has asked a quorum. */
async function namesAt(managers: Managers, { address }: ManagerProcess): Promise<string[]> {
  using api = managers.api([address]);
  return (await api.services()).map(({ service }) => service?.spec?.name ?? "").sort();
}

async function follower(managers: Managers): Promise<ManagerProcess> {
  const leader = await managers.leader();
  const found = managers.members.find((member) => member !== leader && member.running);
  if (found === undefined) throw new Error("there is no follower");
  return found;
}

const others = (managers: Managers, not: ManagerProcess) =>
  managers.members.filter((member) => member !== not).map(({ address }) => address);

const log = (manager: ManagerProcess) => join(manager.dataDir, "raft");
const filesOf = async (manager: ManagerProcess, name: RegExp) =>
  (await readdir(log(manager)))
    .filter((file) => name.test(file))
    .sort()
    .map((file) => join(log(manager), file));

async function identityOf({ dataDir }: ManagerProcess): Promise<{ memberId: number }> {
  return JSON.parse(await readFile(join(dataDir, "manager.json"), "utf8")) as { memberId: number };
}

async function flip(file: string, at: number): Promise<void> {
  const handle = await open(file, "r+");
  try {
    const { buffer } = await handle.read(Buffer.alloc(1), 0, 1, at);
    await handle.write(Buffer.from([(buffer[0] ?? 0) ^ 0x40]), 0, 1, at);
  } finally {
    await handle.close();
  }
}

/** Where the newest segment's data end. */
async function newestSegment(manager: ManagerProcess): Promise<{ file: string; end: number }> {
  const file = (await filesOf(manager, /^wal-.*\.log$/)).at(-1);
  if (file === undefined) throw new Error(`${manager.name} has no log`);
  const bytes = await readFile(file);
  return { file, end: bytes.findLastIndex((byte) => byte !== 0) + 1 };
}

/** Starts it and waits for its end: what it said last, without the log. */
async function lastWords(manager: ManagerProcess, join: readonly string[] = []): Promise<string> {
  const before = existsSync(manager.logFile) ? manager.log().length : 0;
  manager.start(join);
  const code = await manager.ended();
  const said = plainWords(manager.log().slice(before));
  expect({ code, said }).toMatchObject({ code: 1 });
  return said;
}

function plainWords(log: string): string {
  const words = log.split("\n").filter((line) => line !== "" && !line.startsWith("{"));
  console.log(words.join("\n"));
  expect(words.filter((line) => /^\s+at |this should not have happened/.test(line))).toEqual([]);
  return words.join("\n");
}

/** What every refusal of a lost log tells: word for word what `rejoin` does. */
function expectAdvice(said: string, { dataDir }: ManagerProcess): void {
  expect(said).toContain(`next: mv ${dataDir} ${dataDir}.damaged`);
  expect(said).toContain(`flotilla manager --data-dir ${dataDir} --join HOST:7400`);
}

/** Does as it was told, and sees that the manager is a new member that has everything. */
async function rejoin(managers: Managers, manager: ManagerProcess, all: readonly string[]): Promise<void> {
  await rename(manager.dataDir, `${manager.dataDir}.damaged-${(moved += 1)}`);
  await joinedAnew(managers, manager, all);
}

/** Starts it as it always is, and sees that it is a new member that has everything. */
async function joinedAnew(managers: Managers, manager: ManagerProcess, all: readonly string[]): Promise<void> {
  const { address } = manager;
  const elsewhere = others(managers, manager);
  const before = (await managers.status(elsewhere)).managers.map(({ id }) => id);
  manager.start(elsewhere);
  await eventually("it votes under a new id", async () => {
    const member = (await managers.status(elsewhere)).managers.find((one) => one.address === address);
    return member?.voter === true && !before.includes(member.id);
  });
  await managers.whole(managers.members.length);
  expect(before).not.toContain((await identityOf(manager)).memberId);
  await expectEverywhere(managers, all);
}

async function expectEverywhere(managers: Managers, all: readonly string[]): Promise<void> {
  const sorted = [...all].sort();
  for (const member of managers.members) {
    // One that was started a moment ago may not listen yet, although the others still count it in.
    let names: string[] = [];
    await eventually(`${member.name} answers`, async () => {
      names = await namesAt(managers, member);
      return true;
    });
    expect(names).toEqual(sorted);
  }
}

describe("a log that is not what it was", { timeout: 300_000 }, () => {
  it("damaged, truncated or gone: refused with what to do, and that brings the manager back as a new member", async () => {
    await using managers = await Managers.start({ count: 3 });
    using api = managers.api();
    const all = await create(api, 20);
    const victim = await follower(managers);

    await victim.kill();
    const { file, end } = await newestSegment(victim);
    await flip(file, Math.floor(end / 2));
    all.push(...(await create(api)));
    const damaged = await lastWords(victim, others(managers, victim));
    expect(damaged).toMatch(/^error: the log in .*\/raft is refused: wal-\d+-\d+\.log is damaged at byte \d+: /);
    expectAdvice(damaged, victim);
    await rejoin(managers, victim, all);

    await victim.kill();
    const short = await newestSegment(victim);
    await truncate(short.file, short.end - 10);
    const truncated = await lastWords(victim);
    expect(truncated).toMatch(/wal-\d+-\d+\.log has \d+ bytes, but was made with \d+: it was truncated/);
    expectAdvice(truncated, victim);
    await rejoin(managers, victim, all);

    // Its votes are forgotten, and manager.json says who it was.
    await victim.kill();
    await rm(log(victim), { recursive: true });
    const gone = await lastWords(victim, others(managers, victim));
    expect(gone).toMatch(/^error: the log in .*\/raft is refused: it is gone, and this node has taken part before/);
    expectAdvice(gone, victim);
    await rejoin(managers, victim, all);
  });

  it("torn by a crash: the manager starts, keeps what was cut off, and lacks nothing", async () => {
    await using managers = await Managers.start({ count: 3 });
    using api = managers.api();
    const all = await create(api, 10);
    const victim = await follower(managers);
    await victim.kill();
    const { file, end } = await newestSegment(victim);
    // A write that came only half to the disk: nothing of it was acknowledged.
    const handle = await open(file, "r+");
    await handle.write(Buffer.alloc(700, 0xa5), 0, 700, Math.ceil(end / 8) * 8);
    await handle.close();
    all.push(...(await create(api)));
    victim.start();
    await managers.whole(3);
    const [backup] = await filesOf(victim, /^torn-.*\.bak$/);
    expect(backup).toBeDefined();
    expect((await readFile(backup ?? "")).every((byte) => byte === 0xa5)).toBe(true);
    expect(victim.log()).toContain("was cut short by a crash");
    await expectEverywhere(managers, all);
    expect((await identityOf(victim)).memberId).toBeLessThanOrEqual(3);
  });

  it("wiped with everything else: the usual command line brings the manager back as a new member", async () => {
    await using managers = await Managers.start({ count: 3 });
    using api = managers.api();
    const all = await create(api, 5);
    const victim = await managers.leader();
    await victim.kill();
    await rm(victim.dataDir, { recursive: true });
    await eventually("another one leads", async () => (await managers.leader()) !== victim);
    await joinedAnew(managers, victim, all);
  });
});

/** Managers whose directories are file systems of their own, of eight megabytes. */
class SmallDisks implements AsyncDisposable {
  readonly managers: Managers;

  private constructor(managers: Managers) {
    this.managers = managers;
  }

  static async start(): Promise<SmallDisks> {
    const small = new SmallDisks(await Managers.prepare({ count: 3 }));
    const { managers } = small;
    try {
      for (const { dataDir } of managers.members) {
        await mkdir(dataDir);
        execFileSync("mount", ["-t", "tmpfs", "-o", "size=8m,mode=0700", "flotilla-test", dataDir]);
      }
      await managers.init();
      const first = managers.member(1);
      first.start();
      for (const other of managers.members.slice(1)) other.start([first.address]);
      await managers.whole(3);
      return small;
    } catch (error) {
      await small[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.managers.members.map((member) => member.kill()));
    for (const { dataDir } of this.managers.members) {
      if (existsSync(dataDir)) execFileSync("sh", ["-c", '! mountpoint -q "$1" || umount "$1"', "sh", dataDir]);
    }
    await this.managers[Symbol.asyncDispose]();
  }
}

const filler = ({ dataDir }: ManagerProcess) => join(dataDir, "filler");

/** Until nothing more goes in. */
async function fill(manager: ManagerProcess): Promise<void> {
  const handle = await open(filler(manager), "a");
  try {
    for (const bytes of [65_536, 4_096]) {
      for (;;) {
        try {
          await handle.write(Buffer.alloc(bytes, 1));
        } catch (error) {
          if (error instanceof Error && "code" in error && error.code === "ENOSPC") break;
          throw error;
        }
      }
    }
  } finally {
    await handle.close();
  }
}

const free = (manager: ManagerProcess) => unlink(filler(manager));

async function readyz({ httpAddress }: ManagerProcess): Promise<{ status: number; text: string }> {
  const response = await fetch(`http://${httpAddress}/readyz`);
  return { status: response.status, text: await response.text() };
}

/** Writes until `holds`; what is taken meanwhile is added to `all`. */
async function writeUntil(what: string, api: ControlApi, all: string[], holds: () => Promise<boolean>): Promise<void> {
  for (let n = 0; n < 1_000; n += 1) {
    if (n % 10 === 0 && (await holds())) return;
    all.push(...(await create(api)));
  }
  throw new Error(`not after 1,000 writes: ${what}`);
}

const isFull = async (manager: ManagerProcess) => (await readyz(manager)).text.includes("is full");

describe("a disk of eight megabytes", { timeout: 300_000 }, () => {
  it("lasts as long as nobody else fills it: the log is replaced by snapshots, and a lost log is told from a new one", async () => {
    await using small = await SmallDisks.start();
    const { managers } = small;
    using api = managers.api();
    const all = await create(api, 100);
    const victim = await follower(managers);
    all.push(...(await create(api, 300)));
    await eventually("there is a snapshot", async () => (await filesOf(victim, /^snapshot-\d+-\d+$/)).length > 0);
    await expectEverywhere(managers, all);

    await victim.kill();
    const [snapshot = ""] = (await filesOf(victim, /^snapshot-\d+-\d+$/)).slice(-1);
    await flip(snapshot, Math.floor((await readFile(snapshot)).length / 2));
    const damaged = await lastWords(victim);
    expect(damaged).toMatch(/^error: .*\/snapshot-\d+-\d+ is damaged at byte \d+: a checksum is wrong/);
    expectAdvice(damaged, victim);

    for (const file of await filesOf(victim, /^wal-/)) await unlink(file);
    const without = await lastWords(victim, others(managers, victim));
    expect(without).toMatch(
      /is refused: there are snapshots, as that of index \d+, and no file wal-…: they were removed/,
    );
    expectAdvice(without, victim);
    // A mount point cannot be moved: wiped, as the other half of the advice says.
    for (const file of await readdir(victim.dataDir)) await rm(join(victim.dataDir, file), { recursive: true });
    await joinedAnew(managers, victim, all);
  });

  it("full at the leader: another one leads; full at all: writes are refused in words, reads and votes go on; freed: all is well", async () => {
    await using small = await SmallDisks.start();
    const { managers } = small;
    using api = managers.api();
    const all = await create(api, 5);
    const first = await managers.leader();
    await fill(first);
    await writeUntil("the leader has handed over", api, all, async () => (await managers.leader()) !== first);
    expect(await isFull(first)).toBe(true);
    console.log(await readyz(first));
    expect(await readyz(first)).toMatchObject({ status: 503 });
    // Reads go on there, too.
    expect(await namesAt(managers, first)).toEqual([...all].sort());
    all.push(...(await create(api, 3)));

    for (const member of managers.members) if (member !== first) await fill(member);
    using impatient = managers.api(undefined, { repeatMs: 1_000 });
    let refusal = "";
    await eventually("writes are refused for the disk", async () => {
      try {
        all.push(...(await create(impatient)));
      } catch (error) {
        refusal = error instanceof Error ? error.message : "";
      }
      return /which leads: .*the disk of .*raft is full \(ENOSPC .*free space there/.test(refusal);
    });
    console.log(refusal);
    // Whether a write whose answer was a refusal is there is not in doubt: none is.
    expect(await namesAt(managers, await managers.leader())).toEqual([...all].sort());
    // One that has no room for the others' newest writes says so instead of showing old ones.
    const alone = await namesAt(managers, first).catch((error: unknown) => String(error));
    if (typeof alone === "string")
      expect(alone).toMatch(/no consistent read: ask another manager: the disk of .* is full/);
    else expect(alone).toEqual([...all].sort());
    const status = await managers.cli(["cluster", "status"]);
    console.log(status.stdout);
    expect(status.code).toBe(1);
    expect(status.stdout).toMatch(/Writes: +refused: the disk of .* is full/);

    // Votes are written to what is left.
    const leader = await managers.leader();
    await leader.kill();
    await eventually("another one leads", async () => (await managers.leader()) !== leader);
    leader.start();
    await eventually("reads are answered", async () => {
      const names = await namesAt(managers, await managers.leader());
      return names.length === all.length;
    });

    for (const member of managers.members) await free(member);
    await eventually("no disk is full", async () => {
      for (const member of managers.members) if (await isFull(member)) return false;
      return true;
    });
    all.push(...(await create(api, 3)));
    await managers.whole(3);
    await expectEverywhere(managers, all);
  });

  it("full at a follower: the others go on, it says so and lags, and catches up when there is room", async () => {
    await using small = await SmallDisks.start();
    const { managers } = small;
    using api = managers.api();
    const all = await create(api, 5);
    const victim = await follower(managers);
    await fill(victim);
    await writeUntil("the follower's disk is full", api, all, () => isFull(victim));
    // More than it has left.
    all.push(...(await create(api, 120)));
    expect(victim.running).toBe(true);
    const behind = (await managers.status()).managers.find(({ address }) => address === victim.address);
    expect(behind?.lag).toBeGreaterThan(0);
    await free(victim);
    await eventually("it has caught up", async () => !(await isFull(victim)));
    await managers.whole(3);
    await expectEverywhere(managers, all);
    expect(victim.running).toBe(true);
  });
});

describe("a disk whose syncs fail", { timeout: 300_000 }, () => {
  it.each(["a follower", "the leader"])(
    "%s ends at the first, says why, and catches up on a healed disk",
    async (which) => {
      await using managers = await Managers.start({ count: 3 });
      using api = managers.api();
      const all = await create(api, 5);
      const victim = which === "the leader" ? await managers.leader() : await follower(managers);
      const trigger = join(managers.directory, "sync-fails");
      await victim.kill("SIGTERM");
      const { NODE_OPTIONS = "" } = process.env;
      victim.start([], { NODE_OPTIONS: `${NODE_OPTIONS} --import ${failingSync}`, TEST_SYNC_FAILS_AT: trigger });
      await managers.whole(3);
      if (which === "the leader") {
        // Refused until the leader has heard of it again.
        await eventually("it leads", async () => {
          await api.transferLeadership(victim.name);
          return (await managers.leader()) === victim;
        });
      }
      const before = victim.log().length;
      const ended = victim.ended();
      await writeFile(trigger, "");
      all.push(...(await create(api, 3)));
      expect(await ended).toBe(1);
      const said = plainWords(victim.log().slice(before));
      expect(said).toMatch(/^error: this manager cannot go on: fdatasync of .*\/wal-\d+-\d+\.log failed with EIO /);
      expect(said).toMatch(/next: see the kernel's log \(dmesg\)/);
      expect(said).toContain(`flotilla manager --data-dir ${victim.dataDir} --join HOST:7400`);
      // No file's sync was tried again.
      const failed = (await readFile(trigger, "utf8")).trim().split("\n");
      expect(failed.length).toBe(new Set(failed).size);
      all.push(...(await create(api, 3)));
      await unlink(trigger);
      victim.start();
      await managers.whole(3);
      await expectEverywhere(managers, all);
    },
  );
});
