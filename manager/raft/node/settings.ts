// A node's options, checked and with the defaults filled in.

import type { RaftNodeOptions } from "./api.js";

const defaults = {
  tickMs: 50,
  electionTick: 10,
  heartbeatTick: 2,
  snapshotEntries: 10_000,
  snapshotBytes: 64 * 1024 * 1024,
};

export type Settings = RaftNodeOptions & typeof defaults;

/** Throws a RangeError that names the field, its value, the rule and what to do. */
export function checked(options: RaftNodeOptions): Settings {
  const settings: Settings = { ...defaults, ...options };
  for (const field of ["id", "tickMs", "electionTick", "heartbeatTick", "snapshotEntries", "snapshotBytes"] as const) {
    const value = settings[field];
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new RangeError(`${field} is ${value}: give an integer from 1 on`);
    }
  }
  const { electionTick, heartbeatTick } = settings;
  if (electionTick <= heartbeatTick) {
    throw new RangeError(
      `electionTick is ${electionTick}, not more than heartbeatTick ${heartbeatTick}: leaders would be taken for dead between heartbeats; make it ${10 * heartbeatTick}, say`,
    );
  }
  return settings;
}
