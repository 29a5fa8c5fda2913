// Who this manager is when it starts: as its directory says, or by joining first.

import type { Clock, Logger, Rng } from "../lib/mod.js";
import { type Identity, joinCluster, lockDataDir, requireMember } from "./consensus/mod.js";

export interface IdentifyOptions {
  dataDir: string;
  name: string;
  advertise: string;
  httpListen: string;
  join: readonly string[];
  clock: Clock;
  rng: Rng;
  log: Logger;
}

export interface Identified extends AsyncDisposable {
  identity: Identity;
}

/** Holds the directory until it is disposed. Refuses one that is empty with nobody to join, and a removed manager's. */
export async function identify(options: IdentifyOptions, signal: AbortSignal): Promise<Identified> {
  const { dataDir, name, advertise: address, httpListen: httpAddress, join, clock, rng, log } = options;
  if (join.length > 0)
    await joinCluster({ dataDir, name, address, httpAddress, managers: join, clock, rng, log }, signal);
  const lock = await lockDataDir(dataDir);
  try {
    const identity = await requireMember(dataDir);
    return { identity, [Symbol.asyncDispose]: () => lock[Symbol.asyncDispose]() };
  } catch (error) {
    await lock[Symbol.asyncDispose]();
    throw error;
  }
}
