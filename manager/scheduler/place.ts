// Placing tasks on nodes: pure and deterministic. Tasks of one revision are equal to the scheduler: nodes are judged
// once for all of them, and after each placement only the node that was taken is judged again. Every node that fits is
// scored; none is left out for speed.

import type { Settings } from "../../deploy/spec/mod.js";
import { hasEnded, isWanted } from "../../deploy/strategy/mod.js";
import { type Node, PlacementStrategy, type PortSpec, type Task, type TaskSpec } from "../../proto/mod.js";
import { Board } from "./board.js";
import { type Demand, demandOf } from "./demand.js";
import { type Experience, experienceOf, slotKey } from "./failures.js";
import { describeMiss, describeMisses, Filter, type Group } from "./filter.js";
import { NodeIndex, type NodeNumber } from "./nodes.js";
import { leaveReason, Preemption } from "./preemption.js";
import { Ranking } from "./ranking.js";
import type { UsageView } from "./usage.js";

export interface PlaceInput {
  /** Tasks that may need a node; those that do not are passed over. */
  tasks: Iterable<Task>;
  /** An index spares reading every node again. */
  nodes: Iterable<Node> | NodeIndex;
  usage: UsageView;
  /** What tasks of a revision are; undefined when it is unknown: then they wait. */
  specOf: (serviceId: string, revision: number) => TaskSpec | undefined;
  /** All tasks of a service that the store keeps, for its failures. */
  tasksOfService: (serviceId: string) => Iterable<Task>;
  now: number;
  /** Default: spread, no preemption. */
  settings?: Pick<Settings, "strategy" | "preemption">;
  /** The ports of a revision, for those on the host; without it there are none. */
  portsOf?: (serviceId: string, revision: number) => readonly PortSpec[];
  /** For affinities to services; without it no other service is known. */
  serviceByName?: (name: string) => { meta: { id: string } } | undefined;
  /** For preemption; without it nobody is pushed out. */
  tasksOfNode?: (nodeId: string) => Iterable<Task>;
  /** How many tasks of a service may be pushed out now; without it any number. */
  budgetOf?: (serviceId: string) => number;
  /**
   * Groups that found no room before, and the nodes that have gained some since: where none of these fits, the group is
   * passed over without a word. Without it, every group is judged.
   */
  blocked?: { groups: ReadonlySet<string>; gained: ReadonlySet<string> };
}

export interface Placement {
  /** With why there, in words. */
  assigned: { taskId: string; nodeId: string; reason: string }[];
  /** With the reason in the user's terms. */
  unplaced: { taskId: string; message: string }[];
  /** Tasks that have to make way for one of higher priority, with for whom. */
  preempted: { taskId: string; reason: string }[];
}

/** Whether the scheduler has to find a node for it. */
export function needsNode(task: Task): boolean {
  return task.nodeId === "" && isWanted(task) && !hasEnded(task);
}

const noPorts = (): readonly PortSpec[] => [];

/** Tasks with the same key are equal to the scheduler. */
export function groupKey({ serviceId, revision }: Pick<Task, "serviceId" | "revision">): string {
  return `${serviceId} ${revision}`;
}

/** Equal tasks, the oldest first. */
interface Batch extends Group {
  revision: number;
  demand: Demand;
  tasks: Task[];
}

/**
 * Those that have one node only go first (with preemption: of each priority), then groups by priority, then by their oldest task. When packing, larger
 * tasks go before smaller ones of the same priority, which leaves less room that nobody can use.
 */
export function place(input: PlaceInput): Placement {
  const index = input.nodes instanceof NodeIndex ? input.nodes : new NodeIndex(input.nodes);
  const { usage, serviceByName, tasksOfNode, settings } = input;
  const board = new Board({ index, usage, serviceIdOf: (name) => serviceByName?.(name)?.meta.id });
  const run = new Run(input, board);
  if (settings?.preemption === true && tasksOfNode !== undefined)
    run.preemption = new Preemption(
      {
        specOf: input.specOf,
        portsOf: input.portsOf ?? noPorts,
        tasksOfNode,
        budgetOf: input.budgetOf ?? (() => Number.POSITIVE_INFINITY),
      },
      board,
    );
  for (const batches of inRounds(run.batches(), run.preemption !== undefined)) {
    for (const batch of batches) run.placeFixed(batch);
    for (const batch of batches) run.placeFree(batch);
  }
  return run.placement;
}

/**
 * Batches, highest priority first, that are placed together. Where tasks are pushed out, those of lower priority come
 * after all others: what replaces one on the only node that it may run on would else take the room that it left.
 */
function inRounds(batches: readonly Batch[], byPriority: boolean): (readonly Batch[])[] {
  if (!byPriority) return [batches];
  const rounds: Batch[][] = [];
  for (const batch of batches) {
    const round = rounds.at(-1);
    if (round?.[0]?.demand.priority === batch.demand.priority) round.push(batch);
    else rounds.push([batch]);
  }
  return rounds;
}

