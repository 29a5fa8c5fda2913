// All tasks of this node: who runs what, what is kept on the disk, which containers are ours. A runner per task does
// the work; here they are made from the state file and the assignments, and woken by the engine's events.

import { type Clock, type Logger, type Rng, ReconcileLoop, messageOf } from "../../lib/mod.js";
import type { TaskAssignment } from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { type Cluster, ContainerPhase, type Node, type TaskState, type TaskStatus } from "../../proto/mod.js";
import type { ContainerState, Engine } from "../engine/mod.js";
import { Contact } from "./contact.js";
import { type HostSettings, gatewayOf, labels, networkName } from "./container.js";
import { type TaskRecord, assignmentOf, isTerminal, newRecord, statusOf } from "./record.js";
import { type Surroundings, TaskRunner } from "./runner.js";
import type { Memory, StateFile } from "./state-file.js";

export interface SupervisorOptions {
  engine: Engine;
  clock: Clock;
  rng: Rng;
  log: Logger;
  file: StateFile;
  memory: Memory;
  advertiseAddress: string;
  /** A task's status changed. */
  onStatus: (taskId: string, status: TaskStatus) => void;
  /** A container was started again. */
  onRestart: () => void;
  /** The node's network is there: its bridge has the gateway's address. */
  onNetwork: (host: HostSettings) => void;
}

/** Events may be lost: everything is looked at again so often. */
const relookMs = 30_000;
const networkRetryMs = 5_000;
/** After a reboot the managers get so long to say what was replaced elsewhere. */
const lostHoldMs = 30_000;
/** Of containers that nobody here knows, whose own grace is unknown, too. */
const orphanGraceMs = 10_000;
/** Where tasks must stop without managers, it is looked so often whether they must: a host may have slept. */
const fenceMs = 5_000;
/** Removed at once; the others at the next look. */
const orphansAtOnce = 8;

export class Supervisor implements AsyncDisposable {
  readonly #options: SupervisorOptions;
  readonly #runners = new Map<string, TaskRunner>();
  readonly #controller = new AbortController();
  readonly #surroundings: Surroundings;
  readonly #look: ReconcileLoop;
  #watching: Promise<void> | undefined;
  #host: HostSettings | undefined;
  #managers: string[];
  #network: Promise<string> | undefined;
  #epoch: Promise<string> | undefined;
  #lostHoldUntilMs: number;
  /** The managers have said everything at least once: what is unknown now is not wanted. */
  #complete = false;
  #kept: Promise<void> = Promise.resolve();
  /** The newest write failed. */
  #unkept = false;
  readonly #contact: Contact;
  /** What is known of the last contact on the disk, on the wall clock. */
  #contactKeptAtMs: number;
  /** The managers have said in this session what is still this node's. */
  #listed = false;
  #cancelFence: () => void = () => undefined;

  constructor(options: SupervisorOptions) {
    const { engine, clock, rng, log, memory } = options;
    this.#options = options;
    this.#managers = memory.managers;
    this.#contact = new Contact(clock, memory.contactAtMs);
    this.#contactKeptAtMs = memory.contactAtMs;
    this.#host = memory.host === undefined ? undefined : { ...memory.host, advertiseAddress: options.advertiseAddress };
    this.#lostHoldUntilMs = clock.now() + lostHoldMs;
    this.#surroundings = {
      engine,
      clock,
      rng,
      log,
      host: () => this.#host,
      networkId: () => this.#networkId(),
      networkLost: () => {
        this.#network = undefined;
      },
      epoch: () => this.#currentEpoch(),
      freshEpoch: () => {
        this.#epoch = undefined;
        return this.#currentEpoch();
      },
      lostHoldUntilMs: () => this.#lostHoldUntilMs,
      changed: (record, statusChanged) => this.#changed(record, statusChanged),
      restarted: options.onRestart,
      kept: () => {
        // Asked again after a failed write, which nothing else might ever repeat.
        if (this.#unkept) this.#save();
        return this.#kept;
      },
      forget: (taskId) => this.#forget(taskId),
    };
    this.#look = new ReconcileLoop({ name: "containers", clock, rng, log, run: () => this.#relook() });
    for (const record of memory.records) this.#add(record);
  }

