// Properties of placement for random clusters and services. A failure prints its seed and shrinks to the smallest case.

import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  type Affinity,
  MountType,
  type Node,
  NodeAvailability,
  NodeState,
  PlacementStrategy,
  type PortSpec,
  Protocol,
  PublishMode,
  type Task,
  type TaskSpec,
  TaskState,
} from "../../proto/mod.js";
import { makeNode, makeSpec, makeTask } from "../../test/kit/objects.js";
import { demandOf, judge, place, type PlaceInput, type Placement, Usage } from "./mod.js";

const gib = 1024 ** 3;
const zones = ["eu", "us", ""] as const;
const names = ["s0", "s1", "s2", "s3"] as const;

const nodesArbitrary: fc.Arbitrary<Node[]> = fc
  .array(
    fc.record({
      memory: fc.integer({ min: 1, max: 16 }),
      cpus: fc.integer({ min: 1, max: 8 }),
      gpus: fc.integer({ min: 0, max: 2 }),
      zone: fc.constantFrom(...zones),
      drivers: fc.constantFrom(["local"], ["local", "nfs"]),
      closed: fc.constantFrom("", "", "", "down", "cordoned"),
    }),
    { maxLength: 8 },
  )
  .map((all) =>
    all.map(({ memory, cpus, gpus, zone, drivers, closed }, i): Node => {
      const node = makeNode(`h${i}`);
      return {
        ...node,
        spec: {
          ...node.spec,
          labels: zone === "" ? {} : { zone },
          availability: closed === "cordoned" ? NodeAvailability.CORDONED : NodeAvailability.ACTIVE,
        },
        status: { ...node.status, state: closed === "down" ? NodeState.DOWN : NodeState.READY },
        description: {
          ...node.description,
          volumeDrivers: [...drivers],
          resources: { memoryBytes: memory * gib, nanoCpus: cpus * 1e9, generic: { gpu: gpus } },
        },
      };
    }),
  );

const affinity: fc.Arbitrary<Affinity> = fc
  .record({
    expression: fc.constantFrom(
      "node.labels.zone==eu",
      ...names.flatMap((name) => [`service==${name}`, `service!=${name}`]),
    ),
    weight: fc.constantFrom(-100, -20, 20, 100),
    required: fc.boolean(),
  })
  .map((one) => ({ ...one, weight: one.required ? 0 : one.weight }));

interface Asked {
  spec: TaskSpec;
  ports: PortSpec[];
  count: number;
  running: number[];
}

const asked: fc.Arbitrary<Asked> = fc
  .record({
    memory: fc.integer({ min: 0, max: 4 }),
    cpus: fc.integer({ min: 0, max: 3 }),
    gpus: fc.constantFrom(0, 0, 1),
    constraints: fc.subarray(["node.labels.zone==eu", "node.labels.zone notin (us)", "node.hostname~=^h[0-5]$"]),
    preferences: fc.subarray(["spread=node.labels.zone", "spread=node.hostname"]),
    affinities: fc.array(affinity, { maxLength: 2 }),
    limit: fc.constantFrom(0, 0, 1, 3),
    port: fc.constantFrom(0, 0, 8080, 8081),
    driver: fc.constantFrom("", "", "nfs"),
    strategy: fc.constantFrom(PlacementStrategy.UNSPECIFIED, PlacementStrategy.BINPACK),
    priority: fc.constantFrom(0, 0, 10, 100),
    count: fc.integer({ min: 0, max: 12 }),
    running: fc.array(fc.integer({ min: 0, max: 7 }), { maxLength: 4 }),
  })
  .map((one) => {
    const { task } = makeSpec();
    const mounts =
      one.driver === ""
        ? []
        : [{ type: MountType.VOLUME, source: "v", target: "/v", readOnly: false, volumeDriver: one.driver }];
    return {
      spec: {
        ...task,
        container: { ...task.container, mounts },
        reservations: {
          memoryBytes: one.memory * gib,
          nanoCpus: one.cpus * 1e9,
          generic: one.gpus === 0 ? {} : { gpu: one.gpus },
        },
        placement: {
          constraints: one.constraints,
          preferences: one.preferences,
          affinities: one.affinities,
          maxReplicasPerNode: one.limit,
          strategy: one.strategy,
        },
        priority: one.priority,
      },
      ports:
        one.port === 0
          ? []
          : [
              {
                protocol: Protocol.TCP,
                targetPort: 80,
                publishedPort: one.port,
                name: "",
                mode: PublishMode.HOST,
              },
            ],
      count: one.count,
      running: one.running,
    };
  });

