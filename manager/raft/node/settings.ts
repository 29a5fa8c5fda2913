// A node's options, checked and with the defaults filled in.

import type { RaftNodeOptions } from "./api.js";

const defaults = {
  tickMs: 50,
  electionTick: 10,
  heartbeatTick: 2,
  snapshotEntries: 10_000,
};

const bytesMax = 64 * 1024 * 1024;
const bytesMin = 256 * 1024;

export type Settings = RaftNodeOptions & typeof defaults & { snapshotBytes: number; segmentBytes: number };

/**
 * Throws a RangeError that names the field, its value, the rule and what to do. `fileSystemBytes`: of all that the
 * directory is on, used or not, so that it is the same at every start.
 */
export function checked(options: RaftNodeOptions, fileSystemBytes: number): Settings {
  // Of a small file system, two segments and a spare, two snapshots and as much of the log as lies between them fit.
  const part = (parts: number) => clampedPart(fileSystemBytes, parts);
  const settings: Settings = { ...defaults, segmentBytes: part(16), snapshotBytes: part(8), ...options };
  const fields = ["id", "tickMs", "electionTick", "heartbeatTick", "snapshotEntries", "snapshotBytes"] as const;
  for (const field of fields) {
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

/** Whole blocks; what a file system does not tell counts as much. */
function clampedPart(bytes: number, parts: number): number {
  const share = bytes > 0 ? Math.floor(bytes / parts / 4_096) * 4_096 : bytesMax;
  return Math.min(bytesMax, Math.max(bytesMin, share));
}
