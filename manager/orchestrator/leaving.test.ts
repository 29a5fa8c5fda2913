// Tasks that are to make way though nothing is wrong with them, and what their services keep meanwhile.

import { expect, test } from "vitest";
import { hasEnded } from "../../deploy/strategy/mod.js";
import { NodeAvailability, NodeState, type ServiceSpec, type Task, TaskState, UpdateOrder } from "../../proto/mod.js";
import { makeNode, makeSpec } from "../../test/kit/objects.js";
import { ServiceWorld, type WorldOptions } from "../../test/kit/service-world.js";

function converged(
  replicas: number,
  update: Partial<ServiceSpec["update"]> = {},
  options: WorldOptions = {},
  changes: Partial<ServiceSpec> = {},
): ServiceWorld {
  const spec = makeSpec({ image: "one", replicas });
  const world = new ServiceWorld({ ...spec, update: { ...spec.update, ...update }, ...changes }, options);
  expect(world.run(60_000, () => world.converged())).toBe(true);
  return world;
}

const startFirst = { order: UpdateOrder.START_FIRST };
const drain = (world: ServiceWorld, id: string) => world.setNode(id, NodeAvailability.DRAINED, NodeState.READY);
const on = (world: ServiceWorld, id: string) => world.ready().filter(({ nodeId }) => nodeId === id);
const wanted = (world: ServiceWorld) =>
  [...world.tasks.values()].filter((task) => task.desiredState <= TaskState.RUNNING && !hasEnded(task));

/** The fewest ready and the most wanted tasks at any write from now on. */
function extremes(world: ServiceWorld): { ready: number; wanted: number } {
  const seen = { ready: world.ready().length, wanted: wanted(world).length };
  world.check = () => {
    seen.ready = Math.min(seen.ready, world.ready().length);
    seen.wanted = Math.max(seen.wanted, wanted(world).length);
  };
  return seen;
}

test.each<[string, Partial<ServiceSpec["update"]>, { ready: number; wanted: number }]>([
  ["stop first, one may be missing", {}, { ready: 5, wanted: 6 }],
  ["stop first, two may be missing", { maxUnavailable: 2 }, { ready: 4, wanted: 6 }],
  ["start first, one more", startFirst, { ready: 6, wanted: 7 }],
  ["start first, two more", { ...startFirst, maxSurge: 2 }, { ready: 6, wanted: 8 }],
  ["stop first with surge: one more, none missing", { maxSurge: 1 }, { ready: 6, wanted: 7 }],
])("a drain of a node with two tasks costs no more than an update: %s", (_, update, expected) => {
  const world = converged(6, update);
  const seen = extremes(world);
  drain(world, "h1");
  expect(world.run(60_000, () => world.converged() && on(world, "h1").length === 0)).toBe(true);
  expect(seen).toEqual(expected);
});

test("several nodes drained at once move their tasks one after the other", () => {
  const world = converged(4, {}, { nodes: 4 });
  const seen = extremes(world);
  for (const id of ["h1", "h2", "h3"]) drain(world, id);
  expect(world.run(60_000, () => world.converged())).toBe(true);
  expect(seen.ready).toBe(3);
  expect(on(world, "h4").length).toBe(4);
});

test("moves add nothing to what is missing already: a slot that is down is waited for, until the drain's deadline", () => {
  const world = converged(3);
  // The fourth never comes up: no node takes it.
  world.scale(4);
  for (const id of ["h2", "h3"]) world.setNode(id, NodeAvailability.CORDONED, NodeState.READY);
  world.setNode("h1", NodeAvailability.DRAINED, NodeState.READY);
  world.run(60_000);
  expect(on(world, "h1").length).toBe(1);
  expect(world.ready().length).toBe(3);
  world.run(600_000);
  expect(on(world, "h1").length).toBe(0);
});

test("a drain's own deadline is kept to", () => {
  const world = converged(1, startFirst, { nodes: 1 });
  const node = world.nodes.get("h1") ?? makeNode("h1");
  world.join("h1", {
    ...node,
    spec: {
      ...node.spec,
      availability: NodeAvailability.DRAINED,
      availabilitySinceMs: world.now,
      drainDeadlineMs: 30_000,
    },
  });
  world.run(29_000);
  expect(world.ready().length).toBe(1);
  world.run(2000);
  expect(world.ready().length).toBe(0);
});

test("a node that is taken back before its drain was done keeps what it still has", () => {
  const world = converged(2, startFirst, { nodes: 2 });
  world.setNode("h2", NodeAvailability.CORDONED, NodeState.READY);
  drain(world, "h1");
  world.run(10_000);
  const [kept] = on(world, "h1");
  expect(kept).toBeDefined();
  world.setNode("h1", NodeAvailability.ACTIVE, NodeState.READY);
  expect(world.run(20_000, () => world.converged())).toBe(true);
  expect(world.ready().map(({ meta }) => meta.id)).toContain(kept?.meta.id);
});

test("start first, one task is moved at a time whatever the update order", () => {
  const world = converged(4);
  const seen = extremes(world);
  const asked = world.ready().map(({ meta }) => meta.id);
  for (const id of asked) world.askToLeave(id, true);
  expect(world.run(60_000, () => world.converged() && world.ready().every(({ leave }) => leave === undefined))).toBe(
    true,
  );
  expect(seen).toEqual({ ready: 4, wanted: 5 });
  expect(world.ready().filter(({ meta }) => asked.includes(meta.id))).toEqual([]);
  for (const { cause } of world.ready()) expect(cause).toMatch(/^moves .*: asked$/);
});

