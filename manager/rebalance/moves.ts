// Which tasks to move where. A move must be worth it whatever comes after: each one makes the distribution strictly
// better, so moves end, and never lead back to where they came from.

import { hasEnded, isReady, isWanted } from "../../deploy/strategy/mod.js";
import { labelsOf } from "../../deploy/spec/mod.js";
import {
  type Node,
  NodeAvailability,
  NodeState,
  PlacementStrategy,
  type Resources,
  type Service,
  type Task,
  type TaskSpec,
  TaskState,
} from "../../proto/mod.js";
import { place, type PlaceInput, Usage } from "../scheduler/mod.js";

/** Tries to find a better node, per plan: what is left is found by the next one, after these moves. */
const attemptsMax = 2_000;

export interface MovesInput {
  nodes: readonly Node[];
  /** All tasks of the cluster. */
  tasks: readonly Task[];
  /** Services whose tasks may be moved: not those that are being removed, or that a rollout is moving. */
  services: ReadonlyMap<string, Service>;
  specOf: PlaceInput["specOf"];
  tasksOfService: PlaceInput["tasksOfService"];
  /** Of services that say none. */
  strategy: typeof PlacementStrategy.SPREAD | typeof PlacementStrategy.BINPACK;
  now: number;
  maxMoves: number;
}

export interface PlannedMove {
  task: Task;
  from: Node;
  to: Node;
  /** "h1 has 5 of its 6 tasks, h3 none". */
  reason: string;
}

export interface MovesPlan {
  moves: PlannedMove[];
  /** Worth it, and beyond `maxMoves`. */
  more: number;
}

export function planMoves(input: MovesInput): MovesPlan {
  const planner = new Planner(input);
  planner.spread();
  planner.pack();
  return { moves: planner.found.slice(0, input.maxMoves), more: Math.max(0, planner.found.length - input.maxMoves) };
}

const nothing: Resources = { nanoCpus: 0, memoryBytes: 0, generic: {} };

class Planner {
  readonly found: PlannedMove[] = [];
  readonly #input: MovesInput;
  readonly #usage = new Usage();
  /** That may give and take tasks, by id. */
  readonly #nodes: Map<string, Node>;
  /** The tasks on each node as planned so far. */
  readonly #onNode = new Map<string, Task[]>();
  #attempts = 0;

