import { expect, test } from "vitest";
import {
  ConcurrencyPolicy,
  type JobRun,
  JobState,
  type Node,
  NodeAvailability,
  RestartCondition,
  type Rollout,
  RolloutState,
  type ServiceSpec,
  type Task,
  TaskState,
} from "../../proto/mod.js";
import { makeNode, makeRevision, makeService, makeSpec, makeTask, readyStatus } from "../../test/kit/objects.js";
import { isConverged } from "./mod.js";

const service = makeService({ spec: makeSpec({ image: "two", replicas: 2 }), revision: 2 });
const revisions = [makeRevision(service, 1, makeSpec({ image: "one", replicas: 2 })), makeRevision(service)];
const ready = (slot: number, changes: Partial<Task> = {}) =>
  makeTask(`t${slot}-${changes.revision ?? 2}`, {
    slot,
    revision: 2,
    nodeId: "h1",
    status: readyStatus(),
    readySinceMs: 1,
    ...changes,
  });
const rolloutIn = (state: RolloutState): Rollout => ({
  meta: { id: "r", version: 0, createdAtMs: 0, updatedAtMs: 0 },
  serviceId: service.meta.id,
  fromRevision: 1,
  toRevision: 2,
  isRollback: false,
  state,
  message: "",
  startedAtMs: 0,
  endedAtMs: 0,
  slots: [],
  batchDoneAtMs: 0,
  rolledBackBy: "",
});

test.each<[string, Task[], RolloutState | undefined, boolean, number]>([
  ["all ready", [ready(1), ready(2)], undefined, true, 2],
  ["all ready, the rollout over", [ready(1), ready(2)], RolloutState.COMPLETED, true, 2],
  ["all ready, the rollout still watching", [ready(1), ready(2)], RolloutState.RUNNING, false, 2],
  ["all ready, the rollout paused", [ready(1), ready(2)], RolloutState.PAUSED, false, 2],
  ["one missing", [ready(1)], undefined, false, 1],
  ["one not ready", [ready(1), ready(2, { readySinceMs: 0 })], undefined, false, 1],
  ["one of the old template", [ready(1), ready(2, { revision: 1 })], undefined, false, 2],
  ["an old task beside the new one", [ready(1), ready(2), ready(2, { revision: 1 })], undefined, false, 2],
  [
    "an old task still stopping",
    [ready(1), ready(2), ready(2, { revision: 1, desiredState: TaskState.SHUTDOWN })],
    undefined,
    true,
    2,
  ],
  ["one more than asked", [ready(1), ready(2), ready(3)], undefined, false, 3],
])("%s", (_, tasks, state, converged, running) => {
  const rollout = state === undefined ? undefined : rolloutIn(state);
  expect(isConverged({ service, revisions, tasks, rollout, nodes: [] })).toEqual({ converged, running, desired: 2 });
});

test("a service being removed has not converged, and wants nothing", () => {
  expect(
    isConverged({ service: { ...service, removing: true }, revisions, tasks: [], rollout: undefined, nodes: [] }),
  ).toEqual({
    converged: false,
    running: 0,
    desired: 0,
  });
});

test("a task that ended and is not to be replaced is what was asked for", () => {
  const once = makeSpec({ replicas: 1 });
  once.task = { ...once.task, restart: { ...once.task.restart, condition: RestartCondition.NONE } };
  const finishing = makeService({ spec: once });
  const task = makeTask("t", { nodeId: "h1", status: { ...readyStatus(), state: TaskState.COMPLETE } });
  expect(
    isConverged({
      service: finishing,
      revisions: [makeRevision(finishing)],
      tasks: [task],
      rollout: undefined,
      nodes: [],
    }),
  ).toEqual({ converged: true, running: 0, desired: 1 });
});

const globalService = makeService({
  spec: { ...makeSpec({ image: "two" }), mode: { $case: "global", value: {} } },
  revision: 2,
});
const globalRevisions = [makeRevision(globalService, 1, makeSpec({ image: "one" })), makeRevision(globalService)];
const on = (nodeId: string, slot: number, revision = 2) => ready(slot, { nodeId, onlyNodeId: nodeId, revision });
const cordoned = { ...makeNode("h3").spec, availability: NodeAvailability.CORDONED };
const drained = { ...makeNode("h3").spec, availability: NodeAvailability.DRAINED };

