import { expect, test } from "vitest";
import { hasEnded } from "../../deploy/strategy/mod.js";
import {
  NodeAvailability,
  NodeState,
  RestartCondition,
  type ServiceSpec,
  type Task,
  TaskState,
  UpdateOrder,
} from "../../proto/mod.js";
import { makeSpec } from "../../test/kit/objects.js";
import { ServiceWorld, type WorldOptions } from "../../test/kit/service-world.js";
import { planService } from "./mod.js";

function specWith(image: string, replicas: number, changes: Partial<ServiceSpec> = {}): ServiceSpec {
  return { ...makeSpec({ image, replicas }), ...changes };
}

const startFirst = { update: { ...makeSpec().update, order: UpdateOrder.START_FIRST } };

function restarting(condition: RestartCondition): Pick<ServiceSpec, "task"> {
  const { task } = makeSpec({ image: "one" });
  return { task: { ...task, restart: { ...task.restart, condition } } };
}

function converged(spec: ServiceSpec, options: WorldOptions = {}): ServiceWorld {
  const world = new ServiceWorld(spec, options);
  expect(world.run(60_000, () => world.converged())).toBe(true);
  return world;
}

function slotOf(world: ServiceWorld, slot: number): Task[] {
  return [...world.tasks.values()]
    .filter((task) => task.slot === slot)
    .sort((a, b) => a.meta.createdAtMs - b.meta.createdAtMs || a.revision - b.revision);
}

const down = (world: ServiceWorld, id: string) => world.setNode(id, NodeAvailability.ACTIVE, NodeState.DOWN);
const drain = (world: ServiceWorld, id: string) => world.setNode(id, NodeAvailability.DRAINED, NodeState.READY);

test("a new service gets one task per slot, and the next plan is empty", () => {
  const world = new ServiceWorld(specWith("one", 3));
  expect(world.plan()).toBe(1);
  expect([...world.tasks.values()].map(({ slot, desiredState, status }) => [slot, desiredState, status.state])).toEqual(
    [
      [1, TaskState.RUNNING, TaskState.NEW],
      [2, TaskState.RUNNING, TaskState.NEW],
      [3, TaskState.RUNNING, TaskState.NEW],
    ],
  );
});

test("a task that fails again and again is replaced after 1, 4, 16 and then every 60 s; five are kept", () => {
  const world = new ServiceWorld(specWith("exits", 1), { images: { exits: "exits" } });
  const made = new Map<string, Task>();
  world.check = () => {
    for (const task of world.tasks.values()) made.set(task.meta.id, task);
  };
  world.run(400_000);
  const tasks = [...made.keys()].flatMap((id) => made.get(id) ?? []);
  const gaps = tasks.slice(1).map((task, i) => task.meta.createdAtMs - (tasks[i]?.meta.createdAtMs ?? 0));
  // What a task lives by the model, three ticks and its start, is not waiting time.
  const livesMs = 1500;
  expect(gaps.slice(0, 6).map((ms) => ms - livesMs)).toEqual([1000, 4000, 16_000, 60_000, 60_000, 60_000]);
  expect([...world.tasks.values()].filter(hasEnded).length).toBe(5);
  expect(tasks[1]?.cause).toBe(`replaces ${tasks[0]?.meta.id}: failed: exit code 1`);
});

test("a failure after a long healthy time counts as the first", () => {
  const world = converged(specWith("one", 1));
  world.run(70_000);
  const [task] = slotOf(world, 1);
  if (task?.status.container === undefined) throw new Error("no task");
  world.tasks.set(task.meta.id, {
    ...task,
    status: { ...task.status, state: TaskState.FAILED, sinceMs: world.now },
    readySinceMs: 0,
    endedAtMs: world.now,
  });
  world.plan();
  expect(world.wakeAtMs).toBe(world.now + 1000);
});

test.each<[string, RestartCondition, "completes" | "exits", boolean]>([
  ["any, with success", RestartCondition.ANY, "completes", true],
  ["on-failure, with success", RestartCondition.ON_FAILURE, "completes", false],
  ["on-failure, with failure", RestartCondition.ON_FAILURE, "exits", true],
  ["none, with success", RestartCondition.NONE, "completes", false],
  ["none, with failure", RestartCondition.NONE, "exits", false],
])("a task that ends under restart condition %s", (_, condition, kind, replaced) => {
  const world = new ServiceWorld(specWith("one", 1, restarting(condition)), { images: { one: kind } });
  world.run(20_000);
  expect(world.tasks.size > 1).toBe(replaced);
  expect(world.converged()).toBe(!replaced);
  if (!replaced) expect(world.plan()).toBe(0);
});

