// The configuration with its defaults, checked once.

import type { RaftConfig } from "./config.js";
import type { Logger } from "./types.js";

export type Settings = Required<Omit<RaftConfig, "log">> & { log: Logger };

const silent: Logger = { debug() {}, info() {}, warn() {} };

/** A RangeError says which field has which value, and what it should be. */
export function settingsOf(config: RaftConfig): Settings {
  const maxSizePerMsg = config.maxSizePerMsg ?? 1024 * 1024;
  const settings: Settings = {
    id: config.id,
    storage: config.storage,
    applied: config.applied,
    electionTick: config.electionTick,
    heartbeatTick: config.heartbeatTick,
    random: (n) => config.random(n),
    preVote: config.preVote ?? true,
    checkQuorum: config.checkQuorum ?? true,
    readOnly: config.readOnly ?? "safe",
    disableForwarding: config.disableForwarding ?? false,
    stepDownOnRemoval: config.stepDownOnRemoval ?? true,
    maxSizePerMsg,
    maxCommittedSizePerReady: config.maxCommittedSizePerReady ?? maxSizePerMsg,
    maxUncommittedSize: config.maxUncommittedSize ?? 64 * 1024 * 1024,
    maxInflightMsgs: config.maxInflightMsgs ?? 256,
    maxInflightBytes: config.maxInflightBytes ?? 16 * 1024 * 1024,
    maxPendingReads: config.maxPendingReads ?? 10_000,
    log: config.log ?? silent,
  };
  for (const field of ["id", "heartbeatTick", "electionTick", "maxInflightMsgs", "maxPendingReads"] as const) {
    atLeastOne(field, settings[field]);
  }
  for (const field of ["maxCommittedSizePerReady", "maxUncommittedSize", "maxInflightBytes"] as const) {
    atLeastOne(field, settings[field]);
  }
  if (!Number.isSafeInteger(maxSizePerMsg) || maxSizePerMsg < 0) {
    throw new RangeError(`maxSizePerMsg: ${maxSizePerMsg} is no number of bytes; give an integer from 0 on`);
  }
  if (settings.electionTick <= settings.heartbeatTick) {
    throw new RangeError(
      `electionTick: ${settings.electionTick} must be more than heartbeatTick (${settings.heartbeatTick}); ten times as much is usual`,
    );
  }
  if (settings.readOnly === "lease" && !settings.checkQuorum) {
    throw new RangeError(
      'readOnly: "lease" needs checkQuorum, or voters do not wait for the lease; switch checkQuorum on',
    );
  }
  return settings;
}

function atLeastOne(field: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new RangeError(`${field}: ${value} is out of range; give an integer from 1 on`);
  }
}
