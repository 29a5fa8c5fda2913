// One simulated host: the agent's own session with the managers (its heartbeats, back-off, batches of statuses), and
// tasks that run by timers where a real one has containers.

import { randomUUID } from "node:crypto";
import { silentLogger, systemClock, systemRng } from "../../lib/mod.js";
import { ManagerSession } from "../../agent/session/mod.js";
import {
  type AssignmentsMessage,
  AssignmentsKind,
  type TaskAssignment,
} from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { type NodeDescription, type Route, TaskState, type TaskStatus } from "../../proto/mod.js";

/** From one state to the next. */
const stepMs = 20;
const steps = [TaskState.ACCEPTED, TaskState.PREPARING, TaskState.READY, TaskState.STARTING, TaskState.RUNNING];

export interface SimulatedAgentOptions {
  number: number;
  managers: readonly string[];
  labels: Readonly<Record<string, string>>;
  /** Hears of every task that this one was given and has let run. */
  onRunning(task: { taskId: string; createdAtMs: number; arrivedAtMs: number; runningAtMs: number }): void;
  /** Hears of every status that is reported, and of every assignment. */
  onChange(kind: "status" | "assignment"): void;
  /** Given to one agent of many: what it hears of routes is what all hear. */
  onRoute?: (route: Route) => void;
}

interface SimulatedTask {
  status: TaskStatus;
  desired: TaskState;
  createdAtMs: number;
  arrivedAtMs: number;
  timer: NodeJS.Timeout | undefined;
}

export class SimulatedAgent {
  readonly #options: SimulatedAgentOptions;
  readonly #tasks = new Map<string, SimulatedTask>();
  readonly #session: ManagerSession;
  readonly #address: string;

  constructor(options: SimulatedAgentOptions) {
    this.#options = options;
    const { number, managers } = options;
    this.#address = `10.${100 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
    this.#session = new ManagerSession({
      nodeId: `agent${randomUUID().replaceAll("-", "")}`,
      managers,
      remembered: [],
      clock: systemClock,
      rng: systemRng,
      log: silentLogger,
      describe: () => Promise.resolve(this.#description()),
      onContact: () => undefined,
      onSession: () => undefined,
      onAssignments: (message) => this.#take(message),
      statuses: () => [...this.#tasks].map(([id, { status }]) => [id, status]),
      drains: () => [],
      problems: () => [],
      logs: {
        read: () => {
          throw new Error("a simulated task has no log");
        },
      },
      // A host has a connection of its own.
      channel: { "grpc.use_local_subchannel_pool": 1 },
    });
  }

  get connected(): boolean {
    return this.#session.connected;
  }

  get running(): number {
    let count = 0;
    for (const { status } of this.#tasks.values()) if (status.state === TaskState.RUNNING) count += 1;
    return count;
  }

  run(signal: AbortSignal): Promise<void> {
    return this.#session.run(signal);
  }

  #description(): NodeDescription {
    const { number, labels } = this.#options;
    return {
      hostname: `sim-${number}`,
      os: "linux",
      architecture: "amd64",
      engineVersion: "20.10.24",
      engineApiVersion: "1.41",
      resources: { nanoCpus: 16_000_000_000, memoryBytes: 64 * 1024 ** 3, generic: {} },
      engineLabels: {},
      advertiseAddress: this.#address,
      agentVersion: "0.1.0",
      labels: { ...labels },
      volumeDrivers: ["local"],
    };
  }

  #take({ kind, changes }: AssignmentsMessage): void {
    const named = new Set<string>();
    for (const { item } of changes) {
      if (item?.$case === "task") {
        named.add(item.value.task?.meta?.id ?? "");
        this.#assign(item.value);
      } else if (item?.$case === "removedTaskId") this.#forget(item.value);
      else if (item?.$case === "route") this.#options.onRoute?.(item.value);
    }
    if (kind !== AssignmentsKind.COMPLETE) return;
    for (const id of [...this.#tasks.keys()]) if (!named.has(id)) this.#forget(id);
  }

  #forget(id: string): void {
    clearTimeout(this.#tasks.get(id)?.timer);
    this.#tasks.delete(id);
  }

  #assign({ task }: TaskAssignment): void {
    if (task?.meta === undefined || task.status === undefined) throw new Error("an assignment without its task");
    const { id, createdAtMs } = task.meta;
    const desired = task.desiredState;
    const known = this.#tasks.get(id);
    this.#options.onChange("assignment");
    if (known !== undefined) {
      known.desired = desired;
      this.#step(id, known);
      return;
    }
    const { status } = task;
    const fresh = { status, desired, createdAtMs, arrivedAtMs: Date.now(), timer: undefined };
    this.#tasks.set(id, fresh);
    this.#step(id, fresh);
  }

  /** The task's next state, at once or by a timer, until it is where it is wanted. */
  #step(id: string, task: SimulatedTask): void {
    clearTimeout(task.timer);
    const { state } = task.status;
    if (state >= TaskState.COMPLETE) return;
    if (task.desired > TaskState.RUNNING) {
      task.timer = setTimeout(() => this.#reach(id, task, TaskState.SHUTDOWN), stepMs);
      return;
    }
    if (state >= task.desired) return;
    const next = steps.find((step) => step > state);
    if (next !== undefined) task.timer = setTimeout(() => this.#reach(id, task, next), stepMs);
  }

  #reach(id: string, task: SimulatedTask, state: TaskState): void {
    const nowMs = Date.now();
    const isRunning = state === TaskState.RUNNING;
    task.status = {
      state,
      sinceMs: nowMs,
      message: isRunning ? "started" : "",
      error: "",
      container:
        state < TaskState.STARTING
          ? undefined
          : {
              id,
              attempt: 1,
              phase: isRunning ? 2 : state === TaskState.STARTING ? 1 : 4,
              nextAttemptAtMs: 0,
              health: 1,
              ready: isRunning,
              address: this.#address,
              hostPorts: [],
              exitCode: state > TaskState.RUNNING ? 0 : undefined,
              oomKilled: false,
              startedAtMs: nowMs,
            },
    };
    this.#session.report(id, task.status);
    this.#options.onChange("status");
    if (isRunning) {
      const { createdAtMs, arrivedAtMs } = task;
      this.#options.onRunning({ taskId: id, createdAtMs, arrivedAtMs, runningAtMs: nowMs });
    }
    this.#step(id, task);
  }
}
