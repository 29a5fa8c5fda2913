// What the tasks on each node use, kept up to date task by task: placing costs by what changed, not by all there is.

import { hasEnded, isWanted } from "../../deploy/strategy/mod.js";
import type { Resources, Task } from "../../proto/mod.js";

/** What all tasks on one node have reserved. Freed when a task was seen to end, not when it was told to. */
export interface NodeUse {
  nanoCpus: number;
  memoryBytes: number;
  tasks: number;
}

const unused: NodeUse = { nanoCpus: 0, memoryBytes: 0, tasks: 0 };

interface Counted {
  nodeId: string;
  serviceId: string;
  reserved: Resources;
  /** Whether it counts as one of its service's tasks there: those about to stop do not. */
  wanted: boolean;
}

export class Usage {
  readonly #nodes = new Map<string, NodeUse>();
  readonly #services = new Map<string, Map<string, number>>();
  /** What each task added, so that it can be taken away after its revision is gone. */
  readonly #counted = new Map<string, Counted>();

  /** Of a node; not to be kept, it changes with the tasks. */
  node(nodeId: string): Readonly<NodeUse> {
    return this.#nodes.get(nodeId) ?? unused;
  }

  /** How many wanted tasks of the service each node has. */
  ofService(serviceId: string): ReadonlyMap<string, number> {
    return this.#services.get(serviceId) ?? new Map<string, number>();
  }

  /** Takes in a task as it is now; `reserved` is what its revision reserves. */
  set(task: Task, reserved: Resources): void {
    this.remove(task.meta.id);
    if (task.nodeId === "" || hasEnded(task)) return;
    const counted = { nodeId: task.nodeId, serviceId: task.serviceId, reserved, wanted: isWanted(task) };
    this.#counted.set(task.meta.id, counted);
    this.#add(counted, 1);
  }

  remove(taskId: string): void {
    const counted = this.#counted.get(taskId);
    if (counted === undefined) return;
    this.#counted.delete(taskId);
    this.#add(counted, -1);
  }

  #add({ nodeId, serviceId, reserved, wanted }: Counted, sign: 1 | -1): void {
    const use = this.node(nodeId);
    const tasks = use.tasks + sign;
    if (tasks === 0) this.#nodes.delete(nodeId);
    else
      this.#nodes.set(nodeId, {
        nanoCpus: use.nanoCpus + sign * reserved.nanoCpus,
        memoryBytes: use.memoryBytes + sign * reserved.memoryBytes,
        tasks,
      });
    if (!wanted) return;
    const there = this.#services.get(serviceId) ?? new Map<string, number>();
    this.#services.set(serviceId, there);
    const count = (there.get(nodeId) ?? 0) + sign;
    if (count === 0) there.delete(nodeId);
    else there.set(nodeId, count);
    if (there.size === 0) this.#services.delete(serviceId);
  }
}
