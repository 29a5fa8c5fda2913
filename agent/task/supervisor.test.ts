// The supervisor with a fake engine and a clock of its own: what the real engine cannot be made to do at will.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ClusterError, seededRng, silentLogger, systemClock } from "../../lib/mod.js";
import type { TaskAssignment } from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { ContainerHealth, TaskState, type TaskStatus } from "../../proto/mod.js";
import { assignmentOf } from "../../test/kit/agent.js";
import { FakeEngine } from "../../test/kit/fake-engine.js";
import { makeCluster, makeNode } from "../../test/kit/objects.js";
import { type Memory, StateFile, Supervisor } from "./mod.js";

const nodeId = "node0123456789";
const cluster = makeCluster();

let dir: string;
let engine: FakeEngine;
let file: StateFile;
let supervisor: Supervisor;
let reports: [string, TaskStatus][];

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "flotilla-supervisor-"));
  engine = new FakeEngine(() => systemClock.now());
  file = new StateFile(join(dir, "agent-state.json"), silentLogger);
  reports = [];
  supervisor = await begin();
});
afterEach(async () => {
  await supervisor[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true, force: true });
});

async function begin(): Promise<Supervisor> {
  const fresh: Memory = { nodeId, host: undefined, managers: [], contactAtMs: 0, records: [] };
  const made = new Supervisor({
    engine,
    clock: systemClock,
    rng: seededRng(1),
    log: silentLogger,
    file,
    memory: (await file.read()) ?? fresh,
    advertiseAddress: "10.0.0.1",
    onStatus: (taskId, status) => reports.push([taskId, status]),
    onRestart: () => undefined,
    onNetwork: () => undefined,
  });
  made.start();
  return made;
}

function session(): void {
  supervisor.configure({ cluster, node: makeNode(nodeId) }, ["m1:7400"]);
}

/** A task that sleeps, as the fake's shell understands. */
function sleeper(id: string, changes: Partial<Parameters<typeof assignmentOf>[1]> = {}): TaskAssignment {
  const assignment = assignmentOf(id, { image: "busybox", restart: { delayMs: 1 }, ...changes });
  const container = assignment.spec?.container;
  if (container !== undefined) {
    container.command = [];
    container.args = ["sleep", "1000"];
  }
  return assignment;
}

const status = (id: string) => reports.findLast(([taskId]) => taskId === id)?.[1];

