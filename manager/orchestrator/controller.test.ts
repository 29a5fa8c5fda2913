// Orchestrator and Scheduler on a store: what the loops add to the plans.

import { afterEach, expect, test } from "vitest";
import { type Logger, Lifetime, silentLogger, systemClock, systemRng } from "../../lib/mod.js";
import {
  type Node,
  NodeAvailability,
  NodeState,
  PlacementStrategy,
  type ServiceSpec,
  type Task,
  TaskState,
} from "../../proto/mod.js";
import { FakeClock } from "../../test/kit/clock.js";
import { makeNode, makeRevision, makeService, makeSpec, makeTask, readyStatus } from "../../test/kit/objects.js";
import { applyStatus } from "../dispatcher/mod.js";
import { applySteps, type ServiceParts } from "../rollout/mod.js";
import { Scheduler } from "../scheduler/mod.js";
import { openMemoryStore, type Store, type View } from "../store/mod.js";
import { createService, Orchestrator, removeService, scaleService, updateService } from "./mod.js";

let lifetime = new Lifetime();
afterEach(async () => {
  await lifetime[Symbol.asyncDispose]();
  lifetime = new Lifetime();
});

const making = () => ({ now: systemClock.now(), id: () => systemRng.id() });
const log: Logger = silentLogger;

/** A store with three nodes and both controllers. */
async function cluster(): Promise<Store> {
  const store = lifetime.use(openMemoryStore());
  await store.update((tx) => {
    for (const id of ["h1", "h2", "h3"]) tx.create("nodes", makeNode(id));
  });
  start(store);
  return store;
}

function start(store: Store): void {
  const options = { store, clock: systemClock, rng: systemRng, log };
  lifetime.use(new Orchestrator(options)).start();
  lifetime.use(new Scheduler(options)).start();
}

async function create(store: Store, spec: ServiceSpec): Promise<string> {
  const change = createService({ spec, vip: "10.127.0.1", requestId: "", existing: undefined }, making());
  await store.update((tx) => applySteps(tx, change.steps));
  return change.service.meta.id;
}

function partsOf(view: View, id: string): ServiceParts {
  const service = view.services.get(id);
  if (service === undefined) throw new Error(`no service ${id}`);
  return { service, revisions: view.revisionsOfService(id), rollout: view.rollouts.get(service.rolloutId) };
}

/** Waits for a state of the store, however long it takes within the test's time limit. */
async function until(store: Store, holds: (view: View) => boolean): Promise<void> {
  await new Promise<void>((resolve) => {
    const check = () => {
      if (!holds(store.view())) return;
      unsubscribe();
      resolve();
    };
    const unsubscribe = store.subscribe(check);
    check();
  });
}

/** Nothing is written any more for a few debounce times. */
async function quiet(store: Store): Promise<void> {
  for (let before = -1; before !== store.view().revision; ) {
    before = store.view().revision;
    await new Promise<void>((resolve) => void systemClock.after(60, resolve));
  }
}

const tasksOf = (view: View) => [...view.tasks.values()];

test("a service's tasks are made and spread over the nodes, and then nothing more is written", async () => {
  const store = await cluster();
  await create(store, makeSpec({ replicas: 6 }));
  await until(store, (view) => tasksOf(view).filter(({ nodeId }) => nodeId !== "").length === 6);
  await quiet(store);
  expect(
    tasksOf(store.view())
      .map(({ nodeId }) => nodeId)
      .sort(),
  ).toEqual(["h1", "h1", "h2", "h2", "h3", "h3"]);
  expect(tasksOf(store.view()).every(({ status }) => status.state === TaskState.ASSIGNED)).toBe(true);
});

test("more tasks than fit into one transaction are made, and removed again with their service", async () => {
  const store = await cluster();
  const id = await create(store, makeSpec({ replicas: 250 }));
  await until(store, (view) => tasksOf(view).filter(({ nodeId }) => nodeId !== "").length === 250);
  const assign = (task: Task) => applyStatus(task, { ...readyStatus(), state: TaskState.SHUTDOWN }, systemClock.now());
  await store.update((tx) => applySteps(tx, removeService(partsOf(tx, id).service, making()).steps));
  await until(store, (view) => tasksOf(view).every(({ desiredState }) => desiredState === TaskState.REMOVE));
  for (const part of [0, 90, 180])
    await store.update((tx) => {
      for (const task of tasksOf(store.view()).filter(({ slot }) => slot > part && slot <= part + 90)) {
        const ended = tx.tasks.get(task.meta.id) === undefined ? undefined : assign(task);
        if (ended !== undefined) tx.put("tasks", ended);
      }
    });
  await until(store, (view) => view.services.size === 0);
  expect([store.view().tasks.size, store.view().revisions.size]).toEqual([0, 0]);
});

