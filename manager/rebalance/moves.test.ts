import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  RolloutState,
  type Node,
  NodeAvailability,
  NodeState,
  PlacementStrategy,
  type Task,
  TaskState,
} from "../../proto/mod.js";
import { makeNode, makeRevision, makeService, makeSpec, makeTask, readyStatus } from "../../test/kit/objects.js";
import { Layer, openMemoryStore, type View } from "../store/mod.js";
import { planMoves, type PlannedMove } from "./moves.js";

const now = 1_700_000_000_000;

interface Shape {
  /** Tasks of service web per node, by host name. */
  on: Record<string, number>;
  nodes?: Partial<Record<string, Partial<Node>>>;
  zones?: Record<string, string>;
  preferences?: string[];
  strategy?: PlacementStrategy;
  reserved?: number;
  task?: (task: Task) => Task;
  rollout?: RolloutState;
}

/** Nodes have room for eight of what reserves 1. */
function world({ on, nodes = {}, zones = {}, preferences = [], strategy, reserved = 0, task, rollout }: Shape): Layer {
  const layer = new Layer(openMemoryStore().view());
  const spec = makeSpec({ replicas: Object.values(on).reduce((a, b) => a + b, 0) });
  spec.task.placement.preferences = preferences;
  spec.task.placement.strategy = strategy ?? PlacementStrategy.UNSPECIFIED;
  spec.task.reservations.memoryBytes = reserved * 1024 ** 3;
  const service = makeService({ spec, rolloutId: rollout === undefined ? "" : "rollout" });
  layer.absorb("services", service.meta.id, service);
  const revision = makeRevision(service);
  layer.absorb("revisions", revision.meta.id, revision);
  if (rollout !== undefined)
    layer.absorb("rollouts", "rollout", {
      meta: { id: "rollout", version: 0, createdAtMs: 0, updatedAtMs: 0 },
      serviceId: service.meta.id,
      fromRevision: 1,
      toRevision: 1,
      isRollback: false,
      state: rollout,
      message: "",
      startedAtMs: 0,
      endedAtMs: 0,
      slots: [],
      batchDoneAtMs: 0,
      rolledBackBy: "",
    });
  let slot = 0;
  for (const [host, count] of Object.entries(on)) {
    const node = makeNode(host, nodes[host]);
    const labels: Record<string, string> = zones[host] === undefined ? {} : { zone: zones[host] };
    layer.absorb("nodes", host, { ...node, spec: { ...node.spec, labels } });
    for (let i = 0; i < count; i += 1) {
      slot += 1;
      const made = makeTask(`t${slot}`, { slot, nodeId: host, status: readyStatus(), readySinceMs: 1 });
      layer.absorb("tasks", made.meta.id, task?.(made) ?? made);
    }
  }
  return layer;
}

const plan = (view: View, maxMoves = 100) => planMoves(view, { now, maxMoves });

function isBetter(before: readonly number[], now: readonly number[]): boolean {
  const at = now.findIndex((value, i) => value !== before[i]);
  return at >= 0 && (now[at] ?? 0) < (before[at] ?? 0);
}

/** As if all moves had been made. */
function after(view: View, moves: readonly PlannedMove[]): Layer {
  const layer = new Layer(view);
  for (const { task, to } of moves) layer.absorb("tasks", task.meta.id, { ...task, nodeId: to.meta.id });
  return layer;
}

function counts(view: View): Record<string, number> {
  const found: Record<string, number> = {};
  for (const { nodeId } of view.tasks.values()) found[nodeId] = (found[nodeId] ?? 0) + 1;
  return found;
}

