// What the managers are told: the newest status of each task, and the connections that draining endpoints still have.
// Gathered for a moment, sent in batches, one call at a time; what was not stored is sent again.

import {
  type Backoff,
  type Clock,
  ClusterError,
  type Logger,
  type Rng,
  backoffMs,
  messageOf,
  sleep,
} from "../../lib/mod.js";
import type {
  DrainReport,
  TaskStatusUpdate,
  TaskUsage,
  UpdateStatusRequest,
} from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import type { TaskStatus } from "../../proto/mod.js";
import { sessionIsOver } from "./calls.js";

/** Long enough for a batch, short enough to be unnoticed. */
const gatherMs = 30;
const updatesMax = 500;
const problemsMax = 32;
const problemCharsMax = 300;
const retry: Backoff = { firstMs: 200, maxMs: 2_000, jitter: 0.5 };

export class Reporter {
  readonly #clock: Clock;
  readonly #rng: Rng;
  readonly #log: Logger;
  readonly #statuses = new Map<string, TaskStatus>();
  readonly #drains = new Map<string, number>();
  #problems: readonly string[] | undefined;
  #usage: readonly TaskUsage[] | undefined;
  #wake: () => void = () => undefined;

  constructor(options: { clock: Clock; rng: Rng; log: Logger }) {
    this.#clock = options.clock;
    this.#rng = options.rng;
    this.#log = options.log;
  }

  status(taskId: string, status: TaskStatus): void {
    this.#statuses.set(taskId, status);
    this.#wake();
  }

  drain(taskId: string, activeConnections: number): void {
    this.#drains.set(taskId, activeConnections);
    this.#wake();
  }

  /** All there are now; what was said before is over. */
  problems(texts: readonly string[]): void {
    this.#problems = texts.slice(0, problemsMax).map((text) => text.slice(0, problemCharsMax));
    this.#wake();
  }

  /** Sent once, with whatever else there is: what was not taken is old by then. Takes the place of what was not sent yet. */
  usage(usage: readonly TaskUsage[]): void {
    this.#usage = usage;
    this.#wake();
  }

  /** Sends until the signal aborts; throws when the session is over. */
  async run(
    sessionId: string,
    send: (request: UpdateStatusRequest) => Promise<unknown>,
    signal: AbortSignal,
  ): Promise<void> {
    let failures = 0;
    // Of before this session.
    this.#usage = undefined;
    while (!signal.aborted) {
      const isIdle =
        this.#statuses.size === 0 &&
        this.#drains.size === 0 &&
        this.#problems === undefined &&
        this.#usage === undefined;
      if (isIdle) await this.#something(signal);
      await sleep(this.#clock, failures === 0 ? gatherMs : backoffMs(retry, failures, this.#rng), signal);
      const updates: TaskStatusUpdate[] = [...this.#statuses]
        .slice(0, updatesMax)
        .map(([taskId, status]) => ({ taskId, status }));
      const drains: DrainReport[] = [...this.#drains]
        .slice(0, updatesMax)
        .map(([taskId, activeConnections]) => ({ taskId, activeConnections }));
      const problems = this.#problems;
      const usage = [...(this.#usage ?? [])];
      this.#usage = undefined;
      try {
        await send({ sessionId, updates, drains, usage, problems: problems && { texts: [...problems] } });
        failures = 0;
        this.#done(updates, drains, problems);
      } catch (failure) {
        if (sessionIsOver(failure)) throw failure;
        // Nothing that must be told again.
        if (updates.length === 0 && drains.length === 0 && problems === undefined) continue;
        failures += 1;
        this.#log.warn({ error: messageOf(failure), failures }, "statuses were not stored: sending them again");
        // Refused for what it says, not for the moment: the same again would block all that follow.
        if (failure instanceof ClusterError && failure.code === "invalid_argument")
          this.#done(updates, drains, problems);
      }
    }
  }

  /** Newer ones that came meanwhile stay. */
  #done(
    updates: readonly TaskStatusUpdate[],
    drains: readonly DrainReport[],
    problems: readonly string[] | undefined,
  ): void {
    if (this.#problems === problems) this.#problems = undefined;
    for (const { taskId, status } of updates) if (this.#statuses.get(taskId) === status) this.#statuses.delete(taskId);
    for (const { taskId, activeConnections } of drains)
      if (this.#drains.get(taskId) === activeConnections) this.#drains.delete(taskId);
  }

  #something(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = () => reject(signal.reason as Error);
      if (signal.aborted) onAbort();
      signal.addEventListener("abort", onAbort, { once: true });
      this.#wake = () => {
        signal.removeEventListener("abort", onAbort);
        resolve();
      };
    });
  }
}
