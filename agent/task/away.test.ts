// An agent without managers, on a clock that is moved: what runs on, what is started again in place, what must stop,
// and what happens when a manager is back.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { seededRng, silentLogger } from "../../lib/mod.js";
import type { TaskAssignment } from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { ContainerPhase, TaskState, type TaskStatus } from "../../proto/mod.js";
import { assignmentOf } from "../../test/kit/agent.js";
import { FakeClock, settle } from "../../test/kit/clock.js";
import { FakeEngine } from "../../test/kit/fake-engine.js";
import { makeCluster, makeNode } from "../../test/kit/objects.js";
import { Contact } from "./contact.js";
import { StateFile, Supervisor } from "./mod.js";

const nodeId = "node0123456789";
const minuteMs = 60_000;
const cluster = makeCluster();

let dir: string;
let clock: FakeClock;
let engine: FakeEngine;
let file: StateFile;
let supervisor: Supervisor;
let statuses: Map<string, TaskStatus>;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "flotilla-away-"));
  clock = new FakeClock();
  engine = new FakeEngine(() => clock.now());
  file = new StateFile(join(dir, "agent-state.json"), silentLogger);
  statuses = new Map();
  supervisor = await begin();
});
afterEach(async () => {
  await supervisor[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true, force: true });
});

async function begin(): Promise<Supervisor> {
  const fresh = { nodeId, host: undefined, managers: [], contactAtMs: 0, records: [] };
  const made = new Supervisor({
    engine,
    clock,
    rng: seededRng(1),
    log: silentLogger,
    file,
    memory: (await file.read()) ?? fresh,
    advertiseAddress: "10.0.0.1",
    onStatus: (taskId, status) => statuses.set(taskId, status),
    onRestart: () => undefined,
    onNetwork: () => undefined,
  });
  made.start();
  return made;
}

/** A task that sleeps, as the fake's shell understands. */
function sleeper(id: string, stopAfterDisconnectMs?: number): TaskAssignment {
  const assignment = assignmentOf(id, { image: "busybox", restart: { delayMs: 1_000 } });
  const container = assignment.spec?.container;
  if (container !== undefined) {
    container.command = [];
    container.args = ["sleep", "1000"];
  }
  return { ...assignment, ...(stopAfterDisconnectMs === undefined ? {} : { stopAfterDisconnectMs }) };
}

/** A session begins, and says what is this node's. */
function connect(tasks: TaskAssignment[]): void {
  supervisor.contact(clock.monotonic(), true);
  supervisor.configure({ cluster, node: makeNode(nodeId) }, ["m1:7400"]);
  supervisor.assign(true, tasks, []);
}