const world = fc.record({
  nodes: nodesArbitrary,
  services: fc.array(asked, { minLength: 1, maxLength: names.length }),
});
type World = typeof world extends fc.Arbitrary<infer T> ? T : never;

const running = makeTask("", { status: { ...makeTask("").status, state: TaskState.RUNNING } }).status;

function serviceOf({ services }: World, id: string): Asked {
  const service = services[Number(id.slice(1))];
  if (service === undefined) throw new Error(`there is no service ${id}`);
  return service;
}

/** Running tasks where they fit, put there one by one, and new ones. */
function tasksOf(given: World): Task[] {
  const placed: Task[] = [];
  for (const [s, { running: at }] of given.services.entries())
    for (const [i, node] of at.entries()) {
      const id = `s${s}`;
      const task = makeTask(`${id}-r${i}`, { serviceId: id, serviceName: id, slot: 100 + i });
      const only = given.nodes.filter(({ meta }) => meta.id === `h${node}`);
      const [there] = run(given, [...placed, task], { nodes: only }).assigned;
      if (there !== undefined) placed.push({ ...task, nodeId: there.nodeId, status: running });
    }
  const fresh = given.services.flatMap(({ count }, s) =>
    Array.from({ length: count }, (_, i) =>
      makeTask(`s${s}-t${i}`, { serviceId: `s${s}`, serviceName: `s${s}`, slot: i + 1 }),
    ),
  );
  return [...placed, ...fresh];
}

function usageOf(given: World, tasks: readonly Task[]): Usage {
  const usage = new Usage();
  for (const task of tasks) {
    const { spec, ports } = serviceOf(given, task.serviceId);
    usage.set(task, spec.reservations, demandOf(spec, ports));
  }
  return usage;
}

function run(given: World, tasks: Task[], more: Partial<PlaceInput> = {}): Placement {
  return place({
    tasks,
    nodes: given.nodes,
    usage: usageOf(given, tasks),
    specOf: (id) => serviceOf(given, id).spec,
    portsOf: (id) => serviceOf(given, id).ports,
    tasksOfService: (id) => tasks.filter(({ serviceId }) => serviceId === id),
    tasksOfNode: (id) => tasks.filter(({ nodeId }) => nodeId === id),
    serviceByName: (name) => (Number(name.slice(1)) < given.services.length ? { meta: { id: name } } : undefined),
    now: 0,
    ...more,
  });
}

function withPlaced(tasks: readonly Task[], { assigned }: Placement): Task[] {
  const nodeOf = new Map(assigned.map(({ taskId, nodeId }) => [taskId, nodeId]));
  return tasks.map((task) => {
    const nodeId = nodeOf.get(task.meta.id);
    return nodeId === undefined ? task : { ...task, nodeId, status: { ...task.status, state: TaskState.ASSIGNED } };
  });
}

test("no node is given more than it has, in cpus, memory, countable things and host ports", () => {
  fc.assert(
    fc.property(world, (given) => {
      const tasks = tasksOf(given);
      const usage = usageOf(given, withPlaced(tasks, run(given, tasks)));
      for (const { meta, description } of given.nodes) {
        const use = usage.node(meta.id);
        expect(use.memoryBytes).toBeLessThanOrEqual(description.resources.memoryBytes);
        expect(use.nanoCpus).toBeLessThanOrEqual(description.resources.nanoCpus);
        for (const [name, used] of use.generic)
          expect(used).toBeLessThanOrEqual(description.resources.generic[name] ?? 0);
        for (const [, count] of use.hostPorts) expect(count).toBe(1);
      }
    }),
  );
});

