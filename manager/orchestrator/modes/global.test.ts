import { expect, test } from "vitest";
import { hasEnded } from "../../../deploy/strategy/mod.js";
import { NodeAvailability, NodeState, RolloutState, type ServiceSpec, TaskState } from "../../../proto/mod.js";
import { makeNode, makeSpec } from "../../../test/kit/objects.js";
import { ServiceWorld, type WorldOptions } from "../../../test/kit/service-world.js";

function globalSpec(image = "one", constraints: string[] = []): ServiceSpec {
  const spec = makeSpec({ image });
  const task = { ...spec.task, placement: { ...spec.task.placement, constraints } };
  return { ...spec, mode: { $case: "global", value: {} }, task };
}

function converged(spec = globalSpec(), options: WorldOptions = {}): ServiceWorld {
  const world = new ServiceWorld(spec, options);
  expect(world.run(60_000, () => world.converged())).toBe(true);
  return world;
}

const places = (world: ServiceWorld) =>
  world
    .ready()
    .map(({ slot, nodeId }) => `${slot}@${nodeId}`)
    .sort();
const inZone = (id: string, zone: string) => {
  const node = makeNode(id);
  return { ...node, spec: { ...node.spec, labels: { zone } } };
};

test("one task per node; a node that joins gets one, one that is removed frees its slot number", () => {
  const world = converged();
  expect(places(world)).toEqual(["1@h1", "2@h2", "3@h3"]);
  world.join("h4");
  expect(world.run(10_000, () => world.converged())).toBe(true);
  world.forget("h2");
  expect(world.run(10_000, () => world.converged())).toBe(true);
  expect(places(world)).toEqual(["1@h1", "3@h3", "4@h4"]);
  world.join("h5");
  expect(world.run(10_000, () => world.converged())).toBe(true);
  expect(places(world)).toContain("2@h5");
});

test.each<[string, NodeAvailability, NodeState]>([
  ["drained", NodeAvailability.DRAINED, NodeState.READY],
  ["down", NodeAvailability.ACTIVE, NodeState.DOWN],
])("a node that is %s has none, nothing is made elsewhere, and it gets its slot back with its history", (...to) => {
  const [, availability, state] = to;
  const world = converged();
  world.setNode("h2", availability, state);
  expect(world.run(10_000, () => world.converged())).toBe(true);
  expect(places(world)).toEqual(["1@h1", "3@h3"]);
  world.run(60_000);
  expect(world.tasks.size).toBe(3);
  world.setNode("h2", NodeAvailability.ACTIVE, NodeState.READY);
  expect(world.run(10_000, () => world.converged())).toBe(true);
  expect(places(world)).toEqual(["1@h1", "2@h2", "3@h3"]);
  expect([...world.tasks.values()].filter(({ slot }) => slot === 2).length).toBe(2);
});

test("a node that nobody hears of for now keeps its slot", () => {
  const world = converged();
  world.setNode("h2", NodeAvailability.ACTIVE, NodeState.UNKNOWN);
  expect(world.plan()).toBe(0);
});

test("a cordoned node keeps what it has, also through an update, and gets nothing new", () => {
  const world = converged();
  world.setNode("h2", NodeAvailability.CORDONED, NodeState.READY);
  world.join("h4", { spec: { ...makeNode("h4").spec, availability: NodeAvailability.CORDONED } });
  world.update(globalSpec("two"));
  expect(world.run(60_000, () => world.converged())).toBe(true);
  expect(world.rollout?.state).toBe(RolloutState.COMPLETED);
  const images = new Map(world.ready().map((task) => [task.nodeId, world.imageOf(task)]));
  expect(images).toEqual(new Map(Object.entries({ h1: "two", h2: "one", h3: "two" })));
  world.setNode("h2", NodeAvailability.ACTIVE, NodeState.READY);
  expect(world.run(60_000, () => world.converged())).toBe(true);
  expect(world.ready().every((task) => world.imageOf(task) === "two")).toBe(true);
});

test("a task that ends on a cordoned node is not made again there until the node is active", () => {
  const world = converged();
  world.setNode("h2", NodeAvailability.CORDONED, NodeState.READY);
  const task = world.ready().find(({ nodeId }) => nodeId === "h2");
  world.fail(task?.meta.id ?? "");
  world.run(120_000);
  expect(places(world)).toEqual(["1@h1", "3@h3"]);
  expect(world.tasks.size).toBe(3);
  world.setNode("h2", NodeAvailability.ACTIVE, NodeState.READY);
  expect(world.run(10_000, () => world.converged())).toBe(true);
});

test("case: no failure penalty for preassigned tasks, they are tried again on their own node", () => {
  const world = new ServiceWorld(globalSpec("exits"), { images: { exits: "exits" }, nodes: 2 });
  const nodes = new Map<number, Set<string>>();
  world.check = ({ after }) => {
    if (after !== undefined) nodes.set(after.slot, (nodes.get(after.slot) ?? new Set()).add(after.onlyNodeId));
  };
  world.run(300_000);
  expect([...nodes.values()].map((seen) => [...seen])).toEqual([["h1"], ["h2"]]);
  for (const task of world.tasks.values()) expect([task.onlyNodeId, ""]).toContain(task.nodeId);
  expect([...world.tasks.values()].filter(hasEnded).length).toBeGreaterThan(6);
});

test("nodes that stop matching the constraints lose their tasks, those that begin to get one", () => {
  const world = new ServiceWorld(globalSpec("one", ["node.labels.zone==eu"]), { nodes: 0 });
  for (const [id, zone] of Object.entries({ a: "eu", b: "us" })) world.join(id, inZone(id, zone));
  expect(world.run(10_000, () => world.converged())).toBe(true);
  expect(places(world)).toEqual(["1@a"]);
  for (const [id, zone] of Object.entries({ a: "us", b: "eu" })) world.join(id, inZone(id, zone));
  expect(world.run(10_000, () => world.converged())).toBe(true);
  expect(world.ready().map(({ nodeId }) => nodeId)).toEqual(["b"]);
});

test("an update to other nodes leaves no time without a task: the old ones go when it is done", () => {
  const world = new ServiceWorld(globalSpec("one", ["node.labels.zone==eu"]), { nodes: 0 });
  for (const [id, zone] of Object.entries({ a: "eu", b: "us" })) world.join(id, inZone(id, zone));
  expect(world.run(10_000, () => world.converged())).toBe(true);
  world.check = () => {
    if (world.ready().length === 0) throw new Error("nothing is ready");
  };
  world.update(globalSpec("one", ["node.labels.zone==us"]));
  expect(world.run(60_000, () => world.converged())).toBe(true);
  expect(world.ready().map(({ nodeId }) => nodeId)).toEqual(["b"]);
});

test("a task that is to leave its only node stops before its successor, which waits for room there", () => {
  const world = converged(globalSpec(), { nodes: 2 });
  const [task] = world.ready();
  world.askToLeave(task?.meta.id ?? "", true);
  world.plan();
  expect(world.tasks.get(task?.meta.id ?? "")?.desiredState).toBe(TaskState.SHUTDOWN);
  expect(world.run(20_000, () => world.converged())).toBe(true);
  expect(places(world)).toEqual(["1@h1", "2@h2"]);
});
