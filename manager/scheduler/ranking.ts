// The nodes that fit a group of equal tasks, best first. Preferences make a tree of branches: at each of them the next
// task goes where the service has fewest, and at the end of it a heap of nodes by score. Taking the best touches only
// the way to it, so that a task costs a few logarithms however many nodes there are.

import { PlacementStrategy } from "../../proto/mod.js";
import type { Board } from "./board.js";
import type { Demand } from "./demand.js";
import type { Filter, Group } from "./filter.js";
import { Heap } from "./heap.js";
import { hash, type NodeNumber } from "./nodes.js";

/** What each task adds to its node's load besides what it reserves, in millionths: one hundredth. */
const taskLoad = 10_000;
/** Loads beyond this count as this: 100 times all of a node, or 10,000 tasks. */
const loadMax = 2 ** 27 - 1;
/** An affinity's weight that outweighs one task of the service on the node, when spreading. */
const weightPerTask = 10;
/** In millionths of how well a node is packed: a weight of 100 is worth half of the way from worst to best. */
const loadPerWeight = 10_000;
/** In millionths of a node's load: an image that need not be pulled is worth a tenth of a node. */
const missingImage = 100_000;
/** Above any sum of weights, so that scores stay positive. */
const scoreBase = 2 ** 23;

export interface RankingInput extends Group {
  board: Board;
  filter: Filter;
  strategy: PlacementStrategy;
  /** Nodes to be taken only when no other is left. */
  penalised: ReadonlySet<NodeNumber>;
}

class Branch {
  /** "eu", and what is around it: "eu/r1". */
  readonly name: string;
  readonly parent: Branch | undefined;
  /** Tasks of the service in it. */
  count = 0;
  /** Its best node. */
  best: NodeNumber | undefined;
  branches: Heap<Branch> | undefined;
  nodes: Heap<NodeNumber> | undefined;
  /** Whether it is in its parent's heap: while it has nodes. */
  isOpen = false;

  constructor(name: string, parent: Branch | undefined) {
    this.name = name;
    this.parent = parent;
  }
}

export class Ranking {
  readonly #input: RankingInput;
  readonly #images: readonly number[] | undefined;
  readonly #scores: number[] = [];
  readonly #ties: number[] = [];
  readonly #leaves: Branch[] = [];
  /** Two trees: nodes in good standing, and those where the revision failed too often. */
  readonly #roots: Branch[] = [];
  readonly #size: number;

  constructor(input: RankingInput) {
    this.#input = input;
    const { board, filter, penalised, serviceId } = input;
    this.#images = board.withImage(filter.demand.image);
    const serviceHash = hash(serviceId);
    const good: NodeNumber[] = [];
    const bad: NodeNumber[] = [];
    const { size, hashes } = board.index;
    for (let number = 0; number < size; number += 1) {
      if (!filter.fits(number)) continue;
      this.#scores[number] = this.#score(number);
      this.#ties[number] = mix((hashes[number] ?? 0) ^ serviceHash);
      (penalised.size > 0 && penalised.has(number) ? bad : good).push(number);
    }
    this.#size = good.length + bad.length;
    if (good.length > 0) this.#roots.push(this.#tree(good));
    if (bad.length > 0) this.#roots.push(this.#tree(bad));
  }

  /** Nodes that fitted at first. */
  get size(): number {
    return this.#size;
  }

  /** The best node but for those to avoid; one of those when there is no other in as good standing. */
  best(avoid: NodeNumber | undefined): NodeNumber | undefined {
    const root = this.#roots.find(({ best }) => best !== undefined);
    const first = root?.best;
    if (root === undefined || first === undefined || first !== avoid) return first;
    const leaf = this.#leafOf(first);
    this.#pop(leaf);
    const second = root.best;
    this.#push(leaf, first);
    return second ?? first;
  }

