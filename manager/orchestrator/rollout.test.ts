// Rolling updates as users see them, on the planner, the scheduler and modelled agents.

import { expect, test } from "vitest";
import {
  PlacementStrategy,
  replicasOf,
  FailureAction,
  NodeAvailability,
  NodeState,
  RolloutState,
  type ServiceSpec,
  SlotVerdict,
  TaskState,
  UpdateOrder,
} from "../../proto/mod.js";
import { makeSpec } from "../../test/kit/objects.js";
import { ServiceWorld, type WorldOptions } from "../../test/kit/service-world.js";

type Update = Partial<ServiceSpec["update"]>;

function specWith(image: string, replicas: number, update: Update = {}, constraints: string[] = []): ServiceSpec {
  const spec = makeSpec({ image, replicas });
  return {
    ...spec,
    task: {
      ...spec.task,
      placement: {
        constraints,
        maxReplicasPerNode: 0,
        preferences: [],
        affinities: [],
        strategy: PlacementStrategy.UNSPECIFIED,
      },
    },
    update: { ...spec.update, ...update },
  };
}

const images = { rejects: "rejects", exits: "exits", loops: "crash-loops", hangs: "hangs" } as const;
const ended = [RolloutState.COMPLETED, RolloutState.PAUSED] as RolloutState[];

function converged(spec: ServiceSpec, options: WorldOptions = {}): ServiceWorld {
  const world = new ServiceWorld(spec, { images, ...options });
  expect(world.run(60_000, () => world.converged())).toBe(true);
  return world;
}

function settle(world: ServiceWorld, ms = 120_000): RolloutState | undefined {
  world.run(ms, () => ended.includes(world.rollout?.state ?? RolloutState.UNSPECIFIED));
  return world.rollout?.state;
}

const imagesOf = (world: ServiceWorld) =>
  world
    .ready()
    .map((task) => world.imageOf(task))
    .sort();

test("a changed image is rolled out slot by slot; the watch time ends it", () => {
  const world = converged(specWith("one", 3));
  world.update(specWith("two", 3));
  world.run(0);
  expect(world.rollout).toMatchObject({ fromRevision: 1, toRevision: 2, state: RolloutState.RUNNING });
  expect(world.rollout?.slots.map(({ slot, verdict }) => [slot, verdict])).toEqual([[1, SlotVerdict.PENDING]]);
  expect(world.run(20_000, () => world.converged())).toBe(true);
  expect(world.rollout?.slots.map(({ verdict }) => verdict)).toEqual(Array(3).fill(SlotVerdict.GOOD));
  const last = Math.max(...world.ready().map(({ readySinceMs }) => readySinceMs));
  expect((world.rollout?.endedAtMs ?? 0) - last).toBe(5000);
});

test("with a delay, a batch begins that long after the one before was good", () => {
  const world = converged(specWith("one", 4));
  world.update(specWith("two", 4, { parallelism: 2, delayMs: 10_000, monitorMs: 0 }));
  expect(settle(world)).toBe(RolloutState.COMPLETED);
  const starts = world.rollout?.slots.map(({ startedAtMs }) => startedAtMs) ?? [];
  expect(starts[0]).toBe(starts[1]);
  expect(starts[2]).toBe(starts[3]);
  expect((starts[2] ?? 0) - (starts[0] ?? 0)).toBeGreaterThanOrEqual(10_000);
});

test.each<[string, string, RegExp]>([
  ["cannot be pulled", "rejects", /^slot 1: rejected: no such image$/],
  ["exits", "exits", /^slot 1: failed: exit code 1$/],
  ["restarts in a loop", "loops", /^slot 1: its container had to be restarted: exit code 1$/],
  ["never gets ready", "hangs", /^slot 1: not ready within 20s: still starting$/],
])("an image that %s pauses the rollout, and the other slots go on as they are", (_, image, message) => {
  const world = converged(specWith("one", 3));
  world.update(specWith(image, 3, { progressDeadlineMs: 20_000, minHealthyTimeMs: 2000 }));
  expect(settle(world)).toBe(RolloutState.PAUSED);
  expect(world.rollout?.message).toMatch(message);
  world.run(30_000);
  expect(imagesOf(world).filter((ready) => ready === "one")).toEqual(["one", "one"]);
  expect(world.converged()).toBe(false);
});

