// Services of every mode under random users, failures, nodes and clock steps: what must hold at every write, that a
// plan leaves nothing to do (invariant 9), and that all comes to what was asked for once the trouble stops.

import * as fc from "fast-check";
import { expect, test } from "vitest";
import { isGlobal, isJob, runSize } from "../../deploy/spec/mod.js";
import { eligibilityOf, goesOn, hasEnded, isWanted } from "../../deploy/strategy/mod.js";
import { ClusterError } from "../../lib/mod.js";
import {
  ConcurrencyPolicy,
  JobState,
  NodeAvailability,
  NodeState,
  RestartCondition,
  type ServiceSpec,
  TaskState,
  UpdateOrder,
} from "../../proto/mod.js";
import { makeNode, makeSpec } from "../../test/kit/objects.js";
import { ServiceWorld } from "../../test/kit/service-world.js";
import { runService } from "./mod.js";

type Mode = ServiceSpec["mode"];

const modes: fc.Arbitrary<Mode> = fc.oneof(
  fc.record({
    $case: fc.constant("replicated" as const),
    value: fc.record({ replicas: fc.integer({ min: 0, max: 5 }) }),
  }),
  fc.constant<Mode>({ $case: "global", value: {} }),
  fc
    .record({ completions: fc.integer({ min: 1, max: 5 }), maxConcurrent: fc.integer({ min: 1, max: 5 }) })
    .map<Mode>((value) => ({ $case: "replicatedJob", value })),
  fc.constant<Mode>({ $case: "globalJob", value: {} }),
  fc
    .record({
      schedule: fc.constantFrom("* * * * *", "*/5 * * * *", "@hourly"),
      concurrency: fc.constantFrom(ConcurrencyPolicy.ALLOW, ConcurrencyPolicy.FORBID, ConcurrencyPolicy.REPLACE),
      keepSucceeded: fc.integer({ min: 0, max: 3 }),
      keepFailed: fc.integer({ min: 0, max: 3 }),
      startDeadlineMs: fc.constantFrom(1000, 60_000),
      completions: fc.integer({ min: 1, max: 3 }),
    })
    .map<Mode>((value) => ({ $case: "cron", value: { ...value, timeZone: "UTC", suspended: false } })),
);

function specOf(mode: Mode, image: string, startFirst: boolean): ServiceSpec {
  const spec = makeSpec({ image });
  const order = startFirst ? UpdateOrder.START_FIRST : UpdateOrder.STOP_FIRST;
  const job = isJob({ mode });
  return {
    ...spec,
    mode,
    update: { ...spec.update, order, progressDeadlineMs: 60_000 },
    task: {
      ...spec.task,
      placement: { ...spec.task.placement, constraints: ["node.labels.zone!=none"] },
      restart: { ...spec.task.restart, condition: job ? RestartCondition.ON_FAILURE : RestartCondition.ANY },
    },
  };
}

type Action =
  | { kind: "update"; image: string }
  | { kind: "ask" }
  | { kind: "node"; node: number; availability: NodeAvailability; state: NodeState }
  | { kind: "label" | "forget" | "join"; node: number }
  | { kind: "leave" | "fail"; pick: number; startFirst: boolean }
  | { kind: "cut"; steps: number }
  | { kind: "jump"; ms: number }
  | { kind: "run"; ms: number };

const nodeNumber = fc.integer({ min: 1, max: 4 });
const actions: fc.Arbitrary<Action> = fc.oneof(
  fc.record({
    kind: fc.constant("update" as const),
    image: fc.constantFrom("ends", "one", "exits", "rejects", "hangs"),
  }),
  fc.record({ kind: fc.constant("ask" as const) }),
  fc.record({
    kind: fc.constant("node" as const),
    node: nodeNumber,
    availability: fc.constantFrom(NodeAvailability.ACTIVE, NodeAvailability.CORDONED, NodeAvailability.DRAINED),
    state: fc.constantFrom(NodeState.READY, NodeState.UNKNOWN, NodeState.DOWN),
  }),
  fc.record({ kind: fc.constantFrom("label" as const, "forget" as const, "join" as const), node: nodeNumber }),
  fc.record({
    kind: fc.constantFrom("leave" as const, "fail" as const),
    pick: fc.nat({ max: 20 }),
    startFirst: fc.boolean(),
  }),
  fc.record({ kind: fc.constant("cut" as const), steps: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ kind: fc.constant("jump" as const), ms: fc.integer({ min: 0, max: 900_000 }) }),
  fc.record({ kind: fc.constant("run" as const), ms: fc.integer({ min: 0, max: 20_000 }) }),
);