  /** The branch of a node, as its preferences name it. */
  branchOf(number: NodeNumber): string {
    return this.#leafOf(number).name;
  }

  /** To be called after the node was given a task: judges it again. */
  taken(number: NodeNumber): void {
    const leaf = this.#leafOf(number);
    for (let branch: Branch | undefined = leaf; branch !== undefined; branch = branch.parent) branch.count += 1;
    // Mostly it is the first; after an avoided one it is another.
    const avoided = leaf.best === number ? undefined : this.#aside(leaf, number);
    const stays = this.#input.filter.fits(number);
    if (stays) this.#scores[number] = this.#score(number);
    if (stays) leaf.nodes?.settle();
    else leaf.nodes?.pop();
    this.#settle(leaf);
    if (avoided !== undefined) this.#push(leaf, avoided);
  }

  /** Takes away what stands before `number` in its leaf. */
  #aside(leaf: Branch, number: NodeNumber): NodeNumber | undefined {
    const first = leaf.nodes?.pop();
    if (leaf.nodes?.peek() !== number) throw new Error("a node was taken that was not the best");
    return first;
  }

  #leafOf(number: NodeNumber): Branch {
    const leaf = this.#leaves[number];
    if (leaf === undefined) throw new Error(`node ${number} is not ranked`);
    return leaf;
  }

  #pop(leaf: Branch): void {
    leaf.nodes?.pop();
    this.#settle(leaf);
  }

  #push(leaf: Branch, number: NodeNumber): void {
    leaf.nodes?.push(number);
    this.#settle(leaf);
  }

  /** Brings a leaf's new best, and then each branch's around it, to where it belongs. */
  #settle(leaf: Branch): void {
    leaf.best = leaf.nodes?.peek();
    for (let branch = leaf; branch.parent !== undefined; branch = branch.parent) {
      const { parent } = branch;
      const heap = parent.branches;
      if (heap === undefined) throw new Error("a branch's parent has no branches");
      if (branch.isOpen) {
        if (branch.best === undefined) heap.remove(branch);
        else heap.settle(branch);
      } else if (branch.best !== undefined) {
        heap.push(branch);
      }
      branch.isOpen = branch.best !== undefined;
      parent.best = heap.peek()?.best;
    }
  }

  #tree(numbers: NodeNumber[]): Branch {
    const { board, filter } = this.#input;
    const root = new Branch("", undefined);
    const isBetter = (a: NodeNumber, b: NodeNumber) => this.#isBetter(a, b);
    const preferences = filter.demand.preferences.map((preference) => board.index.branches(preference));
    if (preferences.length === 0) {
      for (const number of numbers) this.#leaves[number] = root;
      root.nodes = new Heap(numbers, isBetter);
      root.best = root.nodes.peek();
      return root;
    }
    const known = new Map<string, Branch>();
    const members = new Map<Branch, NodeNumber[]>();
    const pathOf = (number: NodeNumber): Branch[] => {
      const path: Branch[] = [root];
      let key = "";
      let parent = root;
      for (const { of, names } of preferences) {
        const value = of[number] ?? 0;
        key += `/${value}`;
        let branch = known.get(key);
        if (branch === undefined) {
          const name = names[value] === "" ? "no value" : (names[value] ?? "");
          branch = new Branch(parent === root ? name : `${parent.name}/${name}`, parent);
          known.set(key, branch);
        }
        path.push(branch);
        parent = branch;
      }
      return path;
    };
    for (const number of numbers) {
      const leaf = pathOf(number).at(-1) ?? root;
      this.#leaves[number] = leaf;
      const list = members.get(leaf);
      if (list === undefined) members.set(leaf, [number]);
      else list.push(number);
    }
    // What runs on nodes that are full or closed counts for their branch all the same.
    for (let number = 0; number < filter.counts.length; number += 1) {
      const count = filter.counts[number] ?? 0;
      if (count > 0) for (const branch of pathOf(number)) branch.count += count;
    }
    const isEmptier = (a: Branch, b: Branch) => this.#isEmptier(a, b);
    for (const branch of [root, ...known.values()]) branch.branches = new Heap([], isEmptier);
    for (const [leaf, list] of members) {
      leaf.branches = undefined;
      leaf.nodes = new Heap(list, isBetter);
      this.#settle(leaf);
    }
    return root;
  }

  #isEmptier(a: Branch, b: Branch): boolean {
    if (a.count !== b.count) return a.count < b.count;
    return a.best !== undefined && b.best !== undefined && this.#isBetter(a.best, b.best);
  }

  #isBetter(a: NodeNumber, b: NodeNumber): boolean {
    const difference = (this.#scores[a] ?? 0) - (this.#scores[b] ?? 0);
    if (difference !== 0) return difference < 0;
    const tie = (this.#ties[a] ?? 0) - (this.#ties[b] ?? 0);
    if (tie !== 0) return tie < 0;
    const { nodes } = this.#input.board.index;
    return (nodes[a]?.meta.id ?? "") < (nodes[b]?.meta.id ?? "");
  }

  /** The less the better. */
  #score(number: NodeNumber): number {
    const { board, filter, strategy } = this.#input;
    const pull = this.#images === undefined || (this.#images[number] ?? 0) > 0 ? 0 : missingImage;
    const weight = filter.demand.weighted.length === 0 ? 0 : this.#attraction(number);
    if (strategy === PlacementStrategy.BINPACK)
      return scoreBase - weight * loadPerWeight + pull - Math.round(packedWith(filter.demand, board, number) * 1e6);
    const tasks = (filter.counts[number] ?? 0) * weightPerTask - weight;
    return (scoreBase + tasks) * (loadMax + 1) + Math.min(loadMax, loadOf(board, number) + pull);
  }

  #attraction(number: NodeNumber): number {
    const { board, filter, serviceName } = this.#input;
    let sum = 0;
    for (const { rule, weight } of filter.demand.weighted) {
      let holds: boolean;
      if (rule.kind === "node") holds = board.index.meets(rule.constraint)[number] === 1;
      else {
        const counts = rule.name === serviceName ? filter.counts : board.ofServiceNamed(rule.name);
        holds = (counts?.[number] ?? 0) > 0 === rule.has;
      }
      if (holds) sum += weight;
    }
    return sum;
  }
}