test("what cannot be pulled fails long before the deadline", () => {
  const world = converged(specWith("one", 3));
  const startMs = world.now;
  world.update(specWith("rejects", 3));
  settle(world);
  expect(world.now - startMs).toBeLessThan(5000);
});

test("a failed rollout rolls back by itself: a new revision, back to where it came from", () => {
  const world = converged(specWith("one", 3));
  const kept = new Set(world.ready().map(({ meta }) => meta.id));
  world.update(specWith("rejects", 3, { failureAction: FailureAction.ROLLBACK }));
  const first = world.rollout?.meta.id ?? "";
  expect(world.run(120_000, () => world.converged())).toBe(true);
  expect(world.rollouts.get(first)).toMatchObject({
    state: RolloutState.ROLLED_BACK,
    message: "slot 1: rejected: no such image",
    rolledBackBy: world.service.rolloutId,
  });
  expect(world.rollout).toMatchObject({ isRollback: true, fromRevision: 2, toRevision: 3 });
  expect(world.parts.revisions.at(-1)).toMatchObject({
    rollbackOf: 1,
    cause: "rollback to 1: slot 1: rejected: no such image",
  });
  expect(world.service.spec.task.container.image).toBe("one");
  // Healthy tasks of the revision gone back to were never touched.
  expect(world.ready().filter(({ meta }) => kept.has(meta.id)).length).toBe(2);
});

test("a rollback that fails pauses, and does not roll back in turn", () => {
  const world = converged(specWith("one", 2));
  world.update(specWith("two", 2, { failureAction: FailureAction.ROLLBACK, parallelism: 1 }));
  expect(settle(world)).toBe(RolloutState.COMPLETED);
  world.images["one"] = "rejects";
  world.rollback();
  expect(settle(world)).toBe(RolloutState.PAUSED);
  expect(world.rollout?.isRollback).toBe(true);
  world.run(60_000);
  expect(world.rollout?.state).toBe(RolloutState.PAUSED);
  expect(imagesOf(world)).toEqual(["two"]);
});

test("failures within the ratio are tolerated, and told", () => {
  const world = converged(specWith("one", 4));
  world.update(specWith("rejects", 4, { maxFailureRatio: 0.5, maxUnavailable: 4 }));
  expect(settle(world)).toBe(RolloutState.PAUSED);
  expect(world.rollout?.message).toMatch(/^3 of 4 slots failed; slot 1: /);
  const tolerant = converged(specWith("one", 4));
  tolerant.update(specWith("rejects", 4, { failureAction: FailureAction.CONTINUE, maxUnavailable: 4 }));
  expect(settle(tolerant)).toBe(RolloutState.COMPLETED);
  expect(tolerant.rollout?.message).toBe("4 of 4 slots failed");
  expect(tolerant.converged()).toBe(false);
});

test.each([
  ["stop first", UpdateOrder.STOP_FIRST, "not ready: slot 1; max_unavailable is 1, max_surge 0"],
  ["start first", UpdateOrder.START_FIRST, "beyond one task: slot 1; max_unavailable is 0, max_surge 1"],
])("%s: tolerated failures use the budget up; then it is paused at the deadline, never below it", (_, order, used) => {
  const world = converged(specWith("one", 4));
  world.check = () => expect(world.ready().length).toBeGreaterThanOrEqual(order === UpdateOrder.STOP_FIRST ? 3 : 4);
  world.update(specWith("rejects", 4, { failureAction: FailureAction.CONTINUE, order, progressDeadlineMs: 20_000 }));
  expect(settle(world)).toBe(RolloutState.PAUSED);
  expect(world.rollout?.message).toBe(`no progress for 20s: ${used}`);
});

