// The tasks that need a node, and what is known of those that found none: a run looks at these only, and of them in
// full only at those for which something may have changed.

import type { Task } from "../../proto/mod.js";
import { groupKey, type Placement } from "./place.js";

/**
 * Groups without room that are judged in full all the same, in turn, so that what their tasks say of the nodes stays
 * true; with more of them it may be some runs old.
 */
const renewedPerRun = 50;

/** New tasks that one run places at most; the next run follows at once. It bounds how long the event loop is held. */
const freshPerRun = 5_000;

export interface Blocked {
  groups: ReadonlySet<string>;
  gained: ReadonlySet<string>;
}

export class Waiting {
  readonly #tasks = new Set<string>();
  /** Groups that found no room, those that were judged longest ago first. */
  readonly #blocked = new Set<string>();
  /** Nodes that may have gained room since the last run. */
  #gained = new Set<string>();
  /** Services that waiting tasks want to be beside. */
  #wantedNames: ReadonlySet<string> = new Set();

  get size(): number {
    return this.#tasks.size;
  }

  /** Whether the task was not known to wait. */
  add(taskId: string): boolean {
    if (this.#tasks.has(taskId)) return false;
    this.#tasks.add(taskId);
    return true;
  }

  delete(taskId: string): void {
    this.#tasks.delete(taskId);
  }

  gain(nodeId: string): void {
    this.#gained.add(nodeId);
  }

  /** Something changed that may matter to everybody. */
  reconsider(): void {
    this.#blocked.clear();
  }

  /** Whether waiting tasks may go to where a task of this service is. */
  isWanted(serviceName: string): boolean {
    return this.#wantedNames.has(serviceName);
  }

  /** What to place now. What changes from here on counts for the next run. */
  begin(get: (id: string) => Task | undefined): { tasks: Task[]; blocked: Blocked; more: boolean } {
    const tasks: Task[] = [];
    const groups = new Set<string>();
    let renewed = 0;
    let fresh = 0;
    for (const key of this.#blocked) {
      renewed += 1;
      if (renewed > renewedPerRun) groups.add(key);
    }
    for (const id of this.#tasks) {
      const task = get(id);
      if (task === undefined) continue;
      if (task.placementMessage === "") fresh += 1;
      if (task.placementMessage === "" && fresh > freshPerRun) continue;
      tasks.push(task);
      // A new one has to be told why it waits.
      if (task.placementMessage === "") groups.delete(groupKey(task));
    }
    const gained = this.#gained;
    this.#gained = new Set();
    return { tasks, blocked: { groups, gained }, more: fresh > freshPerRun };
  }

  /** What came of it: groups of which nothing is said were passed over and stay as they were. */
  end(tasks: readonly Task[], { assigned, unplaced }: Placement, wantedNames: ReadonlySet<string>): void {
    const keys = new Map(tasks.map((task) => [task.meta.id, groupKey(task)]));
    const present = new Set(keys.values());
    for (const key of this.#blocked) if (!present.has(key)) this.#blocked.delete(key);
    for (const { taskId } of [...assigned, ...unplaced]) this.#blocked.delete(keys.get(taskId) ?? "");
    for (const { taskId } of unplaced) this.#blocked.add(keys.get(taskId) ?? "");
    this.#wantedNames = wantedNames;
  }
}
