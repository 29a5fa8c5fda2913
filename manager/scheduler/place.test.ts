import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  PlacementStrategy,
  type Node,
  NodeAvailability,
  NodeRole,
  NodeState,
  type Resources,
  type Task,
  type TaskSpec,
  TaskState,
} from "../../proto/mod.js";
import { makeNode, makeSpec, makeTask } from "../../test/kit/objects.js";
import { judge, place, type PlaceInput, type Placement, Usage } from "./mod.js";

const gib = 1024 ** 3;
const none: Resources = { nanoCpus: 0, memoryBytes: 0, generic: {} };

function specWith(reservations: Partial<Resources> = {}, constraints: string[] = [], maxReplicasPerNode = 0): TaskSpec {
  const { task } = makeSpec();
  return {
    ...task,
    reservations: { ...none, ...reservations },
    placement: {
      constraints,
      maxReplicasPerNode,
      preferences: [],
      affinities: [],
      strategy: PlacementStrategy.UNSPECIFIED,
    },
  };
}

function nodeWith(id: string, resources: Partial<Resources> = {}, labels: Record<string, string> = {}): Node {
  const node = makeNode(id);
  return {
    ...node,
    spec: { ...node.spec, labels },
    description: { ...node.description, resources: { ...node.description.resources, ...resources } },
  };
}

function newTasks(count: number, changes: Partial<Task> = {}): Task[] {
  return Array.from({ length: count }, (_, i) =>
    makeTask(`${changes.serviceId ?? "s"}-t${i}`, { slot: i + 1, ...changes }),
  );
}

function run(
  tasks: Task[],
  nodes: Node[],
  spec: TaskSpec | ((serviceId: string) => TaskSpec) = specWith(),
  more: Partial<PlaceInput> = {},
): Placement {
  const specOf = (serviceId: string) => (typeof spec === "function" ? spec(serviceId) : spec);
  const usage = new Usage();
  for (const task of tasks) usage.set(task, specOf(task.serviceId).reservations);
  return place({
    tasks,
    nodes,
    usage,
    specOf,
    tasksOfService: (id) => tasks.filter(({ serviceId }) => serviceId === id),
    now: 1_000_000,
    ...more,
  });
}

function counts(placement: Placement): Record<string, number> {
  const perNode: Record<string, number> = {};
  for (const { nodeId } of placement.assigned) perNode[nodeId] = (perNode[nodeId] ?? 0) + 1;
  return perNode;
}

const three = [nodeWith("h1"), nodeWith("h2"), nodeWith("h3")];
const failed = { state: TaskState.FAILED, sinceMs: 0, message: "", error: "", container: undefined };
const running = { ...failed, state: TaskState.RUNNING };

test("six tasks go two to each of three nodes", () => {
  expect(counts(run(newTasks(6), three))).toEqual({ h1: 2, h2: 2, h3: 2 });
});

test("tasks go where their service has fewest, then where least is in use", () => {
  const there = [
    makeTask("a", { nodeId: "h1", status: running }),
    makeTask("b", { nodeId: "h2", serviceId: "other", status: running }),
  ];
  expect(run([...there, ...newTasks(1)], three).assigned).toMatchObject([{ taskId: "s-t0", nodeId: "h3" }]);
  expect(counts(run([...there, ...newTasks(2)], three))).toEqual({ h2: 1, h3: 1 });
});

test("tasks that are about to stop count for room, but not for spreading", () => {
  const stopping = makeTask("a", { nodeId: "h1", status: running, desiredState: TaskState.SHUTDOWN });
  const nodes = [nodeWith("h1", { memoryBytes: gib }), nodeWith("h2", { memoryBytes: gib })];
  expect(counts(run([stopping, ...newTasks(2)], nodes, specWith({ memoryBytes: gib })))).toEqual({ h2: 1 });
  expect(counts(run([stopping, ...newTasks(2)], nodes))).toEqual({ h1: 1, h2: 1 });
});

test("only tasks that are meant to run and have no node are placed", () => {
  const tasks = [
    makeTask("told to stop", { desiredState: TaskState.SHUTDOWN }),
    makeTask("to be removed", { desiredState: TaskState.REMOVE }),
    makeTask("ended", { status: failed }),
    makeTask("placed", { nodeId: "h1", status: running }),
    makeTask("prepared", { desiredState: TaskState.READY }),
  ];
  expect(run(tasks, three).assigned.map(({ taskId }) => taskId)).toEqual(["prepared"]);
});

