// Placing tasks on nodes: pure and deterministic. Tasks of one revision are equal to the scheduler: nodes are judged
// once for all of them, and after each placement only the node that was taken is judged again.

import { hasEnded, isWanted, newestFirst } from "../../deploy/strategy/mod.js";
import { type Node, type Task, type TaskSpec, TaskState } from "../../proto/mod.js";
import { demandOf, describeMisses, type Demand, type Miss, whyExcluded, whyFull } from "./filter.js";
import { Heap } from "./heap.js";
import type { NodeUse, Usage } from "./usage.js";

/** A node where this many tasks of one revision failed within the window is taken only when no other is left. */
const failuresMax = 5;
const failureWindowMs = 5 * 60_000;

/** What each task adds to its node's load besides what it reserves, in millionths: one hundredth. */
const taskLoad = 10_000;

export interface PlaceInput {
  /** Tasks that may need a node; those that do not are passed over. */
  tasks: Iterable<Task>;
  nodes: Iterable<Node>;
  usage: Pick<Usage, "node" | "ofService">;
  /** What tasks of a revision are; undefined when it is unknown: then they wait. */
  specOf: (serviceId: string, revision: number) => TaskSpec | undefined;
  /** All tasks of a service that the store keeps, for its failures. */
  tasksOfService: (serviceId: string) => Iterable<Task>;
  now: number;
}

export interface Placement {
  assigned: { taskId: string; nodeId: string }[];
  /** With the reason in the user's terms. */
  unplaced: { taskId: string; message: string }[];
}

/** Whether the scheduler has to find a node for it. */
export function needsNode(task: Task): boolean {
  return task.nodeId === "" && isWanted(task) && !hasEnded(task);
}

interface Candidate {
  node: Node;
  penalised: boolean;
  /** Tasks of the same service there. */
  ofService: number;
  /** The larger share of its resources that is reserved, and a little for every task; in millionths. */
  load: number;
  tie: number;
}

/** What this batch has put on nodes so far. */
interface Taken {
  uses: Map<string, NodeUse>;
  /** By service, then by node: those that were there before included. */
  counts: Map<string, Map<string, number>>;
}

/** Groups go in the order of their oldest task. */
export function place(input: PlaceInput): Placement {
  const nodes = [...input.nodes].sort((a, b) => (a.meta.id < b.meta.id ? -1 : 1));
  const placement: Placement = { assigned: [], unplaced: [] };
  const taken: Taken = { uses: new Map(), counts: new Map() };
  for (const tasks of groupsOf(input.tasks)) placeGroup(input, nodes, tasks, taken, placement);
  return placement;
}