  constructor(input: MovesInput) {
    this.#input = input;
    this.#nodes = new Map(
      [...input.nodes]
        .filter(({ status, spec }) => status.state === NodeState.READY && spec.availability === NodeAvailability.ACTIVE)
        .sort((a, b) => (a.meta.id < b.meta.id ? -1 : 1))
        .map((node) => [node.meta.id, node]),
    );
    for (const task of [...input.tasks].sort((a, b) => (a.meta.id < b.meta.id ? -1 : 1))) {
      if (task.nodeId === "" || hasEnded(task)) continue;
      // One that leaves already is as good as gone: what it reserves is freed when it is.
      this.#usage.set(task.leave === undefined ? task : stopping(task), this.#reserved(task));
      if (isWanted(task) && task.leave === undefined) this.#put(task);
    }
  }

  /** Services that are spread: from the node with most of a service's tasks to where the scheduler would place one. */
  spread(): void {
    for (const service of this.#input.services.values()) {
      if (this.#strategyOf(service.spec.task) !== PlacementStrategy.SPREAD) continue;
      while (this.#spreadOne(service)) if (this.#isSpent()) return;
    }
  }

  /** Nodes that can be emptied, the least used first, into others that are in use anyway. */
  pack(): void {
    const received = new Set(this.found.map(({ to }) => to.meta.id));
    const emptied = new Set<string>();
    const byUse = [...this.#nodes.values()]
      .filter(({ meta }) => this.#guests(meta.id).length > 0)
      .sort(
        (a, b) => this.#guests(a.meta.id).length - this.#guests(b.meta.id).length || (a.meta.id < b.meta.id ? -1 : 1),
      );
    for (const node of byUse) {
      if (this.#isSpent()) return;
      if (received.has(node.meta.id)) continue;
      for (const target of this.#empty(node, emptied)) received.add(target);
    }
  }

  #isSpent(): boolean {
    return this.#attempts >= attemptsMax;
  }

  /** One move of a service's task, if any is worth it. */
  #spreadOne(service: Service): boolean {
    const tried = new Set<string>();
    for (const { node, tasks } of this.#holders(service)) {
      for (const task of tasks) {
        // Tasks of a revision on a node are alike.
        const alike = `${node.meta.id} ${task.revision}`;
        if (tried.has(alike) || !this.#isMovable(task)) continue;
        tried.add(alike);
        if (this.#isSpent()) return false;
        const to = this.#better(service, task, node);
        if (to === undefined) continue;
        const total = sum([...this.#usage.ofService(service.meta.id).values()]);
        const there = this.#usage.ofService(service.meta.id).get(to.meta.id) ?? 0;
        const reason = `${hostname(node)} has ${tasks.length} of ${total} tasks, ${hostname(to)} ${there === 0 ? "none" : String(there)}`;
        this.#move({ task, from: node, to, reason });
        return true;
      }
    }
    return false;
  }

  /** The nodes with tasks of the service, those with most first. */
  #holders(service: Service): { node: Node; tasks: Task[] }[] {
    const holders: { node: Node; tasks: Task[] }[] = [];
    for (const nodeId of this.#usage.ofService(service.meta.id).keys()) {
      const node = this.#nodes.get(nodeId);
      const tasks = (this.#onNode.get(nodeId) ?? []).filter(({ serviceId }) => serviceId === service.meta.id);
      if (node !== undefined && tasks.length > 0) holders.push({ node, tasks });
    }
    return holders.sort((a, b) => b.tasks.length - a.tasks.length || (a.node.meta.id < b.node.meta.id ? -1 : 1));
  }

  /** Where the scheduler would place the task today, if that is better by a whole task. */
  #better(service: Service, task: Task, from: Node): Node | undefined {
    const levels = spreadLevels(service.spec.task);
    // Without levels above the nodes, nothing is better than a node that has the fewest of all.
    if (levels.length === 0 && !this.#anyNodeHasFewer(service, from)) return undefined;
    this.#attempts += 1;
    this.#usage.remove(task.meta.id);
    const [placed] = this.#place([task], [...this.#nodes.values()]);
    const counts = new Map(this.#usage.ofService(service.meta.id));
    this.#usage.set(task, this.#reserved(task));
    const to = placed === undefined ? undefined : this.#nodes.get(placed.nodeId);
    if (to === undefined || to === from) return undefined;
    return this.#isEvener(levels, counts, from, to) ? to : undefined;
  }

  #anyNodeHasFewer(service: Service, { meta }: Node): boolean {
    const counts = this.#usage.ofService(service.meta.id);
    const own = counts.get(meta.id) ?? 0;
    if (own < 2) return false;
    for (const id of this.#nodes.keys()) if ((counts.get(id) ?? 0) <= own - 2) return true;
    return false;
  }

  /**
   * Whether `to` has fewer than `from` without the task, at the outermost level where the two are apart: then the
   * sum of squares there becomes smaller, and nothing changes at the levels above it.
   */
  #isEvener(levels: readonly string[], counts: ReadonlyMap<string, number>, from: Node, to: Node): boolean {
    for (const label of levels) {
      const [a, b] = [labelsOf(from)[label] ?? "", labelsOf(to)[label] ?? ""];
      if (a === b) continue;
      const of = (value: string) =>
        sum([...counts].map(([id, count]) => (this.#valueAt(id, label) === value ? count : 0)));
      return of(b) < of(a);
    }
    return (counts.get(to.meta.id) ?? 0) < (counts.get(from.meta.id) ?? 0);
  }

  #valueAt(nodeId: string, label: string): string {
    const node = this.#nodes.get(nodeId);
    return node === undefined ? "" : (labelsOf(node)[label] ?? "");
  }

  /** Moves all tasks off a node, if all of them have a place elsewhere. Answers who takes them. */
  #empty(node: Node, emptied: Set<string>): string[] {
    const { id } = node.meta;
    const guests = this.#guests(id);
    const mayGo = (task: Task) =>
      this.#isMovable(task) &&
      this.#strategyOf(this.#input.specOf(task.serviceId, task.revision)) === PlacementStrategy.BINPACK;
    if (guests.length === 0 || !guests.every(mayGo)) return [];
    const targets = [...this.#nodes.values()].filter(
      (other) => other !== node && !emptied.has(other.meta.id) && this.#guests(other.meta.id).length > 0,
    );
    if (targets.length === 0) return [];
    this.#attempts += 1;
    const placed = this.#place(guests, targets);
    if (placed.length < guests.length) return [];
    for (const { taskId, nodeId } of placed) {
      const task = guests.find(({ meta }) => meta.id === taskId);
      const to = this.#nodes.get(nodeId);
      if (task === undefined || to === undefined) continue;
      this.#move({ task, from: node, to, reason: `${hostname(node)} can be emptied, its tasks fit on other nodes` });
    }
    emptied.add(id);
    return placed.map(({ nodeId }) => nodeId);
  }

  #place(tasks: readonly Task[], nodes: readonly Node[]): { taskId: string; nodeId: string }[] {
    const { specOf, tasksOfService, now } = this.#input;
    return place({
      tasks: tasks.map((task) => ({ ...task, nodeId: "" })),
      nodes,
      usage: this.#usage,
      specOf,
      tasksOfService,
      now,
    }).assigned;
  }

  /** What it reserves is not free before it has moved, and the next one must fit all the same. */
  #move(move: PlannedMove): void {
    const { task, from, to } = move;
    this.found.push(move);
    const there = this.#onNode.get(from.meta.id) ?? [];
    this.#onNode.set(
      from.meta.id,
      there.filter((other) => other !== task),
    );
    this.#usage.set(stopping(task), this.#reserved(task));
    const moved: Task = {
      ...task,
      meta: { ...task.meta, id: `${task.meta.id} moved` },
      nodeId: to.meta.id,
      // It is not moved twice.
      onlyNodeId: to.meta.id,
    };
    this.#usage.set(moved, this.#reserved(task));
    this.#put(moved);
  }

  #put(task: Task): void {
    const there = this.#onNode.get(task.nodeId);
    if (there === undefined) this.#onNode.set(task.nodeId, [task]);
    else there.push(task);
  }

  /** The node's tasks that do not belong to it. */
  #guests(nodeId: string): Task[] {
    return (this.#onNode.get(nodeId) ?? []).filter(
      ({ onlyNodeId, meta }) => onlyNodeId === "" || meta.id.endsWith(" moved"),
    );
  }

  #isMovable(task: Task): boolean {
    return isMovable(task) && this.#input.services.has(task.serviceId);
  }

  #reserved(task: Task): Resources {
    return this.#input.specOf(task.serviceId, task.revision)?.reservations ?? nothing;
  }

  #strategyOf(spec: TaskSpec | undefined): PlacementStrategy {
    const own = spec?.placement.strategy ?? PlacementStrategy.UNSPECIFIED;
    return own === PlacementStrategy.UNSPECIFIED ? this.#input.strategy : own;
  }
}

/** Whether the task could be moved: it serves, nothing else is done to it, and it is neither a node's own nor a job's. */
export function isMovable(task: Task): boolean {
  return isReady(task) && task.leave === undefined && task.onlyNodeId === "" && task.run === 0;
}

function stopping(task: Task): Task {
  return { ...task, desiredState: TaskState.SHUTDOWN };
}

/** The labels of the service's `spread=node.labels.X` preferences, outermost first. */
function spreadLevels({ placement }: TaskSpec): string[] {
  return placement.preferences.flatMap((text) => /^spread=node\.labels\.(.+)$/.exec(text)?.[1] ?? []);
}

function hostname(node: Node): string {
  return node.description.hostname;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