test("nodes that are not ready, cordoned or drained get nothing, and the message counts them", () => {
  const nodes = [
    makeNode("h1", {
      status: { state: NodeState.DOWN, message: "", sinceMs: 0, lossConfirmed: false, lastSeenAtMs: 0 },
    }),
    makeNode("h2", {
      status: { state: NodeState.UNKNOWN, message: "", sinceMs: 0, lossConfirmed: false, lastSeenAtMs: 0 },
    }),
    makeNode("h3", {
      spec: { availability: NodeAvailability.DRAINED, role: NodeRole.UNSPECIFIED, labels: {}, availabilitySinceMs: 0 },
    }),
    makeNode("h4", {
      spec: { availability: NodeAvailability.CORDONED, role: NodeRole.UNSPECIFIED, labels: {}, availabilitySinceMs: 0 },
    }),
  ];
  expect(run(newTasks(1), nodes).unplaced).toEqual([
    { taskId: "s-t0", message: "no suitable node (4 nodes): 1 cordoned, 1 down, 1 drained, 1 not connected" },
  ]);
});

test("what does not fit says what it asks, how much is free at most and where, and what excludes the rest", () => {
  const nodes = [
    nodeWith("h1", { memoryBytes: 16 * gib }, { zone: "eu" }),
    nodeWith("h2", { memoryBytes: 24 * gib }, { zone: "eu" }),
    nodeWith("h3", { memoryBytes: 128 * gib }, { zone: "us" }),
  ];
  const there = makeTask("a", { nodeId: "h2", serviceId: "other", status: running });
  const specOf = (serviceId: string) =>
    serviceId === "other"
      ? specWith({ memoryBytes: gib })
      : specWith({ memoryBytes: 64 * gib }, ["node.labels.zone==eu"]);
  expect(run([there, ...newTasks(1)], nodes, specOf).unplaced[0]?.message).toBe(
    "no suitable node (3 nodes): 2 short of memory (asks 64 GiB; largest free 23 GiB on h2), 1 excluded by node.labels.zone==eu",
  );
  expect(run(newTasks(1), three, specWith({ nanoCpus: 16e9 })).unplaced[0]?.message).toBe(
    "no suitable node (3 nodes): 3 short of cpus (asks 16 cpus; largest free 2 on h1)",
  );
  expect(run(newTasks(1), []).unplaced[0]?.message).toBe("no suitable node: no agent has joined the cluster yet");
});

test("a limit per node leaves the rest pending", () => {
  const placement = run(newTasks(4), three, specWith({}, [], 1));
  expect(counts(placement)).toEqual({ h1: 1, h2: 1, h3: 1 });
  expect(placement.unplaced.map(({ message }) => message)).toEqual([
    "no suitable node (3 nodes): 3 at the limit of 1 replica per node",
  ]);
});

test("a slot's next task goes to another node than where the last one failed, when there is one", () => {
  const before = makeTask("a", { nodeId: "h1", status: failed, desiredState: TaskState.SHUTDOWN });
  const others = [
    makeTask("b", { nodeId: "h2", slot: 2, status: running }),
    makeTask("c", { nodeId: "h3", slot: 3, status: running }),
  ];
  const next = makeTask("next", { meta: { ...before.meta, id: "next", createdAtMs: 1 } });
  expect(run([before, ...others, next], three).assigned[0]?.nodeId).not.toBe("h1");
  expect(run([before, next], [nodeWith("h1")]).assigned).toMatchObject([{ taskId: "next", nodeId: "h1" }]);
});

