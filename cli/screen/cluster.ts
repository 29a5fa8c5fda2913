// The managers as `cluster status` and `node ls` show them.

import type { ClusterStatus, ManagerStatus } from "../../proto/gen/flotilla/control/v1/control.js";
import { settingsOf } from "../../deploy/spec/mod.js";
import { formatDurationMs } from "../../lib/units.js";
import type { Brake, Cluster } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { type Column, renderTable } from "./table.js";
import { count, plain } from "./text.js";
import { iso } from "./time.js";
import { placementStrategy } from "./words.js";

export function quorumOf(voters: number): number {
  return Math.floor(voters / 2) + 1;
}

export function votersOf({ managers }: ClusterStatus): ManagerStatus[] {
  return managers.filter(({ voter }) => voter);
}

export function leaderOf({ managers, leaderId }: ClusterStatus): ManagerStatus | undefined {
  return leaderId === 0 ? undefined : managers.find(({ id }) => id === leaderId);
}

/** Only the leader knows how the others are. */
export function leaderAnswered({ leaderId, answeredBy }: ClusterStatus): boolean {
  return leaderId !== 0 && leaderId === answeredBy;
}

export const managerStates = ["leader", "reachable", "unreachable", "probing", "snapshot", "unknown"] as const;
export type ManagerState = (typeof managerStates)[number];

/** One word for it: what an operator has to know first. */
export function managerState(manager: ManagerStatus, status: ClusterStatus): ManagerState {
  if (manager.id === status.leaderId) return "leader";
  if (!leaderAnswered(status)) return manager.id === status.answeredBy ? "reachable" : "unknown";
  if (!manager.reachable) return "unreachable";
  if (manager.replication === "snapshot") return "snapshot";
  return manager.replication === "probe" ? "probing" : "reachable";
}

export function managerRole({ voter }: ManagerStatus): "voter" | "learner" {
  return voter ? "voter" : "learner";
}

export interface ManagerRow {
  manager: ManagerStatus;
  status: ClusterStatus;
}

export function managerRows(status: ClusterStatus): ManagerRow[] {
  return [...status.managers].sort((a, b) => a.id - b.id).map((manager) => ({ manager, status }));
}

/** How far a manager is knows its leader, and only once it has heard of it; of itself everyone knows. */
const isKnown = ({ manager, status }: ManagerRow): boolean =>
  manager.id === status.answeredBy || (leaderAnswered(status) && (manager.reachable || manager.matchIndex > 0));

const known = (row: ManagerRow, value: number) => (isKnown(row) ? String(value) : "");

export const managerColumns: readonly Column<ManagerRow>[] = [
  { key: "ID", header: "ID", get: ({ manager }) => String(manager.id) },
  { key: "Name", header: "NAME", get: ({ manager }) => manager.name },
  { key: "Address", header: "ADDRESS", get: ({ manager }) => manager.address },
  { key: "Role", header: "ROLE", get: ({ manager }) => managerRole(manager) },
  { key: "State", header: "STATE", get: ({ manager, status }) => managerState(manager, status) },
  { key: "Match", header: "MATCH", get: (row) => known(row, row.manager.matchIndex) },
  { key: "Lag", header: "LAG", get: (row) => known(row, row.manager.lag) },
];

/** "2 of 3 voters", and what that leaves. */
function quorumText(status: ClusterStatus): string {
  const voters = votersOf(status);
  const quorum = quorumOf(voters.length);
  const text = `${quorum} of ${count(voters.length, "voter")}`;
  if (!leaderAnswered(status)) return text;
  const reachable = voters.filter(({ id, reachable }) => reachable || id === status.leaderId).length;
  const spare = reachable - quorum;
  return `${text}; ${reachable} reachable, ${spare < 0 ? "too few" : `${spare} may fail`}`;
}

/** For everybody who looks. With the time, not its age: `status -w` shows what changes. */
export function brakeText({ sinceMs, lostNodes, nodes }: Brake): string {
  return `${lostNodes} of ${nodes} nodes were lost at once at ${iso(sinceMs)}: their tasks are left alone until nodes return, or 'flotilla node lost --force NODE' says that they are gone`;
}

