// Whole command lines, against a real gRPC server on loopback and real directories.

import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ClusterError } from "../../../lib/errors.js";
import { BackupPart } from "../../../proto/gen/flotilla/control/v1/control.js";
import { PlacementStrategy } from "../../../proto/gen/flotilla/objects/v1/objects.js";
import { StoreChunk } from "../../../proto/gen/flotilla/raft/v1/raft.js";
import { lockDataDir } from "../../../manager/consensus/lock.js";
import { FakeIo } from "../../../test/kit/cli/io.js";
import { line } from "../../../test/kit/cli/line.js";
import { cluster, clusterStatus, manager } from "../../../test/kit/cli/managers.js";
import { type Answers, FakeControl } from "../../../test/kit/cli/server.js";
import { run } from "../../program.js";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "flotilla-cli-"));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

/** A line that talks to no manager. */
async function local(words: string[], prepare: (io: FakeIo) => void = () => undefined) {
  const io = new FakeIo();
  prepare(io);
  const exit = await run(words, io);
  return { exit, out: io.stdout, err: io.stderr };
}

const initLine = (...words: string[]) =>
  local([
    "cluster",
    "init",
    "--data-dir",
    dir,
    "--advertise-addr",
    "10.0.0.1:7400",
    "--name",
    "h1",
    "--cluster",
    "prod",
    ...words,
  ]);

describe("cluster init", () => {
  it("prepares a directory and says what to type next", async () => {
    const { exit, out, err } = await initLine();
    expect(exit).toBe(0);
    expect(out).toMatch(/^cluster prod \([0-9a-z]{25}\) begins with manager 1, h1, at 10\.0\.0\.1:7400\n$/);
    expect(err).toMatch(new RegExp(`^next: flotilla manager --data-dir ${dir} +# here: runs the manager\\n`));
    expect(err).toMatch(
      /^ {6}flotilla manager --join 10\.0\.0\.1:7400 --advertise-addr HOST:7400 +# on HOST: one more$/m,
    );
    expect(JSON.parse(await readFile(join(dir, "manager.json"), "utf8"))).toMatchObject({
      cluster: "prod",
      memberId: 1,
      httpAddress: "10.0.0.1:7401",
      store: "raft",
    });
  });

  it("refuses a directory that has a cluster, and leaves it as it is", async () => {
    const first = await initLine("--json");
    const before = await readFile(join(dir, "manager.json"));
    const { exit, err } = await initLine("--cluster", "other");
    expect(exit).toBe(1);
    expect(err).toContain(`error: ${dir} is that of manager 1 of cluster "prod"`);
    expect(await readFile(join(dir, "manager.json"))).toEqual(before);
    expect(JSON.parse(first.out)).toMatchObject({ cluster: "prod", id: 1, dataDir: dir, epoch: 0 });
  });

  it("refuses what cannot be, all at once", async () => {
    const wrong = ["cluster", "init", "--data-dir", dir];
    const { exit, err } = await local([...wrong, "--advertise-addr", "0.0.0.0", "--cluster", "a b", "--store", "etcd"]);
    expect(exit).toBe(125);
    for (const field of ["--advertise-addr", "--cluster", "--etcd"])
      expect(err).toMatch(new RegExp(`^error: ${field}:? `, "m"));
    expect((await local([...wrong, "--advertise-addr", "h1", "--etcd", "http://a:1"])).err).toContain(
      "add --store etcd",
    );
    expect((await local([...wrong, "--advertise-addr", "h1", "--store", "memory"])).err).toContain(
      "must be one of raft, etcd",
    );
    expect(await readdir(dir)).toEqual([]);
  });
});

