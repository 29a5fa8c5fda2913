// The loop around `place`: gives new tasks their nodes. It is woken by tasks that need a node and by what may make
// room for those that found none: never by polling, and never by its own writes. It keeps what `place` needs, so that a
// run costs by what waits and what changed, not by all there is.

import { settingsOf } from "../../deploy/spec/mod.js";
import { hasEnded, isWanted } from "../../deploy/strategy/mod.js";
import { type Clock, type Logger, ReconcileLoop, type Rng } from "../../lib/mod.js";
import {
  type Cluster,
  NodeAvailability,
  NodeState,
  type PortSpec,
  type Resources,
  type Task,
  type TaskSpec,
  TaskState,
} from "../../proto/mod.js";
import type { Change, Commit, Store, Transaction, View } from "../store/mod.js";
import { budgetOf } from "./budget.js";
import { demandOf } from "./demand.js";
import { isSameRoom, NodeIndex } from "./nodes.js";
import { needsNode, place, type Placement } from "./place.js";
import { Usage } from "./usage.js";
import { Waiting } from "./waiting.js";

/** Writes per transaction; below the store's limit, so that commits can be grouped. */
const writesPerUpdate = 90;
/** Transactions under way at the same time: what the embedded store commits as one entry of its log, 1,024 writes. */
const updatesAtOnce = 11;
/** Gathers the tasks of one deploy, which come in several commits. */
const debounceMsDefault = 5;

const nothing: Resources = { nanoCpus: 0, memoryBytes: 0, generic: {} };
const noPorts: readonly PortSpec[] = [];

export interface SchedulerOptions {
  store: Store;
  clock: Clock;
  rng: Rng;
  log: Logger;
  debounceMs?: number;
}

/** What to write about one task: its node, why it has none, or for whom it has to leave. */
type Decision =
  | { taskId: string; nodeId: string; reason: string }
  | { taskId: string; message: string }
  | { taskId: string; leaveFor: string };

export class Scheduler implements AsyncDisposable {
  readonly #options: SchedulerOptions;
  readonly #loop: ReconcileLoop;
  readonly #usage = new Usage();
  readonly #nodes = new NodeIndex();
  readonly #waiting = new Waiting();
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
    for (const node of store.view().nodes.values()) this.#nodes.set(node);
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
  #take(change: Change): boolean {
    switch (change.table) {
      case "nodes": {
        const { before, after } = change;
        if (after === undefined) {
          if (before !== undefined) this.#nodes.remove(before.meta.id);
          return before !== undefined;
        }
        if (before !== undefined && isSameRoom(before, after)) return false;
        this.#nodes.set(after);
        this.#waiting.gain(after.meta.id);
        return true;
      }
      case "clusters": {
        if (JSON.stringify(change.before?.settings) === JSON.stringify(change.after?.settings)) return false;
        this.#waiting.reconsider();
        return true;
      }
      case "tasks":
        return this.#takeTask(change.before, change.after);
      case "services":
      case "revisions":
      case "rollouts":
        return false;
    }
  }

  #takeTask(before: Task | undefined, after: Task | undefined): boolean {
    if (after === undefined) {
      if (before === undefined) return false;
      this.#usage.remove(before.meta.id);
      this.#waiting.delete(before.meta.id);
      if (before.nodeId === "" || hasEnded(before)) return false;
      this.#waiting.gain(before.nodeId);
      return true;
    }
    // Most writes are of what its container does.
    if (before !== undefined && isSameUse(before, after)) return false;
    this.#count(after);
    if (needsNode(after)) return before === undefined || !needsNode(before);
    if (after.nodeId === "") return false;
    // Room comes from tasks that ended, and under a limit per node from those that are to stop or leave.
    if (before !== undefined && before.nodeId !== "") {
      this.#waiting.gain(after.nodeId);
      return true;
    }
    return this.#waiting.isWanted(after.serviceName);
  }

  #count(task: Task): void {
    const view = this.#options.store.view();
    const revision = view.revisionOfService(task.serviceId, task.revision);
    if (revision === undefined) this.#usage.set(task, nothing);
    else this.#usage.set(task, revision.spec.task.reservations, demandOf(revision.spec.task, revision.spec.ports));
    if (needsNode(task)) this.#waiting.add(task.meta.id);
    else this.#waiting.delete(task.meta.id);
  }

  async #run(): Promise<{ wakeAtMs?: number }> {
    const { store, clock, log } = this.#options;
    const view = store.view();
    const { tasks, blocked, more } = this.#waiting.begin((id) => view.tasks.get(id));
    const specs = specsOf(view);
    const placement = place({
      tasks,
      blocked,
      nodes: this.#nodes,
      usage: this.#usage,
      ...specs,
      tasksOfService: (serviceId) => view.tasksOfService(serviceId),
      tasksOfNode: (nodeId) => view.tasksOfNode(nodeId),
      serviceByName: (name) => view.serviceByName(name),
      budgetOf: (serviceId) => budgetOf(view, serviceId),
      settings: settingsOf(clusterOf(view)),
      now: clock.now(),
    });
    this.#waiting.end(tasks, placement, namesWanted(tasks, placement, specs));
    try {
      await this.#apply(placement);
    } catch (error) {
      // Nobody knows what was written of it.
      this.#waiting.reconsider();
      throw error;
    }
    const { assigned, unplaced, preempted } = placement;
    if (assigned.length + unplaced.length > 0)
      log.debug({ assigned: assigned.length, unplaced: unplaced.length }, "tasks scheduled");
    for (const { taskId, reason } of preempted) log.info({ task: taskId, reason }, "task has to leave");
    return more ? { wakeAtMs: clock.now() } : {};
  }

  async #apply({ assigned, unplaced, preempted }: Placement): Promise<void> {
    const { store, clock, log } = this.#options;
    const view = store.view();
    // A message that stays the same is not written again.
    const told = unplaced.filter(({ taskId, message }) => view.tasks.get(taskId)?.placementMessage !== message);
    const leaving = preempted.map(({ taskId, reason }) => ({ taskId, leaveFor: reason }));
    const decisions: Decision[] = [...assigned, ...leaving, ...told];
    if (decisions.length === 0) return;
    const chunks: Decision[][] = [];
    for (let i = 0; i < decisions.length; i += writesPerUpdate) chunks.push(decisions.slice(i, i + writesPerUpdate));
    let next = 0;
    const worker = async () => {
      for (let decided = chunks[next]; decided !== undefined; decided = chunks[next]) {
        next += 1;
        const chunk = decided;
        await store.update((tx) => {
          for (const decision of chunk) write(tx, decision, clock.now());
        });
      }
    };
    const outcomes = await Promise.allSettled(Array.from({ length: Math.min(updatesAtOnce, chunks.length) }, worker));
    // Only once all of them ended: the next run must count what they assigned.
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
    for (const { taskId, message } of told) log.info({ task: taskId, message }, "task cannot be placed");
  }
}

