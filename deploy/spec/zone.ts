// Time zones: names, and what their clocks show. The rules are those of the ICU data of this process.

import type { Problems } from "./problems.js";
import { closest } from "./suggest.js";

/** One per zone that was ever asked for; there are some hundreds of zones. */
const clocks = new Map<string, Intl.DateTimeFormat>();

function clockOf(timeZone: string): Intl.DateTimeFormat {
  const known = clocks.get(timeZone);
  if (known !== undefined) return known;
  const clock = new Intl.DateTimeFormat("en-US", {
    timeZone,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  });
  clocks.set(timeZone, clock);
  return clock;
}

/** Names only, no offsets such as +01:00, which have no summer time and which not every version of Node takes. */
export function isTimeZone(name: string): boolean {
  if (name.length > 64 || !/^[A-Za-z][A-Za-z0-9_+/-]*$/.test(name)) return false;
  try {
    clockOf(name);
    return true;
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

export function checkTimeZone(field: string, name: string, problems: Problems): void {
  if (isTimeZone(name)) return;
  const known = Intl.supportedValuesOf("timeZone");
  const city = name.trim().replaceAll(" ", "_").toLowerCase();
  const meant = known.find((zone) => zone.toLowerCase().endsWith(`/${city}`)) ?? closest(name, ["UTC", ...known]);
  problems.add(
    field,
    name,
    "must be a time zone's IANA name",
    meant === undefined ? "write for example Europe/Berlin or UTC" : `did you mean ${meant}?`,
  );
}

/**
 * What the zone's clock shows at an instant, as the instant at which a clock in UTC shows the same. Milliseconds are
 * kept.
 */
export function wallOf(timeZone: string, atMs: number): number {
  const part: Partial<Record<Intl.DateTimeFormatPartTypes, number>> = {};
  for (const { type, value } of clockOf(timeZone).formatToParts(atMs)) part[type] = Number(value);
  const { year = 1970, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = part;
  return Date.UTC(year, month - 1, day, hour, minute, second) + (((atMs % 1000) + 1000) % 1000);
}

const dayMs = 24 * 3_600_000;

/**
 * The instant at which the zone's clock first shows a time. One that the clock shows twice (the hour that autumn
 * repeats) is the first of the two; one that it skips (in spring) is the instant at which it jumps. So the answer
 * never falls when `wallMs` grows.
 */
export function instantOf(timeZone: string, wallMs: number): number {
  const offsetAt = (atMs: number) => wallOf(timeZone, atMs) - atMs;
  // No clock changes twice within two days.
  const before = offsetAt(wallMs - dayMs);
  const after = offsetAt(wallMs + dayMs);
  const instants = [wallMs - before, wallMs - after].sort((a, b) => a - b);
  const shown = instants.find((instant) => wallOf(timeZone, instant) === wallMs);
  if (shown !== undefined) return shown;
  // Skipped: the jump lies between the two readings.
  let [low = wallMs, high = wallMs] = instants;
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (offsetAt(middle) === before) low = middle;
    else high = middle;
  }
  return high;
}