test("paused by the user: what was begun is finished, nothing else is; new and failing slots get the old revision", () => {
  const world = converged(specWith("one", 4));
  world.update(specWith("two", 4));
  world.run(0);
  world.pause();
  world.run(30_000);
  expect(imagesOf(world)).toEqual(["one", "one", "one", "two"]);
  world.scale(5);
  const victim = world.ready().find((task) => world.imageOf(task) === "one");
  if (victim === undefined) throw new Error("no task");
  world.fail(victim.meta.id);
  world.run(30_000);
  expect(imagesOf(world)).toEqual(["one", "one", "one", "one", "two"]);
  world.resume();
  expect(world.run(120_000, () => world.converged())).toBe(true);
  expect(imagesOf(world)).toEqual(Array(5).fill("two"));
});

test("resuming tries failed slots again, with new tasks", () => {
  const world = converged(specWith("one", 2));
  world.update(specWith("hangs", 2, { progressDeadlineMs: 20_000 }));
  expect(settle(world)).toBe(RolloutState.PAUSED);
  world.images["hangs"] = "good";
  const hanging = [...world.tasks.values()].find((task) => world.imageOf(task) === "hangs")?.meta.id;
  // Nothing but a new task helps a slot whose task is stuck.
  world.resume();
  world.plan();
  expect(world.tasks.get(hanging ?? "")?.desiredState).toBe(TaskState.SHUTDOWN);
  expect(world.run(60_000, () => world.converged())).toBe(true);
  expect(imagesOf(world)).toEqual(["hangs", "hangs"]);
});

test("an abort goes back and says so", () => {
  const world = converged(specWith("one", 3));
  world.update(specWith("two", 3));
  world.run(2500);
  const first = world.rollout?.meta.id ?? "";
  world.abort();
  expect(world.run(60_000, () => world.converged())).toBe(true);
  expect(world.rollouts.get(first)?.state).toBe(RolloutState.ABORTED);
  expect(imagesOf(world)).toEqual(["one", "one", "one"]);
});

test("a newer spec takes over; its failure leads back to what ran before both", () => {
  const world = converged(specWith("one", 3));
  world.update(specWith("two", 3));
  world.run(2500);
  const first = world.rollout?.meta.id ?? "";
  world.update(specWith("rejects", 3, { failureAction: FailureAction.ROLLBACK }));
  expect(world.rollouts.get(first)?.state).toBe(RolloutState.SUPERSEDED);
  expect(world.rollout).toMatchObject({ fromRevision: 1, toRevision: 3 });
  expect(world.run(120_000, () => world.converged())).toBe(true);
  expect(imagesOf(world)).toEqual(["one", "one", "one"]);
});

test("a change of labels or scale in mid-rollout neither stops the rollout nor restarts a task of the target", () => {
  const world = converged(specWith("one", 3));
  world.update(specWith("two", 3));
  world.run(4000);
  const updated = world.ready().filter((task) => world.imageOf(task) === "two");
  expect(updated.length).toBeGreaterThan(0);
  const { rolloutId } = world.service;
  world.update({ ...specWith("two", 3), labels: { a: "b" } });
  world.scale(4);
  expect(world.service.rolloutId).toBe(rolloutId);
  expect(world.run(60_000, () => world.converged())).toBe(true);
  for (const { meta } of updated) expect(world.tasks.get(meta.id)?.desiredState).toBe(TaskState.RUNNING);
});

test("a forced update replaces every task, and a later change of labels leaves those it made", () => {
  const world = converged(specWith("one", 2));
  const before = world.ready().map(({ meta }) => meta.id);
  world.update(specWith("one", 2), true);
  expect(world.run(60_000, () => world.converged())).toBe(true);
  const forced = world.ready().map(({ meta }) => meta.id);
  expect(forced.some((id) => before.includes(id))).toBe(false);
  world.update({ ...specWith("one", 2), labels: { a: "b" } });
  expect(world.plan()).toBe(0);
  expect(world.converged()).toBe(true);
});