test("all rules hold for every placed task", () => {
  fc.assert(
    fc.property(world, (given) => {
      const tasks = tasksOf(given);
      const after = withPlaced(tasks, run(given, tasks));
      const fresh = new Set(tasks.filter(({ nodeId }) => nodeId === "").map(({ meta }) => meta.id));
      const on = (name: string, nodeId: string) =>
        after.filter((task) => task.serviceName === name && task.nodeId === nodeId);
      for (const task of after) {
        if (!fresh.has(task.meta.id) || task.nodeId === "") continue;
        const node = given.nodes.find(({ meta }) => meta.id === task.nodeId);
        if (node === undefined) throw new Error(`${task.nodeId} is not there`);
        const { spec } = serviceOf(given, task.serviceId);
        const { constraints, affinities, maxReplicasPerNode } = spec.placement;
        expect(node.status.state).toBe(NodeState.READY);
        expect(node.spec.availability).toBe(NodeAvailability.ACTIVE);
        if (constraints.includes("node.labels.zone==eu")) expect(node.spec.labels["zone"]).toBe("eu");
        if (constraints.includes("node.labels.zone notin (us)")) expect(node.spec.labels["zone"]).not.toBe("us");
        if (constraints.some((text) => text.includes("~="))) expect(task.nodeId).toMatch(/^h[0-5]$/);
        for (const { type, volumeDriver } of spec.container.mounts)
          if (type === MountType.VOLUME) expect(node.description.volumeDrivers).toContain(volumeDriver);
        if (maxReplicasPerNode > 0)
          expect(on(task.serviceName, task.nodeId).length).toBeLessThanOrEqual(maxReplicasPerNode);
        for (const { expression, required } of affinities) {
          if (!required) continue;
          const [, operator, name = ""] = /^service([!=]=)(.*)$/.exec(expression) ?? [];
          if (operator === undefined) expect(node.spec.labels["zone"]).toBe("eu");
          else if (operator === "!=")
            expect(on(name, task.nodeId).filter(({ meta }) => meta.id !== task.meta.id)).toEqual([]);
          else expect(on(name, task.nodeId).length).toBeGreaterThan(0);
        }
      }
    }),
  );
});

test("nothing that fits is left unplaced, and each task is answered for once", () => {
  fc.assert(
    fc.property(world, (given) => {
      const tasks = tasksOf(given);
      const placement = run(given, tasks);
      const after = withPlaced(tasks, placement);
      const usage = usageOf(given, after);
      const answered = [...placement.assigned, ...placement.unplaced].map(({ taskId }) => taskId).sort();
      expect(answered).toEqual(
        tasks
          .filter(({ nodeId }) => nodeId === "")
          .map(({ meta }) => meta.id)
          .sort(),
      );
      for (const { taskId } of placement.unplaced) {
        const task = after.find(({ meta }) => meta.id === taskId);
        if (task === undefined) throw new Error(taskId);
        const { spec, ports } = serviceOf(given, task.serviceId);
        // What another service was given later may be what this one had waited for: the next run sees that.
        if (
          spec.placement.affinities.some(({ required, expression }) => required && expression.startsWith("service=="))
        )
          continue;
        const verdicts = judge({
          task,
          spec,
          ports,
          nodes: given.nodes,
          usage,
          serviceByName: (name) => (Number(name.slice(1)) < given.services.length ? { meta: { id: name } } : undefined),
        });
        expect(verdicts.filter(({ fits }) => fits)).toEqual([]);
      }
    }),
  );
});

test("the same input gives the same placement, in whatever order it comes", () => {
  fc.assert(
    fc.property(world, (given) => {
      const tasks = tasksOf(given);
      const placement = run(given, tasks);
      expect(run(given, tasks)).toEqual(placement);
      const reversed = run(given, tasks.toReversed(), { nodes: given.nodes.toReversed() });
      const byId = (a: { taskId: string }, b: { taskId: string }) => (a.taskId < b.taskId ? -1 : 1);
      expect(reversed.assigned.toSorted(byId)).toEqual(placement.assigned.toSorted(byId));
      expect(reversed.unplaced.toSorted(byId)).toEqual(placement.unplaced.toSorted(byId));
    }),
  );
});

test("placed again and again, a cluster comes to rest", () => {
  fc.assert(
    fc.property(world, (given) => {
      let tasks = tasksOf(given);
      for (let round = 0; ; round += 1) {
        const placement = run(given, tasks);
        if (placement.assigned.length === 0) break;
        expect(round).toBeLessThanOrEqual(tasks.length);
        tasks = withPlaced(tasks, placement);
      }
    }),
  );
});