test("a node where the revision failed five times in five minutes is taken last; old failures and others' do not count", () => {
  const failures = (changes: Partial<Task>) =>
    Array.from({ length: 5 }, (_, i) =>
      makeTask(`f${i}`, { nodeId: "h1", slot: 10 + i, status: failed, endedAtMs: 900_000, ...changes }),
    );
  const two = [nodeWith("h1"), nodeWith("h2")];
  const mine = failures({ serviceId: "s" });
  const tasks = newTasks(2, { serviceId: "s" });
  expect(counts(run([...failures({}), ...tasks], two))).toEqual({ h1: 1, h2: 1 });
  expect(counts(run([...mine, ...tasks], two))).toEqual({ h2: 2 });
  expect(counts(run([...mine.slice(1), ...tasks], two))).toEqual({ h1: 1, h2: 1 });
  expect(counts(run([...failures({ serviceId: "s", endedAtMs: 600_000 }), ...tasks], two))).toEqual({ h1: 1, h2: 1 });
  expect(counts(run([...failures({ serviceId: "s", revision: 7 }), ...tasks], two))).toEqual({ h1: 1, h2: 1 });
  expect(counts(run([...mine, ...tasks], [nodeWith("h1")]))).toEqual({ h1: 2 });
});

test("a task whose revision is unknown waits and says so", () => {
  expect(run(newTasks(1), three, specWith(), { specOf: () => undefined }).unplaced).toEqual([
    { taskId: "s-t0", message: "revision 1 is not known" },
  ]);
});

const nodesArbitrary = fc
  .array(
    fc.record({
      memory: fc.integer({ min: 1, max: 16 }),
      cpus: fc.integer({ min: 1, max: 8 }),
      zone: fc.constantFrom("eu", "us"),
      state: fc.constantFrom(NodeState.READY, NodeState.READY, NodeState.DOWN),
    }),
    { maxLength: 8 },
  )
  .map((all) =>
    all.map(({ memory, cpus, zone, state }, i) => ({
      ...nodeWith(`h${i}`, { memoryBytes: memory * gib, nanoCpus: cpus * 1e9 }, { zone }),
      status: { state, message: "", sinceMs: 0, lossConfirmed: false, lastSeenAtMs: 0 },
    })),
  );

const services = fc.array(
  fc.record({
    memory: fc.integer({ min: 0, max: 4 }),
    cpus: fc.integer({ min: 0, max: 3 }),
    zone: fc.constantFrom("", "eu"),
    limit: fc.integer({ min: 0, max: 3 }),
    count: fc.integer({ min: 0, max: 12 }),
  }),
  { minLength: 1, maxLength: 4 },
);

test("no node is ever given more than it has, no rule is broken, nothing that fits is left, and it is all repeatable", () => {
  fc.assert(
    fc.property(nodesArbitrary, services, (nodes, asked) => {
      const specOf = (serviceId: string): TaskSpec => {
        const service = asked[Number(serviceId)];
        if (service === undefined) throw new Error(serviceId);
        return specWith(
          { memoryBytes: service.memory * gib, nanoCpus: service.cpus * 1e9 },
          service.zone === "" ? [] : [`node.labels.zone==${service.zone}`],
          service.limit,
        );
      };
      const tasks = asked.flatMap(({ count }, i) => newTasks(count, { serviceId: String(i) }));
      const byId = new Map(tasks.map((task) => [task.meta.id, task]));
      const placement = run(tasks, nodes, specOf);
      expect(placement.assigned.length + placement.unplaced.length).toBe(tasks.length);
      const used = new Map(nodes.map(({ meta }) => [meta.id, { memory: 0, cpus: 0, of: new Map<string, number>() }]));
      for (const { taskId, nodeId } of placement.assigned) {
        const use = used.get(nodeId);
        const id = byId.get(taskId)?.serviceId ?? "";
        if (use === undefined) throw new Error(nodeId);
        use.memory += specOf(id).reservations.memoryBytes;
        use.cpus += specOf(id).reservations.nanoCpus;
        use.of.set(id, (use.of.get(id) ?? 0) + 1);
      }
      for (const node of nodes) {
        const use = used.get(node.meta.id);
        if (use === undefined) throw new Error(node.meta.id);
        expect(use.memory).toBeLessThanOrEqual(node.description.resources.memoryBytes);
        expect(use.cpus).toBeLessThanOrEqual(node.description.resources.nanoCpus);
        if (use.of.size > 0) expect(node.status.state).toBe(NodeState.READY);
        for (const [id, count] of use.of) {
          const service = asked[Number(id)];
          if (service?.zone === "eu") expect(node.spec.labels["zone"]).toBe("eu");
          if (service !== undefined && service.limit > 0) expect(count).toBeLessThanOrEqual(service.limit);
        }
        for (const { taskId } of placement.unplaced) {
          const id = byId.get(taskId)?.serviceId ?? "";
          const { reservations, placement: rules } = specOf(id);
          const fits =
            node.status.state === NodeState.READY &&
            rules.constraints.every(() => node.spec.labels["zone"] === "eu") &&
            (rules.maxReplicasPerNode === 0 || (use.of.get(id) ?? 0) < rules.maxReplicasPerNode) &&
            use.memory + reservations.memoryBytes <= node.description.resources.memoryBytes &&
            use.cpus + reservations.nanoCpus <= node.description.resources.nanoCpus;
          expect(fits).toBe(false);
        }
      }
      expect(run(tasks.toReversed(), nodes.toReversed(), specOf)).toEqual(placement);
    }),
  );
});