describe("cluster join", () => {
  it("refuses what cannot be", async () => {
    const none = await local(["cluster", "join", "--data-dir", dir, "--advertise-addr", "10.0.0.2"]);
    expect([none.exit, none.err]).toEqual([125, expect.stringContaining("error: --managers is needed;")]);
    const loop = await local(["cluster", "join", "--join", "10.0.0.1", "--advertise-addr", "127.0.0.1:7400"]);
    expect([loop.exit, loop.err]).toEqual([125, expect.stringContaining("must be an address that the managers at")]);
  });

  it("gives up when nobody answers, and says whom it asked", async () => {
    const at = ["--data-dir", dir, "--advertise-addr", "127.0.0.1:7400", "--name", "h2"];
    const { exit, err } = await local(["cluster", "join", "--managers", "127.0.0.1:1", "--timeout", "300ms", ...at]);
    expect(exit).toBe(1);
    expect(err).toContain("asking to join (manager 127.0.0.1:1)\n");
    expect(err).toContain("error: no manager of 127.0.0.1:1 took this one in in time");
  });
});

describe("cluster status", () => {
  it("shows who leads and how far each manager is", async () => {
    const managers = [
      manager(1),
      manager(2, { matchIndex: 100, lag: 20, replication: "probe" }),
      manager(3, { reachable: false, matchIndex: 90, lag: 30, replication: "probe" }),
      manager(4, { voter: false, replication: "snapshot", matchIndex: 0, lag: 120 }),
    ];
    const { exit, out, err } = await line(["cluster", "status"], {
      getClusterStatus: () => clusterStatus({ managers }),
      getCluster: () => cluster(),
    });
    expect([exit, err]).toEqual([0, ""]);
    expect(out).toBe(
      `Cluster: prod (c0ffee)
Store:   raft, revision 40
Writes:  taken
Leader:  h1 (10.0.0.1:7400), term 5
Commit:  120, applied 119
Quorum:  2 of 3 voters; 2 reachable, 0 may fail

ID   NAME   ADDRESS         ROLE      STATE         MATCH   LAG
1    h1     10.0.0.1:7400   voter     leader        120     0
2    h2     10.0.0.2:7400   voter     probing       100     20
3    h3     10.0.0.3:7400   voter     unreachable   90      30
4    h4     10.0.0.4:7400   learner   snapshot      0       120

Placement:    spread
Preemption:   off
Lost after:   15s
Task history: 5 per slot
Rebalance:    off
`,
    );
  });

  it("shows the brake first of all, and what is set", async () => {
    const settings = { strategy: PlacementStrategy.BINPACK, preemption: true, rebalanceMoves: 2 };
    const answers: Answers = {
      getClusterStatus: () => clusterStatus(),
      getCluster: () => cluster({ settings, brake: { sinceMs: Date.UTC(2026, 0, 31), lostNodes: 3, nodes: 5 } }),
    };
    const { out } = await line(["cluster", "status"], answers);
    expect(out).toContain(
      "Writes:  taken\nBrake:   3 of 5 nodes were lost at once at 2026-01-31T00:00:00.000Z: their tasks are left alone",
    );
    expect(out).toMatch(/^Placement: +binpack$/m);
    expect(out).toMatch(/^Rebalance: +2 moves at a time, every 5m$/m);
    expect(JSON.parse((await line(["cluster", "status", "--json"], answers)).out)).toMatchObject({
      brake: { lostNodes: 3, nodes: 5 },
      settings: {
        placementStrategy: "binpack",
        preemption: true,
        lostAfterMs: 15_000,
        taskHistory: 5,
        rebalanceMoves: 2,
        rebalanceIntervalMs: 300_000,
      },
    });
  });

  it("shows the managers also when the settings cannot be had", async () => {
    const { exit, out } = await line(["cluster", "status"], {
      getClusterStatus: () => clusterStatus(),
      getCluster: () => {
        throw new ClusterError("internal", "the settings are unreadable");
      },
    });
    expect(exit).toBe(0);
    expect(out).toContain("Leader:  h1");
    expect(out).toContain("Settings: not known: the settings are unreadable\n");
  });

  it("without a leader shows what is known, and ends with 1", async () => {
    const message = "no leader: 1 of 3 voters answers";
    const without = clusterStatus({ leaderId: 0, answeredBy: 2, message });
    const { exit, out } = await line(["cluster", "status"], { getClusterStatus: () => without });
    expect(exit).toBe(1);
    expect(out).toContain(`Writes:  refused: ${message}\nLeader:  none, term 5\n`);
    expect(out).toContain("Told by: h2, which knows no leader\n");
    expect(out).toMatch(/^1 +h1 +10\.0\.0\.1:7400 +voter +unknown$/m);
    expect(out).toMatch(/^2 +h2 +10\.0\.0\.2:7400 +voter +reachable +120 +0$/m);
  });

  it("is had as JSON and through a template, and from the manager that is asked", async () => {
    const answers = { getClusterStatus: () => clusterStatus({ answeredBy: 2 }) };
    const json = await line(["cluster", "status", "--local", "--json"], answers);
    expect(json.fake.asked[0]?.request).toMatchObject({ local: true });
    expect(JSON.parse(json.out)).toMatchObject({
      cluster: "prod",
      leader: { id: 1, name: "h1", address: "10.0.0.1:7400" },
      commit: 120,
      writable: true,
      managers: [
        { id: 1, role: "voter", state: "leader", match: null, lag: null },
        { id: 2, state: "reachable", match: 120, lag: 0 },
        { id: 3, state: "unknown", match: null },
      ],
    });
    const words = await line(["cluster", "status", "--format", "{{.Name}}={{.State}}"], answers);
    expect(words.out).toBe("h1=leader\nh2=reachable\nh3=unknown\n");
    expect((await line(["cluster", "status", "--format", "{{.Nope}}"])).exit).toBe(125);
  });

  it("of a manager alone has no Raft to show", async () => {
    const alone = clusterStatus({ store: "memory", leaderId: 0, managers: [], writable: true });
    const { exit, out } = await line(["cluster", "status"], {
      getClusterStatus: () => alone,
      getCluster: () => cluster(),
    });
    expect(exit).toBe(0);
    expect(out).toMatch(
      /^Cluster: prod \(c0ffee\)\nStore: {3}memory, revision 40\nWrites: {2}taken\n\nPlacement: +spread\n/,
    );
  });

  it("goes on with -w when something changes, until Ctrl-C", async () => {
    const terms = [5, 5, 0, 6];
    const { exit, out, err } = await line(
      ["cluster", "status", "-w", "--json"],
      {
        getClusterStatus: () => {
          const term = terms.shift() ?? 6;
          if (term === 0) throw new ClusterError("cancelled", "the manager stops");
          return clusterStatus({ term });
        },
        getCluster: () => cluster(),
      },
      (io, fake) => {
        const { out } = io;
        io.out = (chunk) => {
          out.call(io, chunk);
          if (fake.asked.filter(({ call }) => call === "getClusterStatus").length >= 4) io.stop();
        };
      },
    );
    expect([exit, err]).toEqual([130, "no manager answers (the manager stops); asking again\n"]);
    const shown = out.trimEnd().split("\n");
    expect(shown.map((text) => (JSON.parse(text) as { term: number }).term)).toEqual([5, 6]);
  });
});

