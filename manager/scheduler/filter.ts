// Which nodes may take a task, and for those that may not, why: in the user's terms, with counts and the nearest miss.
// `fits` and `miss` are one rule told twice, once for speed and once for people; a property test holds them together.

import { formatBytes, formatNanoCpus } from "../../lib/mod.js";
import { type Node, NodeAvailability, NodeState } from "../../proto/mod.js";
import type { Board, GenericColumn } from "./board.js";
import type { Demand } from "./demand.js";
import type { NodeNumber } from "./nodes.js";

/** Why one node cannot take a task. The latter form can be compared: the nearest miss has most free. */
export type Miss =
  | { reason: string }
  | { reason: string; asks: string; free: number; format: (amount: number) => string; hostname: string };

/** Whose tasks they are. */
export interface Group {
  serviceId: string;
  serviceName: string;
}

interface ServiceRule {
  text: string;
  name: string;
  has: boolean;
  own: boolean;
  /** Undefined when there is no such service. */
  counts: number[] | undefined;
}

/** The filters for one group of equal tasks over a board. It shows the board as it is at each call. */
export class Filter {
  readonly demand: Demand;
  /** Tasks of the group's service by node. */
  readonly counts: number[];
  readonly #board: Board;
  readonly #masks: { column: readonly number[]; reason: string }[] = [];
  readonly #generic: { name: string; amount: number; column: GenericColumn }[];
  readonly #ports: { port: string; column: number[] }[];
  readonly #rules: ServiceRule[];
  readonly #avoiding: number[] | undefined;
  readonly #isSimple: boolean;
  /** Whether the service has no task on any node yet. */
  #isFirst: boolean;