/** Writes a decision unless the task or the node is no longer what it was made for: then another run decides. */
function write(tx: Transaction, decision: Decision, now: number): void {
  const task = tx.tasks.get(decision.taskId);
  if (task === undefined) return;
  const meta = { ...task.meta, updatedAtMs: now };
  if ("leaveFor" in decision) {
    if (task.leave !== undefined || !isWanted(task) || hasEnded(task)) return;
    tx.put("tasks", { ...task, meta, leave: { reason: decision.leaveFor, atMs: now, startFirst: false } });
    return;
  }
  if (!needsNode(task)) return;
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
    placementReason: decision.reason,
  });
}

/** Whether the scheduler sees no difference. */
function isSameUse(before: Task, after: Task): boolean {
  return (
    before.nodeId === after.nodeId &&
    before.desiredState === after.desiredState &&
    before.revision === after.revision &&
    (before.leave === undefined) === (after.leave === undefined) &&
    hasEnded(before) === hasEnded(after)
  );
}

interface Specs {
  specOf: (serviceId: string, revision: number) => TaskSpec | undefined;
  portsOf: (serviceId: string, revision: number) => readonly PortSpec[];
}

/** What tasks of a revision are. */
function specsOf(view: View): Specs {
  const spec = (serviceId: string, revision: number) => view.revisionOfService(serviceId, revision)?.spec;
  return {
    specOf: (serviceId, revision) => spec(serviceId, revision)?.task,
    portsOf: (serviceId, revision) => spec(serviceId, revision)?.ports ?? noPorts,
  };
}

function clusterOf(view: View): Cluster | undefined {
  for (const cluster of view.clusters.values()) return cluster;
  return undefined;
}

/** The services that those without a node have to be beside. */
function namesWanted(tasks: readonly Task[], { unplaced }: Placement, { specOf, portsOf }: Specs): Set<string> {
  const without = new Set(unplaced.map(({ taskId }) => taskId));
  const names = new Set<string>();
  const seen = new Set<TaskSpec>();
  for (const { meta, serviceId, revision } of tasks) {
    if (!without.has(meta.id)) continue;
    const spec = specOf(serviceId, revision);
    if (spec === undefined || seen.has(spec)) continue;
    seen.add(spec);
    for (const rule of demandOf(spec, portsOf(serviceId, revision)).required)
      if (rule.kind === "service" && rule.has) names.add(rule.name);
  }
  return names;
}