test("a spread over a label differs by one at most between branches that have room, those without it included", () => {
  const counts = fc.array(fc.constantFrom(...zones), { minLength: 1, maxLength: 9 });
  fc.assert(
    fc.property(counts, fc.integer({ min: 0, max: 40 }), (all, count) => {
      const nodes = all.map((zone, i) => {
        const node = makeNode(`h${i}`);
        return { ...node, spec: { ...node.spec, labels: zone === "" ? {} : { zone, rack: `r${i % 3}` } } };
      });
      const { task } = makeSpec();
      const preferences = ["spread=node.labels.zone", "spread=node.labels.rack"];
      const spec = { ...task, placement: { ...task.placement, preferences } };
      const tasks = Array.from({ length: count }, (_, i) => makeTask(`t${i}`, { slot: i + 1 }));
      const { assigned } = place({
        tasks,
        nodes,
        usage: new Usage(),
        specOf: () => spec,
        tasksOfService: () => [],
        now: 0,
      });
      expect(assigned.length).toBe(count);
      const perBranch = (keyOf: (node: Node) => string) => {
        const sums = new Map(nodes.map((node) => [keyOf(node), 0]));
        for (const { nodeId } of assigned) {
          const node = nodes.find(({ meta }) => meta.id === nodeId);
          if (node !== undefined) sums.set(keyOf(node), (sums.get(keyOf(node)) ?? 0) + 1);
        }
        return sums;
      };
      const spreadOf = (values: number[]) => Math.max(...values) - Math.min(...values);
      const zoneOf = (node: Node) => node.spec.labels["zone"] ?? "none";
      expect(spreadOf([...perBranch(zoneOf).values()])).toBeLessThanOrEqual(1);
      for (const zone of new Set(nodes.map(zoneOf))) {
        const racks = [...perBranch((node) => `${zoneOf(node)}/${node.spec.labels["rack"] ?? "none"}`)];
        const inside = racks.filter(([key]) => key.startsWith(`${zone}/`)).map(([, sum]) => sum);
        expect(spreadOf(inside)).toBeLessThanOrEqual(1);
      }
    }),
  );
});

const preempting = { settings: { strategy: PlacementStrategy.SPREAD, preemption: true } } as const;

test("only tasks of lower priority are pushed out, within their service's budget, and nobody twice", () => {
  fc.assert(
    fc.property(world, fc.integer({ min: 0, max: 3 }), (given, budget) => {
      const tasks = tasksOf(given);
      const budgetOf = () => budget;
      const first = run(given, tasks, { ...preempting, budgetOf });
      const byId = new Map(tasks.map((task) => [task.meta.id, task]));
      const spent = new Map<string, number>();
      for (const { taskId, reason } of first.preempted) {
        const victim = byId.get(taskId);
        if (victim === undefined) throw new Error(taskId);
        const { priority } = serviceOf(given, victim.serviceId).spec;
        expect(priority).toBeLessThan(Number(/priority (-?\d+)/.exec(reason)?.[1]));
        expect(victim.nodeId).not.toBe("");
        spent.set(victim.serviceId, (spent.get(victim.serviceId) ?? 0) + 1);
      }
      for (const count of spent.values()) expect(count).toBeLessThanOrEqual(budget);
      expect(new Set(first.preempted.map(({ taskId }) => taskId)).size).toBe(first.preempted.length);
    }),
  );
});

/** What the store has once the victims are told to leave. */
function withLeaving(tasks: readonly Task[], { preempted }: Placement): Task[] {
  const reasons = new Map(preempted.map(({ taskId, reason }) => [taskId, reason]));
  return tasks.map((task) => {
    const reason = reasons.get(task.meta.id);
    return reason === undefined ? task : { ...task, leave: { reason, atMs: 0, startFirst: false } };
  });
}

test("those for whom tasks leave push out nobody else while they wait", () => {
  fc.assert(
    fc.property(world, (given) => {
      // Who follows another service may find it on another node by then.
      fc.pre(!given.services.some(({ spec }) => demandOf(spec).required.some((rule) => rule.kind === "service")));
      const tasks = tasksOf(given);
      const first = run(given, tasks, preempting);
      const after = withLeaving(withPlaced(tasks, first), first);
      expect(run(given, after, preempting).preempted).toEqual([]);
    }),
  );
});

test("pushing out comes to an end, with those of the highest priority served", () => {
  fc.assert(
    fc.property(world, (given) => {
      let tasks = tasksOf(given);
      for (let round = 0; ; round += 1) {
        expect(round).toBeLessThanOrEqual(3 * tasks.length);
        const placement = run(given, tasks, preempting);
        if (placement.assigned.length + placement.preempted.length === 0) break;
        // Who leaves is stopped, and its replacement waits for a node as the others do.
        tasks = withLeaving(withPlaced(tasks, placement), placement).map((task) =>
          task.leave === undefined
            ? task
            : { ...task, leave: undefined, nodeId: "", status: { ...task.status, state: TaskState.PENDING } },
        );
      }
    }),
  );
});

test("without preemption nobody is pushed out", () => {
  fc.assert(
    fc.property(world, (given) => {
      expect(run(given, tasksOf(given)).preempted).toEqual([]);
    }),
  );
});
