import { expect, test } from "vitest";
import { isConverged } from "../../deploy/strategy/mod.js";
import { JobState, type Service, type Task } from "../../proto/mod.js";
import { makeRevision, makeService, makeSpec, makeTask, readyStatus } from "../../test/kit/objects.js";
import { whyUnready } from "./depends.js";
import { createService, planService, type ServiceSnapshot } from "./mod.js";

let next = 0;
const making = { now: 1_700_000_000_000, id: () => `id-${(next += 1)}` };

function waiting(): ServiceSnapshot {
  const spec = { ...makeSpec({ replicas: 2 }), dependsOn: ["db", "cache"] };
  const { service } = createService({ spec, vip: "", requestId: "", existing: undefined }, making);
  const node = () => undefined;
  return {
    service,
    revisions: [makeRevision(service)],
    tasks: [],
    rollout: undefined,
    rollouts: [],
    node,
    nodes: () => [],
  };
}

function serviceOf({ steps }: ReturnType<typeof planService>): Service | undefined {
  return steps.flatMap((step) => (step.do === "put" && step.table === "services" ? [step.object] : []))[0];
}

test("a service has no tasks until all it depends on is ready, and says what it waits for", () => {
  const before = waiting();
  const unready = new Map([
    ["db", "0 of 1 tasks of service db are ready"],
    ["cache", "there is no service cache yet"],
  ]);
  const unreadyBecause = (name: string) => unready.get(name);
  const first = planService({ ...before, unreadyBecause }, making);
  expect(first.steps.map(({ table }) => table)).toEqual(["services"]);
  const service = serviceOf(first) ?? before.service;
  expect(service.waitingFor).toBe("waits: 0 of 1 tasks of service db are ready; there is no service cache yet");
  expect(isConverged({ ...before, service, nodes: [] }).converged).toBe(false);
  expect(planService({ ...before, service, unreadyBecause }, making).steps).toEqual([]);

  unready.delete("db");
  const second = planService({ ...before, service, unreadyBecause }, making);
  expect(serviceOf(second)?.waitingFor).toBe("waits: there is no service cache yet");

  unready.delete("cache");
  const third = planService({ ...before, service, unreadyBecause }, making);
  expect(third.steps.map(({ do: verb, table }) => [verb, table])).toEqual([
    ["put", "services"],
    ["create", "tasks"],
    ["create", "tasks"],
  ]);
  expect(serviceOf(third)?.waitingFor).toBe("");
});

test("a service that has begun is not held up again", () => {
  const before = waiting();
  const service = { ...before.service, waitingFor: "" };
  const plan = planService({ ...before, service, unreadyBecause: () => "it is down" }, making);
  expect(plan.steps.map(({ table }) => table)).toEqual(["tasks", "tasks"]);
});

test("a service that waits can be removed", () => {
  const before = waiting();
  const service = { ...before.service, removing: true };
  const { steps } = planService({ ...before, service, unreadyBecause: () => "it is down" }, making);
  expect(steps.at(-1)).toMatchObject({ do: "remove", table: "services" });
});

const web = makeService({ spec: makeSpec({ replicas: 2 }) });
const parts = (service: Service, tasks: Task[] = []) => ({
  service,
  revisions: [makeRevision(service)],
  tasks,
  rollout: undefined,
  nodes: [],
});
const ready = (slot: number) => makeTask(`t${slot}`, { slot, nodeId: "h1", status: readyStatus(), readySinceMs: 1 });
const job = (state: JobState): Service => ({
  ...makeService({ spec: { ...makeSpec(), mode: { $case: "replicatedJob", value: { completions: 1 } } } }),
  job: {
    runs: [
      {
        number: 1,
        revision: 1,
        dueAtMs: 0,
        startedAtMs: 1,
        endedAtMs: 0,
        state,
        message: "",
        completed: 0,
        total: 1,
        requestId: "",
      },
    ],
    lastRun: 1,
    lastDueAtMs: 0,
    requested: [],
  },
});

test.each<[string, Parameters<typeof whyUnready>[1], string | undefined]>([
  ["none there", undefined, "there is no service web yet"],
  ["being removed", parts({ ...web, removing: true }), "service web is being removed"],
  ["itself waiting", parts({ ...web, waitingFor: "waits" }), "service web has not begun"],
  ["half ready", parts(web, [ready(1)]), "1 of 2 tasks of service web are ready"],
  ["ready", parts(web, [ready(1), ready(2)]), undefined],
  ["scaled to nothing", parts(makeService({ spec: makeSpec({ replicas: 0 }) })), undefined],
  ["a job that runs", parts(job(JobState.RUNNING)), "job web has not succeeded yet"],
  ["a job that failed", parts(job(JobState.FAILED)), "the last run of job web failed"],
  ["a job that succeeded", parts(job(JobState.SUCCEEDED)), undefined],
  ["a job that has yet to run", parts({ ...job(JobState.RUNNING), job: undefined }), "job web has not run yet"],
])("what others wait for: %s", (_, on, why) => {
  expect(whyUnready("web", on)).toBe(why);
});
