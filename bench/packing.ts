// How well tasks are packed, beside first-fit, best-fit, worst-fit and random on the same tasks in the same order. Two
// questions: what share of the cluster's capacity is in use when exactly all of it is asked for, and how many machines
// are needed when everything must run.

import { type Rng, seededRng } from "../lib/mod.js";
import { demandOf, NodeIndex, place, Usage } from "../manager/scheduler/mod.js";
import { sampleNode, sampleRevision, sampleTask } from "../manager/store/samples.js";
import { type Node, PlacementStrategy, type Task, type TaskSpec } from "../proto/mod.js";
import { type Benchmark, type Figure, median } from "./figure.js";

const gib = 1024 ** 3;
const nodeCount = 400;
const settings = { strategy: PlacementStrategy.BINPACK, preemption: false };

interface Size {
  cpus: number;
  memory: number;
}

interface Workload {
  nodes: Size[];
  /** Services in the order they come, each with so many equal tasks. */
  services: { size: Size; count: number }[];
}

interface Machine {
  has: Size;
  free: Size;
  tasks: number;
}

interface Packed {
  /** Of all cpus and of all memory, the mean. */
  share: number;
  machines: number;
  unplaced: number;
}

type Choose = (machines: readonly Machine[], size: Size, rng: Rng) => Machine | undefined;

const fits = ({ free }: Machine, { cpus, memory }: Size) => free.cpus >= cpus && free.memory >= memory;
const freeShare = ({ free, has }: Machine) => free.cpus / has.cpus + free.memory / has.memory;

function least(machines: readonly Machine[], size: Size, cost: (machine: Machine) => number): Machine | undefined {
  let best: Machine | undefined;
  let bestCost = Number.POSITIVE_INFINITY;
  for (const machine of machines) {
    if (!fits(machine, size)) continue;
    const its = cost(machine);
    if (its < bestCost) [best, bestCost] = [machine, its];
  }
  return best;
}

const peers: Record<string, Choose> = {
  "first-fit": (machines, size) => machines.find((machine) => fits(machine, size)),
  "best-fit": (machines, size) => least(machines, size, freeShare),
  "worst-fit": (machines, size) => least(machines, size, (machine) => -freeShare(machine)),
  random: (machines, size, rng) => {
    const able = machines.filter((machine) => fits(machine, size));
    return able[rng.below(Math.max(1, able.length))];
  },
};

function packLike(choose: Choose, { nodes, services }: Workload, rng: Rng): Packed {
  const machines = nodes.map((has): Machine => ({ has, free: { ...has }, tasks: 0 }));
  let unplaced = 0;
  for (const { size, count } of services)
    for (let i = 0; i < count; i += 1) {
      const machine = choose(machines, size, rng);
      if (machine === undefined) {
        unplaced += 1;
        continue;
      }
      machine.free = { cpus: machine.free.cpus - size.cpus, memory: machine.free.memory - size.memory };
      machine.tasks += 1;
    }
  return packed(machines, unplaced);
}

function packed(machines: readonly Machine[], unplaced: number): Packed {
  const sum = (of: (machine: Machine) => number) => machines.reduce((all, machine) => all + of(machine), 0);
  const used = (pick: (size: Size) => number) => 1 - sum(({ free }) => pick(free)) / sum(({ has }) => pick(has));
  return {
    share: (used(({ cpus }) => cpus) + used(({ memory }) => memory)) / 2,
    machines: machines.filter(({ tasks }) => tasks > 0).length,
    unplaced,
  };
}

/** By the scheduler, all services at once or each by itself as it comes. */
function packOurs({ nodes, services }: Workload, atOnce: boolean): Packed {
  const spec = sampleRevision("", "", 1).spec.task;
  const specs = services.map(
    ({ size }): TaskSpec => ({ ...spec, reservations: { nanoCpus: size.cpus, memoryBytes: size.memory, generic: {} } }),
  );
  const base = sampleTask("", "");
  const tasks = services.map(({ count }, service) =>
    Array.from(
      { length: count },
      (_, i): Task => ({
        ...base,
        meta: { ...base.meta, id: `${service}-${i}`, createdAtMs: service },
        serviceId: String(service),
        slot: i + 1,
        status: { ...base.status, state: 1 },
      }),
    ),
  );
  const index = new NodeIndex(nodes.map(nodeOf));
  const machines = new Map(nodes.map((has, i): [string, Machine] => [nodeId(i), { has, free: { ...has }, tasks: 0 }]));
  const usage = new Usage();
  let unplaced = 0;
  for (const batch of atOnce ? [tasks.flat()] : tasks) {
    const placement = place({
      tasks: batch,
      nodes: index,
      usage,
      specOf: (id) => specs[Number(id)],
      tasksOfService: () => [],
      settings,
      now: 0,
    });
    unplaced += placement.unplaced.length;
    const byId = new Map(batch.map((task) => [task.meta.id, task]));
    for (const { taskId, nodeId } of placement.assigned) {
      const task = byId.get(taskId);
      const machine = machines.get(nodeId);
      const its = specs[Number(task?.serviceId)];
      if (task === undefined || machine === undefined || its === undefined) throw new Error(`${taskId} is not ours`);
      usage.set({ ...task, nodeId }, its.reservations, demandOf(its));
      machine.free = {
        cpus: machine.free.cpus - its.reservations.nanoCpus,
        memory: machine.free.memory - its.reservations.memoryBytes,
      };
      machine.tasks += 1;
    }
  }
  for (const { free } of machines.values())
    if (free.cpus < 0 || free.memory < 0) throw new Error("a node was given more than it has");
  return packed([...machines.values()], unplaced);
}

