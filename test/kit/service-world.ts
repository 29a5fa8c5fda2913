// One service in a world of its own: its stored objects, nodes with a model of their agents, and a clock that only
// moves when told. Drives the orchestrator's planner and the scheduler's placement without a store, and checks after
// every single write what must always hold. A plan is only asked for when the controller would ask: after a write, or
// at the time that the plan before named; between, it must be empty.

import { type Rng, seededRng } from "../../lib/mod.js";
import { hasEnded, isConverged, isReady, isWanted } from "../../deploy/strategy/mod.js";
import {
  createService,
  planService,
  removeService,
  scaleService,
  type ServicePlan,
  updateService,
} from "../../manager/orchestrator/mod.js";
import {
  abortRollout,
  pauseRollout,
  resumeRollout,
  rollbackService,
  type ServiceChange,
  type ServiceParts,
  type Step,
} from "../../manager/rollout/mod.js";
import { orphan } from "../../manager/dispatcher/mod.js";
import { needsNode, place, Usage } from "../../manager/scheduler/mod.js";
import {
  type Node,
  NodeAvailability,
  NodeState,
  type Revision,
  type Rollout,
  type Service,
  type ServiceSpec,
  type Task,
  TaskState,
} from "../../proto/mod.js";
import { makeNode } from "./objects.js";
import { type Behaviour, ModelAgents, type Pace } from "./service-agents.js";

/** How long things take: 500, 500 and 3000 ms when not given. */
export interface WorldOptions extends Partial<Pace> {
  seed?: number;
  nodes?: number;
  /** By image; an image that is not named is good. */
  images?: Record<string, Behaviour>;
  /** A leader dies after each write; the next one plans from what is stored, and agents go on between the two. */
  leadersDie?: boolean;
}

/** A write of the planner or of a user's change. */
export interface Write {
  before: Task | undefined;
  after: Task | undefined;
}

const tickMs = 250;

export class ServiceWorld {
  now = 1_700_000_000_000;
  service: Service;
  readonly revisions = new Map<string, Revision>();
  readonly tasks = new Map<string, Task>();
  readonly rollouts = new Map<string, Rollout>();
  readonly nodes = new Map<string, Node>();
  /** The service was removed and is gone. */
  gone = false;
  readonly images: Record<string, Behaviour>;
  /** Of single tasks, before that of their image. */
  behaviourOf: (task: Task) => Behaviour | undefined = () => undefined;
  readonly pace: Pace;
  /** Called after every write of the planner; a write of another table than tasks has neither task. */
  check: (write: Write) => void = () => undefined;
  wakeAtMs: number | undefined;
  readonly #rng: Rng;
  readonly #agents = new ModelAgents();
  readonly #leadersDie: boolean;
  /** Something was written since the last plan. */
  #dirty = true;

  constructor(spec: ServiceSpec, options: WorldOptions = {}) {
    this.#rng = seededRng(options.seed ?? 1);
    this.images = { ...options.images };
    const { startMs = 500, stopMs = 500, sickAfterMs = 3000 } = options;
    this.pace = { startMs, stopMs, sickAfterMs };
    this.#leadersDie = options.leadersDie ?? false;
    for (let i = 1; i <= (options.nodes ?? 3); i += 1) this.nodes.set(`h${i}`, makeNode(`h${i}`));
    const change = createService({ spec, vip: "10.127.0.1", requestId: "", existing: undefined }, this.making);
    this.service = change.service;
    this.apply(change.steps);
  }