test("a changed placement moves only tasks that no longer fit, at the rollout's pace", () => {
  const world = converged(specWith("one", 3));
  const fitting = world.ready().filter(({ nodeId }) => nodeId !== "h1");
  world.update(specWith("one", 3, {}, ["node.hostname!=h1"]));
  expect(world.run(60_000, () => world.converged())).toBe(true);
  expect(world.ready().every(({ nodeId }) => nodeId !== "h1")).toBe(true);
  for (const { meta } of fitting) expect(world.tasks.get(meta.id)?.desiredState).toBe(TaskState.RUNNING);
});

test("a placement that fits nowhere stops the rollout after the first slot, with the reason", () => {
  const world = converged(specWith("one", 3));
  world.update(specWith("one", 3, { progressDeadlineMs: 20_000 }, ["node.labels.zone==eu"]));
  expect(settle(world)).toBe(RolloutState.PAUSED);
  expect(world.rollout?.message).toBe(
    "slot 1: not ready within 20s: no suitable node (3 nodes): 3 excluded by node.labels.zone==eu",
  );
  expect(world.ready().length).toBe(2);
});

test("start first: an old task that never dies does not hold up the rollout", () => {
  const world = converged(specWith("one", 2, { order: UpdateOrder.START_FIRST }), { stopMs: Number.POSITIVE_INFINITY });
  world.update(specWith("two", 2, { order: UpdateOrder.START_FIRST }));
  expect(settle(world)).toBe(RolloutState.COMPLETED);
  expect(world.converged()).toBe(true);
  expect([...world.tasks.values()].filter(({ status }) => status.state === TaskState.RUNNING).length).toBe(4);
});

test("start first: the old task of a slot whose new one fails stays", () => {
  const world = converged(specWith("one", 3, { order: UpdateOrder.START_FIRST }));
  world.update(specWith("hangs", 3, { order: UpdateOrder.START_FIRST, progressDeadlineMs: 20_000 }));
  expect(settle(world)).toBe(RolloutState.PAUSED);
  world.run(700_000);
  expect(imagesOf(world)).toEqual(["one", "one", "one"]);
});

test("a node lost in mid-rollout is nobody's failure", () => {
  const world = converged(specWith("one", 3));
  world.update(specWith("two", 3));
  world.run(1000);
  const moved = [...world.tasks.values()].find((task) => world.imageOf(task) === "two");
  world.setNode(moved?.nodeId ?? "", NodeAvailability.ACTIVE, NodeState.DOWN);
  expect(world.run(120_000, () => world.converged())).toBe(true);
  expect(world.rollout?.state).toBe(RolloutState.COMPLETED);
});

test("slots outside the rollout that stay down stop it at the deadline instead of stalling it silently", () => {
  const world = converged(specWith("one", 3), { nodes: 3 });
  world.update(specWith("two", 3, { progressDeadlineMs: 20_000, monitorMs: 0 }));
  world.run(60_000, () => world.ready().some((task) => world.imageOf(task) === "two"));
  // The updated slot is good; now its node goes, and there is nowhere else to run.
  const done = world.ready().find((task) => world.imageOf(task) === "two");
  for (const id of world.nodes.keys()) world.setNode(id, NodeAvailability.CORDONED, NodeState.READY);
  world.setNode(done?.nodeId ?? "", NodeAvailability.ACTIVE, NodeState.DOWN);
  expect(settle(world)).toBe(RolloutState.PAUSED);
  expect(world.rollout?.message).toMatch(/no progress for 20s: not ready: slot|not ready within 20s/);
});

test("a rollback repeats the earlier spec, but keeps the size when the service was scaled apart from the update", () => {
  const world = converged(specWith("one", 2));
  world.update(specWith("two", 3));
  expect(settle(world)).toBe(RolloutState.COMPLETED);
  world.rollback();
  expect(replicasOf(world.service.spec)).toBe(2);
  expect(world.run(60_000, () => world.converged())).toBe(true);
  world.update(specWith("two", 2));
  world.scale(5);
  expect(world.run(120_000, () => world.converged())).toBe(true);
  world.rollback(1);
  expect(replicasOf(world.service.spec)).toBe(5);
  expect(world.service.spec.task.container.image).toBe("one");
});