/** As if the manager of the directory listened there. */
async function writeIdentityAddress(address: string): Promise<void> {
  const file = join(dir, "manager.json");
  const identity = JSON.parse(await readFile(file, "utf8")) as { members: object[] };
  const members = identity.members.map((member) => ({ ...member, address }));
  await writeFile(file, JSON.stringify({ ...identity, address, members }));
}

describe("cluster update", () => {
  it("sends what was named, and shows all that is set", async () => {
    const update = async (...words: string[]) =>
      await line(["cluster", "update", ...words], {
        updateCluster: ({ preemption }) =>
          cluster({ settings: { strategy: 2, preemption: preemption ?? false, rebalanceMoves: 0 } }),
      });
    const { exit, out, fake } = await update(
      "--placement-strategy",
      "binpack",
      "--preemption",
      "--lost-after",
      "30s",
      "--task-history",
      "2",
      "--rebalance-moves",
      "0",
      "--rebalance-interval",
      "10m",
    );
    expect(exit).toBe(0);
    expect(out).toMatch(/^Placement: +binpack\nPreemption: +on\n/);
    expect(fake.asked[0]).toMatchObject({
      call: "updateCluster",
      request: {
        strategy: PlacementStrategy.BINPACK,
        preemption: true,
        lostAfterMs: 30_000,
        taskHistory: 2,
        rebalanceMoves: 0,
        rebalanceIntervalMs: 600_000,
      },
    });
    const off = await update("--json", "--preemption", "off");
    expect(JSON.parse(off.out)).toMatchObject({ placementStrategy: "binpack", preemption: false });
    expect(off.fake.asked[0]?.request).toMatchObject({ strategy: PlacementStrategy.UNSPECIFIED, preemption: false });
    expect(off.fake.asked[0]?.request).not.toMatchObject({ lostAfterMs: expect.anything() as number });
  });

  it("asks nobody when it is wrong", async () => {
    const wrong = await line([
      "cluster",
      "update",
      "--preemption=maybe",
      "--lost-after",
      "5",
      "--placement-strategy",
      "random",
    ]);
    expect([wrong.exit, wrong.fake.asked]).toEqual([125, []]);
    expect(wrong.err.match(/^error: --(preemption|lost-after|placement-strategy): /gm)).toHaveLength(3);
    const nothing = await line(["cluster", "update"]);
    expect(nothing.err).toMatch(
      /^error: cluster update was given nothing to change; add one of --placement-strategy, /,
    );
  });
});