test("on equal nodes, whatever runs there already, a service's tasks differ by one at most", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 7 }),
      fc.integer({ min: 0, max: 40 }),
      fc.array(fc.integer({ min: 1, max: 7 }), { maxLength: 20 }),
      (size, count, others) => {
        const nodes = Array.from({ length: size }, (_, i) => nodeWith(`h${i + 1}`));
        const there = others.map((node, i) =>
          makeTask(`o${i}`, { serviceId: "other", nodeId: `h${Math.min(node, size)}`, status: running }),
        );
        const perNode = Object.values(counts(run([...there, ...newTasks(count)], nodes)));
        const all = [...perNode, ...Array<number>(size - perNode.length).fill(0)];
        expect(Math.max(...all) - Math.min(...all)).toBeLessThanOrEqual(1);
      },
    ),
  );
});

function sizes(perNode: Record<string, number>): number[] {
  return Object.values(perNode).sort((a, b) => a - b);
}

function placed(spec: TaskSpec, changes: Partial<TaskSpec["placement"]>): TaskSpec {
  return { ...spec, placement: { ...spec.placement, ...changes } };
}

test("a task with one node only goes there or says why not, whatever failed there", () => {
  const failures = Array.from({ length: 6 }, (_, i) =>
    makeTask(`f${i}`, { serviceId: "s", nodeId: "h2", slot: 1, status: failed, endedAtMs: 999_000 }),
  );
  const tasks = [
    makeTask("a", { serviceId: "s", onlyNodeId: "h2", slot: 1 }),
    makeTask("b", { serviceId: "s", onlyNodeId: "gone", slot: 2 }),
    makeTask("c", { serviceId: "s", onlyNodeId: "h3", slot: 3 }),
  ];
  const nodes = [...three.slice(0, 2), nodeWith("h3", { memoryBytes: gib })];
  const { assigned, unplaced } = run([...failures, ...tasks], nodes, specWith({ memoryBytes: 2 * gib }));
  expect(assigned).toEqual([{ taskId: "a", nodeId: "h2", reason: "the only node that it may run on" }]);
  expect(unplaced.map(({ message }) => message)).toEqual([
    "node gone, the only one that it may run on, is not there",
    "h3, the only node that it may run on: short of memory (asks 2 GiB; free 1 GiB)",
  ]);
});

test("a task that replaces a leaving one goes elsewhere when it can", () => {
  const leave = { reason: "rebalanced", atMs: 1, startFirst: true };
  const leaving = makeTask("a", { nodeId: "h1", status: running, leave });
  const next = makeTask("next", { meta: { ...leaving.meta, id: "next", createdAtMs: 1 } });
  const others = [makeTask("b", { nodeId: "h2", slot: 2, status: running })];
  expect(run([leaving, ...others, next], three.slice(0, 2)).assigned[0]?.nodeId).toBe("h2");
  expect(run([leaving, next], [nodeWith("h1")]).assigned[0]?.nodeId).toBe("h1");
});

test("a replacement that failed elsewhere does not bring the task that is to leave back to its node", () => {
  const leave = { reason: "rebalanced", atMs: 1, startFirst: true };
  const tasks = [
    makeTask("leaving", { nodeId: "h1", status: running, leave }),
    makeTask("failed", {
      nodeId: "h2",
      meta: { id: "failed", version: 0, createdAtMs: 5, updatedAtMs: 5 },
      desiredState: TaskState.SHUTDOWN,
      status: { ...running, state: TaskState.FAILED },
      endedAtMs: 6,
    }),
    makeTask("other", { slot: 2, nodeId: "h2", status: running }),
    makeTask("next", { meta: { id: "next", version: 0, createdAtMs: 9, updatedAtMs: 9 } }),
  ];
  expect(run(tasks, [nodeWith("h1"), nodeWith("h2")]).assigned.map(({ nodeId }) => nodeId)).toEqual(["h2"]);
});

