// Orchestration as its users see it, on three real Docker hosts: modes, jobs, drains, plans, explanations, hosts that go
// and come back, and what the managers do when they can't know.

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { BUSYBOX_IMAGE, DEMO_IMAGE } from "../../packaging/lab/mod.js";
import { eventually, labCluster } from "../kit/lab.js";

const cluster = labCluster();
const { lab } = cluster;
const hostGet = "timeout 10 busybox wget -q -O -".split(" ");
/** Ends at once when it is told to. */
const endless = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"];

interface PsRow {
  id: string;
  name: string;
  slot: number;
  run: number | null;
  node: string;
  desiredState: string;
  state: string;
  error: string;
  cause: string;
}

interface Run {
  number: number;
  state: string;
  message: string;
  completed: number;
  total: number;
}

interface NodeRow {
  id: string;
  hostname: string;
  state: string;
  message: string;
}

const words = (text: string) => text.split(" ");
const running = (service: string) =>
  cluster.json<PsRow[]>("service", "ps", service, "--filter", "desired-state=running");
const nodes = () => cluster.json<NodeRow[]>("node", "ls");
const stateOf = async (n: number) => (await nodes()).find(({ hostname }) => hostname === `h${n}`)?.state;

async function runs(service: string): Promise<Run[]> {
  const [inspected] = await cluster.json<{ job: { runs: Run[] } | null }[]>("service", "inspect", service);
  return inspected?.job?.runs ?? [];
}

/** Containers of the service on each host, host 1 first. */
async function spread(service: string): Promise<number[]> {
  return await Promise.all(lab.hosts.map(async (n) => (await cluster.containers(n, service)).length));
}

/** Name and start of every running container of the service, by host. */
async function started(service: string, hosts: readonly number[] = lab.hosts): Promise<string[]> {
  const perHost = await Promise.all(
    hosts.map(async (n) => {
      const filter = ["--filter", `label=flotilla.service=${service}`];
      const ids = (await lab.mustDocker(n, ["ps", "-q", ...filter])).split("\n").filter(Boolean);
      if (ids.length === 0) return "";
      return await lab.mustDocker(n, ["inspect", "--format", `h${n} {{.Name}} {{.State.StartedAt}}`, ...ids]);
    }),
  );
  return perHost.join("").split("\n").filter(Boolean).sort();
}

async function nodesReady(): Promise<void> {
  await eventually("all nodes are ready", async () => (await nodes()).every(({ state }) => state === "ready"));
}

beforeAll(async () => {
  await cluster.clear();
  await cluster.leaderHost(3);
});
afterEach(async () => {
  await lab.heal();
  for (const n of lab.hosts) {
    await lab.start("host", n);
    await lab.start("agent", n);
  }
  await cluster.leaderHost(3);
  for (const n of lab.hosts) await cluster.must("node", "activate", `h${n}`);
  await nodesReady();
  await cluster.clear();
});
afterAll(async () => {
  await cluster.leaderHost(3);
});

