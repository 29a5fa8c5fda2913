// What the tasks on each node use, kept up to date task by task: placing costs by what changed, not by all there is.

import { hasEnded, isWanted } from "../../deploy/strategy/mod.js";
import { type Resources, type Task, TaskState } from "../../proto/mod.js";

/** What all tasks on one node have reserved. Freed when a task was seen to end, not when it was told to. */
export interface NodeUse {
  nanoCpus: number;
  memoryBytes: number;
  tasks: number;
  /** Of the node's countable things, by name. */
  generic: ReadonlyMap<string, number>;
  /** Ports of the host, as "8080/1", and how many tasks have them: more than one only by a fault. */
  hostPorts: ReadonlyMap<string, number>;
}

/** What a task takes of its node besides its reservations. */
export interface Claims {
  /** As in NodeUse. */
  hostPorts: readonly string[];
  /** Names of services that must not come to where this task is. */
  avoids: readonly string[];
  image: string;
}

/** What the scheduler asks of the usage. */
export type UsageView = Pick<Usage, "node" | "ofService" | "avoiding" | "withImage">;

const nothing: ReadonlyMap<string, number> = new Map();
const noClaims: Claims = { hostPorts: [], avoids: [], image: "" };
const unused: NodeUse = { nanoCpus: 0, memoryBytes: 0, tasks: 0, generic: nothing, hostPorts: nothing };

interface Counted {
  nodeId: string;
  serviceId: string;
  reserved: Resources;
  claims: Claims;
  /** Whether it counts as one of its service's tasks there: those about to stop or to leave do not. */
  wanted: boolean;
}

export class Usage {
  readonly #nodes = new Map<string, NodeUse>();
  readonly #services = new Map<string, Map<string, number>>();
  /** By the name of the service that is not to come, then by node. */
  readonly #avoiding = new Map<string, Map<string, number>>();
  /** By image, then by node: tasks, ended ones included, for which the node's engine had it. */
  readonly #images = new Map<string, Map<string, number>>();
  readonly #pulled = new Map<string, { image: string; nodeId: string }>();
  /** What each task added, so that it can be taken away after its revision is gone. */
  readonly #counted = new Map<string, Counted>();

  /** Of a node; not to be kept, it changes with the tasks. */
  node(nodeId: string): Readonly<NodeUse> {
    return this.#nodes.get(nodeId) ?? unused;
  }

  /** How many wanted tasks of the service each node has. */
  ofService(serviceId: string): ReadonlyMap<string, number> {
    return this.#services.get(serviceId) ?? nothing;
  }

  /** How many tasks each node has that the service of this name must not join. */
  avoiding(serviceName: string): ReadonlyMap<string, number> {
    return this.#avoiding.get(serviceName) ?? nothing;
  }

  /** How many tasks of the image each node has had, of those that are remembered: it is likely still there. */
  withImage(image: string): ReadonlyMap<string, number> {
    return this.#images.get(image) ?? nothing;
  }

  /** Takes in a task as it is now; `reserved` and `claims` are what its revision asks for. */
  set(task: Task, reserved: Resources, claims: Claims = noClaims): void {
    const before = this.#counted.get(task.meta.id);
    const { nodeId, serviceId } = task;
    if (claims.image !== "" && nodeId !== "" && hadImage(task) && !this.#pulled.has(task.meta.id)) {
      this.#pulled.set(task.meta.id, { image: claims.image, nodeId });
      count(this.#images, claims.image, nodeId, 1);
    }
    const counts = nodeId !== "" && !hasEnded(task);
    const wanted = counts && isWanted(task) && task.leave === undefined;
    // Most changes of a task are of its status alone.
    if (
      counts &&
      before?.wanted === wanted &&
      before.nodeId === nodeId &&
      before.serviceId === serviceId &&
      before.reserved === reserved &&
      before.claims === claims
    )
      return;
    this.#discount(task.meta.id);
    if (!counts) return;
    const counted = { nodeId, serviceId, reserved, claims, wanted };
    this.#counted.set(task.meta.id, counted);
    this.#add(counted, 1);
  }

  /** Forgets a task that the store forgot. */
  remove(taskId: string): void {
    const pulled = this.#pulled.get(taskId);
    if (pulled !== undefined) {
      this.#pulled.delete(taskId);
      count(this.#images, pulled.image, pulled.nodeId, -1);
    }
    this.#discount(taskId);
  }

  #discount(taskId: string): void {
    const counted = this.#counted.get(taskId);
    if (counted === undefined) return;
    this.#counted.delete(taskId);
    this.#add(counted, -1);
  }

  #add({ nodeId, serviceId, reserved, claims, wanted }: Counted, sign: 1 | -1): void {
    let use = this.#nodes.get(nodeId);
    if (use === undefined) {
      use = { ...unused };
      this.#nodes.set(nodeId, use);
    }
    use.tasks += sign;
    use.nanoCpus += sign * reserved.nanoCpus;
    use.memoryBytes += sign * reserved.memoryBytes;
    use.generic = changed(use.generic, Object.entries(reserved.generic), sign);
    use.hostPorts = changed(
      use.hostPorts,
      claims.hostPorts.map((port) => [port, 1]),
      sign,
    );
    if (use.tasks === 0) this.#nodes.delete(nodeId);
    if (!wanted) return;
    count(this.#services, serviceId, nodeId, sign);
    for (const name of claims.avoids) count(this.#avoiding, name, nodeId, sign);
  }
}

/** Whether the task came so far that its node's engine had its image. */
function hadImage(task: Task): boolean {
  return task.status.state >= TaskState.READY && (!hasEnded(task) || task.status.container !== undefined);
}

function changed(
  map: ReadonlyMap<string, number>,
  amounts: readonly (readonly [string, number])[],
  sign: 1 | -1,
): ReadonlyMap<string, number> {
  if (amounts.length === 0) return map;
  const after = new Map(map);
  for (const [name, amount] of amounts) {
    const value = (after.get(name) ?? 0) + sign * amount;
    if (value === 0) after.delete(name);
    else after.set(name, value);
  }
  return after;
}

function count(table: Map<string, Map<string, number>>, key: string, nodeId: string, sign: 1 | -1): void {
  const there = table.get(key) ?? new Map<string, number>();
  table.set(key, there);
  const value = (there.get(nodeId) ?? 0) + sign;
  if (value === 0) there.delete(nodeId);
  else there.set(nodeId, value);
  if (there.size === 0) table.delete(key);
}
