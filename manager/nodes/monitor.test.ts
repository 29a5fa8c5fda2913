// The monitor with everything that acts on what it says: dispatcher, orchestrator, scheduler, and agents that are a
// few lines here.

import { afterEach, beforeEach, expect, test } from "vitest";
import { seededRng, silentLogger } from "../../lib/mod.js";
import { AssignmentsKind } from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { NodeState, type Task, TaskState } from "../../proto/mod.js";
import { FakeClock } from "../../test/kit/clock.js";
import { makeNode, makeRevision, makeService, makeSpec, readyStatus } from "../../test/kit/objects.js";
import { ensureCluster } from "../api/cluster.js";
import { Dispatcher, isTerminal } from "../dispatcher/mod.js";
import { Orchestrator } from "../orchestrator/mod.js";
import { Scheduler } from "../scheduler/mod.js";
import { openMemoryStore, type Store } from "../store/mod.js";
import { brakeMessage, NodeMonitor } from "./mod.js";

const replicas = 12;
let store: Store;
let clock: FakeClock;
let dispatcher: Dispatcher;
let parts: AsyncDisposable[];
let agents: Map<string, Agent>;
/** Every task that was ever made. */
let made: Set<string>;
/** Moments at which a slot had two tasks that were meant to run and not known to be dead. */
let doubles: string[];

beforeEach(async () => {
  store = openMemoryStore();
  clock = new FakeClock();
  made = new Set();
  doubles = [];
  await ensureCluster(store, "test", clock, seededRng(1));
  start();
  store.subscribe(() => {
    const bySlot = new Map<number, Task>();
    for (const task of store.view().tasks.values()) {
      made.add(task.meta.id);
      if (isTerminal(task.status.state) || task.desiredState > TaskState.RUNNING) continue;
      const other = bySlot.get(task.slot);
      if (other !== undefined) doubles.push(`slot ${task.slot}: ${other.meta.id} and ${task.meta.id}`);
      bySlot.set(task.slot, task);
    }
  });
  agents = new Map(["node000001", "node000002", "node000003", "node000004"].map((id) => [id, new Agent(id)]));
  for (const agent of agents.values()) await agent.connect();
  const service = makeService({ spec: makeSpec({ replicas }) });
  await store.update((tx) => {
    tx.create("services", service);
    tx.create("revisions", makeRevision(service));
  });
  await pass(5_000);
});

afterEach(async () => {
  for (const agent of agents.values()) agent.cut();
  await stop();
  await store[Symbol.asyncDispose]();
});

let managerNames: readonly string[] = [];

/** A leader's parts. */
function start(): void {
  const common = { store, clock, log: silentLogger };
  dispatcher = new Dispatcher({ ...common, rng: seededRng(2), managers: ["127.0.0.1:7400"] });
  const monitor = new NodeMonitor({ ...common, rng: seededRng(3), dispatcher, managerNames: () => managerNames });
  const orchestrator = new Orchestrator({ ...common, rng: seededRng(4) });
  const scheduler = new Scheduler({ ...common, rng: seededRng(5) });
  orchestrator.start();
  scheduler.start();
  parts = [monitor, scheduler, orchestrator, dispatcher];
}

async function stop(): Promise<void> {
  for (const part of parts) await part[Symbol.asyncDispose]();
}

/** A node's agent: says that all it has runs, and forgets what is no longer its own. */
class Agent {
  readonly #id: string;
  #connection: AbortController | undefined;
  #session = "";
  readonly running = new Set<string>();

  constructor(id: string) {
    this.#id = id;
  }