describe("modes", () => {
  it("global: one on every host that may; a host that dies takes its task along, and has one again when it is back", async () => {
    await cluster.must(...words("service create --name everywhere --mode global --quiet"), BUSYBOX_IMAGE, ...endless);
    expect(await spread("everywhere")).toEqual([1, 1, 1]);
    await cluster.must(
      ...words("service create --name zoned --mode global --quiet --constraint node.labels.zone==b"),
      ...[BUSYBOX_IMAGE, ...endless],
    );
    expect(await spread("zoned")).toEqual([0, 1, 1]);
    const leader = await cluster.leaderHost(3);
    const dead = lab.hosts.find((n) => n !== leader) ?? 0;
    const others = lab.hosts.filter((n) => n !== dead);
    const before = await started("everywhere", others);
    await lab.kill("host", dead);
    await eventually("the host is lost", async () => (await stateOf(dead)) === "down");
    // Nothing takes its place elsewhere: one per host is all there is to have.
    expect(await running("everywhere")).toHaveLength(2);
    await lab.start("host", dead);
    await eventually("each host has one", async () => (await spread("everywhere")).join() === "1,1,1");
    expect(await started("everywhere", others)).toEqual(before);
    const slots = (await running("everywhere")).map(({ slot }) => slot);
    expect(new Set(slots).size).toBe(3);
  });

  it("a job runs to its end, as many at once as it may; run again it does so again; one that fails says so", async () => {
    const job = words("service create --name batch --mode replicated-job --completions 4 --max-concurrent 2 --quiet");
    await cluster.must(...job, BUSYBOX_IMAGE, "sh", "-c", "sleep 0.5; echo done");
    const [first] = await runs("batch");
    expect(first).toMatchObject({ number: 1, state: "succeeded", completed: 4, total: 4 });
    await cluster.must("service", "run", "batch");
    await eventually("the second run has ended well", async () =>
      (await runs("batch")).some(
        ({ number, state, completed }) => number === 2 && state === "succeeded" && completed === 4,
      ),
    );
    const bad = [...words("service create --name bad --mode replicated-job --restart-max-attempts 0"), BUSYBOX_IMAGE];
    const { code, stdout, stderr } = await cluster.run([...bad, "sh", "-c", "echo no database >&2; exit 3"]);
    expect(code, stdout + stderr).toBe(4);
    expect(stdout + stderr).toContain("no database");
    expect(await runs("bad")).toMatchObject([{ state: "failed" }]);
  });

  it("cron: nothing runs before its time, or it is told to; each run has its number", async () => {
    await cluster.must(
      ...words("service create --name nightly --cron"),
      "0 3 1 1 *",
      ...["--quiet", BUSYBOX_IMAGE, "sh", "-c", "echo backed up"],
    );
    expect(await runs("nightly")).toEqual([]);
    for (const number of [1, 2]) {
      await cluster.must("service", "run", "nightly");
      await eventually(`run ${number} has ended well`, async () =>
        (await runs("nightly")).some((run) => run.number === number && run.state === "succeeded"),
      );
    }
    const rows = await cluster.json<PsRow[]>("service", "ps", "nightly");
    expect(new Set(rows.map(({ run }) => run))).toEqual(new Set([1, 2]));
    expect(await cluster.must("service", "logs", "nightly")).toContain("backed up");
  });

  it("a port of host mode is open where the task runs, and nowhere else", async () => {
    await cluster.must(
      ...words("service create --name direct --quiet --constraint node.hostname==h2"),
      ...["--publish", "published=8097,target=80,mode=host", `${DEMO_IMAGE}:1`],
    );
    const body = await lab.mustExec(1, [...hostGet, `http://${lab.address(2)}:8097/`]);
    expect(body).toContain("FLOTILLA_SERVICE");
    for (const n of [1, 3]) {
      const { code } = await lab.exec(1, [...hostGet, `http://${lab.address(n)}:8097/`]);
      expect(code).not.toBe(0);
    }
  });
});

describe("what would be, and why it is not", () => {
  it("a dry run says what it would do, and does none of it", async () => {
    const said = await cluster.must(
      ...words("service create --dry-run --name ghost --replicas 3"),
      ...[BUSYBOX_IMAGE, ...endless],
    );
    for (const n of lab.hosts) expect(said).toContain(`h${n}`);
    expect((await cluster.must("service", "ls", "-q")).trim()).toBe("");
    await cluster.must(...words("service create --quiet --name real --replicas 3"), BUSYBOX_IMAGE, ...endless);
    const [before] = await cluster.json<{ version: number; revision: number }[]>("service", "inspect", "real");
    const containers = await started("real");
    const plan = await cluster.must("service", "update", "--dry-run", "--env-add", "A=1", "--replicas", "4", "real");
    expect(plan).toContain("A=1");
    const [after] = await cluster.json<{ version: number; revision: number }[]>("service", "inspect", "real");
    expect([after?.version, after?.revision]).toEqual([before?.version, before?.revision]);
    expect(await started("real")).toEqual(containers);
  });

  it("a task that waits says for what, node by node, and what to do", async () => {
    const { code } = await cluster.run([
      ...words("service create --name choosy --constraint node.labels.zone==a --reserve-memory 4000g"),
      BUSYBOX_IMAGE,
    ]);
    expect(code).toBe(3);
    const why = await cluster.must("task", "why", "choosy.1");
    expect(why).toMatch(/memory/);
    expect(why).toContain("node.labels.zone==a");
    for (const n of lab.hosts) expect(why).toContain(`h${n}`);
    const rows = await cluster.json<{ state: string; node: string }[]>("task", "ls");
    expect(rows).toMatchObject([{ state: "pending", node: "" }]);
  });
});