function groupsOf(tasks: Iterable<Task>): Task[][] {
  const groups = new Map<string, Task[]>();
  const ordered = [...tasks]
    .filter(needsNode)
    .sort((a, b) => a.meta.createdAtMs - b.meta.createdAtMs || a.slot - b.slot || (a.meta.id < b.meta.id ? -1 : 1));
  for (const task of ordered) {
    const key = `${task.serviceId} ${task.revision}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [task]);
    else group.push(task);
  }
  return [...groups.values()];
}

function placeGroup(
  input: PlaceInput,
  nodes: readonly Node[],
  tasks: readonly Task[],
  taken: Taken,
  placement: Placement,
): void {
  const [first] = tasks;
  if (first === undefined) return;
  const { serviceId, revision } = first;
  const spec = input.specOf(serviceId, revision);
  if (spec === undefined) {
    const message = `revision ${revision} is not known`;
    for (const { meta } of tasks) placement.unplaced.push({ taskId: meta.id, message });
    return;
  }
  const demand = demandOf(spec);
  const { penalised, lastFailed } = failuresOf(input, serviceId, revision);
  const counts = taken.counts.get(serviceId) ?? new Map(input.usage.ofService(serviceId));
  taken.counts.set(serviceId, counts);
  const useOf = (nodeId: string) => taken.uses.get(nodeId) ?? input.usage.node(nodeId);
  const missOf = (node: Node): Miss | undefined =>
    whyExcluded(node, demand) ?? whyFull(node, demand, useOf(node.meta.id), counts.get(node.meta.id) ?? 0);

  const candidates: Candidate[] = [];
  for (const node of nodes) {
    if (missOf(node) !== undefined) continue;
    const { id } = node.meta;
    candidates.push({
      node,
      penalised: penalised.has(id),
      ofService: counts.get(id) ?? 0,
      load: loadOf(node, useOf(id)),
      tie: hash(`${serviceId} ${id}`),
    });
  }
  const heap = new Heap(candidates, isBetter);
  for (const [i, task] of tasks.entries()) {
    const best = takeBest(heap, lastFailed.get(task.slot));
    if (best === undefined) {
      const message = describeMisses(nodes.flatMap((node) => missOf(node) ?? []));
      for (const { meta } of tasks.slice(i)) placement.unplaced.push({ taskId: meta.id, message });
      return;
    }
    const { id } = best.node.meta;
    placement.assigned.push({ taskId: task.meta.id, nodeId: id });
    const use = withTask(useOf(id), demand);
    taken.uses.set(id, use);
    best.ofService += 1;
    counts.set(id, best.ofService);
    best.load = loadOf(best.node, use);
    if (whyFull(best.node, demand, use, best.ofService) === undefined) heap.push(best);
  }
}

function withTask(use: Readonly<NodeUse>, { reserved }: Demand): NodeUse {
  return {
    nanoCpus: use.nanoCpus + reserved.nanoCpus,
    memoryBytes: use.memoryBytes + reserved.memoryBytes,
    tasks: use.tasks + 1,
  };
}

/** The best candidate that is not on `avoid`; that one when there is no other as little penalised. */
function takeBest(heap: Heap<Candidate>, avoid: string | undefined): Candidate | undefined {
  const best = heap.pop();
  if (best === undefined || best.node.meta.id !== avoid) return best;
  const second = heap.peek();
  if (second === undefined || (second.penalised && !best.penalised)) return best;
  heap.pop();
  heap.push(best);
  return second;
}

function isBetter(a: Candidate, b: Candidate): boolean {
  if (a.penalised !== b.penalised) return b.penalised;
  if (a.ofService !== b.ofService) return a.ofService < b.ofService;
  if (a.load !== b.load) return a.load < b.load;
  if (a.tie !== b.tie) return a.tie < b.tie;
  return a.node.meta.id < b.node.meta.id;
}

function loadOf({ description: { resources } }: Node, use: Readonly<NodeUse>): number {
  const share = (used: number, of: number) => (of > 0 ? used / of : 0);
  const reserved = Math.max(share(use.nanoCpus, resources.nanoCpus), share(use.memoryBytes, resources.memoryBytes));
  return Math.round(reserved * 1e6) + use.tasks * taskLoad;
}

/** Where tasks of the revision failed too often lately, and where each slot's last task failed. */
function failuresOf(
  { tasksOfService, now }: PlaceInput,
  serviceId: string,
  revision: number,
): { penalised: Set<string>; lastFailed: Map<number, string> } {
  const failures = new Map<string, number>();
  const last = new Map<number, Task>();
  for (const task of tasksOfService(serviceId)) {
    if (task.nodeId === "") continue;
    const before = last.get(task.slot);
    if (before === undefined || newestFirst(task, before) < 0) last.set(task.slot, task);
    if (task.revision === revision && hasFailed(task) && task.endedAtMs > now - failureWindowMs)
      failures.set(task.nodeId, (failures.get(task.nodeId) ?? 0) + 1);
  }
  const penalised = new Set<string>();
  for (const [nodeId, count] of failures) if (count >= failuresMax) penalised.add(nodeId);
  const lastFailed = new Map<number, string>();
  for (const [slot, task] of last) if (hasFailed(task)) lastFailed.set(slot, task.nodeId);
  return { penalised, lastFailed };
}

function hasFailed({ status: { state } }: Task): boolean {
  return state === TaskState.FAILED || state === TaskState.REJECTED;
}

/** FNV-1a, 32 bits: ties fall differently for each service, and the same each time. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value >>> 0;
}