describe("cluster leave", () => {
  const answers = (status = clusterStatus()) => ({
    getClusterStatus: () => status,
    removeManager: ({ manager: id }: { manager: string }) => ({ manager: status.managers[Number(id) - 1] }),
  });

  it("asks, and takes out whom it named", async () => {
    const { exit, out, err, fake } = await line(["cluster", "leave", "h3"], answers(), (io) => {
      io.inTty = true;
      io.answers = ["y"];
    });
    expect(exit).toBe(0);
    expect(out).toBe("h3 (manager 3, 10.0.0.3:7400) is out; it ends by itself\n");
    expect(err).toContain("leaves cluster prod for good; it can only come back as a new manager.\n");
    expect(err).toContain("2 voters stay, and none of them may fail.\nTake it out? [y/N] ");
    expect(fake.asked.at(-1)).toMatchObject({ call: "removeManager", request: { manager: "3", force: false } });
  });

  it("does nothing without a yes", async () => {
    const no = await line(["cluster", "leave", "h3"], answers(), (io) => {
      io.inTty = true;
      io.answers = [""];
    });
    expect([no.exit, no.err]).toEqual([1, expect.stringContaining("error: not confirmed; nothing was changed\n")]);
    const nobody = await line(["cluster", "leave", "h3"], answers());
    expect([nobody.exit, nobody.err]).toEqual([125, expect.stringContaining("error: --yes is needed: there is no")]);
    for (const { fake } of [no, nobody]) expect(fake.asked.map(({ call }) => call)).toEqual(["getClusterStatus"]);
  });

  it("takes this host's manager out, and only from its own cluster", async () => {
    await initLine();
    const { clusterId } = JSON.parse(await readFile(join(dir, "manager.json"), "utf8")) as { clusterId: string };
    const leave = (status: ReturnType<typeof clusterStatus>) =>
      line(["cluster", "leave", "--yes", "--data-dir", dir], answers(status), (io) => {
        // Where a manager's directory is given, the environment does not say which cluster it is of.
        io.env = { FLOTILLA_HOST: "127.0.0.1:1" };
      });
    await writeIdentityAddress("127.0.0.1:1");
    const away = await leave(clusterStatus({ clusterId }));
    expect([away.exit, away.err]).toEqual([1, expect.stringContaining(`(from ${dir}/manager.json)`)]);
    const there = async (status: ReturnType<typeof clusterStatus>) => {
      const fake = await line(["version"], answers(status));
      await writeIdentityAddress(fake.fake.address);
      return { ...(await local(["cluster", "leave", "--yes", "--data-dir", dir])), fake: fake.fake };
    };
    const other = await there(clusterStatus());
    expect([other.exit, other.err]).toEqual([1, expect.stringContaining("are of prod (c0ffee)")]);
    const own = await there(clusterStatus({ clusterId, leaderId: 2 }));
    expect([own.exit, own.out]).toEqual([0, "h1 (manager 1, 10.0.0.1:7400) is out; it ends by itself\n"]);
    expect(own.fake.asked.at(-1)).toMatchObject({ call: "removeManager", request: { manager: "1" } });
  });

  it("refuses to leave the others without a quorum, unless that is wanted", async () => {
    const managers = [manager(1), manager(2), manager(3, { reachable: false })];
    const refused = await line(["cluster", "leave", "--yes", "h2"], answers(clusterStatus({ managers })));
    expect(refused.exit).toBe(1);
    expect(refused.err).toContain(
      "error: without h2 the managers have no quorum: of 2 left, 2 must answer, and one does\ncause: h3 cannot be reached\n",
    );
    expect(refused.fake.asked.map(({ call }) => call)).toEqual(["getClusterStatus"]);
    const forced = await line(["cluster", "leave", "--yes", "--force", "h2"], answers(clusterStatus({ managers })));
    expect(forced.exit).toBe(0);
    expect(forced.fake.asked.at(-1)?.request).toMatchObject({ manager: "2", force: true });
    expect((await line(["cluster", "leave", "--yes", "h3"], answers(clusterStatus({ managers })))).exit).toBe(0);
  });

  it("refuses the last manager, an unknown one, one of two, and without a leader", async () => {
    const leave = (who: string, status = clusterStatus()) => line(["cluster", "leave", "-y", who], answers(status));
    const last = await leave("h1", clusterStatus({ managers: [manager(1)] }));
    expect([last.exit, last.err]).toEqual([1, expect.stringContaining("the only manager with a vote")]);
    const unknown = await leave("h9");
    expect(unknown.err).toContain('no manager "h9" in cluster prod\ncause: there are h1 (1), h2 (2), h3 (3)\n');
    const twins = await leave("h1", clusterStatus({ managers: [manager(1), manager(2, { name: "h1" })] }));
    expect(twins.err).toContain("2 managers are called h1");
    const leaderless = await leave("h1", clusterStatus({ leaderId: 0, answeredBy: 1 }));
    expect(leaderless.err).toContain("has no leader now");
    expect(leaderless.err).toContain("flotilla cluster recover");
    const nobody = await line(["cluster", "leave", "--data-dir", dir]);
    expect(nobody.err).toContain(`${dir} holds no manager: say which one is to leave`);
    expect((await line(["cluster", "leave", "--data-dir", dir, "h1"])).exit).toBe(125);
  });
});

