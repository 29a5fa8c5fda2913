import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { seededRng, silentLogger } from "../../lib/mod.js";
import { type ClusterSettings, NodeState, PlacementStrategy, RolloutState, type Task } from "../../proto/mod.js";
import { FakeClock, settle } from "../../test/kit/clock.js";
import { makeNode, makeRevision, makeService, makeSpec, makeTask, readyStatus } from "../../test/kit/objects.js";
import { openMemoryStore, type Store } from "../store/mod.js";
import { rebalance, Rebalancer } from "./mod.js";

let store: Store;
let clock: FakeClock;

beforeEach(async () => {
  store = openMemoryStore();
  clock = new FakeClock();
  const service = makeService({ spec: makeSpec({ replicas: 6 }) });
  await store.update((tx) => {
    tx.create("clusters", {
      meta: { id: "c", version: 0, createdAtMs: 0, updatedAtMs: 0 },
      name: "c",
      vipPool: "10.9.0.0/24",
      nodePool: "10.8.0.0/16",
      nodePrefix: 24,
      domain: "",
      dnsAddress: "",
      settings: undefined,
      brake: undefined,
    });
    tx.create("services", service);
    tx.create("revisions", makeRevision(service));
    for (const id of ["h1", "h2"]) tx.create("nodes", makeNode(id));
    for (let slot = 1; slot <= 6; slot += 1)
      tx.create("tasks", makeTask(`t${slot}`, { slot, nodeId: "h1", status: readyStatus(), readySinceMs: 1 }));
  });
});

afterEach(() => store[Symbol.asyncDispose]());

const leaving = (): Task[] => [...store.view().tasks.values()].filter(({ leave }) => leave !== undefined);
const web = () => store.view().services.get("service-web")!;
const run = (more: { dryRun?: boolean; maxMoves?: number } = {}) =>
  rebalance(store, clock, { service: undefined, dryRun: false, maxMoves: 0, ...more });

async function startRollout(): Promise<void> {
  await store.update((tx) => {
    tx.create("rollouts", {
      meta: { id: "r", version: 0, createdAtMs: 0, updatedAtMs: 0 },
      serviceId: "service-web",
      fromRevision: 1,
      toRevision: 1,
      isRollback: false,
      state: RolloutState.RUNNING,
      message: "",
      startedAtMs: 0,
      endedAtMs: 0,
      slots: [],
      batchDoneAtMs: 0,
      rolledBackBy: "",
    });
    tx.put("services", { ...tx.services.get("service-web")!, rolloutId: "r" });
  });
}

describe("rebalance", () => {
  it("has tasks leave, replacements first, and asks nothing twice", async () => {
    const { moves, more } = await run({ maxMoves: 2 });
    expect(moves).toMatchObject([
      { serviceName: "web", fromNodeName: "h1", toNodeName: "h2", reason: "h1 has 6 of 6 tasks, h2 none" },
      { reason: "h1 has 5 of 6 tasks, h2 1" },
    ]);
    expect(more).toBe(1);
    expect(leaving().map(({ leave }) => leave)).toEqual(
      moves.map(({ reason }) => ({ reason: `rebalanced: ${reason}`, atMs: clock.now(), startFirst: true })),
    );
    expect(leaving().map(({ meta }) => meta.id)).toEqual(moves.map(({ taskId }) => taskId));
  });

  it("only says what it would do in a dry run", async () => {
    expect((await run({ dryRun: true })).moves).toHaveLength(3);
    expect(leaving()).toEqual([]);
  });

  it("refuses a service that a rollout is moving, and an absurd number", async () => {
    await startRollout();
    await expect(rebalance(store, clock, { service: web(), dryRun: true, maxMoves: 0 })).rejects.toThrow(
      /a rollout of web is under way/,
    );
    // Of all services, it is passed over.
    expect((await run()).moves).toEqual([]);
    await expect(run({ maxMoves: 5_000 })).rejects.toMatchObject({ code: "invalid_argument" });
  });
});

describe("the Rebalancer", () => {
  const set = (settings: Partial<ClusterSettings>) =>
    store.update((tx) => {
      const cluster = tx.clusters.get("c")!;
      tx.put("clusters", {
        ...cluster,
        settings: {
          strategy: PlacementStrategy.SPREAD,
          preemption: false,
          lostAfterMs: undefined,
          taskHistory: undefined,
          rebalanceMoves: 0,
          rebalanceIntervalMs: 60_000,
          ...settings,
        },
      });
    });

  it("moves nothing unless it was asked to; then so many at once, at each interval", async () => {
    await using rebalancer = new Rebalancer({ store, clock, rng: seededRng(1), log: silentLogger });
    await clock.advance(600_000);
    expect(leaving()).toEqual([]);
    await set({ rebalanceMoves: 1 });
    await clock.advance(1);
    await clock.advance(60_000);
    expect(leaving()).toHaveLength(1);
    // That one has not gone yet.
    await clock.advance(60_000);
    expect(leaving()).toHaveLength(1);
    await store.update((tx) => {
      for (const task of leaving()) tx.put("tasks", { ...task, nodeId: "h2", leave: undefined });
    });
    await clock.advance(60_000);
    expect(leaving()).toHaveLength(1);
    expect(rebalancer).toBeDefined();
  });

  it.each([
    [
      "a node is not heard of",
      () =>
        store.update((tx) =>
          tx.create("nodes", makeNode("h3", { status: { ...makeNode("x").status, state: NodeState.UNKNOWN } })),
        ),
    ],
    [
      "the brake holds",
      () =>
        store.update((tx) =>
          tx.put("clusters", { ...tx.clusters.get("c")!, brake: { sinceMs: 1, lostNodes: 2, nodes: 3 } }),
        ),
    ],
    ["a rollout of the service is under way", startRollout],
  ])("moves nothing while %s", async (_, happens) => {
    await set({ rebalanceMoves: 1 });
    await happens();
    const rebalancer = new Rebalancer({ store, clock, rng: seededRng(1), log: silentLogger });
    await clock.advance(200_000);
    await settle();
    expect(leaving()).toEqual([]);
    await rebalancer[Symbol.asyncDispose]();
    expect(clock.nextDueMs).toBeUndefined();
  });
});