test("stop first, as many at once as may be missing; where none may, the replacement comes first", () => {
  const many = converged(4, { maxUnavailable: 2 });
  const seen = extremes(many);
  for (const { meta } of many.ready()) many.askToLeave(meta.id, false);
  expect(many.run(60_000, () => many.converged() && many.ready().every(({ leave }) => leave === undefined))).toBe(true);
  expect(seen).toEqual({ ready: 2, wanted: 4 });

  const none = converged(2, startFirst);
  const least = extremes(none);
  for (const { meta } of none.ready()) none.askToLeave(meta.id, false);
  expect(none.run(60_000, () => none.converged() && none.ready().every(({ leave }) => leave === undefined))).toBe(true);
  expect(least.ready).toBe(2);
});

test("a move whose replacement does not get well is given up at the progress deadline, and nothing is left of it", () => {
  const world = converged(1, { progressDeadlineMs: 20_000 });
  const [task] = world.ready();
  for (const id of ["h1", "h2", "h3"]) world.setNode(id, NodeAvailability.CORDONED, NodeState.READY);
  world.askToLeave(task?.meta.id ?? "", true);
  world.run(19_000);
  expect(wanted(world).length).toBe(2);
  world.run(2000);
  expect(wanted(world).map(({ meta, leave }) => [meta.id, leave])).toEqual([[task?.meta.id, undefined]]);
  expect(world.converged()).toBe(true);
});

test("a task that is to leave and dies is replaced like any other", () => {
  const world = converged(1);
  const [task] = world.ready();
  world.askToLeave(task?.meta.id ?? "", true);
  world.plan();
  world.fail(task?.meta.id ?? "");
  expect(world.run(20_000, () => world.converged())).toBe(true);
  expect(world.ready().length).toBe(1);
});

const fenced = { stopAfterDisconnectMs: 60_000 };
/** stop_after_disconnect, the grace period of 10 s, and 10 s more. */
const fenceMs = 80_000;

function lose(world: ServiceWorld, task: Task | undefined): number {
  world.setNode(task?.nodeId ?? "", NodeAvailability.ACTIVE, NodeState.UNKNOWN);
  const lastSeenMs = world.now;
  world.run(15_000);
  const node = world.nodes.get(task?.nodeId ?? "");
  if (node === undefined) throw new Error("the task has no node");
  world.join(node.meta.id, { ...node, status: { ...node.status, state: NodeState.DOWN, lastSeenAtMs: lastSeenMs } });
  return lastSeenMs;
}

test("stop_after_disconnect: a lost task is replaced only when its agent must have stopped it", () => {
  const world = converged(1, {}, {}, fenced);
  const [task] = world.ready();
  const lastSeenMs = lose(world, task);
  world.run(lastSeenMs + fenceMs - 1000 - world.now);
  expect(world.tasks.size).toBe(1);
  world.run(2000);
  expect(world.tasks.size).toBe(2);
  expect(world.run(20_000, () => world.converged())).toBe(true);
});

test.each<[string, (world: ServiceWorld, nodeId: string) => void]>([
  ["removed", (world, nodeId) => world.forget(nodeId)],
  ["back", (world, nodeId) => world.setNode(nodeId, NodeAvailability.ACTIVE, NodeState.READY)],
])(
  "stop_after_disconnect: a node that was lost and is %s says no longer when it was seen; nothing is hurried",
  (_, then) => {
    const world = converged(1, {}, {}, fenced);
    const [task] = world.ready();
    const lastSeenMs = lose(world, task);
    world.run(1000);
    then(world, task?.nodeId ?? "");
    world.run(lastSeenMs + fenceMs - 1000 - world.now);
    expect(world.tasks.size).toBe(1);
    expect(world.run(60_000, () => world.converged())).toBe(true);
  },
);

test("stop_after_disconnect: scaling to nothing and back, or an update, does not get round it", () => {
  const world = converged(1, {}, {}, fenced);
  const [task] = world.ready();
  const lastSeenMs = lose(world, task);
  world.run(1000);
  world.scale(0);
  world.run(1000);
  world.scale(1);
  world.update({ ...world.service.spec, task: makeSpec({ image: "two" }).task });
  world.run(lastSeenMs + fenceMs - 1000 - world.now);
  expect(world.ready()).toEqual([]);
  expect([...world.tasks.values()].filter(({ desiredState }) => desiredState === TaskState.RUNNING)).toEqual([]);
  expect(world.run(60_000, () => world.converged())).toBe(true);
});

test("stop_after_disconnect: a replacement that is prepared while the old task's node is lost is not released early", () => {
  const world = converged(1, {}, { stopMs: Number.POSITIVE_INFINITY }, fenced);
  const [task] = world.ready();
  world.askToLeave(task?.meta.id ?? "", false);
  world.run(1000);
  const lastSeenMs = lose(world, task);
  world.run(lastSeenMs + fenceMs - 1000 - world.now);
  expect(world.ready()).toEqual([]);
  expect(world.run(20_000, () => world.converged())).toBe(true);
});

test("stop_after_disconnect: a removed service keeps its name until its lost task must have been stopped", () => {
  const world = converged(1, {}, {}, fenced);
  const [task] = world.ready();
  const lastSeenMs = lose(world, task);
  world.run(1000);
  world.remove();
  world.run(lastSeenMs + fenceMs - 1000 - world.now);
  expect(world.gone).toBe(false);
  expect(world.run(2000, () => world.gone)).toBe(true);
});
