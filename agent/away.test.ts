// Session and supervisor together, against a manager that is killed and comes back: what the agent's parts do when
// they are cut from all managers is tested by the clock in task/away.test.ts, here that they are tied together so.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { silentLogger, systemClock, systemRng } from "../lib/mod.js";
import type { TaskAssignment } from "../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { assignmentOf } from "../test/kit/agent.js";
import { FakeDispatcher } from "../test/kit/fake-dispatcher.js";
import { FakeEngine } from "../test/kit/fake-engine.js";
import { makeNode } from "../test/kit/objects.js";
import { ManagerSession } from "./session/mod.js";
import { StateFile, Supervisor } from "./task/mod.js";

const nodeId = "node0123456789";
let dir: string;
let manager: FakeDispatcher;
let engine: FakeEngine;
let supervisor: Supervisor;
let controller: AbortController;
let running: Promise<void>;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "flotilla-cut-"));
  manager = new FakeDispatcher({ heartbeatPeriodMs: 50 });
  await manager.start();
  engine = new FakeEngine(() => systemClock.now());
  const common = { clock: systemClock, rng: systemRng, log: silentLogger };
  supervisor = new Supervisor({
    ...common,
    engine,
    file: new StateFile(join(dir, "agent-state.json"), silentLogger),
    memory: { nodeId, host: undefined, managers: [], contactAtMs: 0, records: [] },
    advertiseAddress: "10.0.0.1",
    onStatus: (taskId, status) => session.report(taskId, status),
    onRestart: () => undefined,
    onNetwork: () => undefined,
  });
  const session: ManagerSession = new ManagerSession({
    ...common,
    nodeId,
    managers: [manager.address],
    remembered: [],
    describe: () => Promise.resolve(makeNode("h1").description),
    onContact: (sentMs, isNew) => supervisor.contact(sentMs, isNew),
    onSession: (host, managers) => supervisor.configure(host, managers),
    onAssignments: ({ changes, kind }) => {
      const tasks = changes.flatMap(({ item }) => (item?.$case === "task" ? [item.value] : []));
      const removed = changes.flatMap(({ item }) => (item?.$case === "removedTaskId" ? [item.value] : []));
      supervisor.assign(kind === 1, tasks, removed);
    },
    statuses: () => supervisor.statuses(),
    drains: () => [],
    problems: () => [],
    logs: {
      async *read() {
        yield* await Promise.resolve([]);
      },
    },
  });
  supervisor.start();
  controller = new AbortController();
  running = session.run(controller.signal);
});
afterEach(async () => {
  controller.abort(new Error("the test ended"));
  await running;
  await supervisor[Symbol.asyncDispose]();
  manager.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** A task that sleeps, as the fake's shell understands. */
function sleeper(id: string): TaskAssignment {
  const assignment = assignmentOf(id, { image: "busybox", restart: { delayMs: 1 } });
  const container = assignment.spec?.container;
  if (container !== undefined) {
    container.command = [];
    container.args = ["sleep", "1000"];
  }
  return assignment;
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const endMs = performance.now() + 15_000;
  while (!holds()) {
    if (performance.now() > endMs) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const reported = (id: string, attempt: number) =>
  manager.until(`${id} ready, attempt ${attempt}`, () => {
    const container = manager.status(id)?.container;
    return container?.ready === true && container.attempt === attempt;
  });
const record = (id: string) => supervisor.runner(id)?.record;
const starts = () => engine.calls.filter((call) => call.startsWith("start ")).length;

test("cut from all managers, tasks run on, one that crashes is started again, and nothing is when they are back", async () => {
  for (const id of ["t1", "t2"]) manager.assign(sleeper(id));
  await Promise.all([reported("t1", 1), reported("t2", 1)]);
  manager.stop();
  engine.exit(record("t2")?.containerId ?? "", 1);
  await until("started again", () => record("t2")?.attempt === 2 && record("t2")?.ready === true);
  expect(starts()).toBe(3);
  manager.reports.length = 0;
  await manager.start();
  await Promise.all([reported("t1", 1), reported("t2", 2)]);
  await manager.until("a session that holds", () => manager.heartbeats > 3);
  expect(starts()).toBe(3);
  expect(engine.running()).toHaveLength(2);
});

test("a task that must stop without managers does; they are told why, and it starts again", async () => {
  manager.assign({ ...sleeper("t1"), stopAfterDisconnectMs: 2_000 });
  manager.assign(sleeper("t2"));
  await Promise.all([reported("t1", 1), reported("t2", 1)]);
  manager.stop();
  await until("stopped", () => engine.running().length === 1 && record("t1")?.ready === false);
  expect(record("t2")?.ready).toBe(true);
  expect(record("t1")).toMatchObject({ error: "no manager was reached for 2s" });
  await manager.start();
  await reported("t1", 2);
  expect(manager.status("t1")?.message).toBe("running again after no manager was reached for 2s");
  await reported("t2", 1);
});
