// The ways to a manager's data directory: a new cluster of one, a join, what is left of a cluster that lost its
// quorum for good, and a backup. All of them prepare a directory; `flotilla manager` then runs on it.

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { ClusterError, type Clock, type Logger, type Rng } from "../../lib/mod.js";
import type { Member } from "./consensus.js";
import { type Identity, readDataDir, readIdentity, removedError, writeIdentity } from "./identity.js";
import { type JoinOptions, requestJoin } from "./join.js";
import { lockDataDir } from "./lock.js";
import { recover, restore } from "./offline.js";

export { type Identity, readIdentity } from "./identity.js";
export type { JoinOptions } from "./join.js";

export interface InitOptions {
  dataDir: string;
  /** The host's name. */
  name: string;
  /** host:port where other managers, agents and users reach this one. */
  address: string;
  /** host:port of /metrics and /readyz. */
  httpAddress: string;
  /** The cluster's name. */
  cluster: string;
  store: "raft" | "etcd";
  /** URLs of the etcd servers; only with store "etcd". */
  etcd: readonly string[];
  rng: Rng;
}

/** Prepares an empty directory for the first manager of a new cluster. `already_exists` when it is not empty. */
export async function initCluster(options: InitOptions): Promise<Identity> {
  const { dataDir, name, address, httpAddress, cluster, store, etcd, rng } = options;
  await using _lock = await lockDataDir(dataDir);
  await requireUnused(dataDir, "flotilla manager --data-dir");
  const nonce = rng.id();
  const identity: Identity = {
    clusterId: rng.id(),
    cluster,
    memberId: 1,
    name,
    address,
    httpAddress,
    epoch: 0,
    store,
    etcd,
    nonce,
    begun: false,
    members: [{ id: 1, name, address, httpAddress, nonce, learner: false }],
  };
  await writeIdentity(dataDir, identity);
  return identity;
}

/**
 * Makes this host a manager of a running cluster and prepares its directory. Repeated after whatever interrupted it, it
 * is the same member; on a directory that has joined already it only answers who it is. A member of the same address
 * is taken out first.
 */
export async function joinCluster(options: JoinOptions, signal: AbortSignal): Promise<Identity> {
  await using _lock = await lockDataDir(options.dataDir);
  const state = await readDataDir(options.dataDir);
  if (state.kind === "removed") throw removedError(options.dataDir, state.message);
  if (state.kind === "member") return state.identity;
  if (state.kind === "empty") await requireUnused(options.dataDir, "flotilla cluster join --data-dir");
  return await requestJoin(options, state.kind === "joining" ? state.joining : undefined, signal);
}

/** `already_exists` when a manager lives there, and `failed_precondition` when something unknown does. */
export async function requireUnused(dataDir: string, run: string): Promise<void> {
  const state = await readDataDir(dataDir);
  if (state.kind === "removed") throw removedError(dataDir, state.message);
  if (state.kind === "member") {
    const { cluster, memberId } = state.identity;
    throw new ClusterError(
      "already_exists",
      `${dataDir} is that of manager ${memberId} of cluster ${JSON.stringify(cluster)}: start it with ${run} ${dataDir}, or choose another directory`,
    );
  }
  if (state.kind === "joining")
    throw new ClusterError(
      "failed_precondition",
      `${dataDir} is in the middle of joining a cluster: go on with flotilla cluster join, or choose another directory`,
    );
  const left = await readdir(join(dataDir, "raft")).catch(() => []);
  if (left.length > 0)
    throw new ClusterError(
      "failed_precondition",
      `${join(dataDir, "raft")} holds a log and there is no manager.json beside it: choose another directory, or move this one away`,
    );
}

export interface RecoverOptions {
  dataDir: string;
  /** Asked before anything is changed, with those that the log has beside this manager; rejects to leave all as it is. */
  confirm?: (without: readonly Member[]) => Promise<void>;
  clock: Clock;
  rng: Rng;
  log: Logger;
}

export interface Recovered {
  identity: Identity;
  /** The members that this manager goes on without; each must be joined anew, with an empty directory. */
  without: readonly Member[];
}

/**
 * Makes this manager a cluster of its own, with everything that is in its log: for when a quorum is lost for good.
 * Offline: no manager may run on the directory. What only the lost ones had is lost, which nothing here can know.
 */
export async function recoverCluster(options: RecoverOptions): Promise<Recovered> {
  await using _lock = await lockDataDir(options.dataDir);
  return await recover(options, await requireMember(options.dataDir));
}

export interface RestoreOptions {
  dataDir: string;
  name: string;
  address: string;
  httpAddress: string;
  /** The file that `flotilla cluster backup` made. */
  backup: string;
  clock: Clock;
  rng: Rng;
  log: Logger;
}

/** Prepares an empty directory for the first manager of a new cluster with everything that is in the backup. */
export async function restoreCluster(options: RestoreOptions): Promise<Identity> {
  await using _lock = await lockDataDir(options.dataDir);
  await requireUnused(options.dataDir, "flotilla manager --data-dir");
  return await restore(options);
}

/** The identity there, or `failed_precondition`. */
export async function requireMember(dataDir: string): Promise<Identity> {
  const identity = await readIdentity(dataDir);
  if (identity !== undefined) return identity;
  throw new ClusterError(
    "failed_precondition",
    `${dataDir} is no manager's directory yet: begin a new cluster with flotilla cluster init --data-dir ${dataDir}, ` +
      `or join one with flotilla manager --data-dir ${dataDir} --join HOST:7400`,
  );
}