class Run {
  readonly placement: Placement = { assigned: [], unplaced: [], preempted: [] };
  preemption: Preemption | undefined;
  readonly #input: PlaceInput;
  readonly #board: Board;

  constructor(input: PlaceInput, board: Board) {
    this.#input = input;
    this.#board = board;
  }

  batches(): Batch[] {
    const services = new Map<string, Map<number, Task[]>>();
    for (const task of this.#input.tasks) {
      if (!needsNode(task)) continue;
      let revisions = services.get(task.serviceId);
      if (revisions === undefined) services.set(task.serviceId, (revisions = new Map<number, Task[]>()));
      const tasks = revisions.get(task.revision);
      if (tasks === undefined) revisions.set(task.revision, [task]);
      else tasks.push(task);
    }
    const batches: Batch[] = [];
    for (const [serviceId, revisions] of services)
      for (const [revision, tasks] of revisions) {
        tasks.sort(oldestFirst);
        const spec = this.#input.specOf(serviceId, revision);
        if (spec === undefined) this.#refuse(tasks, `revision ${revision} is not known`);
        else {
          const demand = demandOf(spec, this.#input.portsOf?.(serviceId, revision));
          batches.push({ serviceId, serviceName: tasks[0]?.serviceName ?? "", revision, demand, tasks });
        }
      }
    return batches.sort((a, b) => this.#compare(a, b));
  }

  /** Tasks that may run on one node only go there, or say why not. Failures there change nothing. */
  placeFixed(batch: Batch): void {
    const fixed = batch.tasks.filter(({ onlyNodeId }) => onlyNodeId !== "");
    if (fixed.length === 0) return;
    const filter = new Filter(this.#board, batch.demand, batch);
    for (const task of fixed) {
      const number = this.#board.index.numberOf(task.onlyNodeId);
      if (number === undefined) {
        this.#refuse([task], `node ${task.onlyNodeId}, the only one that it may run on, is not there`);
        continue;
      }
      const miss = filter.miss(number);
      if (miss === undefined) this.#assign(task, number, filter, "the only node that it may run on");
      else if (this.preemption === undefined || filter.whyExcluded(number) !== undefined)
        this.#refuse([task], `${this.#nameOf(number)}, the only node that it may run on: ${describeMiss(miss)}`);
      else this.#makeRoom(task, filter, number, `${this.#nameOf(number)}: ${describeMiss(miss)}`);
    }
  }

  placeFree(batch: Batch): void {
    const tasks = batch.tasks.filter(({ onlyNodeId }) => onlyNodeId === "");
    if (tasks.length === 0) return;
    const { demand, serviceId, revision } = batch;
    const filter = new Filter(this.#board, demand, batch);
    if (this.#isStillBlocked(batch, filter)) return;
    const experience = experienceOf(this.#input.tasksOfService(serviceId), revision, this.#input.now);
    const reasons = new Reasons(this.#strategyOf(demand), filter, this.#board);
    let ranking = this.#rank(batch, filter, experience);
    for (const [i, task] of tasks.entries()) {
      const number = ranking.best(this.#board.index.numberOf(experience.avoid.get(slotKey(task)) ?? ""));
      if (number === undefined) {
        this.#refuseRest(tasks.slice(i), filter);
        return;
      }
      const reason = reasons.of(number, ranking);
      const { leads } = filter;
      this.#assign(task, number, filter, reason);
      // Where the first one went decides where the others may go.
      if (leads) ranking = this.#rank(batch, filter, experience);
      else ranking.taken(number);
    }
  }

  /** Whether it had no room at the last look and none has come since. */
  #isStillBlocked(batch: Batch, filter: Filter): boolean {
    const { blocked } = this.#input;
    if (blocked === undefined || this.preemption !== undefined || filter.follows) return false;
    if (!blocked.groups.has(groupKey(batch))) return false;
    for (const id of blocked.gained) {
      const number = this.#board.index.numberOf(id);
      if (number !== undefined && filter.fits(number)) return false;
    }
    return true;
  }

  #rank(batch: Batch, filter: Filter, experience: Experience): Ranking {
    const penalised = new Set<NodeNumber>();
    for (const id of experience.penalised) {
      const number = this.#board.index.numberOf(id);
      if (number !== undefined) penalised.add(number);
    }
    const { serviceId, serviceName, demand } = batch;
    const strategy = this.#strategyOf(demand);
    return new Ranking({ serviceId, serviceName, board: this.#board, filter, strategy, penalised });
  }

  #strategyOf({ strategy }: Demand): PlacementStrategy {
    if (strategy !== PlacementStrategy.UNSPECIFIED) return strategy;
    return this.#input.settings?.strategy ?? PlacementStrategy.SPREAD;
  }

  #assign(task: Task, number: NodeNumber, filter: Filter, reason: string): void {
    this.#board.take(number, filter.demand);
    filter.count(number);
    this.placement.assigned.push({
      taskId: task.meta.id,
      nodeId: this.#board.index.nodes[number]?.meta.id ?? "",
      reason,
    });
  }

  #refuseRest(tasks: readonly Task[], filter: Filter): void {
    const message = describeMisses(missesOf(this.#board, filter));
    if (this.preemption === undefined) {
      this.#refuse(tasks, message);
      return;
    }
    for (const [i, task] of tasks.entries()) {
      if (this.#makeRoom(task, filter, undefined, message)) continue;
      // What made no room for one makes none for the others, which are its equals.
      this.#refuse(tasks.slice(i + 1), message);
      return;
    }
  }

  /** Whether some tasks leave for this one; it waits for them, or as everybody does. */
  #makeRoom(task: Task, filter: Filter, only: NodeNumber | undefined, message: string): boolean {
    const reason = leaveReason(task.serviceName, filter.demand.priority);
    const room = this.preemption?.make(filter, reason, only);
    if (room === undefined) {
      this.#refuse([task], message);
      return false;
    }
    for (const { meta } of room.victims) this.placement.preempted.push({ taskId: meta.id, reason });
    this.#refuse([task], `waits for tasks of lower priority to leave ${this.#nameOf(room.node)}`);
    return true;
  }

  #refuse(tasks: readonly Task[], message: string): void {
    for (const { meta } of tasks) this.placement.unplaced.push({ taskId: meta.id, message });
  }

  #nameOf(number: NodeNumber): string {
    const node = this.#board.index.nodes[number];
    return node?.description.hostname ?? "";
  }

  #compare(a: Batch, b: Batch): number {
    if (a.demand.priority !== b.demand.priority) return b.demand.priority - a.demand.priority;
    const bigger = this.#packedSize(b.demand) - this.#packedSize(a.demand);
    if (bigger !== 0) return bigger;
    const [first, second] = [a.tasks[0], b.tasks[0]];
    if (first === undefined || second === undefined) return 0;
    return oldestFirst(first, second);
  }

  /** Of all that the cluster has, the larger share; those that are spread go by age alone, after all others. */
  #packedSize(demand: Demand): number {
    if (this.#strategyOf(demand) !== PlacementStrategy.BINPACK) return -1;
    const { nanoCpus, memoryBytes } = demand.reserved;
    const { cpus, memory } = this.#capacity();
    return Math.max(nanoCpus / cpus, memoryBytes / memory);
  }

  #total: { cpus: number; memory: number } | undefined;
  #capacity(): { cpus: number; memory: number } {
    const sum = (column: readonly number[]) =>
      Math.max(
        1,
        column.reduce((all, one) => all + one, 0),
      );
    this.#total ??= { cpus: sum(this.#board.index.cpus), memory: sum(this.#board.index.memory) };
    return this.#total;
  }
}

/** Why tasks of a group get their nodes; most of them share a few texts. */
class Reasons {
  readonly #strategy: PlacementStrategy;
  readonly #filter: Filter;
  readonly #board: Board;
  readonly #known = new Map<string, string[]>();

  constructor(strategy: PlacementStrategy, filter: Filter, board: Board) {
    this.#strategy = strategy;
    this.#filter = filter;
    this.#board = board;
  }

  /** Before the task is counted there. */
  of(number: NodeNumber, ranking: Ranking): string {
    const branch = ranking.branchOf(number);
    const count = this.#filter.counts[number] ?? 0;
    let known = this.#known.get(branch);
    if (known === undefined) this.#known.set(branch, (known = []));
    let text = known[count];
    if (text === undefined) {
      const { preferences, weighted } = this.#filter.demand;
      const evenly = preferences.map(({ text }) => text).join(", ");
      const parts = [
        `${ranking.size} of ${this.#board.index.size} nodes fit`,
        ...(preferences.length > 0 ? [`${evenly} chose ${branch}`] : []),
        ...(weighted.length > 0 ? ["affinities were weighed"] : []),
        this.#strategy === PlacementStrategy.BINPACK
          ? "binpack: the fullest of them"
          : `spread: ${count} ${count === 1 ? "task" : "tasks"} of the service there before`,
      ];
      text = parts.join("; ");
      known[count] = text;
    }
    return text;
  }
}

export function missesOf(board: Board, filter: Filter) {
  return board.index.nodes.flatMap((_, number) => filter.miss(number) ?? []);
}

function oldestFirst(a: Task, b: Task): number {
  return a.meta.createdAtMs - b.meta.createdAtMs || a.slot - b.slot || (a.meta.id < b.meta.id ? -1 : 1);
}