/** The larger share of the node's resources that is reserved, and a little for every task; in millionths. */
function loadOf(board: Board, number: NodeNumber): number {
  return Math.round(reservedShare(board, number) * 1e6) + (board.tasks[number] ?? 0) * taskLoad;
}

export function reservedShare({ index, cpus, memory }: Board, number: NodeNumber): number {
  return Math.max(share(cpus[number], index.cpus[number]), share(memory[number], index.memory[number]));
}

/**
 * How well a node would be packed with one more such task, from -1 to 1: the fuller the better, and better still when
 * its cpus and its memory run out together. One without any task is opened only when no other will do.
 */
function packedWith({ reserved }: Demand, { index, cpus, memory, tasks }: Board, number: NodeNumber): number {
  if ((tasks[number] ?? 0) === 0) return -1;
  const cpuShare = share((cpus[number] ?? 0) + reserved.nanoCpus, index.cpus[number]);
  const memoryShare = share((memory[number] ?? 0) + reserved.memoryBytes, index.memory[number]);
  return (cpuShare + memoryShare) / 2 - Math.abs(cpuShare - memoryShare);
}

function share(used = 0, of = 0): number {
  return of > 0 ? used / of : 0;
}

/** Ties fall differently for each service, and the same each time. (The finaliser of MurmurHash3.) */
function mix(value: number): number {
  let x = value ^ (value >>> 16);
  x = Math.imul(x, 0x85ebca6b);
  x ^= x >>> 13;
  x = Math.imul(x, 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}