  constructor(board: Board, demand: Demand, { serviceId, serviceName }: Group) {
    this.#board = board;
    this.demand = demand;
    this.counts = board.ofService(serviceId);
    const { index } = board;
    for (const constraint of demand.constraints)
      this.#masks.push({ column: index.meets(constraint), reason: `excluded by ${constraint.text}` });
    for (const name of demand.volumeDrivers)
      this.#masks.push({ column: index.hasDriver(name), reason: `without volume driver ${name}` });
    for (const rule of demand.required)
      if (rule.kind === "node")
        this.#masks.push({ column: index.meets(rule.constraint), reason: `excluded by ${rule.text}` });
    this.#isFirst = this.counts.every((count) => count === 0);
    this.#generic = demand.generic.map(([name, amount]) => ({ name, amount, column: board.generic(name) }));
    this.#ports = demand.hostPorts.map((port) => ({ port, column: board.port(port) }));
    this.#rules = demand.required.flatMap((rule) => {
      if (rule.kind === "node") return [];
      const own = rule.name === serviceName;
      return [{ ...rule, own, counts: own ? this.counts : board.ofServiceNamed(rule.name) }];
    });
    this.#avoiding = board.isAvoided(serviceName) ? board.avoiding(serviceName) : undefined;
    this.#isSimple =
      this.#generic.length === 0 &&
      this.#ports.length === 0 &&
      this.#rules.length === 0 &&
      this.#avoiding === undefined;
  }

  /** Whether the next task decides for the others: it may go anywhere, they only to where one is. */
  get leads(): boolean {
    return this.#isFirst && this.#rules.some(({ own, has }) => own && has);
  }

  /** Whether what other services do decides where these tasks may go. */
  get follows(): boolean {
    return this.#rules.some(({ has }) => has);
  }

  /** Whether these tasks must be where that service is. */
  needs(serviceName: string): boolean {
    return this.#rules.some(({ has, name }) => has && name === serviceName);
  }

  /** Counts one more task of the service on the node. */
  count(number: NodeNumber): void {
    this.counts[number] = (this.counts[number] ?? 0) + 1;
    this.#isFirst = false;
  }

  /** Whether the node may ever take such a task as it is, whatever is in use there. */
  isAllowed(number: NodeNumber): boolean {
    if (this.#board.index.open[number] !== 1) return false;
    for (const { column } of this.#masks) if (column[number] !== 1) return false;
    return true;
  }

  fits(number: NodeNumber): boolean {
    if (!this.isAllowed(number)) return false;
    const { demand } = this;
    const { reserved, maxPerNode } = demand;
    const { index, cpus, memory } = this.#board;
    if (maxPerNode > 0 && (this.counts[number] ?? 0) >= maxPerNode) return false;
    if (reserved.nanoCpus > 0 && reserved.nanoCpus > (index.cpus[number] ?? 0) - (cpus[number] ?? 0)) return false;
    if (reserved.memoryBytes > 0 && reserved.memoryBytes > (index.memory[number] ?? 0) - (memory[number] ?? 0))
      return false;
    if (this.#isSimple) return true;
    for (const { amount, column } of this.#generic)
      if (amount > (column.has[number] ?? 0) - (column.used[number] ?? 0)) return false;
    for (const { column } of this.#ports) if ((column[number] ?? 0) > 0) return false;
    for (const rule of this.#rules) if (!this.#holds(rule, number)) return false;
    return (this.#avoiding?.[number] ?? 0) === 0;
  }

  /** Why the node cannot take such a task now; undefined when it can. */
  miss(number: NodeNumber): Miss | undefined {
    return this.whyExcluded(number) ?? this.#whyFull(number);
  }

  /** Why it never may as it is. */
  whyExcluded(number: NodeNumber): Miss | undefined {
    const node = this.#board.index.nodes[number];
    if (node === undefined) throw new Error(`there is no node ${number}`);
    const reason = whyClosed(node) ?? this.#masks.find(({ column }) => column[number] === 0)?.reason;
    return reason === undefined ? undefined : { reason };
  }

  #whyFull(number: NodeNumber): Miss | undefined {
    const { index, cpus, memory } = this.#board;
    const { reserved, maxPerNode } = this.demand;
    const hostname = index.nodes[number]?.description.hostname ?? "";
    if (maxPerNode > 0 && (this.counts[number] ?? 0) >= maxPerNode)
      return { reason: `at the limit of ${maxPerNode} ${maxPerNode === 1 ? "replica" : "replicas"} per node` };
    const short = (what: string, asks: string, wanted: number, free: number, format: (amount: number) => string) =>
      wanted > 0 && wanted > free ? { reason: `short of ${what}`, asks, free, format, hostname } : undefined;
    const freeCpus = (index.cpus[number] ?? 0) - (cpus[number] ?? 0);
    const freeMemory = (index.memory[number] ?? 0) - (memory[number] ?? 0);
    const full =
      short("cpus", `${formatNanoCpus(reserved.nanoCpus)} cpus`, reserved.nanoCpus, freeCpus, formatNanoCpus) ??
      short("memory", formatBytes(reserved.memoryBytes), reserved.memoryBytes, freeMemory, formatBytes);
    if (full !== undefined) return full;
    for (const { name, amount, column } of this.#generic) {
      const free = (column.has[number] ?? 0) - (column.used[number] ?? 0);
      const missing = short(name, String(amount), amount, free, String);
      if (missing !== undefined) return missing;
    }
    for (const { port, column } of this.#ports)
      if ((column[number] ?? 0) > 0) return { reason: `with port ${port.split("/")[0]} in use` };
    for (const rule of this.#rules)
      if (!this.#holds(rule, number))
        return { reason: rule.has ? `without a task of ${rule.name}` : `with a task of ${rule.name}` };
    if ((this.#avoiding?.[number] ?? 0) > 0) return { reason: "with a task that must not be beside this service" };
    return undefined;
  }

  #holds({ counts, has, own }: ServiceRule, number: NodeNumber): boolean {
    const there = (counts?.[number] ?? 0) > 0;
    if (there === has) return true;
    // The first of a service that wants to be beside itself has nobody to go to.
    return own && has && this.#isFirst;
  }
}

function whyClosed({ status, spec }: Node): string | undefined {
  if (status.state === NodeState.DOWN) return "down";
  if (status.state !== NodeState.READY) return "not connected";
  if (spec.availability === NodeAvailability.DRAINED) return "drained";
  if (spec.availability !== NodeAvailability.ACTIVE) return "cordoned";
  return undefined;
}

/** `no suitable node (3 nodes): 2 short of memory (asks 64 GiB; largest free 23.1 GiB on h2), 1 excluded by …`. */
export function describeMisses(misses: readonly Miss[]): string {
  if (misses.length === 0) return "no suitable node: no agent has joined the cluster yet";
  const groups = new Map<string, { count: number; nearest: Miss }>();
  for (const miss of misses) {
    const group = groups.get(miss.reason);
    if (group === undefined) groups.set(miss.reason, { count: 1, nearest: miss });
    else {
      group.count += 1;
      if (isNearer(miss, group.nearest)) group.nearest = miss;
    }
  }
  const parts = [...groups]
    .sort(([a, x], [b, y]) => y.count - x.count || (a < b ? -1 : 1))
    .map(([reason, { count, nearest }]) => `${count} ${reason}${detail(nearest)}`);
  return `no suitable node (${misses.length} ${misses.length === 1 ? "node" : "nodes"}): ${parts.join(", ")}`;
}

/** Of one node: `short of memory (asks 64 GiB; free 23.1 GiB)`. */
export function describeMiss(miss: Miss): string {
  if (!("free" in miss)) return miss.reason;
  return `${miss.reason} (asks ${miss.asks}; free ${miss.format(Math.max(0, miss.free))})`;
}

function isNearer(a: Miss, b: Miss): boolean {
  if (!("free" in a) || !("free" in b)) return false;
  return a.free > b.free || (a.free === b.free && a.hostname < b.hostname);
}

function detail(miss: Miss): string {
  if (!("free" in miss)) return "";
  return ` (asks ${miss.asks}; largest free ${miss.format(Math.max(0, miss.free))} on ${miss.hostname})`;
}