describe("cluster transfer", () => {
  it("says who leads then", async () => {
    const { out, fake } = await line(["cluster", "transfer", "h2"], {
      transferLeadership: () => clusterStatus({ leaderId: 2, term: 6 }),
    });
    expect(out).toBe("h2 leads now, in term 6\n");
    expect(fake.asked[0]?.request).toMatchObject({ manager: "h2" });
  });
});

describe("cluster backup", () => {
  const header = {
    clusterId: "c0ffee",
    cluster: "prod",
    epoch: 0,
    revision: 40,
    createdAtMs: 1_700_000_000_000,
    version: "1",
  };
  const object = { table: "services", object: Buffer.from("x"), version: 1 };
  const chunk = (n: number) =>
    BackupPart.fromPartial({
      chunk: Buffer.from(
        StoreChunk.encode({ revision: 40, objects: Array.from({ length: n }, () => object) }).finish(),
      ),
    });
  async function* parts() {
    yield await Promise.resolve(BackupPart.fromPartial({ header }));
    yield chunk(2);
    yield chunk(1);
  }

  it("writes a file for its owner only, and says what is in it", async () => {
    const file = join(dir, "b");
    const { exit, out } = await line(["cluster", "backup", file], { backupCluster: parts });
    const { mode, size } = await stat(file);
    expect([exit, mode & 0o777]).toEqual([0, 0o600]);
    expect(out).toBe(`${file}: cluster prod at revision 40, 3 objects, ${size} bytes\n`);
    expect(await readdir(dir)).toEqual(["b"]);
  });

  it("replaces a file only with --force", async () => {
    const file = join(dir, "b");
    await writeFile(file, "mine");
    const kept = await line(["cluster", "backup", file], { backupCluster: parts });
    expect([kept.exit, await readFile(file, "utf8")]).toEqual([1, "mine"]);
    const { exit, out } = await line(["cluster", "backup", "--force", "--json", file], { backupCluster: parts });
    expect(exit).toBe(0);
    expect(JSON.parse(out)).toEqual({
      file,
      cluster: "prod",
      clusterId: "c0ffee",
      revision: 40,
      objects: 3,
      bytes: (await stat(file)).size,
      createdAt: "2023-11-14T22:13:20.000Z",
      version: "1",
    });
    expect(await readdir(dir)).toEqual(["b"]);
  });

  it("leaves nothing behind when the stream breaks or is stopped", async () => {
    const file = join(dir, "b");
    await writeFile(file, "mine");
    const broken = await line(["cluster", "backup", "--force", file], {
      async *backupCluster() {
        yield await Promise.resolve(BackupPart.fromPartial({ header }));
        throw new ClusterError("failed_precondition", "the objects are in etcd: back that up");
      },
    });
    expect([broken.exit, broken.err]).toEqual([1, expect.stringContaining("the objects are in etcd")]);
    expect([await readFile(file, "utf8"), await readdir(dir)]).toEqual(["mine", ["b"]]);
    const stopped = await line(
      ["cluster", "backup", "--force", file],
      {
        async *backupCluster(_, signal) {
          yield await Promise.resolve(BackupPart.fromPartial({ header }));
          yield chunk(1);
          stop();
          await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
        },
      },
      (io) => {
        stop = () => void io.stop();
      },
    );
    expect([stopped.exit, stopped.err]).toEqual([130, "stopped; nothing was written\n"]);
    expect([await readFile(file, "utf8"), await readdir(dir)]).toEqual(["mine", ["b"]]);
  });
  let stop: () => void = () => undefined;

  it("is what a new cluster begins with after restore", async () => {
    const file = join(dir, "b");
    await line(["cluster", "backup", file], { backupCluster: parts });
    const restore = (...words: string[]) =>
      local([
        ...["cluster", "restore", "--data-dir", join(dir, "d"), "--advertise-addr", "10.0.0.9:7400", "--name", "h9"],
        ...[...words, file],
      ]);
    const { exit, out, err } = await restore();
    expect(err).toContain(`${file} is whole: cluster prod at revision 40, of 2023-11-14T22:13:20.000Z, `);
    expect(err).toContain("next: flotilla manager --data-dir ");
    expect(exit).toBe(0);
    expect(out).toMatch(/^cluster prod \(\S+\) begins again at revision 40 with manager 1, h9, at 10\.0\.0\.9:7400\n$/);
    const again = await restore("--json");
    expect([again.exit, again.out]).toEqual([1, ""]);
    expect(again.err).toContain("is that of manager 1 of cluster");
  });

  it("is refused by restore when a byte of it is another one", async () => {
    const file = join(dir, "b");
    await line(["cluster", "backup", file], { backupCluster: parts });
    const bytes = await readFile(file);
    bytes[bytes.length - 20] = (bytes[bytes.length - 20] ?? 0) ^ 1;
    await writeFile(file, bytes);
    const data = join(dir, "d");
    const { exit, err } = await local(["cluster", "restore", "--data-dir", data, "--advertise-addr", "h1", file]);
    expect([exit, err]).toEqual([1, expect.stringMatching(/^error: the backup .*use another one/)]);
    expect(await readdir(dir)).toEqual(["b"]);
  });
});