/** The settings in words, a line each. */
export function settingsRows(cluster: Cluster): [string, string][] {
  const settings = settingsOf(cluster);
  const { rebalanceMoves, rebalanceIntervalMs } = settings;
  return [
    ["Placement", placementStrategy(settings.strategy)],
    ["Preemption", settings.preemption ? "on" : "off"],
    ["Lost after", formatDurationMs(settings.lostAfterMs)],
    ["Task history", `${settings.taskHistory} per slot`],
    [
      "Rebalance",
      rebalanceMoves === 0
        ? "off"
        : `${count(rebalanceMoves, "move")} at a time, every ${formatDurationMs(rebalanceIntervalMs)}`,
    ],
  ];
}

/** One thing a line, the values under each other. */
export function rowsText(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([key]) => key.length)) + 2;
  return rows.map(([key, value]) => `${`${key}:`.padEnd(width)}${plain(value)}\n`).join("");
}

/** The cluster's own state where it could be had, and why not where it could not. */
export type Told = { cluster: Cluster } | { unknown: string };

function settingsText(told: Told | undefined): string {
  if (told === undefined) return "";
  return `\n${"unknown" in told ? `Settings: not known: ${plain(told.unknown)}\n` : rowsText(settingsRows(told.cluster))}`;
}

export function statusText(status: ClusterStatus, told?: Told): string {
  const leader = leaderOf(status);
  const answered = status.managers.find(({ id }) => id === status.answeredBy);
  const { store, revision, term, epoch, commitIndex, appliedIndex, writable, message } = status;
  const led = leader !== undefined ? `${leader.name} (${leader.address}), term ${term}` : `none, term ${term}`;
  const rows: [string, string][] = [
    ["Cluster", `${status.cluster}${status.clusterId === "" ? "" : ` (${status.clusterId})`}`],
    ["Store", `${store}, revision ${revision}`],
    ["Writes", writable ? "taken" : `refused: ${message === "" ? "the manager does not say why" : message}`],
  ];
  if (status.managers.length > 0) {
    rows.push(["Leader", led], ["Commit", `${commitIndex}, applied ${appliedIndex}`], ["Quorum", quorumText(status)]);
    if (epoch > 0) rows.push(["Epoch", `${epoch} (recovered or restored)`]);
    if (!leaderAnswered(status) && answered !== undefined)
      rows.push(["Told by", `${answered.name}, which ${leader === undefined ? "knows no leader" : "does not lead"}`]);
  }
  const brake = told !== undefined && "cluster" in told ? told.cluster.brake : undefined;
  if (brake !== undefined) rows.splice(3, 0, ["Brake", brakeText(brake)]);
  const head = rowsText(rows);
  const managers = status.managers.length === 0 ? "" : `\n${renderTable(managerColumns, managerRows(status))}`;
  return `${head}${managers}${settingsText(told)}`;
}

export function managerJson(row: ManagerRow) {
  const { manager, status } = row;
  return {
    id: manager.id,
    name: manager.name,
    address: manager.address,
    role: managerRole(manager),
    state: managerState(manager, status),
    match: isKnown(row) ? manager.matchIndex : null,
    lag: isKnown(row) ? manager.lag : null,
  };
}

export function statusJson(status: ClusterStatus) {
  const leader = leaderOf(status);
  return {
    cluster: status.cluster,
    clusterId: status.clusterId,
    store: status.store,
    revision: status.revision,
    epoch: status.epoch,
    term: status.term,
    leader: leader === undefined ? null : { id: leader.id, name: leader.name, address: leader.address },
    commit: status.commitIndex,
    applied: status.appliedIndex,
    writable: status.writable,
    message: status.message,
    answeredBy: status.answeredBy,
    managers: managerRows(status).map(managerJson),
  };
}

/** Of the manager on a node, in `node ls`; empty when there is none. */
export function nodeManager(manager: ManagerStatus | undefined): string {
  if (manager === undefined) return "";
  if (manager.leader) return "Leader";
  if (!manager.reachable) return "Unreachable";
  return manager.voter ? "Reachable" : "Learner";
}

/** Of the manager on a node, in JSON. */
export function nodeManagerJson(manager: ManagerStatus | undefined) {
  if (manager === undefined) return null;
  const { id, name, address, leader, reachable, matchIndex, lag } = manager;
  return { id, name, address, role: managerRole(manager), leader, reachable, match: matchIndex, lag };
}
