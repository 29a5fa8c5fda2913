// The cluster and the services that placement is measured with, in the shape of HashiCorp's C1M challenge: 1,000
// services of 1,000 tasks each on 5,000 nodes. Nodes and tasks have mixed sizes; all tasks fit, with room to spare.

import { type Rng, seededRng } from "../lib/mod.js";
import { sampleNode, sampleTask } from "../manager/store/samples.js";
import type { Affinity, Node, Task, TaskSpec } from "../proto/mod.js";
import { sampleRevision } from "../manager/store/samples.js";

const gib = 1024 ** 3;
const mib = 1024 ** 2;

export interface Shape {
  nodes: number;
  services: number;
  tasksPerService: number;
  /** With affinities, anti-affinities and nested spread. */
  rich: boolean;
}

export interface Load {
  nodes: Node[];
  specs: TaskSpec[];
}

export function makeLoad({ nodes, services, rich }: Shape): Load {
  const rng = seededRng(4);
  return {
    nodes: Array.from({ length: nodes }, (_, i) => makeNode(rng, i)),
    specs: Array.from({ length: services }, (_, i) => makeSpec(rng, i, rich)),
  };
}

export function serviceName(service: number): string {
  return `service-${service}`;
}

/** New tasks of one service. */
export function makeTasks(service: number, count: number): Task[] {
  const base = sampleTask("", serviceName(service));
  const status = { ...base.status, state: 1 as const, message: "" };
  return Array.from({ length: count }, (_, i) => ({
    ...base,
    meta: { ...base.meta, id: `t${service}-${i}` },
    slot: i + 1,
    status,
  }));
}

function makeNode(rng: Rng, i: number): Node {
  const node = sampleNode(rng.id());
  const size = [16, 32, 32, 64][i % 4] ?? 16;
  return {
    ...node,
    spec: {
      ...node.spec,
      labels: { zone: `z${i % 5}`, rack: `r${i % 40}`, disk: i % 3 === 0 ? "hdd" : "ssd", cores: String(size) },
    },
    description: {
      ...node.description,
      hostname: `node-${i}`,
      resources: { nanoCpus: size * 1e9, memoryBytes: size * 4 * gib, generic: {} },
    },
  };
}

function makeSpec(rng: Rng, i: number, rich: boolean): TaskSpec {
  const { task } = sampleRevision("", serviceName(i), 1).spec;
  const constraints = [
    [],
    [],
    ["node.labels.disk==ssd"],
    ["node.labels.zone in (z0,z1,z2)"],
    ["node.labels.cores>16", "node.labels.rack!=r7"],
  ][i % 5];
  const affinity = (expression: string, weight: number): Affinity => ({ expression, weight, required: false });
  const other = serviceName((i + 997) % 1_000);
  const affinities = [
    [affinity("node.labels.disk==ssd", 50)],
    [affinity(`service==${other}`, -50), affinity("node.labels.cores>16", 20)],
    [affinity(`service==${other}`, 30)],
    [{ expression: `service!=${other}`, weight: 0, required: true }],
  ][i % 4];
  return {
    ...task,
    reservations: {
      nanoCpus: (1 + rng.below(10)) * 10_000_000,
      memoryBytes: (8 + rng.below(12) * 16) * mib,
      generic: {},
    },
    placement: {
      ...task.placement,
      constraints: constraints ?? [],
      affinities: rich ? (affinities ?? []) : [],
      preferences: rich
        ? ["spread=node.labels.zone", "spread=node.labels.rack"]
        : i % 3 === 0
          ? ["spread=node.labels.zone"]
          : [],
    },
  };
}