function act(world: ServiceWorld, action: Action): void {
  const live = [...world.tasks.values()].filter((task) => isWanted(task) && !hasEnded(task));
  switch (action.kind) {
    case "update":
      world.update(withImage(world.service.spec, action.image));
      return;
    case "ask":
      askForRun(world);
      return;
    case "node":
      if (world.nodes.has(`h${action.node}`)) world.setNode(`h${action.node}`, action.availability, action.state);
      return;
    case "label": {
      const node = world.nodes.get(`h${action.node}`);
      if (node === undefined) return;
      const zone = node.spec.labels["zone"] === "none" ? "some" : "none";
      world.join(node.meta.id, { ...node, spec: { ...node.spec, labels: { zone } } });
      return;
    }
    case "forget":
      world.forget(`h${action.node}`);
      return;
    case "join":
      if (!world.nodes.has(`h${action.node}`)) world.join(`h${action.node}`);
      return;
    case "leave": {
      const task = live[action.pick % Math.max(1, live.length)];
      if (task !== undefined) world.askToLeave(task.meta.id, action.startFirst);
      return;
    }
    case "fail": {
      const running = live.filter(({ status }) => status.state === TaskState.RUNNING);
      const task = running[action.pick % Math.max(1, running.length)];
      if (task !== undefined) world.fail(task.meta.id);
      return;
    }
    case "cut":
      world.plan(action.steps);
      return;
    case "jump":
      world.now += action.ms;
      return;
    case "run":
      world.run(action.ms);
      return;
  }
}

function withImage(spec: ServiceSpec, image: string): ServiceSpec {
  return { ...spec, task: { ...spec.task, container: { ...spec.task.container, image } } };
}

/** Without a schedule; what still goes on makes way for the next run. */
function atRest(spec: ServiceSpec): ServiceSpec {
  if (spec.mode.$case !== "cron") return spec;
  const value = { ...spec.mode.value, suspended: true, concurrency: ConcurrencyPolicy.REPLACE };
  return { ...spec, mode: { $case: "cron", value } };
}

function askForRun(world: ServiceWorld): void {
  try {
    world.apply(runService(world.parts, { requestId: "" }, world.making).steps);
  } catch (refused) {
    // Of services without runs, while one goes on, or of too many.
    if (!(refused instanceof ClusterError)) throw refused;
    expect(["failed_precondition", "resource_exhausted"]).toContain(refused.code);
  }
}

