// Tasks that are pushed out, with the real orchestrator and scheduler, and an agent that does at once what it is told.

import { expect, test } from "vitest";
import { settingsOf } from "../../deploy/spec/mod.js";
import { hasEnded, isReady } from "../../deploy/strategy/mod.js";
import { seededRng, silentLogger } from "../../lib/mod.js";
import { type ServiceSpec, type Task, TaskState } from "../../proto/mod.js";
import { FakeClock } from "../../test/kit/clock.js";
import { makeNode, makeRevision, makeService, makeSpec, readyStatus } from "../../test/kit/objects.js";
import { Scheduler } from "../scheduler/mod.js";
import { openMemoryStore, type Store } from "../store/mod.js";
import { Orchestrator } from "./mod.js";

const gib = 1024 ** 3;

function specOf(name: string, priority: number, memoryBytes: number, mode: ServiceSpec["mode"]): ServiceSpec {
  const spec = makeSpec({ name });
  const reservations = { ...spec.task.reservations, memoryBytes };
  return { ...spec, mode, task: { ...spec.task, priority, reservations } };
}

function obeyed(task: Task, now: number): Task | undefined {
  if (task.nodeId === "" || hasEnded(task)) return undefined;
  if (task.desiredState >= TaskState.SHUTDOWN)
    return { ...task, status: { ...task.status, state: TaskState.SHUTDOWN }, readySinceMs: 0, endedAtMs: now };
  if (task.desiredState === TaskState.RUNNING && !isReady(task))
    return { ...task, status: readyStatus(), readySinceMs: now };
  return undefined;
}

async function run(store: Store, clock: FakeClock, rounds = 60): Promise<void> {
  for (let round = 0; round < rounds; round += 1) {
    await clock.advance(500);
    await store.update((tx) => {
      for (const task of [...tx.tasks.values()]) {
        const after = obeyed(task, clock.now());
        if (after !== undefined) tx.put("tasks", after);
      }
    });
  }
}

async function add(store: Store, id: string, spec: ServiceSpec): Promise<void> {
  await store.update((tx) => {
    const service = makeService({ meta: { id, version: 0, createdAtMs: 0, updatedAtMs: 0 }, spec });
    tx.create("services", service);
    tx.create("revisions", makeRevision(service));
  });
}

/** As many of the low service as fit, then three of the high one, each of which needs the room of one of those. */
test.each<[string, ServiceSpec["mode"]]>([
  ["of a global service", { $case: "global", value: {} }],
  ["of a service that moves one slot at a time", { $case: "replicated", value: { replicas: 3 } }],
])(
  "tasks %s are pushed out, as many as it takes, and do not come back before those they made room for",
  async (_, mode) => {
    const store = openMemoryStore();
    const clock = new FakeClock();
    const parts = { store, clock, rng: seededRng(4), log: silentLogger };
    await store.update((tx) => {
      tx.create("clusters", {
        meta: { id: "c", version: 0, createdAtMs: 0, updatedAtMs: 0 },
        name: "test",
        vipPool: "10.127.0.0/16",
        nodePool: "10.128.0.0/9",
        nodePrefix: 24,
        domain: "flotilla",
        dnsAddress: "10.127.0.53",
        brake: undefined,
        settings: { ...settingsOf(undefined), preemption: true },
      });
      for (const id of ["h1", "h2", "h3"]) tx.create("nodes", makeNode(id));
    });
    await using orchestrator = new Orchestrator(parts);
    orchestrator.start();
    await using scheduler = new Scheduler(parts);
    scheduler.start();
    await add(store, "low", specOf("low", 0, 6 * gib, mode));
    await run(store, clock, 10);
    const ready = (id: string) =>
      [...store.view().tasks.values()].filter((task) => task.serviceId === id && isReady(task));
    expect(ready("low").length).toBe(3);
    await add(store, "high", specOf("high", 9, 6 * gib, { $case: "replicated", value: { replicas: 3 } }));
    await run(store, clock);
    expect(ready("high").length).toBe(3);
    expect(ready("low").length).toBe(0);
    const made = store.view().tasks.size;
    await run(store, clock);
    expect(store.view().tasks.size).toBe(made);
  },
);
