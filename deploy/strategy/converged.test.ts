import { expect, test } from "vitest";
import { RestartCondition, type Rollout, RolloutState, type Task, TaskState } from "../../proto/mod.js";
import { makeRevision, makeService, makeSpec, makeTask, readyStatus } from "../../test/kit/objects.js";
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
