// Log lines over the change of a manager: the next stream is asked for a little more than is missing, and what it
// repeats is left out.

import { type LogLine, LogOptions } from "../../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";

/** Lines of different hosts arrive out of order, and later than they are dated. */
const overlapMs = 5000;

/** The newest lines of a task: their time, and how many of that time were read. */
interface Place {
  atMs: number;
  lines: number;
}

export class LogPlaces {
  readonly #options: LogOptions;
  readonly #places = new Map<string, Place>();
  /** Where the tasks were when the stream was begun, and how many lines of that time it has repeated. */
  #before = new Map<string, Place & { repeated: number }>();

  /** As the user asked. */
  constructor(options: LogOptions) {
    this.#options = options;
  }

  /** For the next stream. The first one is as the user asked. */
  next(): LogOptions {
    this.#before = new Map([...this.#places].map(([task, place]) => [task, { ...place, repeated: 0 }]));
    if (this.#places.size === 0) return this.#options;
    const newestMs = Math.max(...[...this.#places.values()].map(({ atMs }) => atMs));
    const { follow, sinceMs } = this.#options;
    return LogOptions.fromPartial({ follow, sinceMs: Math.max(sinceMs, newestMs - overlapMs) });
  }

  /** True for a line that an earlier stream had. */
  repeats({ taskId, atMs }: LogLine): boolean {
    const before = this.#before.get(taskId);
    if (before !== undefined) {
      if (atMs < before.atMs) return true;
      if (atMs === before.atMs && before.repeated < before.lines) {
        before.repeated += 1;
        return true;
      }
    }
    const place = this.#places.get(taskId);
    if (place === undefined || place.atMs < atMs) this.#places.set(taskId, { atMs, lines: 1 });
    else if (place.atMs === atMs) place.lines += 1;
    return false;
  }
}
