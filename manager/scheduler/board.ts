// What is in use on every node, as one batch sees it: what the tasks there have, and what the batch has given so far.
// Everything is a column by node number, filled once per batch, and only the node that was taken changes.

import type { Demand } from "./demand.js";
import type { NodeIndex, NodeNumber } from "./nodes.js";
import type { NodeUse, UsageView } from "./usage.js";

export interface BoardInput {
  index: NodeIndex;
  usage: UsageView;
  /** The id of the service of that name; undefined when there is none. */
  serviceIdOf: (name: string) => string | undefined;
}

/** Of a countable thing: what each node has and what of it is in use. */
export interface GenericColumn {
  has: number[];
  used: number[];
}

export class Board {
  readonly index: NodeIndex;
  readonly cpus: number[] = [];
  readonly memory: number[] = [];
  readonly tasks: number[] = [];
  readonly #input: BoardInput;
  readonly #uses: Readonly<NodeUse>[] = [];
  readonly #generic = new Map<string, GenericColumn>();
  readonly #ports = new Map<string, number[]>();
  readonly #services = new Map<string, number[]>();
  readonly #avoiding = new Map<string, number[]>();
  readonly #images = new Map<string, number[]>();

  constructor(input: BoardInput) {
    this.#input = input;
    this.index = input.index;
    for (const [number, node] of input.index.nodes.entries()) {
      const use = input.usage.node(node.meta.id);
      this.#uses[number] = use;
      this.cpus[number] = use.nanoCpus;
      this.memory[number] = use.memoryBytes;
      this.tasks[number] = use.tasks;
    }
  }

  generic(name: string): GenericColumn {
    return made(this.#generic, name, () => ({
      // Named freely: a thing called "constructor" is not what every object has.
      has: this.index.nodes.map(({ description: { resources } }) =>
        Object.hasOwn(resources.generic, name) ? (resources.generic[name] ?? 0) : 0,
      ),
      used: this.#uses.map((use) => use.generic.get(name) ?? 0),
    }));
  }

  /** How many tasks have the host's port. */
  port(port: string): number[] {
    return made(this.#ports, port, () => this.#uses.map((use) => use.hostPorts.get(port) ?? 0));
  }

  /** How many wanted tasks of the service each node has. Kept for the whole batch: for services that are looked at again. */
  ofService(serviceId: string): number[] {
    return made(this.#services, serviceId, () => this.#column(this.#input.usage.ofService(serviceId)));
  }

  /** As `ofService`, by name; undefined when there is no such service. */
  ofServiceNamed(name: string): number[] | undefined {
    const id = this.#input.serviceIdOf(name);
    return id === undefined ? undefined : this.ofService(id);
  }

  /** How many tasks each node has that the service of this name must not join. */
  avoiding(serviceName: string): number[] {
    return made(this.#avoiding, serviceName, () => this.#column(this.#input.usage.avoiding(serviceName)));
  }

  /** How many tasks of the image each node has had; undefined when nobody has had any. */
  withImage(image: string): readonly number[] | undefined {
    const counts = this.#input.usage.withImage(image);
    return counts.size === 0 ? undefined : made(this.#images, image, () => this.#column(counts));
  }

  /** Whether anybody is to be avoided: most services need not ask. */
  isAvoided(serviceName: string): boolean {
    return this.#avoiding.has(serviceName) || this.#input.usage.avoiding(serviceName).size > 0;
  }

  /** Puts a task of this demand on the node; its service's own count is its group's business. */
  take(number: NodeNumber, demand: Demand): void {
    this.#move(number, demand, 1);
    for (const name of demand.avoids) increase(this.avoiding(name), number, 1);
  }

  /** As if a task of this demand were gone, or here again: for its room alone. */
  give(number: NodeNumber, demand: Demand): void {
    this.#move(number, demand, -1);
  }

  takeBack(number: NodeNumber, demand: Demand): void {
    this.#move(number, demand, 1);
  }

  #move(number: NodeNumber, { reserved, generic, hostPorts }: Demand, sign: 1 | -1): void {
    this.cpus[number] = (this.cpus[number] ?? 0) + sign * reserved.nanoCpus;
    this.memory[number] = (this.memory[number] ?? 0) + sign * reserved.memoryBytes;
    this.tasks[number] = (this.tasks[number] ?? 0) + sign;
    for (const [name, amount] of generic) increase(this.generic(name).used, number, sign * amount);
    for (const port of hostPorts) increase(this.port(port), number, sign);
  }

  #column(counts: ReadonlyMap<string, number>): number[] {
    const column = Array.from<number>({ length: this.index.size }).fill(0);
    for (const [id, count] of counts) {
      const number = this.index.numberOf(id);
      if (number !== undefined) column[number] = count;
    }
    return column;
  }
}

export function increase(column: number[], number: NodeNumber, by: number): void {
  column[number] = (column[number] ?? 0) + by;
}

function made<T>(table: Map<string, T>, key: string, make: () => T): T {
  let value = table.get(key);
  if (value === undefined) {
    value = make();
    table.set(key, value);
  }
  return value;
}