describe("planMoves, spread", () => {
  it("evens tasks out over the nodes, and says why", () => {
    const view = world({ on: { h1: 5, h2: 1, h3: 0 } });
    const { moves, more } = plan(view);
    expect(more).toBe(0);
    expect(counts(after(view, moves))).toEqual({ h1: 2, h2: 2, h3: 2 });
    expect(moves.map(({ from }) => from.meta.id)).toEqual(["h1", "h1", "h1"]);
    expect(moves[0]?.reason).toBe("h1 has 5 of 6 tasks, h3 none");
  });

  it("moves nothing for less than a whole task", () => {
    expect(plan(world({ on: { h1: 2, h2: 1, h3: 1 } })).moves).toEqual([]);
  });

  it("makes at most so many moves, and says how many more would be worth it", () => {
    const { moves, more } = plan(world({ on: { h1: 6, h2: 0 } }), 1);
    expect([moves.length, more]).toEqual([1, 2]);
  });

  it("gives each service its turn to be the first", () => {
    const view = world({ on: { h1: 4, h2: 0 } });
    const [web] = [...view.services.values()];
    const api = { ...makeService({ spec: makeSpec({ name: "api" }) }), meta: { ...web!.meta, id: "service-api" } };
    view.absorb("services", api.meta.id, api);
    view.absorb("revisions", "api-r1", { ...makeRevision(api), meta: { ...web!.meta, id: "api-r1" } });
    for (const task of [...view.tasks.values()]) {
      const id = `api-${task.meta.id}`;
      view.absorb("tasks", id, { ...task, meta: { ...task.meta, id }, serviceId: "service-api", serviceName: "api" });
    }
    const first = (at: number) => planMoves(view, { now: at, maxMoves: 1 }).moves[0]?.task.serviceName;
    expect(new Set([first(now), first(now + 60_000)])).toEqual(new Set(["api", "web"]));
    expect(first(now + 1)).toBe(first(now));
  });

  it("evens zones out before nodes, and nodes within a zone", () => {
    const zones = { h1: "a", h2: "a", h3: "b" };
    const shape = { zones, preferences: ["spread=node.labels.zone"] };
    const view = world({ ...shape, on: { h1: 4, h2: 0, h3: 2 } });
    expect(counts(after(view, plan(view).moves))).toEqual({ h1: 2, h2: 1, h3: 3 });
    // Even by zones, whatever that makes of the nodes.
    expect(plan(world({ ...shape, on: { h1: 2, h2: 2, h3: 4 } })).moves).toEqual([]);
  });

  it.each([
    ["a node is cordoned", { nodes: { h2: cordoned() } }],
    ["a node is not connected", { nodes: { h2: lost() } }],
    ["nothing fits there", { nodes: { h2: tiny() }, reserved: 1 }],
    ["tasks are not ready", { task: (task: Task) => ({ ...task, readySinceMs: 0 }) }],
    ["tasks leave already", { task: (task: Task) => ({ ...task, leave: { reason: "", atMs: 1, startFirst: true } }) }],
    ["tasks are to stop", { task: (task: Task) => ({ ...task, desiredState: TaskState.SHUTDOWN }) }],
    ["tasks are a node's own", { task: (task: Task) => ({ ...task, onlyNodeId: "h1" }) }],
    ["tasks are a job's", { task: (task: Task) => ({ ...task, run: 1 }) }],
    ["a rollout is under way", { rollout: RolloutState.RUNNING }],
    ["a rollout is paused", { rollout: RolloutState.PAUSED }],
  ])("moves nothing while %s", (_, shape) => {
    expect(plan(world({ on: { h1: 4, h2: 0 }, ...shape })).moves).toEqual([]);
    // But for that, it would.
    expect(plan(world({ on: { h1: 4, h2: 0 } })).moves).toHaveLength(2);
  });
});

describe("planMoves, binpack", () => {
  const strategy = PlacementStrategy.BINPACK;

  it("empties the least used node whose tasks fit on others that are in use", () => {
    const view = world({ on: { h1: 5, h2: 2, h3: 0 }, strategy, reserved: 1 });
    const { moves } = plan(view);
    expect(counts(after(view, moves))).toEqual({ h1: 7 });
    expect(moves[0]?.reason).toBe("h2 can be emptied, its tasks fit on other nodes");
  });

  it("leaves a node alone that cannot be emptied whole", () => {
    expect(plan(world({ on: { h1: 5, h2: 4 }, strategy, reserved: 1 })).moves).toEqual([]);
  });
});

