// One service in a world of its own: its stored objects, nodes with a model of their agents, and a clock that only
// moves when told. Drives the orchestrator's planner and the scheduler's placement without a store, and checks after
// every single write what must always hold.

import { type Rng, seededRng } from "../../lib/mod.js";
import { hasEnded, isConverged, isReady, isWanted } from "../../deploy/strategy/mod.js";
import {
  createService,
  planService,
  removeService,
  scaleService,
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
import { applyStatus, orphan } from "../../manager/dispatcher/mod.js";
import { place, Usage } from "../../manager/scheduler/mod.js";
import {
  ContainerHealth,
  ContainerPhase,
  type Node,
  NodeAvailability,
  NodeState,
  type Revision,
  type Rollout,
  type Service,
  type ServiceSpec,
  type Task,
  TaskState,
  type TaskStatus,
} from "../../proto/mod.js";
import { makeNode } from "./objects.js";

/** How the containers of one image behave. */
export interface Behaviour {
  /** rejects: the image cannot be pulled; exits: fails soon after its start; hangs: never gets ready. */
  kind: "good" | "rejects" | "exits" | "crash-loops" | "hangs" | "completes";
}

export interface WorldOptions {
  seed?: number;
  nodes?: number;
  /** By image; an image that is not named is good. */
  images?: Record<string, Behaviour["kind"]>;
  /** How long a container takes from its start to ready, and from the stop signal to its end. */
  startMs?: number;
  stopMs?: number;
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
  readonly images: Record<string, Behaviour["kind"]>;
  startMs: number;
  stopMs: number;
  /** Whether two tasks of a slot may be meant to run: once any update was start-first. */
  startedFirst = false;
  /** Called after every write. */
  check: () => void = () => undefined;
  wakeAtMs: number | undefined;
  readonly #rng: Rng;
  /** When each task's container was started or told to stop, by the model. */
  readonly #since = new Map<string, { state: TaskState; stopping: boolean; atMs: number }>();

  constructor(spec: ServiceSpec, options: WorldOptions = {}) {
    this.#rng = seededRng(options.seed ?? 1);
    this.images = { ...options.images };
    this.startMs = options.startMs ?? 500;
    this.stopMs = options.stopMs ?? 500;
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
    this.nodes.set(id, { ...node, spec: { ...node.spec, availability }, status: { ...node.status, state } });
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
    return !this.gone && isConverged({ ...this.parts, tasks: this.tasks.values() }).converged;
  }

  /** Plans and writes until nothing is left to do; `cut` writes only that many steps of each plan. */
  plan(cut = Number.POSITIVE_INFINITY): number {
    for (let rounds = 0; rounds < 1000; rounds += 1) {
      if (this.gone) return rounds;
      const { steps, wakeAtMs } = planService(
        {
          ...this.parts,
          tasks: [...this.tasks.values()],
          rollouts: [...this.rollouts.values()],
          node: (id) => this.nodes.get(id),
        },
        this.making,
      );
      this.wakeAtMs = wakeAtMs;
      if (wakeAtMs !== undefined && wakeAtMs <= this.now) throw new Error("the plan asks to be woken in the past");
      if (steps.length === 0) return rounds;
      // What undoes a rollout is few steps, and always written as one.
      const whole = steps.some(({ table }) => table === "revisions");
      this.apply(whole ? steps : steps.slice(0, cut));
    }
    throw new Error("the plan never gets empty");
  }

  schedule(): void {
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
      else if (node.status.state === NodeState.READY) this.#agent(task);
    }
  }

  /** Plans, places and lets agents work for a while. */
  run(ms: number, until: () => boolean = () => false): boolean {
    const endMs = this.now + ms;
    for (;;) {
      this.plan();
      this.schedule();
      this.plan();
      if (until()) return true;
      if (this.now >= endMs) return false;
      this.now += tickMs;
      this.agents();
    }
  }

  apply(steps: readonly Step[]): void {
    for (const step of steps) {
      this.#write(step);
      this.check();
    }
  }

  #change(change: ServiceChange): void {
    this.apply(change.steps);
  }

  #write(step: Step): void {
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

  #put(task: Task): void {
    const before = this.tasks.get(task.meta.id);
    if (before !== undefined) {
      if (task.status.state < before.status.state) throw new Error("an observed state goes backwards");
      if (task.desiredState < before.desiredState) throw new Error("a desired state goes backwards");
      if (before.nodeId !== "" && task.nodeId !== before.nodeId) throw new Error("a task moves to another node");
    }
    this.tasks.set(task.meta.id, task);
  }

  #task(id: string): Task {
    const task = this.tasks.get(id);
    if (task === undefined) throw new Error(`no task ${id}`);
    return task;
  }

  #agent(task: Task): void {
    const { state } = task.status;
    const stopping = task.desiredState >= TaskState.SHUTDOWN;
    const seen = this.#since.get(task.meta.id);
    if (seen === undefined || seen.state !== state || seen.stopping !== stopping)
      this.#since.set(task.meta.id, { state, stopping, atMs: this.now });
    const elapsedMs = this.now - (this.#since.get(task.meta.id)?.atMs ?? this.now);
    if (stopping) {
      if (state < TaskState.STARTING || elapsedMs >= this.stopMs) this.#report(task, TaskState.SHUTDOWN, {});
      return;
    }
    const kind = this.images[this.imageOf(task)] ?? "good";
    const { container } = task.status;
    if (state < TaskState.PREPARING) this.#report(task, TaskState.PREPARING, {});
    else if (state === TaskState.PREPARING)
      this.#report(task, kind === "rejects" ? TaskState.REJECTED : TaskState.READY, { error: "no such image" });
    else if (state === TaskState.READY && task.desiredState === TaskState.RUNNING)
      this.#report(task, TaskState.STARTING, { attempt: 1 });
    else if (state === TaskState.STARTING && elapsedMs >= this.startMs && kind !== "hangs") {
      if (kind === "exits") this.#report(task, TaskState.FAILED, { attempt: 1, exitCode: 1 });
      else this.#report(task, TaskState.RUNNING, { attempt: 1, ready: true });
    } else if (state === TaskState.RUNNING && kind === "completes" && elapsedMs >= 1000)
      this.#report(task, TaskState.COMPLETE, { attempt: 1, exitCode: 0 });
    else if (state === TaskState.RUNNING && kind === "crash-loops" && elapsedMs >= 1000) {
      const attempt = (container?.attempt ?? 1) + 1;
      if (attempt > 4) this.#report(task, TaskState.FAILED, { attempt: 4, exitCode: 1 });
      else this.#report(task, TaskState.RUNNING, { attempt, ready: container?.ready !== true, exitCode: 1 });
    }
  }

  #report(
    task: Task,
    state: TaskState,
    {
      attempt,
      ready = false,
      exitCode,
      error = "",
    }: { attempt?: number; ready?: boolean; exitCode?: number; error?: string },
  ): void {
    const failed = state === TaskState.FAILED || state === TaskState.REJECTED;
    const status: TaskStatus = {
      state,
      sinceMs: this.now,
      message: "",
      error: failed ? error : "",
      container:
        attempt === undefined
          ? task.status.container
          : {
              id: task.meta.id,
              attempt,
              phase: ready ? ContainerPhase.RUNNING : ContainerPhase.BACKING_OFF,
              nextAttemptAtMs: 0,
              health: ContainerHealth.NONE,
              ready,
              address: "10.128.1.2",
              hostPorts: [],
              ...(exitCode === undefined ? {} : { exitCode }),
              oomKilled: false,
              startedAtMs: this.now - (task.status.container === undefined ? 0 : 1000),
            },
    };
    if (status.container !== undefined && state === TaskState.STARTING)
      status.container = { ...status.container, phase: ContainerPhase.RUNNING };
    const after = applyStatus(task, status, this.now);
    if (after !== undefined) this.#put(after);
  }
}