test.each<[string, Task[], Node[], boolean, number, number]>([
  ["a task on each node", [on("h1", 1), on("h2", 2)], [makeNode("h1"), makeNode("h2")], true, 2, 2],
  ["a node without", [on("h1", 1)], [makeNode("h1"), makeNode("h2")], false, 1, 2],
  [
    "an old task on a cordoned node",
    [on("h1", 1), on("h3", 3, 1)],
    [makeNode("h1"), makeNode("h3", { spec: cordoned })],
    true,
    1,
    1,
  ],
  ["nothing on a cordoned node", [on("h1", 1)], [makeNode("h1"), makeNode("h3", { spec: cordoned })], true, 1, 1],
  [
    "a task still on a drained node",
    [on("h1", 1), on("h3", 3)],
    [makeNode("h1"), makeNode("h3", { spec: drained })],
    false,
    2,
    1,
  ],
  ["a task on a node that was removed", [on("h1", 1), on("h3", 3)], [makeNode("h1")], false, 2, 1],
  ["no node at all", [], [], true, 0, 0],
])("a global service with %s", (_, tasks, nodes, converged, running, desired) => {
  const input = { service: globalService, revisions: globalRevisions, tasks, rollout: undefined, nodes };
  expect(isConverged(input)).toEqual({ converged, running, desired });
});

const run = (number: number, state: JobState, revision = 2): JobRun => ({
  number,
  revision,
  dueAtMs: 0,
  startedAtMs: 1,
  endedAtMs: 0,
  state,
  message: "",
  completed: 0,
  total: 1,
  requestId: "",
});
const jobMode: ServiceSpec["mode"] = { $case: "replicatedJob", value: { completions: 1 } };
const cronMode: ServiceSpec["mode"] = {
  $case: "cron",
  value: { schedule: "@daily", timeZone: "UTC", concurrency: ConcurrencyPolicy.FORBID, suspended: false },
};

test.each<[string, ServiceSpec["mode"], JobRun[], string[], boolean]>([
  ["a job before its first run", jobMode, [], [], false],
  ["a job that succeeded", jobMode, [run(1, JobState.SUCCEEDED)], [], true],
  ["a job that succeeded in an older revision", jobMode, [run(1, JobState.SUCCEEDED, 1)], [], false],
  ["a job whose next run is asked for", jobMode, [run(1, JobState.SUCCEEDED)], ["r"], false],
  ["a job that failed after it succeeded", jobMode, [run(1, JobState.SUCCEEDED), run(2, JobState.FAILED)], [], false],
  ["a cron job before its first run", cronMode, [], [], true],
  ["a cron job that succeeded in an older revision", cronMode, [run(1, JobState.SUCCEEDED, 1)], [], true],
  [
    "a cron job that succeeded and then skipped",
    cronMode,
    [run(1, JobState.SUCCEEDED), run(2, JobState.SKIPPED)],
    [],
    true,
  ],
  ["a cron job that failed and then skipped", cronMode, [run(1, JobState.FAILED), run(2, JobState.SKIPPED)], [], false],
  ["a cron job that runs", cronMode, [run(1, JobState.RUNNING)], [], false],
])("%s", (_, mode, jobRuns, requested, converged) => {
  const job = makeService({
    spec: { ...makeSpec(), mode },
    revision: 2,
    job: { runs: jobRuns, lastRun: jobRuns.length, lastDueAtMs: 0, requested },
  });
  const input = { service: job, revisions: [makeRevision(job)], tasks: [], rollout: undefined, nodes: [] };
  expect(isConverged(input)).toEqual({ converged, running: 0, desired: 0 });
});

test("of a job, the tasks that are meant to run count, and those that do", () => {
  const job = makeService({
    spec: { ...makeSpec(), mode: jobMode },
    revision: 2,
    job: { runs: [run(1, JobState.RUNNING)], lastRun: 1, lastDueAtMs: 0, requested: [] },
  });
  const tasks = [
    makeTask("done", { slot: 1, run: 1, status: { ...readyStatus(), state: TaskState.COMPLETE } }),
    makeTask("runs", { slot: 2, run: 1, nodeId: "h1", status: readyStatus() }),
    makeTask("waits", { slot: 3, run: 1 }),
  ];
  const input = { service: job, revisions: [makeRevision(job)], tasks, rollout: undefined, nodes: [] };
  expect(isConverged(input)).toEqual({ converged: false, running: 1, desired: 2 });
});

test("a service that waits for another has not converged, also when nothing is asked of it", () => {
  const waits = makeService({ spec: makeSpec({ replicas: 0 }), waitingFor: "waits for db" });
  const input = { service: waits, revisions: [makeRevision(waits)], tasks: [], rollout: undefined, nodes: [] };
  expect(isConverged(input).converged).toBe(false);
});
