// The nodes as columns: what is asked of every node for every group of tasks lies side by side, and what depends on the
// node alone (does it meet this constraint, has it this driver, which branch is it in) is answered once per question
// and node, until the node changes. The scheduler keeps one of these; `place` makes its own from plain nodes.

import { branchOf, type Constraint, matchConstraint, type Preference } from "../../deploy/spec/mod.js";
import { type Node, NodeAvailability, NodeState } from "../../proto/mod.js";

/** Questions whose answers are kept; beyond that the oldest is asked again when it comes up. */
const questionsMax = 1_024;

/** A node's number here; it changes only when nodes are removed. */
export type NodeNumber = number;

/** The branches that a preference divides the nodes into. */
export interface Branches {
  /** By node, into `names`. */
  of: number[];
  names: string[];
}

interface BranchColumn extends Branches {
  preference: Preference;
  numbers: Map<string, number>;
}

/** One answer per node: 1 is yes. */
type Column = number[];

export class NodeIndex implements Iterable<Node> {
  readonly nodes: Node[] = [];
  /** Whether it takes new tasks at all: ready, and neither cordoned nor drained. */
  readonly open: Column = [];
  readonly cpus: number[] = [];
  readonly memory: number[] = [];
  /** Of its id: what decides between equals. */
  readonly hashes: number[] = [];
  readonly #numbers = new Map<string, NodeNumber>();
  readonly #answers = new Map<string, { ask: (node: Node) => boolean; column: Column }>();
  readonly #branches = new Map<string, BranchColumn>();

  constructor(nodes: Iterable<Node> = []) {
    for (const node of nodes) this.set(node);
  }

  get size(): number {
    return this.nodes.length;
  }

  [Symbol.iterator](): Iterator<Node> {
    return this.nodes[Symbol.iterator]();
  }

  numberOf(id: string): NodeNumber | undefined {
    return this.#numbers.get(id);
  }

  set(node: Node): void {
    const number = this.#numbers.get(node.meta.id) ?? this.nodes.length;
    this.#numbers.set(node.meta.id, number);
    this.#write(number, node);
  }

  /** The last node takes its number. */
  remove(id: string): void {
    const number = this.#numbers.get(id);
    if (number === undefined) return;
    this.#numbers.delete(id);
    const last = this.nodes.pop();
    for (const { column } of this.#answers.values()) column.pop();
    for (const { of } of this.#branches.values()) of.pop();
    for (const column of [this.open, this.cpus, this.memory, this.hashes]) column.pop();
    if (last === undefined || last.meta.id === id) return;
    this.#numbers.set(last.meta.id, number);
    this.#write(number, last);
  }

  meets(constraint: Constraint): Column {
    return this.#ask(constraint.text, (node) => matchConstraint(constraint, node));
  }

  hasDriver(name: string): Column {
    return this.#ask(`driver ${name}`, (node) => node.description.volumeDrivers.includes(name));
  }

  branches(preference: Preference): Branches {
    const known = this.#branches.get(preference.text);
    // Values that no node has any more are forgotten with the column.
    if (known !== undefined && known.names.length <= 2 * this.size + 64) return known;
    const column: BranchColumn = { preference, of: [], names: [], numbers: new Map() };
    for (const [number, node] of this.nodes.entries()) column.of[number] = branchNumber(column, node);
    keep(this.#branches, preference.text, column);
    return column;
  }

  #ask(question: string, ask: (node: Node) => boolean): Column {
    const known = this.#answers.get(question);
    if (known !== undefined) return known.column;
    const column = this.nodes.map((node) => Number(ask(node)));
    keep(this.#answers, question, { ask, column });
    return column;
  }

  #write(number: NodeNumber, node: Node): void {
    const { resources } = node.description;
    this.nodes[number] = node;
    this.open[number] = Number(
      node.status.state === NodeState.READY && node.spec.availability === NodeAvailability.ACTIVE,
    );
    this.cpus[number] = resources.nanoCpus;
    this.memory[number] = resources.memoryBytes;
    this.hashes[number] = hash(node.meta.id);
    for (const { ask, column } of this.#answers.values()) column[number] = Number(ask(node));
    for (const column of this.#branches.values()) column.of[number] = branchNumber(column, node);
  }
}

function branchNumber(column: BranchColumn, node: Node): number {
  const name = branchOf(column.preference, node);
  let number = column.numbers.get(name);
  if (number === undefined) {
    number = column.names.length;
    column.names.push(name);
    column.numbers.set(name, number);
  }
  return number;
}

function keep<T>(table: Map<string, T>, key: string, value: T): void {
  table.delete(key);
  table.set(key, value);
  if (table.size <= questionsMax) return;
  for (const oldest of table.keys()) {
    table.delete(oldest);
    return;
  }
}

/** FNV-1a, 32 bits: the same each time, and evenly spread. */
export function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value >>> 0;
}

/** Whether a node can take what it could before, and no more. Heartbeats and the like change nothing here. */
export function isSameRoom(before: Node, after: Node): boolean {
  return (
    before.status.state === after.status.state &&
    before.spec.availability === after.spec.availability &&
    before.manager === after.manager &&
    JSON.stringify([before.spec.labels, before.description]) === JSON.stringify([after.spec.labels, after.description])
  );
}
