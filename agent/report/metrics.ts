// What Prometheus is told of the agent.

import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";
import { TaskState } from "../../proto/mod.js";
import type { UsageSample } from "./usage.js";

export class AgentMetrics {
  readonly registry = new Registry();
  readonly #calls: Histogram<"operation">;
  readonly #errors: Counter<"operation" | "code">;
  readonly #restarts: Counter;
  #engineUp = false;

  constructor(source: {
    tasks(): Map<TaskState, number>;
    usage(): readonly UsageSample[];
    sessionUp(): boolean;
    ambassadorUp(): boolean;
  }) {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    this.#calls = new Histogram({
      name: "flotilla_agent_engine_call_seconds",
      help: "Duration of calls to the container engine.",
      labelNames: ["operation"],
      buckets: [0.005, 0.02, 0.1, 0.5, 2, 10, 30, 120],
      registers,
    });
    this.#errors = new Counter({
      name: "flotilla_agent_engine_errors_total",
      help: "Calls to the container engine that failed, by error code.",
      labelNames: ["operation", "code"],
      registers,
    });
    this.#restarts = new Counter({
      name: "flotilla_agent_container_restarts_total",
      help: "Containers that were started again in place.",
      registers,
    });
    const tasks = new Gauge({
      name: "flotilla_agent_tasks",
      help: "Tasks of this node by observed state.",
      labelNames: ["state"],
      registers,
      collect() {
        this.reset();
        for (const [state, count] of source.tasks()) tasks.set({ state: nameOf(state) }, count);
      },
    });
    const perTask = (name: string, help: string, value: (sample: UsageSample) => number | undefined) => {
      const gauge = new Gauge({
        name,
        help,
        labelNames: ["service", "task"],
        registers,
        collect() {
          this.reset();
          for (const sample of source.usage()) {
            const found = value(sample);
            const { serviceName, taskId } = sample.task;
            if (found !== undefined) gauge.set({ service: serviceName, task: taskId }, found);
          }
        },
      });
    };
    perTask("flotilla_agent_task_cpu_cores", "Cores that a task used over the last 15 s.", ({ nanoCpus }) =>
      nanoCpus === undefined ? undefined : nanoCpus / 1e9,
    );
    perTask(
      "flotilla_agent_task_memory_bytes",
      "Memory that a task used up to 15 s ago, without the page cache.",
      ({ memoryBytes }) => memoryBytes,
    );
    const engine: Gauge = new Gauge({
      name: "flotilla_agent_engine_up",
      help: "1 when the container engine answered the last call.",
      registers,
      collect: () => engine.set(Number(this.#engineUp)),
    });
    const session: Gauge = new Gauge({
      name: "flotilla_agent_session_up",
      help: "1 while a manager holds this agent's session.",
      registers,
      collect: () => session.set(Number(source.sessionUp())),
    });
    const ambassador: Gauge = new Gauge({
      name: "flotilla_agent_ambassador_up",
      help: "1 while the host's ambassador takes this agent's routes.",
      registers,
      collect: () => ambassador.set(Number(source.ambassadorUp())),
    });
  }

  engineCall(operation: string, ms: number, failed: string | undefined): void {
    this.#calls.observe({ operation }, ms / 1000);
    this.#engineUp = failed !== "unavailable" && failed !== "deadline_exceeded";
    if (failed !== undefined) this.#errors.inc({ operation, code: failed });
  }

  /** Whether the engine answered the last call. */
  get engineUp(): boolean {
    return this.#engineUp;
  }

  restart(): void {
    this.#restarts.inc();
  }
}

function nameOf(state: TaskState): string {
  const name = Object.entries(TaskState).find(([, value]) => value === state)?.[0];
  return (name ?? String(state)).toLowerCase();
}
