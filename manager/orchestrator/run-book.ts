// The records of a job's runs while a plan is made: begun, skipped, ended, and forgotten in the end.

import { goesOn, newestRun } from "../../deploy/strategy/mod.js";
import { type JobRun, JobState, type JobStatus, type ServiceSpec } from "../../proto/mod.js";

/** Ended runs that are kept where the mode says nothing. */
const keptDefault = 3;

export interface RunOrigin {
  revision: number;
  dueAtMs: number;
  requestId: string;
  /** Why it is begun, in words. */
  message: string;
}

export class RunBook {
  readonly #before: JobStatus | undefined;
  readonly #now: number;
  #runs: JobRun[];
  #lastRun: number;
  #lastDueAtMs: number;

  constructor(job: JobStatus | undefined, now: number) {
    this.#before = job;
    this.#now = now;
    this.#runs = [...(job?.runs ?? [])];
    this.#lastRun = job?.lastRun ?? 0;
    this.#lastDueAtMs = job?.lastDueAtMs ?? 0;
  }

  get requested(): readonly string[] {
    return this.#before?.requested ?? [];
  }

  get(number: number): JobRun | undefined {
    return this.#runs.find((run) => run.number === number);
  }

  newest(): JobRun | undefined {
    return newestRun({ runs: this.#runs, lastRun: 0, lastDueAtMs: 0, requested: [] });
  }

  going(): JobRun[] {
    return this.#runs.filter(goesOn);
  }

  isKnown(requestId: string): boolean {
    return this.#runs.some((run) => run.requestId === requestId);
  }

  begin(origin: RunOrigin): void {
    this.#add(origin, JobState.RUNNING, 0);
  }

  skip(origin: RunOrigin): void {
    this.#add(origin, JobState.SKIPPED, this.#now);
  }

  decidedOn(dueAtMs: number): void {
    this.#lastDueAtMs = Math.max(this.#lastDueAtMs, dueAtMs);
  }

  /** Forgets what was decided on beyond that time. */
  countFrom(atMs: number): void {
    this.#lastDueAtMs = atMs;
  }

  /** Changes a run; what is equal already stays the same object. */
  put(number: number, changes: Partial<JobRun>): void {
    this.#runs = this.#runs.map((run) => {
      if (run.number !== number) return run;
      const after = { ...run, ...changes };
      return isSameRun(run, after) ? run : after;
    });
  }

  end(number: number, state: JobState, message: string): void {
    this.put(number, { state, message, endedAtMs: this.#now });
  }

  /** Ends all that go on for the sake of a newer one. */
  replaceGoing(message: string): void {
    for (const { number } of this.going()) this.end(number, JobState.REPLACED, message);
  }

  /** Drops ended runs beyond what is kept, oldest first; the newest that was begun stays whatever the limits say. */
  forget({ mode }: ServiceSpec): void {
    const { keepSucceeded = keptDefault, keepFailed = keptDefault } = mode.$case === "cron" ? mode.value : {};
    const left = new Map<JobState, number>([
      [JobState.SUCCEEDED, keepSucceeded],
      [JobState.FAILED, keepFailed],
      [JobState.SKIPPED, keptDefault],
      [JobState.REPLACED, keptDefault],
    ]);
    const newest = this.newest();
    const kept: JobRun[] = [];
    for (const run of this.#runs.toReversed()) {
      const room = left.get(run.state);
      if (room !== undefined) left.set(run.state, room - 1);
      if (room === undefined || room > 0 || run === newest) kept.push(run);
    }
    this.#runs = kept.reverse();
  }

  /** The record to store; the one there was when nothing changed. */
  status(): JobStatus | undefined {
    const before = this.#before;
    if (
      before !== undefined &&
      before.requested.length === 0 &&
      before.lastRun === this.#lastRun &&
      before.lastDueAtMs === this.#lastDueAtMs &&
      before.runs.length === this.#runs.length &&
      before.runs.every((run, i) => run === this.#runs[i])
    )
      return before;
    if (before === undefined && this.#lastRun === 0 && this.#lastDueAtMs === 0) return undefined;
    return { runs: this.#runs, lastRun: this.#lastRun, lastDueAtMs: this.#lastDueAtMs, requested: [] };
  }

  #add({ revision, dueAtMs, requestId, message }: RunOrigin, state: JobState, endedAtMs: number): void {
    this.#lastRun += 1;
    this.#runs.push({
      number: this.#lastRun,
      revision,
      dueAtMs,
      startedAtMs: this.#now,
      endedAtMs,
      state,
      message,
      completed: 0,
      total: 0,
      requestId,
    });
  }
}

function isSameRun(a: JobRun, b: JobRun): boolean {
  return (
    a.state === b.state &&
    a.message === b.message &&
    a.completed === b.completed &&
    a.total === b.total &&
    a.endedAtMs === b.endedAtMs
  );
}
