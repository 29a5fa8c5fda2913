// A service's tasks while a plan is being made: the plan sees what it decided already, and the steps come out in the
// order of the decisions. That order matters: a long plan is written in several transactions, and each of its
// beginnings must be a sound state.

import { newestFirst } from "../../deploy/strategy/mod.js";
import { type Task, TaskState } from "../../proto/mod.js";
import type { Step } from "../rollout/mod.js";

/** What a manager may want of a task. */
export type DesiredState =
  | typeof TaskState.READY
  | typeof TaskState.RUNNING
  | typeof TaskState.SHUTDOWN
  | typeof TaskState.REMOVE;

export class Draft {
  readonly now: number;
  readonly #before = new Map<string, Task>();
  readonly #tasks = new Map<string, Task>();
  readonly #touched = new Set<string>();

  constructor(tasks: Iterable<Task>, now: number) {
    this.now = now;
    for (const task of tasks) {
      this.#before.set(task.meta.id, task);
      this.#tasks.set(task.meta.id, task);
    }
  }

  tasks(): Task[] {
    return [...this.#tasks.values()];
  }

  get(id: string): Task | undefined {
    return this.#tasks.get(id);
  }

  /** The tasks of a service without runs by slot, newest first. */
  bySlot(): Map<number, Task[]> {
    return this.byRun().get(0) ?? new Map<number, Task[]>();
  }

  /** The tasks by run, 0 where there are none, and then by slot, newest first. */
  byRun(): Map<number, Map<number, Task[]>> {
    const runs = new Map<number, Map<number, Task[]>>();
    for (const task of [...this.#tasks.values()].sort(newestFirst)) {
      let slots = runs.get(task.run);
      if (slots === undefined) {
        slots = new Map<number, Task[]>();
        runs.set(task.run, slots);
      }
      const there = slots.get(task.slot);
      if (there === undefined) slots.set(task.slot, [task]);
      else there.push(task);
    }
    return runs;
  }

  create(task: Task): void {
    this.#tasks.set(task.meta.id, task);
    this.#touched.add(task.meta.id);
  }

  /** Wants `state` of a task; one that is as far already is left alone. */
  want(id: string, state: DesiredState): void {
    const task = this.#tasks.get(id);
    if (task === undefined || task.desiredState >= state) return;
    this.change({ ...task, desiredState: state, desiredSinceMs: this.now });
  }

  change(task: Task): void {
    const before = this.#tasks.get(task.meta.id);
    // Invariant 3, and that desired states only grow: a plan that breaks them must never be written.
    if (before !== undefined && (task.status.state < before.status.state || task.desiredState < before.desiredState))
      throw new Error(`the plan takes task ${task.meta.id} back to an earlier state`);
    this.#tasks.set(task.meta.id, { ...task, meta: { ...task.meta, updatedAtMs: this.now } });
    this.#touched.add(task.meta.id);
  }

  remove(id: string): void {
    this.#tasks.delete(id);
    this.#touched.add(id);
  }

  /** Each touched task once, as it is at the end. */
  steps(): Step[] {
    const steps: Step[] = [];
    for (const id of this.#touched) {
      const existed = this.#before.has(id);
      const object = this.#tasks.get(id);
      if (object !== undefined) steps.push({ do: existed ? "put" : "create", table: "tasks", object });
      else if (existed) steps.push({ do: "remove", table: "tasks", id });
    }
    return steps;
  }
}
