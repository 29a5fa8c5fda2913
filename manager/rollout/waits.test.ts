// Each wait of a rollout ends: the table at the head of deploy/strategy/rolling.ts, row by row, on the planner, the
// scheduler and modelled agents. Nothing is ever below what must stay available meanwhile (service-checks.ts).

import { expect, test } from "vitest";
import {
  FailureAction,
  NodeAvailability,
  NodeState,
  RolloutState,
  type ServiceSpec,
  SlotVerdict,
  TaskState,
  UpdateOrder,
} from "../../proto/mod.js";
import { makeNode, makeSpec } from "../../test/kit/objects.js";
import type { Behaviour } from "../../test/kit/service-agents.js";
import { checkAll } from "../../test/kit/service-checks.js";
import { ServiceWorld, type WorldOptions } from "../../test/kit/service-world.js";
import { updateService } from "../orchestrator/mod.js";

const kinds: readonly Behaviour[] = ["rejects", "exits", "crash-loops", "hangs", "sickens", "flaps"];
const images: Record<string, Behaviour> = Object.fromEntries(kinds.map((kind) => [kind, kind]));
const startFirst = { order: UpdateOrder.START_FIRST };
const deadline = { progressDeadlineMs: 20_000 };

function specWith(
  image: string,
  replicas: number | "global",
  update: Partial<ServiceSpec["update"]> = {},
): ServiceSpec {
  const spec = makeSpec({ image, replicas: replicas === "global" ? 0 : replicas });
  return {
    ...spec,
    mode: replicas === "global" ? { $case: "global", value: {} } : spec.mode,
    update: { ...spec.update, ...update },
    rollback: { ...spec.rollback, ...update, failureAction: FailureAction.PAUSE },
  };
}

function converged(spec: ServiceSpec, options: WorldOptions = {}): ServiceWorld {
  const world = new ServiceWorld(spec, { images, ...options });
  expect(world.run(60_000, () => world.converged())).toBe(true);
  world.check = checkAll(world);
  return world;
}

/** Runs until the rollout waits for nothing but a user; answers how long that took. */
function settle(world: ServiceWorld, longestMs = 300_000): number {
  const startMs = world.now;
  expect(world.run(longestMs, () => world.rollout?.state !== RolloutState.RUNNING)).toBe(true);
  return world.now - startMs;
}

const count = (world: ServiceWorld, image: string) =>
  world.ready().filter((task) => world.imageOf(task) === image).length;

test.each([
  ["stop first", {}, 2],
  ["start first", startFirst, 3],
])("a new task that never gets ready: until the progress deadline (%s)", (_, order, stillReady) => {
  const world = converged(specWith("one", 3));
  world.update(specWith("hangs", 3, { ...deadline, ...order }));
  expect(settle(world)).toBeLessThanOrEqual(20_250);
  expect(world.rollout).toMatchObject({
    state: RolloutState.PAUSED,
    message: expect.stringMatching(/^slot 1: not ready/),
  });
  expect(count(world, "one")).toBe(stillReady);
});

test("a task that is ready now and then: until the progress deadline", () => {
  const world = converged(specWith("one", 2));
  world.update(specWith("flaps", 2, { ...deadline, minHealthyTimeMs: 3000 }));
  settle(world);
  expect(world.rollout?.message).toMatch(/^slot 1: not ready within 20s/);
});

test("a task that cannot be placed: until the progress deadline, with the reason", () => {
  const world = converged(specWith("one", 2));
  const spec = specWith("two", 2, deadline);
  world.update({ ...spec, task: { ...spec.task, reservations: { nanoCpus: 64e9, memoryBytes: 0, generic: {} } } });
  settle(world);
  expect(world.rollout).toMatchObject({ state: RolloutState.PAUSED, message: expect.stringMatching(/cpu/i) });
});

test("a prepared task whose predecessor never stops: until that one's time is over", () => {
  const world = converged(specWith("one", 1), { stopMs: Number.POSITIVE_INFINITY });
  world.update(specWith("two", 1, { monitorMs: 0 }));
  // Drain timeout, grace period and 30 s.
  expect(settle(world)).toBeLessThanOrEqual(5_000 + 10_000 + 30_000 + 2_000);
  expect(world.rollout?.state).toBe(RolloutState.COMPLETED);
});

test("a prepared task whose predecessor never stops: at most until the progress deadline", () => {
  const world = converged(specWith("one", 2), { stopMs: Number.POSITIVE_INFINITY });
  world.update(specWith("two", 2, deadline));
  settle(world);
  expect(world.rollout).toMatchObject({
    state: RolloutState.PAUSED,
    message: expect.stringMatching(/^slot 1: not ready/),
  });
});

