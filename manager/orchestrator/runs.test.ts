// Jobs: their runs from beginning to end.

import { expect, test } from "vitest";
import { hasEnded, isWanted } from "../../deploy/strategy/mod.js";
import {
  type JobRun,
  JobState,
  NodeAvailability,
  NodeState,
  RestartCondition,
  type ServiceSpec,
  type Task,
} from "../../proto/mod.js";
import { makeSpec } from "../../test/kit/objects.js";
import { ServiceWorld, type WorldOptions } from "../../test/kit/service-world.js";
import { runService } from "./mod.js";

const images = { ends: "completes", exits: "exits", rejects: "rejects", hangs: "hangs" } as const;

function jobSpec(mode: ServiceSpec["mode"], image = "ends", restart: Partial<ServiceSpec["task"]["restart"]> = {}) {
  const spec = makeSpec({ image });
  const policy = { ...spec.task.restart, condition: RestartCondition.ON_FAILURE, ...restart };
  return { ...spec, mode, task: { ...spec.task, restart: policy } };
}

const replicatedJob = (completions: number, maxConcurrent = completions): ServiceSpec["mode"] => ({
  $case: "replicatedJob",
  value: { completions, maxConcurrent },
});
const globalJob: ServiceSpec["mode"] = { $case: "globalJob", value: {} };

function worldOf(spec: ServiceSpec, options: WorldOptions = {}): ServiceWorld {
  return new ServiceWorld(spec, { images, ...options });
}

const runs = (world: ServiceWorld): JobRun[] => world.service.job?.runs ?? [];
const lastRun = (world: ServiceWorld) => runs(world).at(-1);
const live = (world: ServiceWorld) => [...world.tasks.values()].filter((task) => isWanted(task) && !hasEnded(task));
const ofRun = (world: ServiceWorld, number: number): Task[] =>
  [...world.tasks.values()].filter(({ run }) => run === number);
const ask = (world: ServiceWorld, requestId = "") =>
  world.apply(runService(world.parts, { requestId }, world.making).steps);
const ended = (world: ServiceWorld) => lastRun(world)?.endedAtMs !== 0;

test("a run makes its tasks a few at a time, and has succeeded when all have completed", () => {
  const world = worldOf(jobSpec(replicatedJob(5, 2)));
  let most = 0;
  world.check = () => {
    most = Math.max(most, live(world).length);
  };
  expect(world.run(60_000, () => world.converged())).toBe(true);
  expect(most).toBe(2);
  expect(lastRun(world)).toMatchObject({
    number: 1,
    revision: 1,
    state: JobState.SUCCEEDED,
    completed: 5,
    total: 5,
    message: "5 of 5 tasks completed",
  });
  expect([...world.tasks.values()].map(({ slot, run, cause }) => [slot, run, cause])).toEqual(
    [1, 2, 3, 4, 5].map((slot) => [slot, 1, "run 1: revision 1"]),
  );
  world.run(120_000);
  expect(world.tasks.size).toBe(5);
});

test.each<[string, string]>([
  ["exits", "slot 1: failed 3 times in a row, at last: failed: exit code 1"],
  ["rejects", "slot 1: failed 3 times in a row, at last: rejected: no such image"],
])(
  "a slot that fails as often as the policy allows fails the run, with longer and longer waits: %s",
  (image, message) => {
    const world = worldOf(jobSpec(replicatedJob(1), image, { maxAttempts: 3 }));
    const made: number[] = [];
    world.check = ({ before, after }) => {
      if (before === undefined && after !== undefined) made.push(world.now);
    };
    expect(world.run(60_000, () => lastRun(world)?.state === JobState.FAILED)).toBe(true);
    expect(lastRun(world)).toMatchObject({ message, completed: 0, total: 1 });
    expect(made.length).toBe(3);
    const [first = 0, second = 0, third = 0] = made;
    expect(third - second).toBeGreaterThan(second - first);
    world.run(120_000);
    expect(world.tasks.size).toBe(3);
    expect(world.converged()).toBe(false);
  },
);

test("more attempts than the history keeps are counted all the same", () => {
  const world = worldOf(jobSpec(replicatedJob(1), "exits", { maxAttempts: 8 }));
  expect(world.run(900_000, () => ended(world) && runs(world).length > 0)).toBe(true);
  expect(lastRun(world)?.message).toMatch(/^slot 1: failed 8 times in a row/);
  world.run(1000);
  expect(world.tasks.size).toBeLessThanOrEqual(6);
});

test("with restart condition none the first failure fails the run, and its other tasks are stopped", () => {
  const world = worldOf(jobSpec(replicatedJob(3), "hangs", { condition: RestartCondition.NONE }));
  world.run(3000);
  const [task] = live(world);
  world.fail(task?.meta.id ?? "");
  world.plan();
  expect(lastRun(world)).toMatchObject({ state: JobState.FAILED, message: `slot ${task?.slot}: failed: killed` });
  expect(live(world)).toEqual([]);
});

test("a task whose node is lost is made again elsewhere, and that is no failure", () => {
  const world = worldOf(jobSpec(replicatedJob(1), "hangs", { maxAttempts: 1 }));
  for (let i = 0; i < 2; i += 1) {
    world.run(3000);
    const [task] = live(world);
    world.setNode(task?.nodeId ?? "", NodeAvailability.ACTIVE, NodeState.DOWN);
    world.run(1000);
    expect(live(world)[0]?.cause).toBe(`replaces ${task?.meta.id}: its node was lost`);
    world.setNode(task?.nodeId ?? "", NodeAvailability.ACTIVE, NodeState.READY);
  }
  expect(lastRun(world)?.state).toBe(JobState.RUNNING);
});

