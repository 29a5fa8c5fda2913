import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { seededRng } from "../../lib/mod.js";
import { PlacementStrategy, RolloutState, type ServiceSpec, TaskState, UpdateOrder } from "../../proto/mod.js";
import {
  type CreateServiceRequest,
  PlannedAction,
  type PlanServiceResponse,
} from "../../proto/gen/flotilla/control/v1/control.js";
import { FakeClock } from "../../test/kit/clock.js";
import { makeNode, makeSpec, readyStatus } from "../../test/kit/objects.js";
import { planService } from "../orchestrator/mod.js";
import { applySteps } from "../rollout/mod.js";
import { Layer, openMemoryStore, type Store } from "../store/mod.js";
import { ensureCluster, updateCluster } from "./cluster.js";
import { planRequest } from "./plan.js";
import { Services } from "./services.js";

const gib = 1024 ** 3;
let store: Store;
let services: Services;
const clock = new FakeClock();
const rng = seededRng(3);
const making = () => ({ now: clock.now(), id: () => rng.id() });

beforeEach(async () => {
  store = openMemoryStore();
  await ensureCluster(store, "test", clock, seededRng(1));
  services = new Services({ store, clock, rng: seededRng(2) });
  await store.update((tx) => {
    for (const id of ["h1", "h2", "h3"]) tx.create("nodes", makeNode(id));
  });
});

afterEach(() => store[Symbol.asyncDispose]());

const planCreate = (spec: NonNullable<CreateServiceRequest["spec"]>) =>
  planRequest(store.view(), { change: { $case: "create", value: { spec, requestId: "r" } } }, making());
const planUpdate = (spec: ServiceSpec, more: { version?: number; force?: boolean } = {}) =>
  planRequest(
    store.view(),
    {
      change: {
        $case: "update",
        value: { service: spec.name, spec, requestId: "r", version: 0, force: false, ...more },
      },
    },
    making(),
  );

function shown({ tasks }: PlanServiceResponse): string[] {
  const actions: Record<number, string> = {
    [PlannedAction.CREATE]: "create",
    [PlannedAction.REPLACE]: "replace",
    [PlannedAction.STOP]: "stop",
  };
  return tasks.map(({ slot, action, nodeName }) => `${slot} ${actions[action]} ${nodeName}`);
}

/** The service with all its tasks ready, spread over the nodes. */
async function running(spec: ServiceSpec): Promise<number> {
  await services.create({ spec, requestId: "" });
  return await store.update((tx) => {
    const service = tx.serviceByName(spec.name)!;
    const { steps } = planService(
      {
        service,
        revisions: tx.revisionsOfService(service.meta.id),
        tasks: [],
        rollout: undefined,
        rollouts: [],
        node: (id) => tx.nodes.get(id),
        nodes: () => tx.nodes.values(),
      },
      making(),
    );
    applySteps(tx, steps);
    for (const task of [...tx.tasksOfService(service.meta.id)])
      tx.put("tasks", {
        ...task,
        nodeId: task.onlyNodeId === "" ? `h${((task.slot - 1) % 3) + 1}` : task.onlyNodeId,
        status: readyStatus(),
        readySinceMs: clock.now(),
      });
    return service.meta.version;
  });
}

