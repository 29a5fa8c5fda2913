// What this node's tasks use, and what its ambassador sends to whichever tasks: looked at every 15 s and reported as
// it was then. A look that fails or takes too long leaves a gap, never a wrong figure.

import { type Clock, ClusterError, type Logger, messageOf, pause, withDeadline } from "../../lib/mod.js";
import type { TaskUsage } from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import type { ContainerUse, Engine } from "../engine/mod.js";

const everyMs = 15_000;
/** One container whose engine is slow must not hold up the others. */
const lookMs = 5_000;
const looksAtOnce = 8;
/** Tasks of other nodes in one report; the busiest go first. */
const foreignMax = 10_000;

/** A task whose container runs. */
export interface RunningTask {
  readonly taskId: string;
  readonly serviceName: string;
  readonly containerId: string;
}

export interface UsageOptions {
  engine: Pick<Engine, "use">;
  clock: Clock;
  log: Logger;
  running: () => readonly RunningTask[];
  /** Connections per second, times 1,000, that this host's ambassador gave to tasks lately. */
  requests: () => ReadonlyMap<string, number>;
  onUsage: (usage: readonly TaskUsage[]) => void;
}

/** What is known of one running task, for the metrics. */
export interface UsageSample {
  readonly task: RunningTask;
  /** Undefined at the first look, and where the host does not tell. */
  readonly nanoCpus: number | undefined;
  readonly memoryBytes: number | undefined;
}

interface Look {
  readonly containerId: string;
  readonly cpuNs: number | undefined;
  readonly atMs: number;
}

export class UsageWatch {
  readonly #options: UsageOptions;
  /** The look before, by task. */
  #looks = new Map<string, Look>();
  #samples: readonly UsageSample[] = [];
  /** Of other nodes' tasks, those that got something by the last report: they are told when that is over. */
  #sentTo: ReadonlySet<string> = new Set();

  constructor(options: UsageOptions) {
    this.#options = options;
  }

  get samples(): readonly UsageSample[] {
    return this.#samples;
  }

  /** Until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.look();
      await pause(this.#options.clock, everyMs, signal);
    }
  }

  async look(): Promise<void> {
    const { running, requests, onUsage } = this.#options;
    const todo = [...running()];
    const looks = new Map<string, Look>();
    const samples: UsageSample[] = [];
    const worker = async () => {
      for (let task = todo.pop(); task !== undefined; task = todo.pop()) {
        const sample = await this.#sample(task, looks);
        if (sample !== undefined) samples.push(sample);
      }
    };
    await Promise.all(Array.from({ length: looksAtOnce }, worker));
    this.#looks = looks;
    this.#samples = samples;
    const sent = requests();
    const own = samples.map(({ task, nanoCpus, memoryBytes }) => ({
      taskId: task.taskId,
      nanoCpus,
      memoryBytes,
      requestsMilli: sent.get(task.taskId) ?? 0,
    }));
    onUsage([...own, ...this.#foreign(sent, new Set(own.map(({ taskId }) => taskId)))]);
  }

  #foreign(sent: ReadonlyMap<string, number>, own: ReadonlySet<string>): TaskUsage[] {
    const busiest = [...sent]
      .filter(([taskId, milli]) => milli > 0 && !own.has(taskId))
      .sort(([, a], [, b]) => b - a)
      .slice(0, foreignMax);
    const now = new Set(busiest.map(([taskId]) => taskId));
    const over = [...this.#sentTo].filter((taskId) => !now.has(taskId) && !own.has(taskId));
    this.#sentTo = now;
    return [...busiest, ...over.map((taskId) => [taskId, 0] as const)].map(([taskId, requestsMilli]) => ({
      taskId,
      requestsMilli,
    }));
  }

  async #sample(task: RunningTask, looks: Map<string, Look>): Promise<UsageSample | undefined> {
    const { engine, clock, log } = this.#options;
    const { taskId, containerId } = task;
    let use: ContainerUse | undefined;
    try {
      use = await withDeadline(clock, lookMs, `look at what task ${taskId} uses`, () => engine.use(containerId));
    } catch (failure) {
      // An engine that is away is other parts' news.
      if (!(failure instanceof ClusterError)) throw failure;
      log.debug({ task: taskId, error: messageOf(failure) }, "what it uses is not known");
      return undefined;
    }
    if (use === undefined) return undefined;
    const atMs = clock.monotonic();
    const { cpuNs, memoryBytes } = use;
    looks.set(taskId, { containerId, cpuNs, atMs });
    const before = this.#looks.get(taskId);
    const isSame = before?.containerId === containerId && before.cpuNs !== undefined && atMs > before.atMs;
    // Less than before: it was started again in between.
    const nanoCpus =
      isSame && cpuNs !== undefined && cpuNs >= (before.cpuNs ?? 0)
        ? Math.round(((cpuNs - (before.cpuNs ?? 0)) * 1_000) / (atMs - before.atMs))
        : undefined;
    return { task, nanoCpus, memoryBytes };
  }
}