test("tasks of a node that is down are replaced elsewhere at once; those of an unknown node are left alone", () => {
  const world = converged(specWith("one", 3));
  world.setNode("h1", NodeAvailability.ACTIVE, NodeState.UNKNOWN);
  world.run(5000);
  expect(world.tasks.size).toBe(3);
  down(world, "h1");
  world.plan();
  world.schedule();
  const lost = [...world.tasks.values()].find(({ nodeId }) => nodeId === "h1");
  expect(lost?.desiredState).toBe(TaskState.SHUTDOWN);
  const replacement = slotOf(world, lost?.slot ?? 0).find(({ meta }) => meta.id !== lost?.meta.id);
  expect(replacement?.desiredState).toBe(TaskState.RUNNING);
  expect(replacement?.nodeId).not.toBe("h1");
  expect(replacement?.cause).toBe(`replaces ${lost?.meta.id}: its node was lost`);
  expect(world.run(10_000, () => world.converged())).toBe(true);
  expect(world.tasks.get(lost?.meta.id ?? "")?.status.state).toBe(TaskState.ORPHANED);
});

test("a lost node's task is not run again when nothing is to be restarted", () => {
  const world = converged(specWith("one", 3, restarting(RestartCondition.NONE)));
  down(world, "h1");
  world.run(30_000);
  expect(world.tasks.size).toBe(3);
  expect(world.ready().length).toBe(2);
});

test("tasks of a removed node are orphaned and replaced", () => {
  const world = converged(specWith("one", 3));
  world.nodes.delete("h1");
  expect(world.run(10_000, () => world.converged())).toBe(true);
  expect([...world.tasks.values()].filter(({ status }) => status.state === TaskState.ORPHANED).length).toBe(1);
});

test("drain, stop first: the replacement is prepared meanwhile and released once the old task has stopped", () => {
  const world = converged(specWith("one", 3), { stopMs: 3000 });
  drain(world, "h1");
  world.plan();
  const moved = [...world.tasks.values()].find(({ nodeId }) => nodeId === "h1");
  const [, next] = slotOf(world, moved?.slot ?? 0);
  expect(moved?.desiredState).toBe(TaskState.SHUTDOWN);
  expect(next?.desiredState).toBe(TaskState.READY);
  expect(next?.cause).toBe(`moves ${moved?.meta.id} off drained h1`);
  world.run(2500);
  expect(world.tasks.get(next?.meta.id ?? "")).toMatchObject({
    desiredState: TaskState.READY,
    status: { state: TaskState.READY },
  });
  world.run(1000);
  expect(world.tasks.get(next?.meta.id ?? "")?.desiredState).toBe(TaskState.RUNNING);
  expect(world.run(10_000, () => world.converged())).toBe(true);
});

test("drain, start first: the old task stops only when its replacement is ready", () => {
  const world = converged(specWith("one", 3, startFirst));
  drain(world, "h1");
  world.check = () => {
    if (world.ready().length < 3) throw new Error("a task was stopped too early");
  };
  expect(world.run(20_000, () => world.converged())).toBe(true);
  expect([...world.ready()].every(({ nodeId }) => nodeId !== "h1")).toBe(true);
});

test("drain, start first, with no room elsewhere: the old task goes at the deadline", () => {
  const world = converged(specWith("one", 1, startFirst), { nodes: 1 });
  drain(world, "h1");
  world.run(600_000 - 1000);
  expect(world.ready().length).toBe(1);
  world.run(2000);
  expect(world.ready().length).toBe(0);
});

test("a cordoned node keeps its tasks", () => {
  const world = converged(specWith("one", 3));
  world.setNode("h1", NodeAvailability.CORDONED, NodeState.READY);
  expect(world.plan()).toBe(0);
});

test("a prepared task is released at a deadline when the old one never stops", () => {
  const world = converged(specWith("one", 1), { stopMs: Number.POSITIVE_INFINITY });
  world.update(specWith("two", 1));
  world.run(44_000);
  expect(slotOf(world, 1)[1]?.desiredState).toBe(TaskState.READY);
  // Its drain timeout, its grace period, and half a minute.
  world.run(2000);
  expect(slotOf(world, 1)[1]?.desiredState).toBe(TaskState.RUNNING);
});

test("case: tasks desired REMOVE are kept until the agent has stopped them: scaling down removes tasks with their history", () => {
  const world = converged(specWith("one", 4), { stopMs: 2000 });
  world.scale(2);
  world.plan();
  const leaving = [...world.tasks.values()].filter(({ desiredState }) => desiredState === TaskState.REMOVE);
  expect(leaving.length).toBe(2);
  world.run(1000);
  expect(world.tasks.size).toBe(4);
  expect(world.run(5000, () => world.tasks.size === 2)).toBe(true);
  expect(world.converged()).toBe(true);
});

