// A task's log as one stream, through restarts in place of its container.

import { type Clock, ClusterError, pause } from "../lib/mod.js";
import type { Engine, EngineLogLine, LogRequest } from "./engine/mod.js";
import type { LogSource } from "./session/mod.js";
import { type TaskRunner, isTerminal } from "./task/mod.js";

/** A task that was assigned just now has no container yet: its followers look again so often. */
const lookMs = 500;

export class TaskLogs implements LogSource {
  readonly #engine: Engine;
  readonly #clock: Clock;
  readonly #runner: (taskId: string) => TaskRunner | undefined;

  constructor(engine: Engine, clock: Clock, runner: (taskId: string) => TaskRunner | undefined) {
    this.#engine = engine;
    this.#clock = clock;
    this.#runner = runner;
  }

  async *read(
    taskId: string,
    request: LogRequest,
    signal: AbortSignal,
  ): AsyncGenerator<EngineLogLine, void, undefined> {
    const runner = this.#runner(taskId);
    if (runner === undefined) throw new ClusterError("not_found", `task ${taskId} is not on this node`);
    let next = request;
    // The engine's `since` is a moment, and several lines share one: those that were read already are skipped.
    let lastMs = 0;
    let atLast = 0;
    while (!signal.aborted) {
      const { containerId, attempt } = runner.record;
      if (containerId !== "") {
        let skip = atLast;
        for await (const line of this.#engine.logs(containerId, next, signal)) {
          if (line.atMs === lastMs && skip > 0) {
            skip -= 1;
            continue;
          }
          atLast = line.atMs === lastMs ? atLast + 1 : 1;
          lastMs = line.atMs;
          yield line;
        }
      }
      if (!request.follow) return;
      // The container stopped: go on when it runs again, end when it never will.
      while (!signal.aborted && (runner.record.containerId === "" || runner.record.attempt === attempt)) {
        if (isTerminal(runner.record.state) || this.#runner(taskId) !== runner) return;
        await this.#changed(runner, signal);
      }
      next = lastMs === 0 ? { follow: true } : { follow: true, sinceMs: lastMs };
    }
  }

  async #changed(runner: TaskRunner, signal: AbortSignal): Promise<void> {
    const waited = new AbortController();
    const stop = runner.onChange(() => waited.abort());
    try {
      // Ended by a change, by the reader, or by the clock: each means to look again.
      await pause(this.#clock, lookMs, AbortSignal.any([waited.signal, signal]));
    } finally {
      stop();
    }
  }
}