describe("hosts that make room", () => {
  it("cordoned keeps what it has and gets nothing; drained gives all away; back again, a rebalance evens it out", async () => {
    await cluster.must(...words("service create --quiet --name web --replicas 6"), BUSYBOX_IMAGE, ...endless);
    await cluster.must("node", "cordon", "h3");
    await cluster.must("service", "scale", "web=9");
    await eventually(
      "three more run, none of them on host 3",
      async () => (await spread("web")).join() === "4,3,2" || (await spread("web")).join() === "3,4,2",
    );
    await cluster.must("node", "drain", "--deadline", "30s", "h3");
    await eventually("host 3 has none, the others nine", async () => {
      const [one = 0, two = 0, three = 0] = await spread("web");
      return three === 0 && one + two === 9;
    });
    const kept = await started("web", [1, 2]);
    await cluster.must("node", "activate", "h3");
    // Nothing moves by itself.
    expect(await started("web", [1, 2])).toEqual(kept);
    const dry = await cluster.must("service", "rebalance", "--dry-run", "web");
    expect(dry).toContain("h3");
    expect(await spread("web")).toContain(0);
    await cluster.must("service", "rebalance", "web");
    await eventually("three run on each host", async () => (await spread("web")).join() === "3,3,3");
  });

  it("a drain ends at its deadline, though the replacement that should come first finds no place", async () => {
    await cluster.must(
      ...words("service create --quiet --name bound --constraint node.hostname==h2 --update-order start-first"),
      ...[BUSYBOX_IMAGE, ...endless],
    );
    expect(await spread("bound")).toEqual([0, 1, 0]);
    const drained = cluster.start(["node", "drain", "--deadline", "4s", "h2"]);
    await eventually("the replacement waits", async () =>
      (await running("bound")).some(({ state, node }) => state === "pending" && node === ""),
    );
    expect(await spread("bound")).toEqual([0, 1, 0]);
    const { code, stdout, stderr } = await drained.done;
    expect(code, stdout + stderr).toBe(0);
    expect(await spread("bound")).toEqual([0, 0, 0]);
    expect(await cluster.must("task", "why", "bound.1")).toMatch(/drain/i);
  });
});

describe("agents that go away", () => {
  it("an agent that comes and goes five times: the same containers, and no slot twice", async () => {
    await cluster.must(...words("service create --quiet --name web --replicas 6"), BUSYBOX_IMAGE, ...endless);
    const before = await started("web");
    for (let i = 0; i < 5; i += 1) {
      await lab.kill("agent", 2);
      await lab.start("agent", 2);
    }
    await nodesReady();
    expect(await started("web")).toEqual(before);
    const rows = await cluster.json<PsRow[]>("service", "ps", "web");
    expect(rows).toHaveLength(6);
    expect(new Set(rows.map(({ slot }) => slot)).size).toBe(6);
  });

  it("most of them at once: the brake holds; one is given up by hand; back again, nothing else is restarted", async () => {
    await cluster.must(...words("service create --quiet --name web --replicas 6"), BUSYBOX_IMAGE, ...endless);
    await cluster.must(
      ...words("service create --quiet --name single --stop-after-disconnect 10s --stop-grace-period 1s"),
      ...[BUSYBOX_IMAGE, ...endless],
    );
    const single = (await spread("single")).indexOf(1) + 1;
    const other = lab.hosts.find((n) => n !== single) ?? 0;
    const stays = lab.hosts.find((n) => n !== single && n !== other) ?? 0;
    const before = await started("web");
    await lab.cutAgents([single, other]);
    // Its host can't know whether it is replaced by now: it must not run.
    await eventually(
      "the single one has stopped itself",
      async () => (await cluster.containers(single, "single")).length === 0,
      30_000,
    );
    await eventually("the managers know that most are gone", async () => {
      const { stdout, stderr } = await cluster.run(["node", "ls"]);
      return (stdout + stderr).includes("brake:");
    });
    // Longer than it takes to call one node lost.
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    expect((await nodes()).map(({ state }) => state).sort()).toEqual(["ready", "unknown", "unknown"]);
    expect(await started("web")).toEqual(before);
    expect(await cluster.containers(stays, "single")).toEqual([]);
    await cluster.must("node", "lost", "--force", `h${single}`);
    await eventually("what ran on the one that was given up runs on the one that is there", async () => {
      const webs = (await cluster.containers(stays, "web")).length;
      return webs === 4 && (await cluster.containers(stays, "single")).length === 1;
    });
    const after = await started("web", [stays, other]);
    await lab.heal();
    await nodesReady();
    await eventually(
      "the one that was given up runs nothing of what was replaced",
      async () => (await cluster.containers(single, "web")).length === 0,
    );
    expect(await started("web", [stays, other])).toEqual(after);
    expect((await spread("single")).reduce((sum, count) => sum + count, 0)).toBe(1);
    const rows = await running("web");
    expect(new Set(rows.map(({ slot }) => slot)).size).toBe(6);
    expect(rows).toHaveLength(6);
  });
});