  async connect(): Promise<void> {
    const connection = new AbortController();
    const description = { ...makeNode(this.#id).description, advertiseAddress: `10.77.0.${Number(this.#id.at(-1))}` };
    const session = dispatcher.register({ nodeId: this.#id, description }, connection.signal);
    const first = await session.next();
    if (first.done === true) throw new Error("no session");
    this.#session = first.value.sessionId;
    this.#connection = connection;
    // Ends with the dispatcher, too.
    void this.#follow(connection.signal).catch(() => undefined);
    void session.next().catch(() => undefined);
  }

  /** As when its network is gone and its manager sees that at once. */
  cut(): void {
    this.#connection?.abort();
    this.#connection = undefined;
  }

  beat(): void {
    if (this.#connection !== undefined) dispatcher.heartbeat(this.#session);
  }

  async #follow(signal: AbortSignal): Promise<void> {
    for await (const { changes, kind } of dispatcher.assignments(this.#session, signal)) {
      if (kind === AssignmentsKind.COMPLETE) this.running.clear();
      for (const { item } of changes) {
        if (item?.$case === "removedTaskId") this.running.delete(item.value);
        if (item?.$case !== "task" || item.value.task?.meta === undefined) continue;
        const { meta, desiredState } = item.value.task;
        const stops = desiredState >= TaskState.SHUTDOWN;
        if (stops) this.running.delete(meta.id);
        else this.running.add(meta.id);
        const status = { ...readyStatus(), state: stops ? TaskState.SHUTDOWN : TaskState.RUNNING };
        await dispatcher.updateStatus({
          sessionId: this.#session,
          updates: [{ taskId: meta.id, status }],
          drains: [],
          usage: [],
          problems: undefined,
        });
      }
    }
  }
}

async function pass(ms: number): Promise<void> {
  for (let leftMs = ms; leftMs > 0; leftMs -= 5_000) {
    for (const agent of agents.values()) agent.beat();
    await clock.advance(Math.min(5_000, leftMs));
  }
}

function agent(id: string): Agent {
  const found = agents.get(id);
  if (found === undefined) throw new Error(`no agent ${id}`);
  return found;
}

const states = () => [...store.view().nodes.values()].map(({ status }) => status.state);
const alive = () => [...store.view().tasks.values()].filter(({ status }) => !isTerminal(status.state));
const ready = () => alive().filter(({ status }) => status.container?.ready === true);
const brake = () => [...store.view().clusters.values()][0]?.brake;

test("a node whose session flaps for 5 minutes, each time shorter than lost_after, moves nothing", async () => {
  expect(ready()).toHaveLength(replicas);
  for (let i = 0; i < 20; i += 1) {
    // Its last heartbeat was 5 s ago.
    agent("node000001").cut();
    await pass(9_000);
    await agent("node000001").connect();
    await pass(6_000);
  }
  expect(made.size).toBe(replicas);
  expect(ready()).toHaveLength(replicas);
  expect(doubles).toEqual([]);
});

test("a node that flaps for 5 minutes and is lost each time multiplies no tasks and doubles no slot", async () => {
  const theirs = alive().filter(({ nodeId }) => nodeId === "node000001").length;
  expect(theirs).toBeGreaterThan(0);
  for (let i = 0; i < 12; i += 1) {
    agent("node000001").cut();
    await pass(20_000);
    await agent("node000001").connect();
    await pass(5_000);
    expect(alive().length).toBe(replicas);
  }
  await pass(120_000);
  expect(ready()).toHaveLength(replicas);
  expect(doubles).toEqual([]);
  // What was lost once is replaced once; the node gets nothing that it could lose again unless somebody moves it.
  expect(made.size).toBe(replicas + theirs);
  expect(store.view().tasks.size).toBeLessThanOrEqual(replicas * 6);
  // What was replaced is gone from the node that came back.
  const onNode = new Set(alive().map(({ meta }) => meta.id));
  expect([...agent("node000001").running].filter((id) => !onNode.has(id))).toEqual([]);
});

test("half of the nodes lost at once is no brake: replaced once, and nothing is restarted when they return", async () => {
  const gone = ["node000003", "node000004"];
  const theirs = alive().filter(({ nodeId }) => gone.includes(nodeId)).length;
  for (const id of gone) agent(id).cut();
  await pass(30_000);
  expect(brake()).toBeUndefined();
  expect(ready()).toHaveLength(replicas);
  const where = new Map(ready().map(({ meta, nodeId }) => [meta.id, nodeId]));
  for (const id of gone) await agent(id).connect();
  await pass(120_000);
  expect(made.size).toBe(replicas + theirs);
  expect(new Map(ready().map(({ meta, nodeId }) => [meta.id, nodeId]))).toEqual(where);
  expect(gone.flatMap((id) => [...agent(id).running])).toEqual([]);
  expect(doubles).toEqual([]);
});

test("most nodes lost at once: nothing is replaced, and nothing is restarted when they return", async () => {
  for (const id of ["node000002", "node000003", "node000004"]) agent(id).cut();
  await pass(60_000);
  expect(states()).toEqual([NodeState.READY, NodeState.UNKNOWN, NodeState.UNKNOWN, NodeState.UNKNOWN]);
  expect(brake()).toMatchObject({ lostNodes: 3, nodes: 4 });
  expect([...store.view().nodes.values()][1]?.status).toMatchObject({ message: brakeMessage });
  expect(made.size).toBe(replicas);
  await agent("node000002").connect();
  await pass(5_000);
  // Half of them are back: the brake is off, and the others have their time to follow.
  expect(brake()).toBeUndefined();
  await agent("node000003").connect();
  await agent("node000004").connect();
  await pass(60_000);
  expect(states()).toEqual(Array(4).fill(NodeState.READY));
  expect(made.size).toBe(replicas);
  expect(ready()).toHaveLength(replicas);
});

test("half of the nodes stay away after the brake: they are replaced then, each slot once", async () => {
  for (const id of ["node000002", "node000003", "node000004"]) agent(id).cut();
  await pass(60_000);
  await agent("node000002").connect();
  await pass(30_000);
  expect(states()).toEqual([NodeState.READY, NodeState.READY, NodeState.DOWN, NodeState.DOWN]);
  expect(ready()).toHaveLength(replicas);
  expect(new Set(ready().map(({ slot }) => slot)).size).toBe(replicas);
  expect(doubles).toEqual([]);
});

test("a confirmed loss is replaced though the brake holds; the node is as any other once it registers", async () => {
  for (const id of ["node000002", "node000003", "node000004"]) agent(id).cut();
  await pass(30_000);
  await store.update((tx) => {
    const node = tx.nodes.get("node000004")!;
    tx.put("nodes", { ...node, status: { ...node.status, lossConfirmed: true } });
  });
  await pass(5_000);
  expect(states()[3]).toBe(NodeState.DOWN);
  expect(brake()).toMatchObject({ lostNodes: 2, nodes: 3 });
  expect(alive().filter(({ nodeId }) => nodeId === "node000004")).toEqual([]);
  await agent("node000004").connect();
  await pass(1_000);
  expect(store.view().nodes.get("node000004")?.status).toMatchObject({ state: NodeState.READY, lossConfirmed: false });
});

test("a new leader: agents that come within the grace keep everything, and the brake of before is kept until they do", async () => {
  for (const id of ["node000002", "node000003", "node000004"]) agent(id).cut();
  await pass(30_000);
  agent("node000001").cut();
  await stop();
  start();
  await pass(10_000);
  expect(brake()).toBeDefined();
  for (const each of agents.values()) await each.connect();
  await pass(30_000);
  expect(brake()).toBeUndefined();
  expect(made.size).toBe(replicas);
  expect(ready()).toHaveLength(replicas);
});

test("an agent that registers over and over is held back, and not lost for it", async () => {
  const again = async () => {
    agent("node000001").cut();
    await agent("node000001").connect();
  };
  for (let i = 0; i < 9; i += 1) await again();
  await expect(again()).rejects.toMatchObject({ code: "resource_exhausted" });
  expect(states()[0]).not.toBe(NodeState.DOWN);
  await pass(10_000);
  await again();
  await pass(1_000);
  expect(states()[0]).toBe(NodeState.READY);
});

test("nodes of managers say so, and no more when their manager has left", async () => {
  const managers = () => [...store.view().nodes.values()].filter(({ manager }) => manager).map(({ meta }) => meta.id);
  expect(managers()).toEqual([]);
  const [first, second] = [...store.view().nodes.values()].map(({ description }) => description.hostname);
  managerNames = [first ?? ""];
  await pass(6_000);
  expect(managers()).toEqual([first]);
  managerNames = [second ?? ""];
  await pass(6_000);
  expect(managers()).toEqual([second]);
  managerNames = [];
  await pass(6_000);
  expect(managers()).toEqual([]);
});