test("what cannot be placed says why once, and is placed when there is room", async () => {
  const store = await cluster();
  const spec = makeSpec({ replicas: 1 });
  const big = { nanoCpus: 0, memoryBytes: 64 * 1024 ** 3, generic: {} };
  await create(store, { ...spec, task: { ...spec.task, reservations: big } });
  await until(store, (view) => tasksOf(view).some(({ placementMessage }) => placementMessage !== ""));
  await quiet(store);
  expect(tasksOf(store.view())[0]?.placementMessage).toBe(
    "no suitable node (3 nodes): 3 short of memory (asks 64 GiB; largest free 8 GiB on h1)",
  );
  expect(tasksOf(store.view())[0]?.status.state).toBe(TaskState.PENDING);
  const node = makeNode("h4");
  const roomy: Node = {
    ...node,
    description: { ...node.description, resources: { nanoCpus: 1e9, memoryBytes: 2 ** 37, generic: {} } },
  };
  await store.update((tx) => tx.create("nodes", roomy));
  await until(store, (view) => tasksOf(view)[0]?.nodeId === "h4");
  expect(tasksOf(store.view())[0]?.placementMessage).toBe("");
});

test("a drained node's tasks are moved, a lost node's replaced", async () => {
  const store = await cluster();
  await create(store, makeSpec({ replicas: 3 }));
  await until(store, (view) => tasksOf(view).filter(({ nodeId }) => nodeId !== "").length === 3);
  const change = (id: string, availability: NodeAvailability, state: NodeState) =>
    store.update((tx) => {
      const node = tx.nodes.get(id);
      if (node === undefined) throw new Error(id);
      tx.put("nodes", { ...node, spec: { ...node.spec, availability }, status: { ...node.status, state } });
    });
  await change("h1", NodeAvailability.DRAINED, NodeState.READY);
  await until(store, (view) => tasksOf(view).some(({ desiredState }) => desiredState === TaskState.READY));
  await change("h2", NodeAvailability.ACTIVE, NodeState.DOWN);
  await until(store, (view) => {
    const wanted = tasksOf(view).filter(({ desiredState }) => desiredState <= TaskState.RUNNING);
    return wanted.length === 3 && wanted.every(({ nodeId }) => nodeId === "h3");
  });
});

test("a new leader goes on from what is stored: a rollout begun by the one before", async () => {
  const store = await cluster();
  const id = await create(store, makeSpec({ replicas: 2 }));
  await until(store, (view) => tasksOf(view).filter(({ nodeId }) => nodeId !== "").length === 2);
  await lifetime[Symbol.asyncDispose]();
  lifetime = new Lifetime();
  const again = lifetime.use(openMemoryStore());
  await again.update((tx) => {
    for (const node of store.view().nodes.values()) tx.create("nodes", node);
    for (const service of store.view().services.values()) tx.create("services", service);
    for (const revision of store.view().revisions.values()) tx.create("revisions", revision);
    for (const task of store.view().tasks.values()) tx.create("tasks", task);
  });
  await again.update((tx) => {
    const parts = partsOf(tx, id);
    const spec = makeSpec({ replicas: 2, image: "two" });
    applySteps(tx, updateService(parts, { spec, version: 0, force: false, requestId: "" }, making()).steps);
  });
  await again.update((tx) =>
    applySteps(tx, scaleService(partsOf(tx, id), { replicas: 3, requestId: "" }, making()).steps),
  );
  start(again);
  await until(again, (view) => tasksOf(view).some(({ revision }) => revision > 1));
  await quiet(again);
  const { rollout } = partsOf(again.view(), id);
  // One slot at a time: the empty one first.
  expect(rollout?.slots.map(({ slot, taskId }) => [slot, taskId !== ""])).toEqual([[1, true]]);
});

test("a service whose objects are broken does not hold up the others", async () => {
  const store = lifetime.use(openMemoryStore());
  const clock = new FakeClock();
  const errors: unknown[] = [];
  const telling = { ...log, error: (fields: unknown) => void errors.push(fields) } as unknown as Logger;
  lifetime.use(new Orchestrator({ store, clock, rng: systemRng, log: telling })).start();
  // Its revision is missing.
  await store.update((tx) => tx.create("services", makeService({ spec: makeSpec({ name: "broken" }) })));
  await clock.advance(20);
  expect(errors).toMatchObject([{ service: "service-web" }]);
  await create(store, makeSpec({ name: "sound", replicas: 2 }));
  await clock.advance(20);
  expect(tasksOf(store.view()).map(({ serviceName }) => serviceName)).toEqual(["sound", "sound"]);
  // And it is tried again, and done once it was put right.
  await store.update((tx) => tx.create("revisions", makeRevision(makeService())));
  await clock.advance(10_000);
  expect(store.view().tasks.size).toBe(3);
});