describe("a plan of a create", () => {
  it("says where each task would go and why, and writes nothing", () => {
    const before = store.view().revision;
    const plan = planCreate(makeSpec({ replicas: 3 }));
    expect(shown(plan).map((line) => line.slice(0, 8))).toEqual(["1 create", "2 create", "3 create"]);
    expect(new Set(plan.tasks.map(({ nodeId }) => nodeId))).toEqual(new Set(["h1", "h2", "h3"]));
    expect(plan.tasks[0]?.message).not.toBe("");
    expect(plan).toMatchObject({ version: 0, unchanged: 0, warnings: [] });
    expect(store.view().revision).toBe(before);
    expect(store.view().services.size).toBe(0);
  });

  it("plans as many tasks as a service may have", () => {
    expect(planCreate(makeSpec({ replicas: 1_000 })).tasks).toHaveLength(1_000);
  });

  it("accepts what cannot be had now, and says what is missing where", () => {
    const spec = makeSpec({ replicas: 2 });
    spec.task.reservations.memoryBytes = 64 * gib;
    const { tasks, warnings } = planCreate(spec);
    expect(tasks.map(({ nodeId }) => nodeId)).toEqual(["", ""]);
    expect(tasks[0]?.message).toMatch(/short of memory/);
    expect(warnings).toEqual([expect.stringMatching(/^2 of 2 tasks would wait: .*short of memory/)]);
  });

  it("warns of labels that no node has, also where that would not keep a task away", () => {
    const spec = makeSpec();
    spec.task.placement.constraints = ["node.labels.zon!=eu"];
    expect(planCreate(spec)).toMatchObject({
      tasks: [{ slot: 1 }],
      warnings: ["constraints[0]: no node has node.labels.zon"],
    });
  });

  it("says what it would wait for, and plans its tasks all the same", async () => {
    const plan = planCreate({ ...makeSpec(), dependsOn: ["db"] });
    expect(plan.warnings).toEqual([expect.stringMatching(/^depends_on\[0\]: there is no service db yet/)]);
    expect(plan.tasks).toHaveLength(1);
    await running(makeSpec({ name: "db", ports: [] }));
    expect(planCreate({ ...makeSpec(), dependsOn: ["db"] }).warnings).toEqual([]);
  });

  it("says whom those that wait would push out, where the cluster allows it", async () => {
    const small = makeSpec({ name: "low", replicas: 3, ports: [] });
    small.task.reservations.memoryBytes = 6 * gib;
    await running(small);
    const spec = makeSpec({ replicas: 1 });
    spec.task.reservations.memoryBytes = 6 * gib;
    spec.task.priority = 10;
    expect(planCreate(spec).warnings).toEqual([expect.stringMatching(/short of memory/)]);
    await updateCluster(store, clock, { strategy: PlacementStrategy.UNSPECIFIED, preemption: true });
    expect(planCreate(spec).warnings[1]).toMatch(/would push out tasks of lower priority: low\.[123]$/);
  });

  it("looks at the tasks of all nodes at once to say that, not node by node through all that it plans", async () => {
    await updateCluster(store, clock, { strategy: PlacementStrategy.UNSPECIFIED, preemption: true });
    const asked = vi.spyOn(Layer.prototype, "tasksOfNode");
    const spec = makeSpec({ replicas: 100 });
    spec.task.reservations.memoryBytes = 600 * gib;
    spec.task.priority = 10;
    expect(planCreate(spec).warnings).toHaveLength(1);
    expect(asked).not.toHaveBeenCalled();
    asked.mockRestore();
  });

  it("plans every mode with the tasks that it would begin with", () => {
    const spec = makeSpec({ ports: [] });
    const of = (mode: ServiceSpec["mode"]) =>
      planCreate({ ...spec, mode, task: { ...spec.task, restart: undefined }, update: undefined, rollback: undefined })
        .tasks;
    const global = of({ $case: "global", value: {} });
    expect(global.map(({ nodeName }) => nodeName).sort()).toEqual(["h1", "h2", "h3"]);
    expect(of({ $case: "globalJob", value: {} })).toHaveLength(3);
    expect(of({ $case: "replicatedJob", value: { completions: 5, maxConcurrent: 2 } })).toHaveLength(2);
    const cron = { schedule: "* * * * *", timeZone: "", concurrency: 0, suspended: false } as const;
    expect(of({ $case: "cron", value: cron })).toEqual([]);
  });

  it("says why no node may have a task of a service that would have one on each", () => {
    const spec: ServiceSpec = { ...makeSpec({ ports: [] }), mode: { $case: "global", value: {} } };
    spec.task.placement.constraints = ["node.hostname==h9"];
    const { tasks, warnings } = planCreate(spec);
    expect(tasks).toEqual([]);
    expect(warnings).toEqual([
      "no node may have a task of it now: h1: excluded by node.hostname==h9, h2: excluded by node.hostname==h9, h3: excluded by node.hostname==h9",
    ]);
  });

  it("refuses what the real call refuses, with the same words", async () => {
    const bad = { ...makeSpec(), name: "No Name" };
    const asked = await services.create({ spec: bad, requestId: "" }).catch((error: unknown) => error);
    expect(() => planCreate(bad)).toThrow((asked as Error).message);
    await running(makeSpec());
    expect(() => planCreate(makeSpec())).toThrow(/a service named web exists already/);
  });
});