function cordoned(): Partial<Node> {
  return { spec: { ...makeNode("x").spec, availability: NodeAvailability.CORDONED } };
}

function lost(): Partial<Node> {
  return { status: { ...makeNode("x").status, state: NodeState.UNKNOWN } };
}

function tiny(): Partial<Node> {
  const { description } = makeNode("x");
  return { description: { ...description, resources: { ...description.resources, memoryBytes: 1 } } };
}

describe("planMoves, for any cluster", () => {
  const shapes = fc.record({
    counts: fc.array(fc.nat({ max: 8 }), { minLength: 1, maxLength: 6 }),
    zoned: fc.array(fc.constantFrom("a", "b", undefined), { minLength: 6, maxLength: 6 }),
    nested: fc.boolean(),
    strategy: fc.constantFrom(PlacementStrategy.SPREAD, PlacementStrategy.BINPACK),
    reserved: fc.constantFrom(0, 1, 2),
    maxMoves: fc.integer({ min: 1, max: 20 }),
  });

  it("comes to rest: the plan for what it leads to is empty in the end, and every move makes it better", () => {
    fc.assert(
      fc.property(shapes, ({ counts: perNode, zoned, nested, strategy, reserved, maxMoves }) => {
        const hosts = perNode.map((count, i) => [`h${i + 1}`, count] as const);
        const zones = Object.fromEntries(
          hosts.flatMap(([host], i) => (zoned[i] === undefined ? [] : [[host, zoned[i]]])),
        );
        let view: View = world({
          on: Object.fromEntries(hosts),
          zones,
          preferences: nested ? ["spread=node.labels.zone"] : [],
          strategy,
          reserved,
        });
        const total = view.tasks.size;
        const squares = (of: readonly string[]) => {
          const sums = new Map<string, number>();
          for (const key of of) sums.set(key, (sums.get(key) ?? 0) + 1);
          return [...sums.values()].reduce((sum, count) => sum + count * count, 0);
        };
        // Smaller is better, the first that differs counts: evenness by zone, then by node; or how full nodes are.
        const worth = (of: View): number[] => {
          const on = [...of.tasks.values()].map(({ nodeId }) => nodeId);
          if (strategy === PlacementStrategy.BINPACK) return [-squares(on)];
          return nested ? [squares(on.map((host) => zones[host] ?? "")), squares(on)] : [squares(on)];
        };
        const movedOff = new Map<string, Set<string>>();
        let rounds = 0;
        for (; rounds <= 2 * total; rounds += 1) {
          const { moves } = plan(view, maxMoves);
          if (moves.length === 0) break;
          expect(moves.length).toBeLessThanOrEqual(maxMoves);
          // Each single move makes it better: that is why they come to an end.
          for (const move of moves) {
            const then = after(view, [move]);
            expect(isBetter(worth(view), worth(then))).toBe(true);
            view = then;
          }
          // Where there is room, no task is moved twice for it.
          if (reserved > 0) continue;
          for (const { task, from, to } of moves) {
            const left = movedOff.get(task.meta.id) ?? new Set();
            expect(left.has(to.meta.id)).toBe(false);
            movedOff.set(task.meta.id, left.add(from.meta.id));
          }
        }
        expect(rounds).toBeLessThanOrEqual(2 * total);
        // It fits wherever it was moved: makeNode has 8 GiB.
        for (const [host, count] of Object.entries(counts(view)))
          if (count > (perNode[Number(host.slice(1)) - 1] ?? 0)) expect(count * reserved).toBeLessThanOrEqual(8);
        if (strategy === PlacementStrategy.SPREAD && !nested && reserved === 0) {
          const on = hosts.map(([host]) => counts(view)[host] ?? 0);
          expect(Math.max(...on) - Math.min(...on)).toBeLessThanOrEqual(1);
        }
      }),
      { numRuns: 150 },
    );
  });
});
