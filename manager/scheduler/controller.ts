// The loop around `place`: gives new tasks their nodes. It is woken by tasks that need a node and by what may make
// room for those that found none: never by polling, and never by its own writes.

import { type Clock, type Logger, ReconcileLoop, type Rng } from "../../lib/mod.js";
import { hasEnded } from "../../deploy/strategy/mod.js";
import {
  type Node,
  NodeAvailability,
  NodeState,
  type Resources,
  type Task,
  type TaskSpec,
  TaskState,
} from "../../proto/mod.js";
import type { Change, Commit, Store, Transaction, View } from "../store/mod.js";
import { needsNode, place } from "./place.js";
import { Usage } from "./usage.js";

/** Writes per transaction; below the store's limit, so that commits can be grouped. */
const writesPerUpdate = 90;
/** Transactions under way at the same time. */
const updatesAtOnce = 8;
/** Gathers the tasks of one deploy, which come in several commits. */
const debounceMsDefault = 5;

const nothing: Resources = { nanoCpus: 0, memoryBytes: 0, generic: {} };

export interface SchedulerOptions {
  store: Store;
  clock: Clock;
  rng: Rng;
  log: Logger;
  debounceMs?: number;
}

/** What to write about one task: its node, or why it has none. */
type Decision = { taskId: string; nodeId: string } | { taskId: string; message: string };

export class Scheduler implements AsyncDisposable {
  readonly #options: SchedulerOptions;
  readonly #loop: ReconcileLoop;
  readonly #usage = new Usage();
  /** Tasks that need a node: the only ones a run looks at. */
  readonly #waiting = new Set<string>();
  #unsubscribe: (() => void) | undefined;

  constructor(options: SchedulerOptions) {
    const { clock, rng, log, debounceMs = debounceMsDefault } = options;
    this.#options = options;
    this.#loop = new ReconcileLoop({ name: "scheduler", clock, rng, log, debounceMs, run: () => this.#run() });
  }

  /** The store must be ready. */
  start(): void {
    if (this.#unsubscribe !== undefined) throw new Error("the scheduler was started twice");
    const { store } = this.#options;
    this.#unsubscribe = store.subscribe((commit) => this.#onCommit(commit));
    for (const task of store.view().tasks.values()) this.#count(task);
    if (this.#waiting.size > 0) this.#loop.wake();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unsubscribe?.();
    await this.#loop[Symbol.asyncDispose]();
  }

  #onCommit({ changes }: Commit): void {
    let relevant = false;
    for (const change of changes) relevant = this.#take(change) || relevant;
    if (relevant && this.#waiting.size > 0) this.#loop.wake();
  }

  /** Takes in a change; whether it may let a task be placed. */
  #take({ table, before, after }: Change): boolean {
    if (table === "nodes") return before === undefined || after === undefined || !isSameRoom(before, after);
    if (table !== "tasks") return false;
    if (after === undefined) {
      if (before === undefined) return false;
      this.#usage.remove(before.meta.id);
      this.#waiting.delete(before.meta.id);
      return before.nodeId !== "" && !hasEnded(before);
    }
    this.#count(after);
    if (needsNode(after)) return before === undefined || !needsNode(before);
    // Room comes from tasks that ended, and under a limit per node from those that are to stop.
    return (
      before !== undefined && before.nodeId !== "" && (hasEnded(after) || after.desiredState !== before.desiredState)
    );
  }

  #count(task: Task): void {
    const spec = specOf(this.#options.store.view(), task.serviceId, task.revision);
    this.#usage.set(task, spec?.reservations ?? nothing);
    if (needsNode(task)) this.#waiting.add(task.meta.id);
    else this.#waiting.delete(task.meta.id);
  }

  async #run(): Promise<void> {
    const { store, clock, log } = this.#options;
    const view = store.view();
    const tasks = [...this.#waiting].flatMap((id) => view.tasks.get(id) ?? []);
    const { assigned, unplaced } = place({
      tasks,
      nodes: view.nodes.values(),
      usage: this.#usage,
      specOf: (serviceId, revision) => specOf(view, serviceId, revision),
      tasksOfService: (serviceId) => view.tasksOfService(serviceId),
      now: clock.now(),
    });
    // A message that stays the same is not written again.
    const told = unplaced.filter(({ taskId, message }) => view.tasks.get(taskId)?.placementMessage !== message);
    const decisions: Decision[] = [...assigned, ...told];
    if (decisions.length === 0) return;
    const chunks: Decision[][] = [];
    for (let i = 0; i < decisions.length; i += writesPerUpdate) chunks.push(decisions.slice(i, i + writesPerUpdate));
    const worker = async () => {
      for (let chunk = chunks.shift(); chunk !== undefined; chunk = chunks.shift()) {
        const decided = chunk;
        await store.update((tx) => {
          for (const decision of decided) write(tx, decision, clock.now());
        });
      }
    };
    const outcomes = await Promise.allSettled(Array.from({ length: Math.min(updatesAtOnce, chunks.length) }, worker));
    // Only once all of them ended: the next run must count what they assigned.
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
    log.debug({ assigned: assigned.length, unplaced: unplaced.length }, "tasks scheduled");
    for (const { taskId, message } of told) log.info({ task: taskId, message }, "task cannot be placed");
  }
}

/** Writes a decision unless the task or the node is no longer what it was made for: then another run decides. */
function write(tx: Transaction, decision: Decision, now: number): void {
  const task = tx.tasks.get(decision.taskId);
  if (task === undefined || !needsNode(task)) return;
  const meta = { ...task.meta, updatedAtMs: now };
  if ("message" in decision) {
    const { state } = task.status;
    const status =
      state === TaskState.PENDING
        ? task.status
        : { ...task.status, state: TaskState.PENDING, sinceMs: now, message: "" };
    tx.put("tasks", { ...task, meta, status, placementMessage: decision.message });
    return;
  }
  const node = tx.nodes.get(decision.nodeId);
  if (node?.status.state !== NodeState.READY || node.spec.availability !== NodeAvailability.ACTIVE) return;
  tx.put("tasks", {
    ...task,
    meta,
    nodeId: decision.nodeId,
    status: { ...task.status, state: TaskState.ASSIGNED, sinceMs: now, message: "assigned to a node" },
    placementMessage: "",
  });
}

function specOf(view: View, serviceId: string, revision: number): TaskSpec | undefined {
  return view.revisionOfService(serviceId, revision)?.spec.task;
}

/** Whether a node can take what it could before, and no more. Heartbeats and the like change nothing here. */
function isSameRoom(before: Node, after: Node): boolean {
  return (
    before.status.state === after.status.state &&
    before.spec.availability === after.spec.availability &&
    JSON.stringify([before.spec.labels, before.description]) === JSON.stringify([after.spec.labels, after.description])
  );
}