test.each([
  ["stop first", {}],
  ["start first", startFirst],
])("an old task whose node is unknown: it goes last, and is not waited for beyond its time (%s)", (_, order) => {
  const world = converged(specWith("one", 3, order));
  const away = world.ready().find(({ slot }) => slot === 1);
  world.setNode(away?.nodeId ?? "", NodeAvailability.ACTIVE, NodeState.UNKNOWN);
  world.update(specWith("two", 3, { ...order, monitorMs: 0, maxUnavailable: 2 }));
  world.run(0);
  expect(world.rollout?.slots.map(({ slot }) => slot)).toEqual([2]);
  settle(world);
  expect(world.rollout?.state).toBe(RolloutState.COMPLETED);
  expect(count(world, "two")).toBe(3);
});

test("a slot whose node is unknown counts as unavailable: what it holds up ends at the deadline", () => {
  const world = converged(specWith("one", 3));
  const away = world.ready().find(({ slot }) => slot === 1);
  world.setNode(away?.nodeId ?? "", NodeAvailability.ACTIVE, NodeState.UNKNOWN);
  world.update(specWith("two", 3, { ...deadline, monitorMs: 0 }));
  settle(world);
  // Its own slot may be begun: that takes nothing away that is known to serve. Nobody stops the old task, though.
  expect(world.rollout).toMatchObject({
    state: RolloutState.PAUSED,
    message: expect.stringMatching(/^slot 1: not ready/),
  });
  expect(count(world, "one")).toBe(2);
});

test("an old task that never dies is not waited for when it is replaced start-first", () => {
  const world = converged(specWith("one", 2, startFirst), { stopMs: Number.POSITIVE_INFINITY });
  world.update(specWith("two", 2, startFirst));
  expect(settle(world)).toBeLessThan(30_000);
  expect(world.rollout?.state).toBe(RolloutState.COMPLETED);
  const old = [...world.tasks.values()].filter((task) => world.imageOf(task) === "one");
  for (const { status, desiredState } of old)
    expect([status.state, desiredState]).toEqual([TaskState.RUNNING, TaskState.SHUTDOWN]);
  expect(old.length).toBe(2);
});

test("slots outside the rollout that are down: until the deadline after the last progress", () => {
  const world = converged(specWith("one", 4));
  world.update(specWith("two", 4, { ...deadline, monitorMs: 0 }));
  world.run(30_000, () => count(world, "two") === 1);
  // The slot that is done goes down for good; it is not the rollout's to repair.
  world.behaviourOf = (task) => (task.slot === 1 ? "hangs" : undefined);
  const [done] = world.ready().filter((task) => world.imageOf(task) === "two");
  world.fail(done?.meta.id ?? "");
  settle(world);
  expect(world.rollout).toMatchObject({
    state: RolloutState.PAUSED,
    message: "no progress for 20s: not ready: slot 1; max_unavailable is 1, max_surge 0",
  });
  expect(world.ready().length).toBe(3);
});

test("a budget of nothing, as an older manager may have stored it: until the deadline", () => {
  const world = converged(specWith("one", 2));
  world.update(specWith("two", 2, { ...deadline, maxSurge: 0, maxUnavailable: 0 }));
  expect(settle(world)).toBe(20_000);
  expect(world.rollout?.message).toBe("no progress for 20s: max_unavailable is 0, max_surge 0");
});

test("a paused rollout waits for its user, and everything stays as it is", () => {
  const world = converged(specWith("one", 2));
  world.update(specWith("rejects", 2, startFirst));
  settle(world);
  world.run(3_600_000);
  expect(world.rollout?.state).toBe(RolloutState.PAUSED);
  expect(count(world, "one")).toBe(2);
});

test("a service that waits for another one: an update is no rollout, and it begins with the new revision", () => {
  const world = new ServiceWorld(specWith("one", 2));
  world.service = { ...world.service, waitingFor: "db has no ready task" };
  const change = updateService(
    world.parts,
    { spec: specWith("two", 2), version: 0, force: false, requestId: "" },
    world.making,
  );
  expect(change.rollout).toBeUndefined();
  expect(change.service).toMatchObject({ revision: 2, rolloutId: "" });
});

test("max_surge and max_unavailable work with either order, and together", () => {
  const begun = (update: Partial<ServiceSpec["update"]>) => {
    const world = converged(specWith("one", 6));
    world.update(specWith("two", 6, { parallelism: 6, ...update }));
    world.run(0);
    return world.rollout?.slots.map((entry) => entry.startFirst);
  };
  expect(begun({ maxUnavailable: 2 })).toEqual([false, false]);
  expect(begun({ maxUnavailable: 0, maxSurge: 2 })).toEqual([true, true]);
  expect(begun({ maxUnavailable: 2, maxSurge: 1 })).toEqual([false, false, true]);
  expect(begun({ ...startFirst, maxUnavailable: 2, maxSurge: 1 })).toEqual([true, false, false]);
  expect(begun({ ...startFirst, maxSurge: 0, maxUnavailable: 1 })).toEqual([false]);
  expect(begun({ ...startFirst, maxSurge: 3 })).toEqual([true, true, true]);
  expect(begun({ maxUnavailable: 6, parallelism: 4 })).toEqual(Array(4).fill(false));
});