function nodeId(i: number): string {
  return `n${String(i).padStart(4, "0")}`;
}

function nodeOf({ cpus, memory }: Size, i: number): Node {
  const node = sampleNode(nodeId(i));
  return {
    ...node,
    description: { ...node.description, resources: { nanoCpus: cpus, memoryBytes: memory, generic: {} } },
  };
}

/** Sizes drawn evenly, on equal machines. */
function synthetic(rng: Rng): { nodes: Size[]; next: () => { size: Size; count: number } } {
  return {
    nodes: Array.from({ length: nodeCount }, () => ({ cpus: 32e9, memory: 128 * gib })),
    next: () => ({
      size: { cpus: (1 + rng.below(32)) * 250_000_000, memory: (1 + rng.below(32)) * gib },
      count: 1 + rng.below(20),
    }),
  };
}

/** Many small and few large ones, some that want cpus and some that want memory, on machines of three kinds. */
function skewed(rng: Rng): { nodes: Size[]; next: () => { size: Size; count: number } } {
  const kinds: Size[] = [
    { cpus: 16e9, memory: 64 * gib },
    { cpus: 32e9, memory: 128 * gib },
    { cpus: 64e9, memory: 512 * gib },
  ];
  // Pareto's distribution with a shape of 1.2, cut off at 40 times the smallest.
  const pareto = () => Math.min(40, (1 - rng.below(1_000_000) / 1_000_000) ** (-1 / 1.2));
  return {
    nodes: Array.from({ length: nodeCount }, (_, i) => kinds[i % kinds.length] ?? { cpus: 16e9, memory: 64 * gib }),
    next: () => {
      const lean = [0.5, 1, 2][rng.below(3)] ?? 1;
      const size = pareto();
      return {
        size: {
          cpus: Math.min(12e9, Math.round(size * lean * 300) * 1_000_000),
          memory: Math.min(48, Math.max(0.25, Math.round((size / lean) * 5) / 4)) * gib,
        },
        count: 1 + rng.below(30),
      };
    },
  };
}

/** As many services as ask for `demand` of all there is of what they ask most. */
function workload(make: typeof synthetic, seed: number, demand: number): Workload {
  const { nodes, next } = make(seededRng(seed));
  const all = nodes.reduce((sum, { cpus, memory }) => ({ cpus: sum.cpus + cpus, memory: sum.memory + memory }));
  const services: Workload["services"] = [];
  let [cpus, memory] = [0, 0];
  while (Math.max(cpus / all.cpus, memory / all.memory) < demand) {
    const service = next();
    services.push(service);
    cpus += service.size.cpus * service.count;
    memory += service.size.memory * service.count;
  }
  return { nodes, services };
}

export const packing: Benchmark = {
  name: "packing",
  help: "binpack: share of capacity placed at 100 % demand, machines needed; beside first-, best-, worst-fit, random",
  run: async ({ progress, rounds = 5 }) => {
    const figures: Figure[] = [];
    for (const [name, make] of [
      ["synthetic", synthetic],
      ["skewed", skewed],
    ] as const)
      for (const [what, demand, better] of [
        ["share placed at 100 % demand", 1, ">= 1.00"],
        ["machines needed at 60 % demand", 0.6, "<= 1.00"],
      ] as const) {
        const value = ({ share, machines }: Packed) => (demand === 1 ? share : machines);
        const seeds = Array.from({ length: rounds }, (_, i) => i + 1);
        const measure = (pack: (load: Workload, seed: number) => Packed) =>
          median(
            seeds.map((seed) => {
              const result = pack(workload(make, seed, demand), seed);
              if (demand < 1 && result.unplaced > 0) throw new Error(`${name}: ${result.unplaced} tasks do not fit`);
              return value(result);
            }),
          );
        const batch = measure((load) => packOurs(load, true));
        const single = measure((load) => packOurs(load, false));
        for (const [peerName, choose] of Object.entries(peers)) {
          const peer = measure((load, seed) => packLike(choose, load, seededRng(seed)));
          figures.push({ name: `${name}, all at once: ${what}`, ours: batch, peerName, peer, goal: better });
          figures.push({ name: `${name}, one by one: ${what}`, ours: single, peerName, peer, goal: better });
        }
        progress(`${name}, ${what}: ${batch.toFixed(4)} all at once, ${single.toFixed(4)} one by one`);
      }
    return Promise.resolve(figures);
  },
};