/** Files are written in real time; loops run when the clock moves, if ever so little. */
async function until(what: string, holds: () => boolean): Promise<void> {
  const endMs = performance.now() + 4_000;
  while (!holds()) {
    if (performance.now() > endMs) throw new Error(`not in time: ${what}; ${JSON.stringify([...statuses])}`);
    await clock.advance(1);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
const status = (id: string) => statuses.get(id);
const isReady = (id: string) => status(id)?.container?.ready === true;
const ready = (id: string) => until(`${id} ready`, () => isReady(id));
const stopped = (id: string) => until(`${id} stopped`, () => status(id)?.container?.phase === ContainerPhase.STOPPED);
const starts = () => engine.calls.filter((call) => call.startsWith("start ")).length;

/** Time in steps that leave the real work time to be done. */
async function pass(ms: number): Promise<void> {
  for (let leftMs = ms; leftMs > 0; leftMs -= 5_000) {
    await clock.advance(Math.min(5_000, leftMs));
    await settle();
  }
}

/** The same with a manager that answers. */
async function passConnected(ms: number): Promise<void> {
  for (let leftMs = ms; leftMs > 0; leftMs -= 5_000) {
    supervisor.contact(clock.monotonic(), false);
    await pass(Math.min(5_000, leftMs));
  }
}

test("10 minutes without managers: tasks run on, those that crash are started again, nothing is when they are back", async () => {
  const tasks = [sleeper("t1"), sleeper("t2")];
  connect(tasks);
  await Promise.all([ready("t1"), ready("t2")]);
  const first = status("t1");
  await pass(4 * minuteMs);
  engine.exit(status("t2")?.container?.id ?? "", 1);
  await until("backing off", () => !isReady("t2"));
  await pass(5_000);
  await ready("t2");
  expect(status("t2")?.container?.attempt).toBe(2);
  await pass(6 * minuteMs);
  const before = starts();
  connect(tasks);
  await pass(minuteMs);
  expect(status("t1")).toEqual(first);
  expect(status("t2")?.container?.attempt).toBe(2);
  expect(starts()).toBe(before);
  expect(engine.running()).toHaveLength(2);
});

describe("a task that must stop without managers", () => {
  test("does so after that long, alone, and says why; it starts again when it is still this node's", async () => {
    const tasks = [sleeper("t1", minuteMs), sleeper("t2")];
    connect(tasks);
    await Promise.all([ready("t1"), ready("t2")]);
    await passConnected(5 * minuteMs);
    expect(status("t1")?.container?.attempt).toBe(1);
    // The last answer was to a call of 5 s ago.
    await pass(50_000);
    expect(isReady("t1")).toBe(true);
    await pass(5_000);
    await stopped("t1");
    expect(status("t1")).toMatchObject({
      state: TaskState.RUNNING,
      message: "stopped until a manager says otherwise",
      error: "no manager was reached for 1m",
      container: { ready: false },
    });
    expect(isReady("t2")).toBe(true);
    await pass(10 * minuteMs);
    expect(engine.running()).toHaveLength(1);

    // A session alone says nothing of tasks.
    supervisor.contact(clock.monotonic(), true);
    supervisor.contact(clock.monotonic(), false);
    await pass(5_000);
    expect(engine.running()).toHaveLength(1);
    connect(tasks);
    await ready("t1");
    expect(status("t1")).toMatchObject({ message: "running again after no manager was reached for 1m", error: "" });
    expect(supervisor.runner("t1")?.record).toMatchObject({ restartsAtMs: [], failures: 0, attempt: 2 });
    expect(status("t2")?.container?.attempt).toBe(1);
  });

  test("is not started again when it was replaced meanwhile", async () => {
    connect([sleeper("t1", minuteMs)]);
    await ready("t1");
    await pass(minuteMs);
    await stopped("t1");
    const before = starts();
    connect([]);
    await until("removed", () => engine.containers.size === 0);
    expect(starts()).toBe(before);
  });

  test("stops though the agent is another process by then, and is not started by that one either", async () => {
    connect([sleeper("t1", minuteMs)]);
    await ready("t1");
    await passConnected(30_000);
    await supervisor[Symbol.asyncDispose]();
    await clock.advance(40_000);
    supervisor = await begin();
    await ready("t1");
    await pass(20_000);
    await stopped("t1");
    await supervisor[Symbol.asyncDispose]();
    statuses.clear();
    supervisor = await begin();
    await pass(minuteMs);
    expect(engine.running()).toEqual([]);
    connect([sleeper("t1", minuteMs)]);
    await ready("t1");
  });

  test("stops at once when the agent was away for longer than that", async () => {
    connect([sleeper("t1", minuteMs)]);
    await ready("t1");
    await supervisor[Symbol.asyncDispose]();
    await clock.advance(2 * minuteMs);
    supervisor = await begin();
    await until("stopped", () => engine.running().length === 0);
  });

  test("is not prepared or started, and ends as its managers wished before", async () => {
    connect([sleeper("t1", minuteMs)]);
    await ready("t1");
    await pass(minuteMs);
    await stopped("t1");
    const { task } = supervisor.runner("t1")!.record.assignment;
    const ending = { ...sleeper("t1", minuteMs), task: { ...task, desiredState: TaskState.SHUTDOWN } };
    supervisor.assign(false, [ending], []);
    await until("ended", () => status("t1")?.state === TaskState.SHUTDOWN);
  });

  test("a manager that answers again within the session proves that nothing was replaced", async () => {
    connect([sleeper("t1", 20_000)]);
    await ready("t1");
    await pass(20_000);
    await stopped("t1");
    supervisor.contact(clock.monotonic(), false);
    await ready("t1");
  });
});

test("the last contact is kept on the disk while there is such a task, and only then", async () => {
  connect([sleeper("t1")]);
  await ready("t1");
  const known = async () => (await file.read())?.contactAtMs ?? 0;
  const first = await known();
  await passConnected(minuteMs);
  expect(await known()).toBe(first);
  connect([sleeper("t1"), sleeper("t2", minuteMs)]);
  await ready("t2");
  const startMs = clock.now();
  await passConnected(minuteMs);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(await known()).toBeGreaterThanOrEqual(startMs + minuteMs - 15_000);
});

test("a clock that was set back is what the contact on the disk goes by, or an agent started anew would count from then", async () => {
  connect([sleeper("t1", minuteMs)]);
  await ready("t1");
  await passConnected(minuteMs);
  await new Promise((resolve) => setTimeout(resolve, 50));
  const now = clock.now;
  clock.now = () => now.call(clock) - 60 * minuteMs;
  await passConnected(minuteMs);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect((await file.read())?.contactAtMs).toBeLessThanOrEqual(clock.now());
  clock.now = now;
});

test("contact: the longer of both clocks counts, and what the disk knows is of the wall clock", async () => {
  const contact = new Contact(clock, clock.now() - 5_000);
  expect(contact.agoMs).toBe(5_000);
  contact.made(clock.monotonic());
  const asleep = clock.now;
  clock.now = () => asleep.call(clock) + 90_000;
  expect(contact.agoMs).toBe(90_000);
  clock.now = () => asleep.call(clock) - 90_000;
  await clock.advance(7_000);
  expect(contact.agoMs).toBe(7_000);
  clock.now = asleep;
  // Answers may come in another order than they were asked for.
  contact.made(clock.monotonic());
  contact.made(clock.monotonic() - 3_000);
  expect(contact.agoMs).toBe(0);
  expect(new Contact(clock, 0).agoMs).toBe(0);
  expect(new Contact(clock, clock.now() + 60_000).agoMs).toBe(0);
});
