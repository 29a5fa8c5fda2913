// Which tasks to move where. A move must be worth it whatever comes after: each one makes the distribution strictly
// better, so moves end, and never lead back to where they came from.

import { branchOf, parsePreference, type Preference } from "../../deploy/spec/mod.js";
import { hasEnded, isReady, isWanted } from "../../deploy/strategy/mod.js";
import {
  type Node,
  NodeAvailability,
  NodeState,
  PlacementStrategy,
  type Service,
  type Task,
  type TaskSpec,
  TaskState,
} from "../../proto/mod.js";
import { type Scheduling, schedulingOf } from "../explain/mod.js";
import { isUnderWay } from "../rollout/mod.js";
import { NodeIndex, place } from "../scheduler/mod.js";
import type { View } from "../store/mod.js";

/** Tries to find a better node, per plan. The next plan begins with other services, so that each has its turn. */
const attemptsMax = 2_000;
const turnMs = 60_000;

export interface MovesInput {
  /** The one service whose tasks may move; absent: all. */
  only?: Service;
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

export function planMoves(view: View, input: MovesInput): MovesPlan {
  const planner = new Planner(view, input);
  planner.spread();
  planner.pack();
  const { found } = planner;
  const moves = chosen(found, input.maxMoves);
  return { moves, more: found.flatMap((group) => group.moves).length - moves.length };
}

/**
 * As many as may be made. Of a node that is to be emptied all or nothing, for half of it gains nothing; but for the
 * first, which is the least used: the next plan begins with what is left of it.
 */
function chosen(found: readonly Group[], maxMoves: number): PlannedMove[] {
  const chosenMoves: PlannedMove[] = [];
  let emptied = false;
  for (const { moves, empties } of found) {
    const room = maxMoves - chosenMoves.length;
    if (moves.length > room) {
      if (!emptied) chosenMoves.push(...moves.slice(0, room));
      break;
    }
    chosenMoves.push(...moves);
    emptied ||= empties;
  }
  return chosenMoves;
}

/** Moves that are worth it only together. */
interface Group {
  moves: PlannedMove[];
  /** Whether they empty a node. */
  empties: boolean;
}

class Planner {
  readonly found: Group[] = [];
  readonly #view: View;
  readonly #scheduling: Scheduling;
  /** Whose tasks may be moved. */
  readonly #services: Map<string, Service>;
  /** That may give and take tasks, by id. */
  readonly #nodes: Map<string, Node>;
  readonly #index: NodeIndex;
  /** The tasks on each node as planned so far. */
  readonly #onNode = new Map<string, Task[]>();
  #attempts = 0;