test("rolled back under mixed failures: every slot is as before, and no healthy task of it was touched", () => {
  const mixed: Record<number, Behaviour> = { 1: "good", 2: "rejects", 3: "hangs", 4: "crash-loops", 5: "exits" };
  const world = converged(specWith("one", 6));
  const untouched = world.ready().filter(({ slot }) => slot === 6);
  world.behaviourOf = (task) => (world.imageOf(task) === "two" ? mixed[task.slot] : undefined);
  const update = {
    parallelism: 5,
    maxFailureRatio: 0.5,
    failureAction: FailureAction.ROLLBACK,
    delayMs: 60_000,
    ...deadline,
  };
  world.update(specWith("two", 6, update));
  const first = world.rollout?.meta.id ?? "";
  expect(world.run(500_000, () => world.converged())).toBe(true);
  expect(world.rollouts.get(first)).toMatchObject({
    state: RolloutState.ROLLED_BACK,
    message: expect.stringMatching(/^4 of 6 slots failed; slot 2: rejected: no such image/),
  });
  expect(count(world, "one")).toBe(6);
  for (const { meta } of untouched) expect(world.tasks.get(meta.id)?.desiredState).toBe(TaskState.RUNNING);
});

test("unhealthy within the monitor time fails the slot; later it is a failure like any other", () => {
  const within = converged(specWith("one", 3), { sickAfterMs: 3000 });
  within.update(specWith("sickens", 3));
  settle(within);
  expect(within.rollout).toMatchObject({
    state: RolloutState.PAUSED,
    message: "slot 1: its container had to be restarted: exit code 1",
  });
  const later = converged(specWith("one", 1), { sickAfterMs: 8000 });
  later.update(specWith("sickens", 1));
  settle(later);
  expect(later.rollout?.state).toBe(RolloutState.COMPLETED);
  // It is restarted, replaced, and restarted: nothing rolls back what was found good.
  later.run(300_000);
  expect(later.rollout?.slots.map(({ verdict }) => verdict)).toEqual([SlotVerdict.GOOD]);
  expect(later.live().get(1)?.length ?? 0).toBeLessThanOrEqual(1);
});

test("a global service: each node's slot, new nodes included; a cordoned node's is left as it is, and told", () => {
  const world = converged(specWith("one", "global"), { nodes: 4 });
  world.setNode("h4", NodeAvailability.CORDONED, NodeState.READY);
  world.update(specWith("two", "global", { monitorMs: 0 }));
  world.run(1000);
  world.join("h5");
  world.forget("h3");
  settle(world);
  const byNode = () => Object.fromEntries(world.ready().map((task) => [task.nodeId, world.imageOf(task)]));
  expect(world.rollout).toMatchObject({
    state: RolloutState.COMPLETED,
    message: expect.stringMatching(/^slot \d left as it is: its node is cordoned$/),
  });
  expect(byNode()).toEqual({ h1: "two", h2: "two", h4: "one", h5: "two" });
  world.setNode("h4", NodeAvailability.ACTIVE, NodeState.READY);
  expect(world.run(30_000, () => world.converged())).toBe(true);
  expect(byNode()["h4"]).toBe("two");
});

test("nodes that were cordoned during an update are caught up with one by one when they are back", () => {
  const world = converged(specWith("one", "global"), { nodes: 4 });
  for (const id of ["h1", "h2", "h3"]) world.setNode(id, NodeAvailability.CORDONED, NodeState.READY);
  world.update(specWith("two", "global", { monitorMs: 0 }));
  settle(world);
  expect(count(world, "one")).toBe(3);
  for (const id of ["h1", "h2", "h3"]) world.setNode(id, NodeAvailability.ACTIVE, NodeState.READY);
  world.check = () => expect(world.ready().length).toBeGreaterThanOrEqual(3);
  expect(world.run(60_000, () => world.converged())).toBe(true);
  expect(count(world, "two")).toBe(4);
});

test("a global service: a changed placement touches only the nodes that it concerns", () => {
  const world = new ServiceWorld(specWith("one", "global"));
  for (const [id, node] of world.nodes)
    world.nodes.set(id, makeNode(id, { spec: { ...node.spec, labels: { zone: id === "h1" ? "eu" : "us" } } }));
  expect(world.run(30_000, () => world.converged())).toBe(true);
  const kept = world.ready().filter(({ nodeId }) => nodeId !== "h1");
  const spec = specWith("one", "global");
  const placement = { ...spec.task.placement, constraints: ["node.labels.zone==us"] };
  world.update({ ...spec, task: { ...spec.task, placement } });
  expect(world.run(30_000, () => world.converged())).toBe(true);
  expect(
    world
      .ready()
      .map(({ meta }) => meta.id)
      .sort(),
  ).toEqual(kept.map(({ meta }) => meta.id).sort());
});