  get making(): { now: number; id: () => string } {
    return { now: this.now, id: () => this.#rng.id() };
  }

  get rollout(): Rollout | undefined {
    return this.rollouts.get(this.service.rolloutId);
  }

  get parts(): ServiceParts {
    const revisions = [...this.revisions.values()].sort((a, b) => a.number - b.number);
    return { service: this.service, revisions, rollout: this.rollout };
  }

  /** What users do. */
  update(spec: ServiceSpec, force = false): void {
    this.#change(updateService(this.parts, { spec, version: 0, force, requestId: "" }, this.making));
  }
  scale(replicas: number): void {
    this.#change(scaleService(this.parts, { replicas, requestId: "" }, this.making));
  }
  rollback(toRevision = 0): void {
    this.#change(rollbackService(this.parts, { toRevision, requestId: "" }, this.making));
  }
  pause(): void {
    this.#change(pauseRollout(this.parts, this.making));
  }
  resume(): void {
    this.#change(resumeRollout(this.parts, this.making));
  }
  abort(): void {
    this.#change(abortRollout(this.parts, "", this.making));
  }
  remove(): void {
    this.#change(removeService(this.service, this.making));
  }
  setNode(id: string, availability: NodeAvailability, state: NodeState): void {
    const node = this.nodes.get(id);
    if (node === undefined) throw new Error(`no node ${id}`);
    const since = availability === node.spec.availability ? node.spec.availabilitySinceMs : this.now;
    this.nodes.set(id, {
      ...node,
      spec: { ...node.spec, availability, availabilitySinceMs: since },
      status: { ...node.status, state, lastSeenAtMs: state === NodeState.READY ? 0 : this.now, sinceMs: this.now },
    });
    this.#dirty = true;
  }
  /** A node that was not there before, or a forgotten one again. */
  join(id: string, changes: Partial<Node> = {}): void {
    this.nodes.set(id, makeNode(id, changes));
    this.#dirty = true;
  }
  /** The node is gone and removed from the cluster. */
  forget(id: string): void {
    this.nodes.delete(id);
    this.#dirty = true;
  }
  /** As rebalancing and preemption ask. */
  askToLeave(taskId: string, startFirst: boolean): void {
    this.#put({ ...this.#task(taskId), leave: { reason: "asked", atMs: this.now, startFirst } });
  }
  /** The container ends by itself, and the agent gives it up. */
  fail(taskId: string): void {
    const task = this.#task(taskId);
    const status = { ...task.status, state: TaskState.FAILED, sinceMs: this.now, error: "killed" };
    this.#put({ ...task, status, readySinceMs: 0, endedAtMs: this.now });
  }

  /** The wanted tasks that have not ended, by slot. */
  live(): Map<number, Task[]> {
    const slots = new Map<number, Task[]>();
    for (const task of this.tasks.values())
      if (isWanted(task) && !hasEnded(task)) slots.set(task.slot, [...(slots.get(task.slot) ?? []), task]);
    return slots;
  }

  ready(): Task[] {
    return [...this.tasks.values()].filter(isReady);
  }

  imageOf(task: Task): string {
    return this.parts.revisions.find(({ number }) => number === task.revision)?.spec.task.container.image ?? "";
  }

  converged(): boolean {
    return (
      !this.gone && isConverged({ ...this.parts, tasks: this.tasks.values(), nodes: this.nodes.values() }).converged
    );
  }

  /** Plans and writes until nothing is left to do; `cut` writes only that many steps of each plan. */
  plan(cut?: number): number {
    // The test may have changed something by itself.
    this.#dirty = true;
    return this.#plan(cut);
  }

  #plan(cut = this.#leadersDie ? 1 : Number.POSITIVE_INFINITY): number {
    // Invariant 9: a plan that was written whole leaves nothing to do; undoing a rollout leaves the rest to the next one.
    const roundsMax = cut === Number.POSITIVE_INFINITY ? 4 : 1000;
    for (let rounds = 0; rounds < roundsMax; rounds += 1) {
      if (this.gone) return rounds;
      const isDue = this.#dirty || (this.wakeAtMs !== undefined && this.now >= this.wakeAtMs);
      // Now and then is enough to find what no wake was asked for: it would be there at every look from then on.
      if (!isDue && this.#rng.next() >= 0.2) return rounds;
      const { steps, wakeAtMs } = this.#planned();
      if (!isDue) {
        if (steps.length > 0) throw new Error(`there is something to do, but nobody would have looked: ${told(steps)}`);
        return rounds;
      }
      if (wakeAtMs !== undefined && wakeAtMs <= this.now) throw new Error("the plan asks to be woken in the past");
      this.wakeAtMs = wakeAtMs;
      this.#dirty = false;
      if (steps.length === 0) return rounds;
      // What begins or undoes something is few steps, and always written as one.
      const whole = steps.some(({ table }) => table === "revisions");
      this.apply(whole ? steps : steps.slice(0, cut));
      if (!this.#leadersDie) continue;
      if (this.#rng.next() < 0.3) this.schedule();
      if (this.#rng.next() < 0.3) this.agents();
    }
    throw new Error(`the plan never gets empty: ${told(this.#planned().steps)}`);
  }

  #planned(): ServicePlan {
    return planService(
      {
        ...this.parts,
        tasks: [...this.tasks.values()],
        rollouts: [...this.rollouts.values()],
        node: (id) => this.nodes.get(id),
        nodes: () => this.nodes.values(),
      },
      this.making,
    );
  }

  schedule(): void {
    if (![...this.tasks.values()].some(needsNode)) return;
    const usage = new Usage();
    const specOf = (_: string, number: number) =>
      this.parts.revisions.find((revision) => revision.number === number)?.spec.task;
    for (const task of this.tasks.values())
      usage.set(task, specOf("", task.revision)?.reservations ?? { nanoCpus: 0, memoryBytes: 0, generic: {} });
    const { assigned, unplaced } = place({
      tasks: this.tasks.values(),
      nodes: this.nodes.values(),
      usage,
      specOf,
      tasksOfService: () => this.tasks.values(),
      now: this.now,
    });
    for (const { taskId, nodeId } of assigned) {
      const task = this.#task(taskId);
      this.#put({ ...task, nodeId, status: { ...task.status, state: TaskState.ASSIGNED }, placementMessage: "" });
    }
    for (const { taskId, message } of unplaced) {
      const task = this.#task(taskId);
      this.#put({ ...task, status: { ...task.status, state: TaskState.PENDING }, placementMessage: message });
    }
  }

  /** Lets the agents of connected nodes do what is due; the monitor orphans the tasks of lost ones. */
  agents(): void {
    for (const task of [...this.tasks.values()]) {
      const node = this.nodes.get(task.nodeId);
      if (node === undefined || hasEnded(task)) continue;
      if (node.status.state === NodeState.DOWN) this.#put(orphan(task, this.now));
      else if (node.status.state === NodeState.READY) {
        const behaviour = this.behaviourOf(task) ?? this.images[this.imageOf(task)] ?? "good";
        const after = this.#agents.act(task, behaviour, this.pace, this.now);
        if (after !== undefined) this.#put(after);
      }
    }
  }

  /** Plans, places and lets agents work for a while. */
  run(ms: number, until: () => boolean = () => false): boolean {
    const endMs = this.now + ms;
    this.#dirty = true;
    for (;;) {
      this.#plan();
      this.schedule();
      this.#plan();
      if (until()) return true;
      if (this.now >= endMs) return false;
      this.now += tickMs;
      this.agents();
    }
  }

  apply(steps: readonly Step[]): void {
    for (const step of steps) {
      const id = step.do === "remove" ? step.id : step.object.meta.id;
      const before = this.tasks.get(id);
      this.#write(step);
      this.check({ before, after: this.tasks.get(id) });
    }
  }

  #change(change: ServiceChange): void {
    this.apply(change.steps);
  }

  #write(step: Step): void {
    this.#dirty = true;
    const table: Map<string, unknown> | undefined = {
      tasks: this.tasks,
      revisions: this.revisions,
      rollouts: this.rollouts,
      nodes: this.nodes,
      services: undefined,
      clusters: undefined,
    }[step.table];
    if (table === undefined) {
      if (step.do === "remove") this.gone = true;
      else if (step.table === "services") this.service = step.object;
      return;
    }
    const id = step.do === "remove" ? step.id : step.object.meta.id;
    if (table.has(id) === (step.do === "create"))
      throw new Error(`${step.do} ${step.table} ${id}: wrongly there or not`);
    if (step.do === "remove") table.delete(id);
    else if (step.table === "tasks") this.#put(step.object);
    else table.set(id, step.object);
  }

  /** Invariant 3 is checked here, whoever writes. */
  #put(task: Task): void {
    const before = this.tasks.get(task.meta.id);
    if (before !== undefined) {
      if (task.status.state < before.status.state) throw new Error("an observed state goes backwards");
      if (task.desiredState < before.desiredState) throw new Error("a desired state goes backwards");
      if (before.nodeId !== "" && task.nodeId !== before.nodeId) throw new Error("a task moves to another node");
    }
    this.#dirty = true;
    this.tasks.set(task.meta.id, task);
  }

  #task(id: string): Task {
    const task = this.tasks.get(id);
    if (task === undefined) throw new Error(`no task ${id}`);
    return task;
  }
}

/** "put tasks 4f…, create tasks 07…". */
function told(steps: readonly Step[]): string {
  return steps
    .map((step) => `${step.do} ${step.table} ${step.do === "remove" ? step.id : step.object.meta.id}`)
    .join(", ");
}
