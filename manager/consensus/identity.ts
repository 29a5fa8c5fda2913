// Who a manager is, in its data directory: manager.json says of which cluster and which member, beside the log in
// raft/. It is written as a whole or not at all. A manager that was taken out has the file `removed` and never starts
// again: its log is of another time.

import { mkdir, open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { ClusterError, messageOf } from "../../lib/mod.js";
import type { Member } from "../../proto/gen/flotilla/raft/v1/raft.js";

/** Of the file's form; others are refused. */
const formatVersion = 1;

export interface Identity {
  clusterId: string;
  /** The cluster's name. */
  cluster: string;
  memberId: number;
  /** The host's name. */
  name: string;
  /** host:port where other managers, agents and users reach this one. */
  address: string;
  /** host:port of /metrics and /readyz. */
  httpAddress: string;
  /** Grows with each recover and restore: managers of another epoch are strangers. */
  epoch: number;
  store: "raft" | "etcd";
  /** URLs of the etcd servers; empty with store "raft". */
  etcd: readonly string[];
  /** Made once, at init or join. */
  nonce: string;
  /** Whether there is a log: from then on a manager without one is refused, as it has forgotten whom it voted for. */
  begun: boolean;
  /** The members as they were then; the log and its snapshots tell what became of them. */
  members: readonly Member[];
}

/** A join that was begun: whoever repeats it is the same member. */
export interface Joining {
  nonce: string;
  address: string;
}

export type DataDirState =
  | { kind: "empty" }
  | { kind: "joining"; joining: Joining }
  | { kind: "member"; identity: Identity }
  | { kind: "removed"; message: string };

const identityFile = "manager.json";
const removedFile = "removed";

export function raftDirectory(dataDir: string): string {
  return join(dataDir, "raft");
}

/** What the directory holds. `failed_precondition` when it cannot be made sense of. */
export async function readDataDir(dataDir: string): Promise<DataDirState> {
  const removed = await readIfThere(join(dataDir, removedFile));
  if (removed !== undefined) return { kind: "removed", message: removed.trim() };
  const path = join(dataDir, identityFile);
  const text = await readIfThere(path);
  if (text === undefined) return { kind: "empty" };
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw broken(path, `is no JSON (${messageOf(cause)})`, cause);
  }
  return parse(path, parsed);
}

/** This manager's identity; undefined where there is none (yet). Refuses a removed manager's directory. */
export async function readIdentity(dataDir: string): Promise<Identity | undefined> {
  const state = await readDataDir(dataDir);
  if (state.kind === "removed") throw removedError(dataDir, state.message);
  return state.kind === "member" ? state.identity : undefined;
}

export function removedError(dataDir: string, message: string): ClusterError {
  return new ClusterError(
    "failed_precondition",
    `the manager of ${dataDir} was removed from its cluster (${message}) and cannot come back as it was: ` +
      `move ${dataDir} away, and join as a new manager with flotilla manager --data-dir ${dataDir} --join HOST:7400`,
  );
}

export async function writeIdentity(dataDir: string, identity: Identity): Promise<void> {
  await writeDurably(
    dataDir,
    identityFile,
    `${JSON.stringify({ version: formatVersion, ...identity }, undefined, 2)}\n`,
  );
}

export async function writeJoining(dataDir: string, joining: Joining): Promise<void> {
  await writeDurably(dataDir, identityFile, `${JSON.stringify({ version: formatVersion, joining }, undefined, 2)}\n`);
}

/** From now on this directory refuses to be started. */
export async function markRemoved(dataDir: string, message: string): Promise<void> {
  await writeDurably(dataDir, removedFile, `${message}\n`);
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR"))
      return undefined;
    throw error;
  }
}

/** The old contents or the new ones, whenever the machine stops. */
async function writeDurably(directory: string, name: string, text: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const temporary = join(directory, `${name}.new`);
  const file = await open(temporary, "w", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, join(directory, name));
  const folder = await open(directory, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function broken(path: string, what: string, cause?: unknown): ClusterError {
  return new ClusterError(
    "failed_precondition",
    `${path} ${what}: restore it from a copy, or move the directory away and join as a new manager with --join HOST:7400`,
    cause === undefined ? {} : { cause },
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parse(path: string, file: unknown): DataDirState {
  if (!isRecord(file)) throw broken(path, "holds no object");
  const { version, joining } = file;
  if (version !== formatVersion)
    throw broken(path, `is of version ${JSON.stringify(version)}, and this program reads version ${formatVersion}`);
  if (joining !== undefined) {
    if (!isRecord(joining)) throw broken(path, "has a joining that is no object");
    return {
      kind: "joining",
      joining: { nonce: textOf(path, joining, "nonce"), address: textOf(path, joining, "address") },
    };
  }
  const store = textOf(path, file, "store");
  if (store !== "raft" && store !== "etcd")
    throw broken(path, `has store ${JSON.stringify(store)} instead of "raft" or "etcd"`);
  const { etcd, members } = file;
  if (!Array.isArray(etcd) || !etcd.every((url): url is string => typeof url === "string"))
    throw broken(path, "has an etcd that is no list of URLs");
  if (store === "etcd" && etcd.length === 0) throw broken(path, 'has store "etcd" and no URL of it');
  if (!Array.isArray(members)) throw broken(path, "has members that are no list");
  return {
    kind: "member",
    identity: {
      clusterId: textOf(path, file, "clusterId"),
      cluster: textOf(path, file, "cluster"),
      memberId: numberOf(path, file, "memberId", 1),
      name: textOf(path, file, "name"),
      address: textOf(path, file, "address"),
      httpAddress: textOf(path, file, "httpAddress"),
      epoch: numberOf(path, file, "epoch", 0),
      store,
      etcd,
      nonce: textOf(path, file, "nonce"),
      begun: flagOf(path, file, "begun"),
      members: members.map((member: unknown) => parseMember(path, member)),
    },
  };
}

function parseMember(path: string, member: unknown): Member {
  if (!isRecord(member)) throw broken(path, "has a member that is no object");
  return {
    id: numberOf(path, member, "id", 1),
    name: textOf(path, member, "name"),
    address: textOf(path, member, "address"),
    httpAddress: textOf(path, member, "httpAddress"),
    nonce: textOf(path, member, "nonce"),
    learner: member["learner"] === true,
  };
}

function textOf(path: string, object: Record<string, unknown>, field: string): string {
  const value = object[field];
  if (typeof value !== "string" || value === "")
    throw broken(path, `has ${field} ${JSON.stringify(value)} instead of a text`);
  return value;
}

function flagOf(path: string, object: Record<string, unknown>, field: string): boolean {
  const value = object[field];
  if (typeof value !== "boolean") throw broken(path, `has ${field} ${JSON.stringify(value)} instead of true or false`);
  return value;
}

function numberOf(path: string, object: Record<string, unknown>, field: string, min: number): number {
  const value = object[field];
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < min)
    throw broken(path, `has ${field} ${JSON.stringify(value)} instead of a whole number from ${min}`);
  return value;
}