/** What must hold of the tasks and runs that are stored, at every instant. */
function checkWorld(world: ServiceWorld, together: number): void {
  const { spec, job } = world.service;
  const bySlot = new Map<string, number>();
  const slotsOfNode = new Map<string, number>();
  const liveInRun = new Map<number, number>();
  for (const task of world.tasks.values()) {
    if (task.onlyNodeId !== "" && task.nodeId !== "" && task.nodeId !== task.onlyNodeId)
      throw new Error(`task ${task.meta.id} of node ${task.onlyNodeId} is on ${task.nodeId}`);
    if (isGlobal(spec) !== (task.onlyNodeId !== "")) throw new Error("only tasks of global services have their node");
    if (isJob(spec) !== task.run > 0) throw new Error("only tasks of jobs have a run");
    if (!isWanted(task) || hasEnded(task)) continue;
    const key = `${task.run}/${task.slot}`;
    bySlot.set(key, (bySlot.get(key) ?? 0) + 1);
    liveInRun.set(task.run, (liveInRun.get(task.run) ?? 0) + 1);
    if (task.onlyNodeId === "") continue;
    const node = `${task.run}/${task.onlyNodeId}`;
    const slot = slotsOfNode.get(node);
    if (slot !== undefined && slot !== task.slot) throw new Error(`node ${task.onlyNodeId} has two slots`);
    slotsOfNode.set(node, task.slot);
  }
  for (const [slot, count] of bySlot)
    if (count > (isJob(spec) ? 1 : 2)) throw new Error(`slot ${slot} has ${count} wanted tasks`);
  const most = runSize(spec)?.maxConcurrent ?? Number.POSITIVE_INFINITY;
  for (const [run, count] of liveInRun)
    if (isJob(spec) && count > most) throw new Error(`${count} tasks of run ${run} at once, not ${most}`);
  if (job === undefined) return;
  const numbers = job.runs.map(({ number }) => number);
  if (numbers.some((number, i) => number <= (numbers[i - 1] ?? 0) || number > job.lastRun))
    throw new Error(`runs are numbered ${numbers.join(", ")}, the last is ${job.lastRun}`);
  // Limits of each way to end, the newest, and what may go on at once.
  if (job.runs.length > 4 * 3 + 1 + 10) throw new Error(`${job.runs.length} runs are kept`);
  const going = job.runs.filter(goesOn).length;
  if (going > together) throw new Error(`${going} runs go on`);
}

test("services of every mode keep their slots and runs, plan to the end at once, and come to what was asked for", () => {
  fc.assert(
    fc.property(
      modes,
      fc.boolean(),
      fc.array(actions, { maxLength: 20 }),
      fc.boolean(),
      fc.integer(),
      (mode, startFirst, script, leadersDie, seed) => {
        const good = isJob({ mode }) ? "ends" : "one";
        const world = new ServiceWorld(specOf(mode, good, startFirst), {
          seed,
          leadersDie,
          images: { exits: "exits", rejects: "rejects", hangs: "hangs", ends: "completes" },
        });
        const together = mode.$case === "cron" && mode.value.concurrency === ConcurrencyPolicy.ALLOW ? 10 : 1;
        world.check = () => checkWorld(world, together);
        for (const action of script) {
          act(world, action);
          // Invariant 9. What undoes a rollout is a plan of its own, and what it leads to the next.
          const most = world.rollout === undefined ? 1 : 3;
          if (action.kind !== "cut" && !leadersDie) expect(world.plan()).toBeLessThanOrEqual(most);
        }
        for (const id of ["h1", "h2", "h3"]) world.join(id, makeNode(id));
        world.forget("h4");
        world.update(withImage(atRest(world.service.spec), good), true);
        askForRun(world);
        expect(world.run(3_600_000, () => world.converged())).toBe(true);
        // Old tasks stop, and then nothing is left to do.
        world.run(600_000, () => [...world.tasks.values()].every((task) => hasEnded(task) || isWanted(task)));
        expect(world.plan()).toBe(0);
        const { job, spec } = world.service;
        if (isJob(spec)) {
          const last = job?.runs.at(-1);
          expect(last?.state).toBe(JobState.SUCCEEDED);
          const done = new Set(
            [...world.tasks.values()]
              .filter((task) => task.run === last?.number && task.status.state === TaskState.COMPLETE)
              .map(({ slot }) => slot),
          );
          expect(done.size).toBe(runSize(spec)?.completions ?? 3);
        } else if (isGlobal(spec)) {
          const open = [...world.nodes.values()].filter((node) => eligibilityOf(spec)(node) === "open");
          expect(
            world
              .ready()
              .map(({ nodeId }) => nodeId)
              .sort(),
          ).toEqual(open.map(({ meta }) => meta.id).sort());
        }
        world.remove();
        expect(world.run(120_000, () => world.gone)).toBe(true);
        expect(world.tasks.size).toBe(0);
      },
    ),
    { numRuns: 150 },
  );
}, 240_000);