const globalSpec = (): ServiceSpec => ({ ...makeSpec(), mode: { $case: "global", value: {} } });

test("a global service answers to nodes that join, are labelled and come back, and to nothing else about nodes", async () => {
  const store = await cluster();
  const spec = globalSpec();
  spec.task = { ...spec.task, placement: { ...spec.task.placement, constraints: ["node.labels.zone==eu"] } };
  await create(store, spec);
  await quiet(store);
  expect(tasksOf(store.view())).toEqual([]);
  const labelled = (id: string) => {
    const node = store.view().nodes.get(id) ?? makeNode(id);
    return { ...node, spec: { ...node.spec, labels: { zone: "eu" } } };
  };
  await store.update((tx) => tx.put("nodes", labelled("h2")));
  await until(store, (view) => tasksOf(view).some(({ nodeId }) => nodeId === "h2"));
  await store.update((tx) => tx.create("nodes", labelled("h4")));
  await until(store, (view) => tasksOf(view).some(({ nodeId }) => nodeId === "h4"));
  const unknown = store.view().nodes.get("h1") ?? makeNode("h1");
  await store.update((tx) => tx.put("nodes", { ...unknown, status: { ...unknown.status, state: NodeState.UNKNOWN } }));
  await quiet(store);
  expect(tasksOf(store.view()).length).toBe(2);
});

test("a service that waits for another begins when that one is ready", async () => {
  const store = await cluster();
  await create(store, { ...makeSpec({ name: "app", replicas: 1 }), dependsOn: ["db"] });
  await until(store, (view) => view.serviceByName("app")?.waitingFor === "waits: there is no service db yet");
  await create(store, makeSpec({ name: "db", replicas: 1 }));
  await until(store, (view) => tasksOf(view).some(({ nodeId, serviceName }) => nodeId !== "" && serviceName === "db"));
  await quiet(store);
  expect(store.view().serviceByName("app")?.waitingFor).toBe("waits: 0 of 1 tasks of service db are ready");
  expect(tasksOf(store.view()).filter(({ serviceName }) => serviceName === "app")).toEqual([]);
  const [db] = tasksOf(store.view());
  if (db === undefined) throw new Error("db has no task");
  await store.update((tx) => {
    const task = tx.tasks.get(db.meta.id) ?? db;
    tx.put("tasks", applyStatus(task, readyStatus(), systemClock.now()) ?? task);
  });
  await until(store, (view) => tasksOf(view).some(({ serviceName }) => serviceName === "app"));
  expect(store.view().serviceByName("app")?.waitingFor).toBe("");
});

test("the cluster's task history says how many ended tasks a slot keeps, at once", async () => {
  const store = lifetime.use(openMemoryStore());
  const service = makeService({ spec: makeSpec({ replicas: 1 }) });
  const settings = (taskHistory: number) => ({
    strategy: PlacementStrategy.SPREAD,
    preemption: false,
    rebalanceMoves: 0,
    taskHistory,
  });
  await store.update((tx) => {
    tx.create("clusters", {
      meta: { id: "cluster", version: 0, createdAtMs: 0, updatedAtMs: 0 },
      name: "test",
      vipPool: "10.127.0.0/16",
      nodePool: "10.128.0.0/9",
      nodePrefix: 24,
      domain: "flotilla",
      dnsAddress: "10.127.0.53",
      settings: settings(4),
      brake: undefined,
    });
    tx.create("services", service);
    tx.create("revisions", makeRevision(service));
    for (let i = 0; i < 8; i += 1)
      tx.create("tasks", {
        ...makeTask(`t${i}`, { desiredState: TaskState.SHUTDOWN, endedAtMs: i + 1 }),
        meta: { id: `t${i}`, version: 0, createdAtMs: i, updatedAtMs: i },
        status: { ...readyStatus(), state: TaskState.FAILED },
      });
  });
  start(store);
  const ended = (view: View) => tasksOf(view).filter(({ status }) => status.state === TaskState.FAILED);
  await until(store, (view) => ended(view).length === 4);
  const [stored] = store.view().clusters.values();
  if (stored === undefined) throw new Error("no cluster");
  await store.update((tx) => tx.put("clusters", { ...stored, settings: settings(1) }));
  await until(store, (view) => ended(view).length === 1);
  expect(ended(store.view()).map(({ meta }) => meta.id)).toEqual(["t7"]);
});