test("ten of an affinity's weight make up for one task", () => {
  const nodes = [nodeWith("h1", {}, { disk: "ssd" }), nodeWith("h2")];
  const affinities = [{ expression: "node.labels.disk==ssd", weight: 40, required: false }];
  expect(counts(run(newTasks(10), nodes, placed(specWith(), { affinities })))).toEqual({ h1: 7, h2: 3 });
  const repelled = [{ expression: "node.labels.disk==ssd", weight: -100, required: false }];
  expect(counts(run(newTasks(10), nodes, placed(specWith(), { affinities: repelled })))).toEqual({ h2: 10 });
});

test("packing fills a node before it opens another, by the service's word or the cluster's", () => {
  const spec = specWith({ memoryBytes: 2 * gib, nanoCpus: 5e8 });
  const own = run(newTasks(5), three, placed(spec, { strategy: PlacementStrategy.BINPACK }));
  expect(sizes(counts(own))).toEqual([1, 4]);
  const settings = { strategy: PlacementStrategy.BINPACK, preemption: false };
  expect(sizes(counts(run(newTasks(5), three, spec, { settings })))).toEqual([1, 4]);
  const spread = placed(spec, { strategy: PlacementStrategy.SPREAD });
  expect(sizes(counts(run(newTasks(5), three, spread, { settings })))).toEqual([1, 2, 2]);
});

test("higher priority goes first, whoever is older", () => {
  const old = makeTask("old", { serviceId: "low" });
  const young = makeTask("young", { serviceId: "high", meta: { ...old.meta, id: "young", createdAtMs: 5 } });
  const specOf = (id: string) => ({ ...specWith({ memoryBytes: 8 * gib }), priority: id === "high" ? 1 : 0 });
  expect(run([old, young], [nodeWith("h1")], specOf).assigned.map(({ taskId }) => taskId)).toEqual(["young"]);
});

test("the fewest of the lowest priority have to leave, and the room is kept until they are gone", () => {
  const there = [
    makeTask("small", { serviceId: "low", nodeId: "h1", status: running }),
    makeTask("small2", { serviceId: "low", slot: 2, nodeId: "h1", status: running }),
    makeTask("large", { serviceId: "middle", nodeId: "h2", status: running }),
  ];
  const asks: Record<string, [number, number]> = { low: [4, 0], middle: [8, 5], high: [8, 9], tiny: [1, 0] };
  const specOf = (id: string) => {
    const [memory = 0, priority = 0] = asks[id] ?? [];
    return { ...specWith({ memoryBytes: memory * gib }), priority };
  };
  const wanted = makeTask("wanted", { serviceId: "high", serviceName: "high" });
  const nodes = [nodeWith("h1"), nodeWith("h2")];
  const more = (tasks: Task[]): Partial<PlaceInput> => ({
    settings: { strategy: PlacementStrategy.SPREAD, preemption: true },
    tasksOfNode: (id) => tasks.filter(({ nodeId }) => nodeId === id),
  });
  const tasks = [...there, wanted];
  const first = run(tasks, nodes, specOf, more(tasks));
  expect(first.preempted).toEqual([{ taskId: "large", reason: "pushed out by high (priority 9)" }]);
  expect(first.unplaced).toEqual([{ taskId: "wanted", message: "waits for tasks of lower priority to leave h2" }]);

  // Half of what it waits for is free by now: nobody of lower priority gets it.
  const leave = { reason: "pushed out by high (priority 9)", atMs: 0, startFirst: false };
  const tiny = makeTask("tiny", { serviceId: "tiny" });
  const leaving = [
    ...there.slice(0, 2),
    makeTask("half", { serviceId: "low", slot: 3, nodeId: "h2", status: running, leave }),
    wanted,
    tiny,
  ];
  const second = run(leaving, nodes, specOf, more(leaving));
  expect(second.preempted).toEqual([]);
  expect(second.assigned).toEqual([]);
  expect(second.unplaced.map(({ taskId }) => taskId)).toEqual(["wanted", "tiny"]);

  const kept = run(tasks, nodes, specOf, { ...more(tasks), budgetOf: () => 0 });
  expect(kept.preempted).toEqual([]);
});

