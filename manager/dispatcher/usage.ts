// What tasks use, as the agents last said: in memory only, for those who scale by it. A new leader hears it anew
// within one period.

import type { Clock } from "../../lib/mod.js";
import type { TaskUsage } from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import type { View } from "../store/mod.js";
import { isTerminal } from "./status.js";

/** What one task used in the last period. */
export interface TaskUse {
  /** Of one core, in billionths. Undefined: its agent could not tell. */
  readonly nanoCpus: number | undefined;
  /** Undefined: its agent could not tell. */
  readonly memoryBytes: number | undefined;
  /** Per second, times 1,000, from all hosts together. */
  readonly requestsMilli: number;
  /** When its own node reported it; on the manager's wall clock. */
  readonly atMs: number;
}

/** Agents report every 15 s; what is older than a few of those says nothing of now. */
const freshMs = 60_000;
/** Entries of one report that are looked at: an ambassador may send to every task of a large cluster. */
const entriesMax = 20_000;

interface Entry {
  own: { nanoCpus: number | undefined; memoryBytes: number | undefined; atMs: number } | undefined;
  /** By reporting node. */
  readonly requests: Map<string, { milli: number; atMs: number }>;
}

export class UsageTable {
  readonly #clock: Clock;
  readonly #entries = new Map<string, Entry>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** As many entries as there are living tasks at most: others are not taken. */
  report(nodeId: string, usage: readonly TaskUsage[], view: View): void {
    const atMs = this.#clock.now();
    for (const { taskId, nanoCpus, memoryBytes, requestsMilli } of usage.slice(0, entriesMax)) {
      const task = view.tasks.get(taskId);
      if (task === undefined || isTerminal(task.status.state)) continue;
      let entry = this.#entries.get(taskId);
      if (entry === undefined) this.#entries.set(taskId, (entry = { own: undefined, requests: new Map() }));
      // Other hosts only know what they send there.
      if (task.nodeId === nodeId) entry.own = { nanoCpus, memoryBytes, atMs };
      if (requestsMilli > 0) entry.requests.set(nodeId, { milli: requestsMilli, atMs });
      else entry.requests.delete(nodeId);
    }
  }

  forget(taskId: string): void {
    this.#entries.delete(taskId);
  }

  /** Forgets what ended and what is old on the way. */
  read(view: View): ReadonlyMap<string, TaskUse> {
    const oldMs = this.#clock.now() - freshMs;
    const uses = new Map<string, TaskUse>();
    for (const [taskId, { own, requests }] of this.#entries) {
      const task = view.tasks.get(taskId);
      for (const [nodeId, { atMs }] of requests) if (atMs <= oldMs) requests.delete(nodeId);
      const isOld = own === undefined || own.atMs <= oldMs;
      if (task === undefined || isTerminal(task.status.state) || (isOld && requests.size === 0)) {
        this.#entries.delete(taskId);
        continue;
      }
      if (isOld) continue;
      let requestsMilli = 0;
      for (const { milli } of requests.values()) requestsMilli += milli;
      uses.set(taskId, { nanoCpus: own.nanoCpus, memoryBytes: own.memoryBytes, requestsMilli, atMs: own.atMs });
    }
    return uses;
  }
}