describe("cluster recover", () => {
  it("shows what it will do, and does it only for the typed name", async () => {
    await initLine();
    const recover = (...words: string[]) => local(["cluster", "recover", "--data-dir", dir, ...words]);
    const nobody = await recover();
    expect([nobody.exit, nobody.err]).toEqual([125, expect.stringContaining("write --yes prod, the cluster's name")]);
    expect(nobody.err).toContain("h1 (manager 1, 10.0.0.1:7400) becomes the only manager of cluster prod");
    const other = await recover("--yes", "dev");
    expect([other.exit, other.err]).toEqual([125, expect.stringContaining("must be the cluster's name, prod")]);
    const typed = await local(["cluster", "recover", "--data-dir", dir], (io) => {
      io.inTty = true;
      io.answers = ["dev"];
    });
    expect([typed.exit, typed.err]).toEqual([1, expect.stringContaining("not confirmed; nothing was changed")]);
    expect(JSON.parse(await readFile(join(dir, "manager.json"), "utf8"))).toMatchObject({ epoch: 0 });
  });

  it("goes on alone, with what it has", async () => {
    await initLine();
    const { exit, out, err } = await local(["cluster", "recover", "--data-dir", dir, "--yes", "prod"]);
    expect([exit, out]).toEqual([0, "cluster prod goes on with manager 1, h1, at 10.0.0.1:7400; recovery epoch 1\n"]);
    expect(err).toContain(`next: flotilla manager --data-dir ${dir}    # here\n`);
    expect(err).toContain("flotilla manager --join 10.0.0.1:7400 --advertise-addr HOST:7400");
  });

  it("refuses while another manager answers that there is a leader: the quorum is there", async () => {
    const made = JSON.parse((await initLine("--json")).out) as { clusterId: string };
    const file = join(dir, "manager.json");
    const recover = () => local(["cluster", "recover", "--data-dir", dir, "--yes", "prod"]);
    let status = clusterStatus({ clusterId: made.clusterId, leaderId: 3 });
    const fake = await FakeControl.start({ getClusterStatus: () => status });
    try {
      const identity = JSON.parse(await readFile(file, "utf8")) as { members: object[] };
      const [own] = identity.members;
      const members = [own, { ...own, id: 2, name: "h2", address: fake.address }];
      await writeFile(file, JSON.stringify({ ...identity, members }));
      const { exit, out, err } = await recover();
      expect([exit, out]).toEqual([1, ""]);
      expect(err).toContain(`error: h2 (${fake.address}) answers, and says that h3 leads`);
      expect(JSON.parse(await readFile(file, "utf8"))).toMatchObject({ epoch: 0 });
      // One that has no leader either, or is of another cluster by now, says nothing against it.
      status = clusterStatus({ clusterId: made.clusterId, leaderId: 0 });
      expect((await recover()).exit).toBe(0);
      status = clusterStatus({ clusterId: "another", leaderId: 3 });
      expect((await recover()).exit).toBe(0);
    } finally {
      fake.kill();
    }
  });

  it("refuses a directory whose manager runs, before it asks for anything", async () => {
    await initLine();
    await using _running = await lockDataDir(dir);
    const { exit, err } = await local(["cluster", "recover", "--data-dir", dir, "--yes", "prod"]);
    expect([exit, err]).toEqual([1, expect.stringMatching(/^error: .* is in use by another process/)]);
  });

  it("refuses a directory without a manager", async () => {
    const { exit, err } = await local(["cluster", "recover", "--data-dir", dir]);
    expect([exit, err]).toEqual([1, expect.stringContaining("flotilla cluster restore FILE")]);
  });
});