test("what found no room before is passed over until a node that gained some would do", () => {
  const tasks = newTasks(2, { serviceId: "s" });
  const spec = specWith({ memoryBytes: 8 * gib });
  const there = makeTask("there", { serviceId: "other", nodeId: "h1", status: running });
  const specOf = (id: string) => (id === "other" ? specWith({ memoryBytes: gib }) : spec);
  const nodes = [nodeWith("h1"), nodeWith("h2")];
  const groups = new Set(["s 1"]);
  const look = (gained: string[]) =>
    run([there, ...tasks], nodes, specOf, { blocked: { groups, gained: new Set(gained) } });
  expect(look([])).toEqual({ assigned: [], unplaced: [], preempted: [] });
  expect(look(["h1"])).toEqual({ assigned: [], unplaced: [], preempted: [] });
  expect(look(["h2"]).assigned.map(({ nodeId }) => nodeId)).toEqual(["h2"]);
});

test("each node says what it lacks, or how it does", () => {
  const ports = [{ protocol: 1, targetPort: 80, publishedPort: 8080, name: "", mode: 2 }] as const;
  const usage = new Usage();
  usage.set(makeTask("x", { serviceId: "x", nodeId: "h2" }), none, { hostPorts: ["8080/1"], avoids: [], image: "" });
  usage.set(makeTask("y", { serviceId: "s", nodeId: "h3" }), { ...none, memoryBytes: 4 * gib });
  const spec = placed(specWith({ memoryBytes: gib }), { constraints: ["node.hostname!=h1"] });
  const verdicts = judge({ task: makeTask("t", { serviceId: "s" }), spec, ports: [...ports], nodes: three, usage });
  expect(verdicts).toEqual([
    { nodeId: "h3", nodeName: "h3", fits: true, reason: "fits: 1 task of the service there, 50 % reserved" },
    { nodeId: "h1", nodeName: "h1", fits: false, reason: "excluded by node.hostname!=h1" },
    { nodeId: "h2", nodeName: "h2", fits: false, reason: "with port 8080 in use" },
  ]);
});

test("a countable thing named like what every object has is no node's that does not have it", () => {
  const spec = specWith({ generic: { constructor: 1 } });
  const has = nodeWith("b", { generic: { constructor: 1 } });
  expect(run(newTasks(2), [nodeWith("a"), has], spec).assigned.map(({ nodeId }) => nodeId)).toEqual(["b"]);
});

test("among nodes with as few tasks of the service, an image that is there outweighs a few others' tasks", () => {
  const spec = specWith();
  const { image } = spec.container;
  const usage = new Usage();
  const claims = { hostPorts: [], avoids: [], image };
  // h3 ran the image once; its other tasks are of another one.
  const ended = { state: TaskState.COMPLETE, sinceMs: 0, message: "", error: "", container: undefined };
  usage.set(makeTask("rejected", { serviceId: "x", nodeId: "h1", status: ended }), none, claims);
  const running = { ...ended, state: TaskState.RUNNING };
  usage.set(makeTask("ran", { serviceId: "x", nodeId: "h3", status: running }), none, claims);
  for (let i = 0; i < 3; i += 1) usage.set(makeTask(`other${i}`, { serviceId: "y", nodeId: "h3" }), none);
  const nodeOf = (more: Partial<PlaceInput>) => run(newTasks(1), three, spec, { usage, ...more }).assigned[0]?.nodeId;
  expect(nodeOf({})).toBe("h3");
  // The engine keeps it when the task has ended, as long as the task is remembered.
  usage.set(makeTask("ran", { serviceId: "x", nodeId: "h3", status: ended }), none, claims);
  expect(nodeOf({})).toBe("h3");
  usage.remove("ran");
  expect(nodeOf({})).not.toBe("h3");
  // Spreading the service comes first.
  usage.set(makeTask("ran", { serviceId: "s", nodeId: "h3", status: running }), none, claims);
  expect(run(newTasks(1, { serviceId: "s" }), three, spec, { usage }).assigned[0]?.nodeId).not.toBe("h3");
});
