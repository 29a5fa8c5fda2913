import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ClusterError, seededRng, silentLogger } from "../../lib/mod.js";
import type { TaskUsage, UpdateStatusRequest } from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { FakeClock, settle } from "../../test/kit/clock.js";
import { FakeEngine } from "../../test/kit/fake-engine.js";
import { readyStatus } from "../../test/kit/objects.js";
import type { ContainerRequest } from "../engine/mod.js";
import { Reporter } from "../session/reporter.js";
import { type RunningTask, UsageWatch } from "./mod.js";

let clock: FakeClock;
let engine: FakeEngine;
let reports: (readonly TaskUsage[])[];
let running: RunningTask[];
let requests: Map<string, number>;
let watch: UsageWatch;

beforeEach(async () => {
  clock = new FakeClock();
  engine = new FakeEngine(() => clock.now());
  reports = [];
  requests = new Map();
  running = [];
  for (const name of ["t1", "t2"]) {
    const spec = { image: "busybox", args: ["sh", "-c", "sleep 9"], mounts: [] };
    const { id } = await engine.create({ name, labels: {}, ports: [], spec } as unknown as ContainerRequest);
    await engine.start(id);
    running.push({ taskId: name, serviceName: "web", containerId: id });
  }
  const onUsage = (usage: readonly TaskUsage[]) => reports.push(usage);
  watch = new UsageWatch({
    engine,
    clock,
    log: silentLogger,
    running: () => running,
    requests: () => requests,
    onUsage,
  });
});

const cpu = (id: string, cpuNs: number, memoryBytes = 5_000) => engine.setUse(id, { cpuNs, memoryBytes });
const last = () => [...(reports.at(-1) ?? [])].sort((a, b) => (a.taskId < b.taskId ? -1 : 1));

describe("a look", () => {
  test("tells processor time as a share of the time that passed, from the second look on", async () => {
    cpu("c1", 1e9);
    await watch.look();
    expect(last()[0]).toEqual({ taskId: "t1", nanoCpus: undefined, memoryBytes: 5_000, requestsMilli: 0 });
    await clock.advance(10_000);
    cpu("c1", 1e9 + 25e8);
    await watch.look();
    expect(last()[0]).toMatchObject({ taskId: "t1", nanoCpus: 25e7 });
    expect(watch.samples.find(({ task }) => task.taskId === "t1")?.nanoCpus).toBe(25e7);
  });

  test("makes no figure of a container that was started again, or is another one now", async () => {
    cpu("c1", 5e9);
    await watch.look();
    await clock.advance(15_000);
    cpu("c1", 1e9);
    await watch.look();
    expect(last()[0]?.nanoCpus).toBeUndefined();
    await clock.advance(15_000);
    running = [{ ...running[0]!, containerId: "c2" }];
    cpu("c2", 9e9);
    await watch.look();
    expect(last()[0]?.nanoCpus).toBeUndefined();
  });

  test("leaves out what is not known, and does not wait for a container that hangs", async () => {
    engine.failNext("use", new ClusterError("unavailable", "the engine does not answer"));
    await watch.look();
    expect(last()).toHaveLength(1);
    const use = engine.use.bind(engine);
    engine.use = (id) => (id === "c1" ? new Promise(() => undefined) : use(id));
    const looked = watch.look();
    await clock.advance(5_000);
    await looked;
    expect(last().map(({ taskId }) => taskId)).toEqual(["t2"]);
    await engine.stop("c2", 0);
    engine.use = use;
    await watch.look();
    expect(last().map(({ taskId }) => taskId)).toEqual(["t1"]);
  });

  test("tells what the ambassador sends to tasks of any node, and once that it does so no more", async () => {
    requests = new Map([
      ["t1", 2_000],
      ["elsewhere", 500],
    ]);
    await watch.look();
    expect(last()).toMatchObject([
      { taskId: "elsewhere", requestsMilli: 500 },
      { taskId: "t1", requestsMilli: 2_000 },
      { taskId: "t2", requestsMilli: 0 },
    ]);
    expect(last()[0]).not.toHaveProperty("nanoCpus");
    requests = new Map();
    await watch.look();
    expect(last()[0]).toEqual({ taskId: "elsewhere", requestsMilli: 0 });
    await watch.look();
    expect(last().map(({ taskId }) => taskId)).toEqual(["t1", "t2"]);
  });
});

describe("the report", () => {
  const controller = new AbortController();
  afterEach(() => controller.abort());

  test("is sent once, newest only, and never again however the call ends; statuses are", async () => {
    const sent: UpdateStatusRequest[] = [];
    let fails = true;
    const reporter = new Reporter({ clock, rng: seededRng(1), log: silentLogger });
    const run = reporter.run(
      "s1",
      async (request) => {
        sent.push(request);
        await Promise.resolve();
        if (fails) throw new ClusterError("unavailable", "no quorum");
      },
      controller.signal,
    );
    run.catch(() => undefined);
    await settle();
    reporter.usage([{ taskId: "t1", requestsMilli: 1 }]);
    reporter.usage([{ taskId: "t1", requestsMilli: 2 }]);
    await clock.advance(60_000);
    expect(sent.map(({ usage }) => usage)).toEqual([[{ taskId: "t1", requestsMilli: 2 }]]);
    reporter.status("t1", readyStatus());
    reporter.usage([{ taskId: "t1", requestsMilli: 3 }]);
    await clock.advance(1_000);
    fails = false;
    await clock.advance(60_000);
    const [, second, ...later] = sent;
    expect(second).toMatchObject({ usage: [{ requestsMilli: 3 }], updates: [{ taskId: "t1" }] });
    expect(later.length).toBeGreaterThan(0);
    for (const { usage, updates } of later) expect([usage, updates.length]).toEqual([[], 1]);
  });
});