  constructor(view: View, { only, now }: MovesInput) {
    this.#view = view;
    this.#scheduling = schedulingOf(view, now);
    this.#services = new Map(
      inTurn(sorted(only === undefined ? view.services.values() : [only]), now)
        .filter((service) => !isBusy(view, service))
        .map((service) => [service.meta.id, service]),
    );
    this.#nodes = new Map(
      sorted(view.nodes.values())
        .filter(({ status, spec }) => status.state === NodeState.READY && spec.availability === NodeAvailability.ACTIVE)
        .map((node) => [node.meta.id, node]),
    );
    this.#index = new NodeIndex(this.#nodes.values());
    // One that leaves already is as good as gone, but for what it reserves.
    for (const task of sorted(view.tasks.values()))
      if (task.nodeId !== "" && !hasEnded(task) && isWanted(task) && task.leave === undefined) this.#put(task);
  }

  /** Services that are spread: from the node with most of a service's tasks to where the scheduler would place one. */
  spread(): void {
    for (const service of this.#services.values()) {
      if (this.#strategyOf(service.spec.task) !== PlacementStrategy.SPREAD) continue;
      while (this.#spreadOne(service)) if (this.#isSpent()) return;
    }
  }

  /** Nodes that can be emptied, the least used first, into others that are in use anyway. */
  pack(): void {
    const received = new Set(this.found.flatMap(({ moves }) => moves.map(({ to }) => to.meta.id)));
    const byUse = [...this.#nodes.values()]
      .filter(({ meta }) => this.#guests(meta.id).length > 0)
      .sort(
        (a, b) => this.#guests(a.meta.id).length - this.#guests(b.meta.id).length || (a.meta.id < b.meta.id ? -1 : 1),
      );
    for (const [i, node] of byUse.entries()) {
      if (this.#isSpent()) return;
      if (received.has(node.meta.id)) continue;
      // Only into nodes with as many tasks at least: the sum of squares grows with each move, so that moves end.
      for (const target of this.#empty(node, byUse.slice(i + 1))) received.add(target);
    }
  }

  #isSpent(): boolean {
    return this.#attempts >= attemptsMax;
  }

  /** One move of a service's task, if any is worth it: at the outermost level first, so that none is made twice. */
  #spreadOne(service: Service): boolean {
    let best: { task: Task; from: Node; to: Node; level: number; held: number } | undefined;
    const tried = new Set<string>();
    for (const { node, tasks } of this.#holders(service))
      for (const task of tasks) {
        // Tasks of a revision on a node are alike.
        const alike = `${node.meta.id} ${task.revision}`;
        if (best?.level === 0 || tried.has(alike) || !this.#isMovable(task)) continue;
        tried.add(alike);
        if (this.#isSpent()) return false;
        const better = this.#better(service, task, node);
        if (better === undefined || better.level >= (best?.level ?? Number.POSITIVE_INFINITY)) continue;
        best = { task, from: node, held: tasks.length, ...better };
      }
    if (best === undefined) return false;
    const { task, from, to, held } = best;
    const counts = this.#scheduling.usage.ofService(service.meta.id);
    const there = counts.get(to.meta.id) ?? 0;
    const reason = `${hostname(from)} has ${held} of ${sum([...counts.values()])} tasks, ${hostname(to)} ${there === 0 ? "none" : String(there)}`;
    this.#move({ task, from, to, reason });
    this.found.push({ moves: [{ task, from, to, reason }], empties: false });
    return true;
  }

  /** The nodes with tasks of the service, those with most first. */
  #holders(service: Service): { node: Node; tasks: Task[] }[] {
    const holders: { node: Node; tasks: Task[] }[] = [];
    for (const nodeId of this.#scheduling.usage.ofService(service.meta.id).keys()) {
      const node = this.#nodes.get(nodeId);
      const tasks = (this.#onNode.get(nodeId) ?? []).filter(({ serviceId }) => serviceId === service.meta.id);
      if (node !== undefined && tasks.length > 0) holders.push({ node, tasks });
    }
    return holders.sort((a, b) => b.tasks.length - a.tasks.length || (a.node.meta.id < b.node.meta.id ? -1 : 1));
  }

  /** Where the scheduler would place the task today, if that is better by a whole task. */
  #better(service: Service, task: Task, from: Node): { to: Node; level: number } | undefined {
    const levels = preferencesOf(service.spec.task);
    // Without levels above the nodes, nothing is better than a node that has the fewest of all.
    if (levels.length === 0 && !this.#anyNodeHasFewer(service, from)) return undefined;
    this.#attempts += 1;
    this.#scheduling.usage.remove(task.meta.id);
    const [placed] = this.#place([task], this.#index);
    const counts = new Map(this.#scheduling.usage.ofService(service.meta.id));
    this.#scheduling.count(task);
    const to = placed === undefined ? undefined : this.#nodes.get(placed.nodeId);
    if (to === undefined || to === from) return undefined;
    const level = this.#evensOut(levels, counts, from, to);
    return level === undefined ? undefined : { to, level };
  }

  #anyNodeHasFewer(service: Service, { meta }: Node): boolean {
    const counts = this.#scheduling.usage.ofService(service.meta.id);
    const own = counts.get(meta.id) ?? 0;
    if (own < 2) return false;
    for (const id of this.#nodes.keys()) if ((counts.get(id) ?? 0) <= own - 2) return true;
    return false;
  }

  /**
   * The outermost level where the two nodes are apart, counted from 0, if `to` has fewer there than `from` without the
   * task: then the sum of squares there becomes smaller, and nothing changes at the levels above it.
   */
  #evensOut(
    levels: readonly Preference[],
    counts: ReadonlyMap<string, number>,
    from: Node,
    to: Node,
  ): number | undefined {
    let apart = [...counts];
    for (const [i, level] of levels.entries()) {
      const [a, b] = [branchOf(level, from), branchOf(level, to)];
      const branches = apart.map(([id, count]) => ({ id, count, branch: this.#branch(level, id) }));
      if (a !== b) {
        const of = (branch: string) => sum(branches.map((one) => (one.branch === branch ? one.count : 0)));
        return of(b) < of(a) ? i : undefined;
      }
      apart = branches.filter(({ branch }) => branch === a).map(({ id, count }) => [id, count]);
    }
    return (counts.get(to.meta.id) ?? 0) < (counts.get(from.meta.id) ?? 0) ? levels.length : undefined;
  }

  #branch(level: Preference, nodeId: string): string {
    const node = this.#view.nodes.get(nodeId);
    return node === undefined ? "" : branchOf(level, node);
  }

  /** Moves all tasks off a node, if all of them have a place elsewhere. Answers who takes them. */
  #empty(node: Node, targets: readonly Node[]): string[] {
    const { id } = node.meta;
    const guests = this.#guests(id);
    const mayGo = (task: Task) =>
      this.#isMovable(task) &&
      this.#strategyOf(this.#scheduling.specOf(task.serviceId, task.revision)) === PlacementStrategy.BINPACK;
    if (guests.length === 0 || !guests.every(mayGo)) return [];
    if (targets.length === 0) return [];
    this.#attempts += 1;
    const placed = this.#place(guests, targets);
    if (placed.length < guests.length) return [];
    const moves: PlannedMove[] = [];
    for (const { taskId, nodeId } of placed) {
      const task = guests.find(({ meta }) => meta.id === taskId);
      const to = this.#nodes.get(nodeId);
      if (task === undefined || to === undefined) continue;
      moves.push({ task, from: node, to, reason: `${hostname(node)} can be emptied, its tasks fit on other nodes` });
    }
    for (const move of moves) this.#move(move);
    this.found.push({ moves, empties: true });
    return placed.map(({ nodeId }) => nodeId);
  }

  #place(tasks: readonly Task[], nodes: Iterable<Node>): { taskId: string; nodeId: string }[] {
    const { settings } = this.#scheduling;
    return place({
      ...this.#scheduling,
      tasks: tasks.map((task) => ({ ...task, nodeId: "" })),
      nodes,
      // Nobody is pushed out for a little more balance.
      settings: { ...settings, preemption: false },
    }).assigned;
  }

  /** What it reserves is not free before it has moved, and the next one must fit all the same. */
  #move(move: PlannedMove): void {
    const { task, from, to } = move;
    const there = this.#onNode.get(from.meta.id) ?? [];
    this.#onNode.set(
      from.meta.id,
      there.filter((other) => other !== task),
    );
    this.#scheduling.count({ ...task, desiredState: TaskState.SHUTDOWN });
    const moved: Task = {
      ...task,
      meta: { ...task.meta, id: `${task.meta.id} moved` },
      nodeId: to.meta.id,
      // It is not moved twice.
      onlyNodeId: to.meta.id,
    };
    this.#scheduling.count(moved);
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
    return isMovable(task) && this.#services.has(task.serviceId);
  }

  #strategyOf(spec: TaskSpec | undefined): PlacementStrategy {
    const own = spec?.placement.strategy ?? PlacementStrategy.UNSPECIFIED;
    return own === PlacementStrategy.UNSPECIFIED ? this.#scheduling.settings.strategy : own;
  }
}

/** Whether the task could be moved: it serves, nothing else is done to it, and it is neither a node's own nor a job's. */
export function isMovable(task: Task): boolean {
  return isReady(task) && task.leave === undefined && task.onlyNodeId === "" && task.run === 0;
}

/** A rollout places tasks anew anyway; two who move a service's tasks would go beyond what it may miss. */
export function isBusy(view: View, service: Service): boolean {
  return service.removing || isUnderWay(view.rollouts.get(service.rolloutId));
}

/** Outermost first. */
function preferencesOf({ placement }: TaskSpec): Preference[] {
  return placement.preferences.flatMap((text) => {
    const parsed = parsePreference(text);
    return "preference" in parsed ? [parsed.preference] : [];
  });
}

/** From another one on each minute. */
function inTurn<T>(all: readonly T[], now: number): T[] {
  const first = all.length === 0 ? 0 : Math.floor(now / turnMs) % all.length;
  return [...all.slice(first), ...all.slice(0, first)];
}

/** By id: the same plan for the same state, in whatever order the store has it. */
function sorted<T extends { meta: { id: string } }>(objects: Iterable<T>): T[] {
  return [...objects].sort((a, b) => (a.meta.id < b.meta.id ? -1 : 1));
}

function hostname(node: Node): string {
  return node.description.hostname;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
