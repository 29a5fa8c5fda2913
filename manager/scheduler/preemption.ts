// Room for a task of higher priority where there is none: which tasks of lower priority have to leave for it. They are
// as few as possible and of the lowest priorities. Who has victims that leave already waits for them; until they are
// gone, their node's room is kept for it, or what replaces them would take it again.

import { hasEnded, isWanted } from "../../deploy/strategy/mod.js";
import type { PortSpec, Task, TaskSpec } from "../../proto/mod.js";
import type { Board } from "./board.js";
import { type Demand, demandOf } from "./demand.js";
import type { Filter } from "./filter.js";
import type { NodeNumber } from "./nodes.js";

/** Tasks that one batch makes room for; the others wait for the next, which comes when those have their nodes. */
const preemptorsMax = 64;

export interface PreemptionInput {
  specOf: (serviceId: string, revision: number) => TaskSpec | undefined;
  portsOf: (serviceId: string, revision: number) => readonly PortSpec[];
  tasksOfNode: (nodeId: string) => Iterable<Task>;
  /** How many tasks of the service may be pushed out now. */
  budgetOf: (serviceId: string) => number;
}

export interface Room {
  node: NodeNumber;
  /** Empty: those that have to leave do so already. */
  victims: readonly Task[];
}

interface Candidate extends Room {
  /** The highest priority of the victims. */
  highest: number;
  /** Whether it is made by tasks that leave for this very service. */
  own: boolean;
}

interface Tenant {
  task: Task;
  demand: Demand;
  leaves: boolean;
  /** The reason that it leaves for, when it does. */
  leavesFor: string | undefined;
}

export class Preemption {
  readonly #input: PreemptionInput;
  readonly #board: Board;
  readonly #tenants = new Map<NodeNumber, Tenant[]>();
  readonly #budgets = new Map<string, number>();
  #preemptors = 0;

  constructor(input: PreemptionInput, board: Board) {
    this.#input = input;
    this.#board = board;
  }

  /** Room for one more task, on that node or any, taken on the board; undefined when nobody can make it. */
  make(filter: Filter, reason: string, only: NodeNumber | undefined): Room | undefined {
    if (this.#preemptors >= preemptorsMax) return undefined;
    let best: Candidate | undefined;
    for (let node = 0; node < this.#board.index.size; node += 1) {
      if (!filter.isAllowed(node) || (only !== undefined && only !== node)) continue;
      const victims = this.#victimsOn(node, filter);
      if (victims === undefined) continue;
      const highest = Math.max(-1_001, ...victims.map(({ demand }) => demand.priority));
      const own = victims.length === 0 && this.#tenantsOf(node).some((tenant) => tenant.leavesFor === reason);
      const room = { node, victims: victims.map(({ task }) => task), highest, own };
      if (best === undefined || this.#isLess(room, best)) best = room;
    }
    if (best === undefined) return undefined;
    this.#preemptors += 1;
    for (const { serviceId } of best.victims) this.#budgets.set(serviceId, this.#budget(serviceId) - 1);
    const gone = new Set(best.victims.map(({ meta }) => meta.id));
    for (const tenant of this.#tenantsOf(best.node))
      if (gone.has(tenant.task.meta.id)) {
        tenant.leaves = true;
        tenant.leavesFor = reason;
      }
    this.#board.take(best.node, filter.demand);
    filter.count(best.node);
    return { node: best.node, victims: best.victims };
  }

  #isLess(a: Candidate, b: Candidate): boolean {
    if (a.victims.length !== b.victims.length) return a.victims.length < b.victims.length;
    // Room that was made for others is theirs: taken from them, they would push out more.
    if (a.own !== b.own) return a.own;
    if (a.highest !== b.highest) return a.highest < b.highest;
    const { nodes } = this.#board.index;
    return (nodes[a.node]?.meta.id ?? "") < (nodes[b.node]?.meta.id ?? "");
  }

  /** Who has to leave the node besides those that do; undefined when that would not be enough. */
  #victimsOn(node: NodeNumber, filter: Filter): Tenant[] | undefined {
    const { priority } = filter.demand;
    const tenants = this.#tenantsOf(node);
    const leaving = tenants.filter(({ leaves }) => leaves);
    const lower = tenants.filter(({ leaves, demand }) => !leaves && demand.priority < priority);
    // Room that comes free without anybody of lower priority is nothing to keep from the others.
    if (lower.length === 0 && !leaving.some(({ demand }) => demand.priority < priority)) return undefined;
    // Most that find no room find none here whoever leaves: asked once, not after each of them.
    if (!this.#fitsWithout(node, filter, [...leaving, ...lower])) return undefined;
    if (this.#fitsWithout(node, filter, leaving)) return [];
    const victims: Tenant[] = [];
    const spent = new Map<string, number>();
    for (const tenant of lower.sort(lowestFirst)) {
      const { serviceId } = tenant.task;
      const used = spent.get(serviceId) ?? 0;
      if (filter.needs(tenant.task.serviceName)) continue;
      if (this.#budget(serviceId) <= used) continue;
      spent.set(serviceId, used + 1);
      victims.push(tenant);
      if (this.#fitsWithout(node, filter, [...leaving, ...victims]))
        return this.#fewest(node, filter, leaving, victims);
    }
    return undefined;
  }

  /** Leaves out whoever need not go, those of the highest priority first. */
  #fewest(node: NodeNumber, filter: Filter, leaving: readonly Tenant[], enough: readonly Tenant[]): Tenant[] {
    let victims = [...enough];
    for (const tenant of enough.toReversed()) {
      const fewer = victims.filter((other) => other !== tenant);
      if (this.#fitsWithout(node, filter, [...leaving, ...fewer])) victims = fewer;
    }
    return victims;
  }

  #fitsWithout(node: NodeNumber, filter: Filter, tenants: readonly Tenant[]): boolean {
    for (const { demand } of tenants) this.#board.give(node, demand);
    const fits = filter.fits(node);
    for (const { demand } of tenants) this.#board.takeBack(node, demand);
    return fits;
  }

  #budget(serviceId: string): number {
    const known = this.#budgets.get(serviceId);
    if (known !== undefined) return known;
    const budget = this.#input.budgetOf(serviceId);
    this.#budgets.set(serviceId, budget);
    return budget;
  }

  #tenantsOf(node: NodeNumber): Tenant[] {
    const known = this.#tenants.get(node);
    if (known !== undefined) return known;
    const tenants: Tenant[] = [];
    for (const task of this.#input.tasksOfNode(this.#board.index.nodes[node]?.meta.id ?? "")) {
      const { serviceId, revision } = task;
      const spec = this.#input.specOf(serviceId, revision);
      if (hasEnded(task) || spec === undefined) continue;
      const demand = demandOf(spec, this.#input.portsOf(serviceId, revision));
      const leavesFor = task.leave?.reason;
      tenants.push({ task, demand, leaves: !isWanted(task) || leavesFor !== undefined, leavesFor });
    }
    this.#tenants.set(node, tenants);
    return tenants;
  }
}

/** What victims are told; it also says whose their room is. */
export function leaveReason(serviceName: string, priority: number): string {
  return `pushed out by ${serviceName} (priority ${priority})`;
}

/** Of the same priority, who came last goes first. */
function lowestFirst(a: Tenant, b: Tenant): number {
  return (
    a.demand.priority - b.demand.priority ||
    b.task.meta.createdAtMs - a.task.meta.createdAtMs ||
    (a.task.meta.id < b.task.meta.id ? -1 : 1)
  );
}
