// When a cron job is due. croner knows the calendar; it is asked in UTC only, about what a clock shows, and zone.ts
// says when the zone's clock shows it. Left to convert zones itself it answers times in the past during the hour that
// autumn repeats, and leaves out times of the hour that spring skips when asked from within the next.
//
// A time that the clock skips is due when the clock jumps; several of them are due once, together. A time that the
// clock shows twice is due the first time only: a job of every ten minutes pauses for that hour. In UTC there is
// neither.

import { Cron } from "croner";
import type { CronMode } from "../../proto/mod.js";
import { parseSchedule } from "./cron-fields.js";
import { instantOf, wallOf } from "./zone.js";

export type Schedule = Pick<CronMode, "schedule" | "timeZone">;

/** The earliest time after `afterMs` at which a checked schedule is due; `undefined` when there is none. */
export function nextDue(cron: Schedule, afterMs: number): number | undefined {
  return dueTimes(cron, afterMs, Number.MAX_SAFE_INTEGER, 1)[0];
}

/**
 * The times after `afterMs` and up to `untilMs` (with it) at which a checked schedule is due, ascending, the earliest
 * `limit` of them: who gets as many may ask again from the last.
 */
export function dueTimes({ schedule, timeZone }: Schedule, afterMs: number, untilMs: number, limit: number): number[] {
  const parsed = parseSchedule(schedule);
  if ("rule" in parsed) throw new Error(`an unchecked cron expression, ${JSON.stringify(schedule)}: ${parsed.rule}`);
  const calendar = new Cron(parsed.fields, { mode: "5-part", timezone: "UTC", paused: true });
  const zone = timeZone === "" ? "UTC" : timeZone;
  const due: number[] = [];
  let last = afterMs;
  // In the hour shown twice, what comes next on the clock may have been due already: that is passed over.
  let wall = calendar.nextRun(new Date(wallOf(zone, afterMs)));
  while (wall !== null && due.length < limit) {
    const at = instantOf(zone, wall.getTime());
    if (at > untilMs) break;
    if (at > last) {
      due.push(at);
      last = at;
    }
    wall = calendar.nextRun(wall);
  }
  return due;
}