describe("a plan of an update", () => {
  it("shows the end: every slot with its new task, whatever the pace", async () => {
    const version = await running(makeSpec({ replicas: 3 }));
    const plan = planUpdate(makeSpec({ replicas: 3, image: "nginx:2" }));
    expect(shown(plan).map((line) => line.slice(0, 9))).toEqual(["1 replace", "2 replace", "3 replace"]);
    expect(new Set(plan.tasks.map(({ nodeId }) => nodeId)).size).toBe(3);
    const ids = new Set([...store.view().tasks.values()].map(({ meta }) => meta.id));
    expect(plan.tasks.every(({ taskId }) => ids.has(taskId))).toBe(true);
    expect(plan.version).toBeGreaterThanOrEqual(version);
    expect(
      plan.changes.some(
        ({ before, after, replacesTasks }) => before === "nginx" && after === "nginx:2" && replacesTasks,
      ),
    ).toBe(true);
  });

  it("is accepted by the real call with the plan's version, unless somebody else changed the service since", async () => {
    await running(makeSpec({ replicas: 1 }));
    const spec = makeSpec({ replicas: 1, image: "nginx:2" });
    const { version } = planUpdate(spec);
    await services.scale({ service: "web", replicas: 2, requestId: "" });
    await expect(services.update({ service: "web", spec, version, force: false, requestId: "" })).rejects.toMatchObject(
      { code: "conflict" },
    );
    const again = planUpdate(spec);
    await services.update({ service: "web", spec, version: again.version, force: false, requestId: "" });
    expect(() => planUpdate(spec, { version })).toThrow(/changed by somebody else/);
  });

  it("leaves alone what the change does not concern", async () => {
    await running(makeSpec({ replicas: 2 }));
    const plan = planUpdate(makeSpec({ replicas: 3 }));
    expect(shown(plan).map((line) => line.slice(0, 8))).toEqual(["3 create"]);
    expect(plan.unchanged).toBe(2);
    expect(planUpdate(makeSpec({ replicas: 1 }))).toMatchObject({
      unchanged: 1,
      tasks: [{ action: PlannedAction.STOP }],
    });
    expect(planUpdate(makeSpec({ replicas: 2 }))).toMatchObject({ unchanged: 2, tasks: [], changes: [] });
    expect(planUpdate(makeSpec({ replicas: 2 }), { force: true }).tasks).toHaveLength(2);
  });

  it("counts the room of the old tasks as free at the end, and warns where start-first finds none beside them", async () => {
    const spec = (image: string, order: UpdateOrder) => {
      const made = makeSpec({ replicas: 3, image });
      made.task.reservations.memoryBytes = 6 * gib;
      return { ...made, update: { ...made.update, order } };
    };
    await running(spec("one", UpdateOrder.STOP_FIRST));
    const stopFirst = planUpdate(spec("two", UpdateOrder.STOP_FIRST));
    expect(stopFirst.tasks.every(({ nodeId }) => nodeId !== "")).toBe(true);
    expect(stopFirst.warnings).toEqual([]);
    const startFirst = planUpdate(spec("two", UpdateOrder.START_FIRST));
    expect(startFirst.tasks.every(({ nodeId }) => nodeId !== "")).toBe(true);
    expect(startFirst.warnings).toEqual([expect.stringMatching(/^update.order: start-first needs room/)]);
  });

  it("starts from what is there, a rollout under way or paused included", async () => {
    await running(makeSpec({ replicas: 3 }));
    const { rollout } = await services.update({
      service: "web",
      spec: makeSpec({ replicas: 3, image: "two" }),
      version: 0,
      force: false,
      requestId: "",
    });
    for (const state of [RolloutState.RUNNING, RolloutState.PAUSED]) {
      await store.update((tx) => tx.put("rollouts", { ...tx.rollouts.get(rollout!.meta!.id)!, state }));
      const plan = planUpdate(makeSpec({ replicas: 4, image: "three" }));
      expect(shown(plan).map((line) => line.slice(0, 9))).toEqual(["1 replace", "2 replace", "3 replace", "4 create "]);
      expect(plan.warnings).toEqual([]);
    }
    // Back to what runs: nothing has been replaced yet.
    expect(planUpdate(makeSpec({ replicas: 3 }))).toMatchObject({ tasks: [], unchanged: 3 });
  });

  it("replaces a global service's task on each node", async () => {
    const spec = (image: string): ServiceSpec => ({
      ...makeSpec({ image }),
      mode: { $case: "global", value: {} },
    });
    await running(spec("one"));
    const plan = planUpdate(spec("two"));
    expect(shown(plan)).toHaveLength(3);
    expect(plan.tasks.every(({ action, nodeId }) => action === PlannedAction.REPLACE && nodeId !== "")).toBe(true);
  });

  it("says that nothing would be placed on nodes that are not there", async () => {
    await running(makeSpec({ replicas: 1 }));
    const spec = makeSpec({ replicas: 1 });
    spec.task.container.image = "nginx:2";
    spec.task.placement.constraints = ["node.hostname==h9"];
    const { tasks, warnings } = planUpdate(spec);
    expect(tasks).toMatchObject([{ action: PlannedAction.REPLACE, nodeId: "" }]);
    expect(warnings[0]).toMatch(/1 of 1 task would wait: .*node.hostname==h9/);
    expect([...store.view().tasks.values()].every(({ desiredState }) => desiredState === TaskState.RUNNING)).toBe(true);
  });
});