async function until(what: string, holds: () => boolean): Promise<void> {
  const endMs = performance.now() + 15_000;
  while (!holds()) {
    if (performance.now() > endMs) throw new Error(`not in time: ${what}; last ${JSON.stringify(reports.at(-1))}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
const ready = (id: string) => until(`${id} ready`, () => status(id)?.container?.ready === true);

test("an engine that is away: nothing is reported as dead, and all goes on when it is back as it was", async () => {
  session();
  supervisor.assign(true, [sleeper("t1")], []);
  await ready("t1");
  engine.goAway();
  const before = reports.length;
  supervisor.assign(false, [sleeper("t2")], []);
  supervisor.runner("t1")?.wake();
  await until("asked", () => engine.calls.filter((call) => call.startsWith("inspect")).length > 1);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(reports.slice(before).filter(([id]) => id === "t1")).toEqual([]);
  engine.comeBack({ anew: false });
  await ready("t2");
  expect(status("t1")?.container).toMatchObject({ attempt: 1, ready: true });
});

test("an engine that comes back anew: its tasks start again, uncharged", async () => {
  session();
  supervisor.assign(true, [sleeper("t1", { restart: { maxAttempts: 0 } })], []);
  await ready("t1");
  engine.goAway();
  engine.comeBack({ anew: true });
  await until("second run", () => status("t1")?.container?.attempt === 2 && status("t1")?.container?.ready === true);
  expect(status("t1")).toMatchObject({ state: TaskState.RUNNING, error: "" });
});

test("a create whose answer was lost is found by its name and label, and not made twice", async () => {
  session();
  const create = engine.create.bind(engine);
  let lost = false;
  engine.create = async (request) => {
    const made = await create(request);
    if (lost) return made;
    lost = true;
    throw new ClusterError("unavailable", "create: socket hang up");
  };
  supervisor.assign(true, [sleeper("t1")], []);
  await ready("t1");
  expect(engine.containers.size).toBe(1);
});

test("a start whose answer was lost is not a second start", async () => {
  session();
  const start = engine.start.bind(engine);
  let lost = false;
  engine.start = async (id) => {
    await start(id);
    if (lost) return;
    lost = true;
    throw new ClusterError("deadline_exceeded", "start: no answer");
  };
  supervisor.assign(true, [sleeper("t1")], []);
  await ready("t1");
  expect(status("t1")?.container?.attempt).toBe(1);
  expect(engine.calls.filter((call) => call.startsWith("start"))).toHaveLength(1);
});

test("an image that vanishes between pull and create is fetched again", async () => {
  session();
  engine.failNext("create", new ClusterError("not_found", "No such image: busybox"));
  supervisor.assign(true, [sleeper("t1")], []);
  await ready("t1");
  expect(engine.calls.filter((call) => call.startsWith("ensureImage"))).toHaveLength(2);
});

test("a registry with a bad moment is asked again; one that stays away is the task's end", async () => {
  session();
  const away = () => new ClusterError("unavailable", "pull: dial tcp: timeout", { details: { source: "registry" } });
  engine.failNext("ensureImage", away());
  supervisor.assign(true, [sleeper("t1")], []);
  await ready("t1");
  for (let i = 0; i < 3; i += 1) engine.failNext("ensureImage", away());
  supervisor.assign(false, [sleeper("t2")], []);
  await until("rejected", () => status("t2")?.state === TaskState.REJECTED);
  expect(status("t2")?.error).toBe("pull: dial tcp: timeout");
});

test("a port that is taken at the start ends the task at once, in clear words", async () => {
  session();
  engine.failNext(
    "start",
    new ClusterError("failed_precondition", "start: a host port is taken: port is already allocated"),
  );
  supervisor.assign(true, [sleeper("t1")], []);
  await until("failed", () => status("t1")?.state === TaskState.FAILED);
  expect(status("t1")?.error).toContain("port is already allocated");
});

test("told to stop while its image is being pulled, it stops at once", async () => {
  session();
  engine.ensureImage = async (_image, _policy, signal) =>
    await new Promise<void>((_resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
    });
  supervisor.assign(true, [sleeper("t1")], []);
  await until("preparing", () => status("t1")?.state === TaskState.PREPARING);
  supervisor.assign(false, [sleeper("t1", { desired: TaskState.SHUTDOWN })], []);
  await until("shut down", () => status("t1")?.state === TaskState.SHUTDOWN);
  supervisor.assign(false, [], ["t1"]);
  await until("forgotten", () => supervisor.runner("t1") === undefined);
  expect(engine.containers.size).toBe(0);
});

test("told to stop between the decision to prepare and the pull, it does not pull", async () => {
  session();
  let pulls = 0;
  engine.ensureImage = async () => {
    pulls += 1;
    await new Promise<void>(() => undefined);
  };
  let finish: () => void = () => undefined;
  const made = new Promise<void>((resolve) => (finish = resolve));
  const ensureNetwork = engine.ensureNetwork.bind(engine);
  engine.ensureNetwork = async (request) => {
    await made;
    return await ensureNetwork(request);
  };
  supervisor.assign(true, [sleeper("t1")], []);
  await until("preparing", () => status("t1")?.state === TaskState.PREPARING);
  supervisor.assign(false, [sleeper("t1", { desired: TaskState.SHUTDOWN })], []);
  finish();
  await until("shut down", () => status("t1")?.state === TaskState.SHUTDOWN);
  expect(pulls).toBe(0);
});

test("readiness follows the health check", async () => {
  session();
  const healthcheck = { test: ["CMD", "true"], intervalMs: 1_000, timeoutMs: 1_000, startPeriodMs: 0, retries: 1 };
  supervisor.assign(true, [sleeper("t1", { healthcheck })], []);
  await until("starting", () => status("t1")?.container?.health === ContainerHealth.STARTING);
  expect(status("t1")).toMatchObject({ state: TaskState.STARTING, container: { ready: false } });
  const id = engine.running()[0]?.id ?? "";
  engine.setHealth(id, ContainerHealth.HEALTHY);
  await ready("t1");
  engine.setHealth(id, ContainerHealth.UNHEALTHY);
  await until("restarted", () => status("t1")?.container?.attempt === 2);
});

test("one hung inspect degrades that task only", async () => {
  session();
  supervisor.assign(true, [sleeper("t1")], []);
  await ready("t1");
  const hung = status("t1")?.container?.id;
  const inspect = engine.inspect.bind(engine);
  let release = () => {};
  engine.inspect = async (id) => {
    if (id === hung) await new Promise<void>((resolve) => (release = resolve));
    return await inspect(id);
  };
  supervisor.runner("t1")?.wake();
  supervisor.assign(false, [sleeper("t2")], []);
  await ready("t2");
  release();
});

test("another supervisor with the same file goes on where the first one was, before any session", async () => {
  session();
  supervisor.assign(true, [sleeper("t1")], []);
  await ready("t1");
  await supervisor[Symbol.asyncDispose]();
  reports = [];
  supervisor = await begin();
  expect(supervisor.statuses().map(([id]) => id)).toEqual(["t1"]);
  const id = engine.running()[0]?.id ?? "";
  engine.exit(id, 1);
  await until("restarted", () => status("t1")?.container?.attempt === 2 && status("t1")?.container?.ready === true);
  expect(engine.containers.size).toBe(1);
});

test("a half assignment is refused, and the others are followed", async () => {
  session();
  supervisor.assign(true, [{ ...sleeper("bad"), spec: undefined }, sleeper("t1")], []);
  await ready("t1");
  expect(supervisor.runner("bad")).toBeUndefined();
});

test("a release that comes while the container is created starts the task (it waited at READY for ever)", async () => {
  session();
  const create = engine.create.bind(engine);
  let finish: () => void = () => undefined;
  const created = new Promise<void>((resolve) => (finish = resolve));
  engine.create = async (request) => {
    const made = await create(request);
    await created;
    return made;
  };
  const prepare = sleeper("t1");
  if (prepare.task !== undefined) prepare.task.desiredState = TaskState.READY;
  supervisor.assign(true, [prepare], []);
  await until("being created", () => engine.containers.size === 1);
  supervisor.assign(false, [sleeper("t1")], []);
  finish();
  await ready("t1");
});

test("a state file that could not be written for a while is written again (its tasks stood still for ever)", async () => {
  session();
  supervisor.assign(true, [sleeper("t1")], []);
  await ready("t1");
  const write = file.write.bind(file);
  let failures = 0;
  // Once the stop is decided nothing changes any more: only asking again writes again.
  file.write = async (memory) => {
    if (failures === 3) return await write(memory);
    failures += 1;
    throw new ClusterError("unavailable", "ENOSPC: no space left on device");
  };
  supervisor.assign(false, [sleeper("t1", { desired: TaskState.SHUTDOWN })], []);
  await until("stopped", () => status("t1")?.state === TaskState.SHUTDOWN);
});

test("a stop that comes while a start is written down: nothing is started", async () => {
  session();
  supervisor.assign(true, [sleeper("t1", { desired: TaskState.READY })], []);
  await until("prepared", () => status("t1")?.state === TaskState.READY);
  const write = file.write.bind(file);
  let release: () => void = () => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  file.write = async (memory) => {
    await released;
    await write(memory);
  };
  supervisor.assign(false, [sleeper("t1")], []);
  await until("about to start", () => status("t1")?.state === TaskState.STARTING);
  supervisor.assign(false, [sleeper("t1", { desired: TaskState.SHUTDOWN })], []);
  release();
  await until("stopped", () => status("t1")?.state === TaskState.SHUTDOWN);
  expect(engine.calls.filter((call) => call.startsWith("start"))).toEqual([]);
});

test("a task that is assigned again while it is being forgotten is kept", async () => {
  session();
  supervisor.assign(true, [sleeper("t1")], []);
  await ready("t1");
  const write = file.write.bind(file);
  let release: () => void = () => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  const remove = engine.remove.bind(engine);
  let removed = false;
  engine.remove = async (id) => {
    await remove(id);
    file.write = async (memory) => {
      await released;
      await write(memory);
    };
    removed = true;
  };
  supervisor.assign(false, [], ["t1"]);
  await until("removed", () => removed && !(supervisor.runner("t1")?.record.ready ?? true));
  supervisor.assign(false, [sleeper("t1")], []);
  release();
  await ready("t1");
  expect(supervisor.runner("t1")).toBeDefined();
});

test("a network that is gone when a container starts is made again for the next one", async () => {
  session();
  const start = engine.start.bind(engine);
  const ensureNetwork = engine.ensureNetwork.bind(engine);
  let made = 0;
  engine.ensureNetwork = async (request) => {
    made += 1;
    return await ensureNetwork(request);
  };
  // Removed by hand, or pruned: the engine creates a container on it all the same, and refuses to start it.
  engine.start = async (id) => {
    if (made < 2) throw new ClusterError("not_found", "start: network 0123 not found");
    await start(id);
  };
  supervisor.assign(true, [sleeper("t1")], []);
  await until("failed", () => status("t1")?.state === TaskState.FAILED);
  supervisor.assign(false, [sleeper("t2")], []);
  await ready("t2");
});
