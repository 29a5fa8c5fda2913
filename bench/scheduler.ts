// How fast tasks are given their nodes: by `place` alone on one core, and by the scheduler with every placement durable
// on three managers. Beside it the plain way, which scores every node for every task.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NodeIndex, place, Usage, demandOf } from "../manager/scheduler/mod.js";
import { messageOf } from "../lib/mod.js";
import { type Benchmark, type Figure, median } from "./figure.js";
import { type Durable, measureDurable } from "./scheduler-durable.js";
import { type Load, makeLoad, makeTasks, serviceName, type Shape } from "./scheduler-load.js";

const plain: Shape = { nodes: 5_000, services: 1_000, tasksPerService: 1_000, rich: false };
const rich: Shape = { ...plain, rich: true };
/** The plain way is so slow that a part of the tasks has to do. */
const plainWayTasks = 300;
const durableTasks = 50_000;
/** A measurement in which another manager came to lead is made again. */
const attemptsMax = 4;

interface Measured {
  /** Per second of processor time, the garbage collector's included: what else the machine does counts for nothing. */
  perSecond: number;
  /** By the clock on the wall. */
  perWallSecond: number;
  /** The last tenth of the tasks against the first. */
  lastOfFirst: number;
  heapMB: number;
  rssMB: number;
}

/** Services come one after another, as the scheduler sees them: place, count what was placed, place the next. */
function measurePlace(shape: Shape, load: Load): Measured {
  const index = new NodeIndex(load.nodes);
  const usage = new Usage();
  const ids = new Set(load.specs.map((_, i) => serviceName(i)));
  let wallMs = 0;
  const tenths: number[] = Array.from({ length: 10 }, () => 0);
  for (const [service, spec] of load.specs.entries()) {
    const tasks = makeTasks(service, shape.tasksPerService);
    const fromMs = performance.now();
    const from = process.cpuUsage();
    const { assigned } = place({
      tasks,
      nodes: index,
      usage,
      specOf: () => spec,
      tasksOfService: () => [],
      serviceByName: (name) => (ids.has(name) ? { meta: { id: name } } : undefined),
      now: 0,
    });
    const demand = demandOf(spec);
    for (const [i, { nodeId }] of assigned.entries()) {
      const task = tasks[i];
      if (task !== undefined) usage.set({ ...task, nodeId }, spec.reservations, demand);
    }
    const tenth = Math.floor((service * 10) / shape.services);
    const { user, system } = process.cpuUsage(from);
    tenths[tenth] = (tenths[tenth] ?? 0) + (user + system) / 1_000;
    wallMs += performance.now() - fromMs;
    if (assigned.length !== tasks.length)
      throw new Error(`${serviceName(service)}: only ${assigned.length} of ${tasks.length} tasks were placed`);
  }
  const totalMs = tenths.reduce((sum, ms) => sum + ms, 0);
  const { heapUsed, rss } = process.memoryUsage();
  return {
    perSecond: (shape.services * shape.tasksPerService * 1_000) / totalMs,
    perWallSecond: (shape.services * shape.tasksPerService * 1_000) / wallMs,
    lastOfFirst: (tenths[0] ?? 0) / (tenths[9] ?? 1),
    heapMB: heapUsed / 1e6,
    rssMB: rss / 1e6,
  };
}

/** Every task against every node, with the same filters and the same score, for a part of the tasks. */
function measurePlainWay({ nodes, specs }: Load): number {
  const index = new NodeIndex(nodes);
  const usage = new Usage();
  const from = process.cpuUsage();
  for (let i = 0; i < plainWayTasks; i += 1) {
    const spec = specs[i % specs.length];
    if (spec === undefined) continue;
    const tasks = makeTasks(i, 1);
    // One task at a time is just that: all nodes are judged for it.
    place({ tasks, nodes: index, usage, specOf: () => spec, tasksOfService: () => [], now: 0 });
  }
  const { user, system } = process.cpuUsage(from);
  return (plainWayTasks * 1e6) / (user + system);
}

export const scheduler: Benchmark = {
  name: "scheduler",
  help: "placements/s of 1,000 services x 1,000 tasks on 5,000 nodes; beside each task against each node",
  run: async ({ progress, rounds = 3 }) => {
    const figures: Figure[] = [];
    for (const [shape, what, goal] of [
      [plain, "mixed sizes, constraints, spread", "ours >= 100,000"],
      [rich, "affinities, anti-affinities, nested spread", "ours >= 20,000"],
    ] as const) {
      const load = makeLoad(shape);
      const peer = measurePlainWay(load);
      const runs = Array.from({ length: rounds }, () => {
        const measured = measurePlace(shape, load);
        progress(
          `${what}: ${measured.perSecond.toFixed(0)} placements per second of a core (${measured.perWallSecond.toFixed(0)} by the clock), last tenth ${measured.lastOfFirst.toFixed(2)} of the first; memory ${measured.heapMB.toFixed(0)} MB heap, ${measured.rssMB.toFixed(0)} MB resident`,
        );
        return measured;
      });
      const of = (name: keyof Measured) => median(runs.map((run) => run[name]));
      figures.push(
        { name: `${what}: placements/s`, ours: of("perSecond"), peerName: "each task alone", peer, goal },
        { name: `${what}: last tenth`, ours: of("lastOfFirst"), peerName: "first tenth", peer: 1, goal: ">= 0.80" },
        { name: `${what}: memory, MB`, ours: of("rssMB"), peerName: "heap in use", peer: of("heapMB"), goal: "" },
      );
    }
    const directory = await mkdtemp(join(tmpdir(), "flotilla-scheduler-"));
    try {
      const runs: Durable[] = [];
      for (let attempt = 0; runs.length < rounds && attempt < attemptsMax * rounds; attempt += 1) {
        let measured: Durable;
        try {
          measured = await measureDurable(join(directory, String(attempt)), durableTasks);
        } catch (error) {
          progress(`durable on three managers: not measured: ${messageOf(error)}`);
          continue;
        }
        progress(
          `durable on three managers: ${measured.perSecond.toFixed(0)} placements/s; ${measured.createdPerSecond.toFixed(0)} tasks/s were created; leader ${measured.rssMB.toFixed(0)} MB`,
        );
        runs.push(measured);
      }
      if (runs.length === 0) throw new Error("placement with durable commits could not be measured");
      figures.push({
        name: `durable on three managers, ${durableTasks} tasks: placements/s`,
        ours: median(runs.map(({ perSecond }) => perSecond)),
        peerName: "tasks created/s",
        peer: median(runs.map(({ createdPerSecond }) => createdPerSecond)),
        goal: "ours >= 10,000",
      });
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
    return figures;
  },
};