test("a new revision is a new run; the old one is replaced, and nothing of it runs beside the new one", () => {
  const world = worldOf(jobSpec(replicatedJob(2), "hangs"), { stopMs: 5000 });
  world.run(3000);
  world.update(jobSpec(replicatedJob(2), "ends"));
  world.check = () => {
    const old = ofRun(world, 1).some((task) => !hasEnded(task));
    if (old && ofRun(world, 2).length > 0) throw new Error("two runs at once");
  };
  expect(world.rollout).toBeUndefined();
  expect(world.run(60_000, () => world.converged())).toBe(true);
  expect(runs(world).map(({ number, revision, state, message }) => [number, revision, state, message])).toEqual([
    [1, 1, JobState.REPLACED, "replaced: revision 2 came"],
    [2, 2, JobState.SUCCEEDED, "2 of 2 tasks completed"],
  ]);
});

test("a run that was asked for begins once per request, and replaces one that goes on", () => {
  const world = worldOf(jobSpec(replicatedJob(1)));
  expect(world.run(60_000, () => world.converged())).toBe(true);
  ask(world, "r1");
  expect(world.converged()).toBe(false);
  ask(world, "r1");
  world.plan();
  ask(world, "r1");
  world.plan();
  expect(runs(world).map(({ number, requestId }) => [number, requestId])).toEqual([
    [1, ""],
    [2, "r1"],
  ]);
  ask(world, "r2");
  expect(world.run(60_000, () => world.converged())).toBe(true);
  expect(runs(world).map(({ state }) => state)).toEqual([JobState.SUCCEEDED, JobState.REPLACED, JobState.SUCCEEDED]);
});

test("of ended runs three of each end are kept, with their tasks", () => {
  const world = worldOf(jobSpec(replicatedJob(2)));
  for (let i = 0; i < 6; i += 1) {
    expect(world.run(60_000, () => world.converged())).toBe(true);
    ask(world);
  }
  expect(world.run(60_000, () => world.converged())).toBe(true);
  world.plan();
  expect(runs(world).map(({ number }) => number)).toEqual([5, 6, 7]);
  expect([...world.tasks.values()].map(({ run }) => run).sort((a, b) => a - b)).toEqual([5, 5, 6, 6, 7, 7]);
  expect(world.service.job?.lastRun).toBe(7);
});

test("a job's task on a drained node may end by itself until the drain's deadline, and is then made again elsewhere", () => {
  const world = worldOf(jobSpec(replicatedJob(1), "hangs"));
  world.run(3000);
  const [task] = live(world);
  world.setNode(task?.nodeId ?? "", NodeAvailability.DRAINED, NodeState.READY);
  world.run(590_000);
  expect(live(world).map(({ meta }) => meta.id)).toEqual([task?.meta.id]);
  world.run(15_000);
  expect(live(world)[0]?.nodeId).not.toBe(task?.nodeId);
  expect(live(world)[0]?.run).toBe(1);
});

test("a job's task that is asked to leave stops first, and its slot's next one comes when it has", () => {
  const world = worldOf(jobSpec(replicatedJob(1), "hangs"), { stopMs: 3000 });
  world.run(3000);
  const [task] = live(world);
  world.askToLeave(task?.meta.id ?? "", true);
  world.run(2000);
  expect(live(world)).toEqual([]);
  world.run(3000);
  expect(live(world)[0]?.cause).toBe(`moves ${task?.meta.id}: asked`);
});

test("a global job runs once per node; a node that comes later has its turn in the same run", () => {
  const world = worldOf(jobSpec(globalJob));
  expect(world.run(60_000, () => world.converged())).toBe(true);
  expect(lastRun(world)).toMatchObject({ number: 1, completed: 3, total: 3, state: JobState.SUCCEEDED });
  world.setNode("h2", NodeAvailability.DRAINED, NodeState.READY);
  world.run(5000);
  world.setNode("h2", NodeAvailability.ACTIVE, NodeState.READY);
  world.run(5000);
  expect(world.tasks.size).toBe(3);
  world.join("h4");
  world.plan();
  expect(lastRun(world)).toMatchObject({ number: 1, state: JobState.RUNNING, message: "node h4 came" });
  expect(world.run(60_000, () => world.converged())).toBe(true);
  expect(lastRun(world)).toMatchObject({ number: 1, completed: 4, total: 4 });
  expect([...world.tasks.values()].map(({ nodeId }) => nodeId).sort()).toEqual(["h1", "h2", "h3", "h4"]);
});

test("a global job without a node to run on waits for one", () => {
  const world = worldOf(jobSpec(globalJob), { nodes: 0 });
  world.run(10_000);
  expect(lastRun(world)).toMatchObject({ state: JobState.RUNNING, total: 0 });
  world.join("h1");
  expect(world.run(60_000, () => world.converged())).toBe(true);
});

test("a removed job goes with its runs and tasks, also from the middle of one", () => {
  const world = worldOf(jobSpec(replicatedJob(3), "hangs"));
  world.run(3000);
  world.remove();
  expect(world.run(10_000, () => world.gone)).toBe(true);
  expect([world.tasks.size, world.revisions.size]).toEqual([0, 0]);
});