test("scaling to nothing and back works", () => {
  const world = converged(specWith("one", 3));
  world.scale(0);
  expect(world.run(5000, () => world.tasks.size === 0)).toBe(true);
  expect(world.converged()).toBe(true);
  world.scale(2);
  expect(world.run(10_000, () => world.converged())).toBe(true);
  expect([...world.live().keys()].sort((a, b) => a - b)).toEqual([1, 2]);
});

test("case: an unschedulable task of an old revision that is told to stop ends without an agent", () => {
  const world = new ServiceWorld(specWith("one", 1), { nodes: 0 });
  world.run(1000);
  expect(slotOf(world, 1)[0]?.placementMessage).toBe("no suitable node: no agent has joined the cluster yet");
  world.update(specWith("two", 1));
  world.plan();
  expect(slotOf(world, 1).map(({ status, desiredState }) => [status.state, desiredState])).toEqual([
    [TaskState.SHUTDOWN, TaskState.SHUTDOWN],
    [TaskState.NEW, TaskState.RUNNING],
  ]);
});

test("a removed service waits for its tasks, those of a lost node until they are orphaned, and then goes", () => {
  const world = converged(specWith("one", 3));
  world.update(specWith("two", 3));
  world.run(1000);
  world.setNode("h1", NodeAvailability.ACTIVE, NodeState.UNKNOWN);
  world.remove();
  world.run(10_000);
  expect([...world.tasks.values()].every(({ desiredState }) => desiredState === TaskState.REMOVE)).toBe(true);
  expect(world.gone).toBe(false);
  down(world, "h1");
  expect(world.run(1000, () => world.gone)).toBe(true);
  expect([world.tasks.size, world.revisions.size, world.rollouts.size]).toEqual([0, 0, 0]);
});

test("case: a removed service drops the tasks that wait for a node", () => {
  const world = new ServiceWorld(specWith("one", 3), { nodes: 0 });
  world.run(1000);
  world.remove();
  world.plan();
  expect(world.gone).toBe(true);
  expect(world.tasks.size).toBe(0);
});

test("case: a new leader rebuilds delays and histories from what is stored", () => {
  const world = new ServiceWorld(specWith("exits", 1), { images: { exits: "exits" } });
  expect(world.run(60_000, () => world.tasks.size === 3 && [...world.tasks.values()].every(hasEnded))).toBe(true);
  const dueAtMs = world.wakeAtMs;
  const snapshot = {
    ...world.parts,
    // As they come from disk: other objects, in another order.
    tasks: structuredClone([...world.tasks.values()].reverse()),
    rollouts: [],
    node: (id: string) => world.nodes.get(id),
    nodes: () => world.nodes.values(),
  };
  expect(planService(snapshot, world.making)).toEqual({ steps: [], wakeAtMs: dueAtMs });
  const later = planService(snapshot, { ...world.making, now: dueAtMs ?? 0 });
  expect(later.steps.map((step) => [step.do, step.table])).toEqual([["create", "tasks"]]);
});

test("case: start-first with an old task that never dies: the new one serves, and the update is done", () => {
  const world = converged(specWith("one", 2, startFirst), { stopMs: Number.POSITIVE_INFINITY });
  world.update(specWith("two", 2, startFirst));
  expect(world.run(120_000, () => world.converged())).toBe(true);
  expect(world.ready().map((task) => world.imageOf(task))).toEqual(["two", "two"]);
  // Told to stop once, and not counted any more.
  expect([...world.tasks.values()].filter((task) => world.imageOf(task) === "one" && !hasEnded(task)).length).toBe(2);
  expect(world.plan()).toBe(0);
});

test("old revisions and rollouts are forgotten, but never one that is in use or that a rollback goes to", () => {
  const world = converged(specWith("one", 1));
  world.update(specWith("two", 1));
  expect(world.run(60_000, () => world.converged())).toBe(true);
  for (let i = 0; i < 60; i += 1) {
    world.update(specWith("two", 1, { labels: { i: String(i) } }));
    world.plan();
  }
  const numbers = [...world.revisions.values()].map(({ number }) => number).sort((a, b) => a - b);
  // Revision 1 is where a rollback goes, 2 is what the task runs.
  expect(numbers.slice(0, 3)).toEqual([1, 2, 13]);
  expect(numbers.length).toBe(52);
  for (let i = 0; i < 12; i += 1) {
    world.update(specWith("two", 1), true);
    world.run(1000);
  }
  expect(world.rollouts.size).toBe(10);
  expect(world.rollouts.has(world.service.rolloutId)).toBe(true);
});

test("a service whose newest revision is missing is a broken invariant, not something to work around", () => {
  const world = new ServiceWorld(specWith("one", 1));
  world.revisions.clear();
  expect(() => world.plan()).toThrow(/has no revision 1/);
});