  /** Goes on with what the state file knows. */
  start(): void {
    this.#fence();
    this.#watching = this.#watch();
    for (const runner of this.#runners.values()) runner.wake();
  }

  /** What a session says of this node. */
  configure(host: { cluster: Cluster; node: Node }, managers: string[]): void {
    const had = this.#host?.node.subnet;
    this.#host = { ...host, advertiseAddress: this.#options.advertiseAddress };
    this.#managers = managers;
    if (had !== host.node.subnet) this.#network = undefined;
    this.#save();
    // The ambassador binds the bridge's address: the network is made before the first task needs it.
    this.#look.wake();
  }

  /**
   * A manager answered a call that was sent at `sentMs`, on the monotonic clock. `isNew`: that call began the session,
   * and what is still this node's is yet to be said.
   */
  contact(sentMs: number, isNew: boolean): void {
    this.#contact.made(sentMs);
    if (isNew) this.#listed = false;
    if (!this.#hasFenced()) return;
    // Either way: with a clock that was set back, what is on the disk would long be of the time to come.
    if (Math.abs(this.#contact.atMs - this.#contactKeptAtMs) >= fenceMs) this.#save();
    if (this.#listed) this.#letGo();
  }

  get host(): HostSettings | undefined {
    return this.#host;
  }

  /** `complete`: what is not in `tasks` is no longer wanted. */
  assign(complete: boolean, tasks: readonly TaskAssignment[], removed: readonly string[]): void {
    const { clock, log } = this.#options;
    if (complete) {
      this.#complete = true;
      this.#lostHoldUntilMs = 0;
    }
    const named = new Set<string>();
    for (const message of tasks) {
      const id = message.task?.meta?.id ?? "";
      named.add(id);
      try {
        const assignment = assignmentOf(message);
        const runner = this.#runners.get(id);
        if (runner !== undefined) runner.assign(assignment);
        else this.#add(newRecord(assignment, clock.now())).wake();
      } catch (failure) {
        log.error({ task: id, error: messageOf(failure) }, "an assignment cannot be followed");
      }
    }
    const gone = complete ? [...this.#runners.keys()].filter((id) => !named.has(id)) : removed;
    for (const id of gone) this.#runners.get(id)?.unassign();
    this.#save();
    this.#fence();
    if (complete) {
      this.#listed = true;
      this.#letGo();
      for (const runner of this.#runners.values()) runner.wake();
      this.#look.wake();
    }
  }

  /** Stops what must not run here any longer without a manager. */
  #fence(): void {
    this.#cancelFence();
    if (this.#controller.signal.aborted) return;
    const { agoMs } = this.#contact;
    let nextMs = Number.POSITIVE_INFINITY;
    for (const runner of this.#runners.values()) {
      const afterMs = fencedAfter(runner.record);
      if (afterMs === undefined || runner.record.cutOff) continue;
      if (agoMs >= afterMs) runner.cutOff(afterMs);
      else nextMs = Math.min(nextMs, afterMs - agoMs, fenceMs);
    }
    if (Number.isFinite(nextMs)) this.#cancelFence = this.#options.clock.after(nextMs, () => this.#fence());
  }

  #hasFenced(): boolean {
    for (const { record } of this.#runners.values()) if (fencedAfter(record) !== undefined) return true;
    return false;
  }

  /** What was cut off is this node's still, as a manager that was reached lately says. */
  #letGo(): void {
    const { agoMs } = this.#contact;
    for (const runner of this.#runners.values()) {
      const { record } = runner;
      if (record.cutOff && record.assigned && agoMs < (fencedAfter(record) ?? Number.POSITIVE_INFINITY)) runner.letGo();
    }
    this.#fence();
  }

  statuses(): [string, TaskStatus][] {
    return [...this.#runners].map(([id, runner]) => [id, statusOf(runner.record)]);
  }

  runner(taskId: string): TaskRunner | undefined {
    return this.#runners.get(taskId);
  }

  /** Tasks whose containers run. */
  running(): { taskId: string; serviceName: string; containerId: string }[] {
    const running = [];
    for (const [taskId, { record }] of this.#runners) {
      if (record.phase !== ContainerPhase.RUNNING || record.containerId === "") continue;
      running.push({ taskId, serviceName: record.assignment.task.serviceName, containerId: record.containerId });
    }
    return running;
  }

  counts(): Map<TaskState, number> {
    const counts = new Map<TaskState, number>();
    for (const { record } of this.#runners.values()) counts.set(record.state, (counts.get(record.state) ?? 0) + 1);
    return counts;
  }

  /** Leaves every container as it is. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#cancelFence();
    this.#controller.abort(new DOMException("the supervisor ended", "AbortError"));
    await Promise.all([
      this.#watching,
      this.#look[Symbol.asyncDispose](),
      ...[...this.#runners.values()].map((runner) => runner[Symbol.asyncDispose]()),
    ]);
    await this.#kept;
  }

  #add(record: TaskRecord): TaskRunner {
    const runner = new TaskRunner(record, this.#surroundings);
    this.#runners.set(record.assignment.task.meta.id, runner);
    return runner;
  }

  #forget(taskId: string): void {
    const runner = this.#runners.get(taskId);
    this.#runners.delete(taskId);
    this.#save();
    // Not awaited: the runner itself asks, from inside its last run.
    runner?.[Symbol.asyncDispose]().catch((failure: unknown) =>
      this.#options.log.error({ task: taskId, error: messageOf(failure) }, "a task's runner did not end well"),
    );
  }

  #changed(record: TaskRecord, statusChanged: boolean): void {
    this.#save();
    if (!statusChanged) return;
    this.#options.onStatus(record.assignment.task.meta.id, statusOf(record));
  }

  #save(): void {
    const { file, log } = this.#options;
    const kept = file.write(() => this.#memory());
    this.#kept = kept;
    this.#unkept = false;
    // Whoever needs it on the disk awaits `kept` and sees the failure; the others go on from memory.
    kept.catch((failure: unknown) => {
      if (this.#kept === kept) this.#unkept = true;
      log.error({ error: messageOf(failure) }, "the agent's state was not written");
    });
  }

  #memory(): Memory {
    const host = this.#host;
    this.#contactKeptAtMs = this.#contact.atMs;
    return {
      nodeId: this.#options.memory.nodeId,
      host: host === undefined ? undefined : { cluster: host.cluster, node: host.node },
      managers: this.#managers,
      contactAtMs: this.#contact.atMs,
      records: [...this.#runners.values()].map((runner) => runner.record),
    };
  }

  #currentEpoch(): Promise<string> {
    this.#epoch ??= this.#options.engine.epoch().catch((failure: unknown) => {
      this.#epoch = undefined;
      throw failure;
    });
    return this.#epoch;
  }

  #networkId(): Promise<string> {
    const host = this.#host;
    if (host === undefined) throw new Error("the network was asked for before the first session");
    this.#network ??= this.#options.engine
      .ensureNetwork({
        name: networkName,
        subnet: host.node.subnet,
        gateway: gatewayOf(host.node.subnet),
        labels: { [labels.cluster]: host.cluster.name },
      })
      .then(({ id }) => {
        this.#options.onNetwork(host);
        return id;
      })
      .catch((failure: unknown) => {
        this.#network = undefined;
        throw failure;
      });
    return this.#network;
  }

  get #ours(): Record<string, string> {
    return { [labels.node]: this.#options.memory.nodeId };
  }

  async #watch(): Promise<void> {
    const { engine } = this.#options;
    for await (const event of engine.events(this.#ours, this.#controller.signal)) {
      if (event.id === undefined) {
        // The engine may be another one now.
        this.#epoch = undefined;
        this.#look.wake();
        for (const runner of this.#runners.values()) runner.wake();
        continue;
      }
      for (const runner of this.#runners.values()) if (runner.record.containerId === event.id) runner.wake();
    }
  }

  /** Containers that carry our mark: those of known tasks are told to their runners, the others are not wanted. */
  async #relook(): Promise<{ wakeAtMs: number }> {
    const { engine, clock } = this.#options;
    const hasNetwork = await this.#networkIsThere();
    const containers = await engine.list(this.#ours);
    const unknown: ContainerState[] = [];
    for (const container of containers) {
      const runner = this.#runners.get(container.labels[labels.task] ?? "");
      if (runner === undefined) unknown.push(container);
      else if (runner.record.containerId === "") runner.found(container.id);
    }
    for (const runner of this.#runners.values()) runner.wake();
    if (this.#complete)
      await Promise.all(unknown.slice(0, orphansAtOnce).map((container) => this.#removeOrphan(container)));
    const isMore = this.#complete && unknown.length > orphansAtOnce;
    return { wakeAtMs: clock.now() + (isMore ? 0 : hasNetwork ? relookMs : networkRetryMs) };
  }

  /** The ambassador waits for it; tasks that are there already do not. */
  async #networkIsThere(): Promise<boolean> {
    if (this.#host === undefined) return true;
    try {
      await this.#networkId();
      return true;
    } catch (failure) {
      this.#options.log.warn({ error: messageOf(failure) }, "the node's network could not be made yet");
      return false;
    }
  }

  async #removeOrphan(container: ContainerState): Promise<void> {
    const { engine, log } = this.#options;
    const taskId = container.labels[labels.task] ?? "";
    log.info({ container: container.id, task: taskId }, "a container of no known task: stopping and removing it");
    await engine.stop(container.id, orphanGraceMs);
    // Assigned again in the meantime: it is that task's now.
    if (!this.#runners.has(taskId)) await engine.remove(container.id);
  }
}

/** Without managers for so long it must stop; undefined when it runs on, or has ended. */
function fencedAfter({ assignment, state }: TaskRecord): number | undefined {
  return isTerminal(state) ? undefined : assignment.stopAfterDisconnectMs;
}
