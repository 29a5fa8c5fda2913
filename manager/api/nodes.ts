// What users see and change of nodes.

import { limits } from "../../deploy/spec/mod.js";
import { type Clock, ClusterError, formatDurationMs, type Violation } from "../../lib/mod.js";
import {
  NodeAvailability,
  NodeRole,
  NodeState,
  type Node,
  type NodeSpec,
  type NodeStatus,
  TaskState,
} from "../../proto/mod.js";
import type {
  ManagerStatus,
  NodeState as NodeStateMessage,
  UpdateNodeRequest,
} from "../../proto/gen/flotilla/control/v1/control.js";
import type { Consensus } from "../consensus/mod.js";
import type { Store, View } from "../store/mod.js";
import { findNode } from "./lookup.js";
import { checkRemoval } from "./removal.js";

const labelsMax = 64;
const labelKey = /^[a-zA-Z0-9]([a-zA-Z0-9._/-]{0,126}[a-zA-Z0-9])?$/;
const labelValueMax = 256;

/** By the host's name, which is that of the manager on it. */
export type Managers = readonly ManagerStatus[];

export function nodeState(view: View, node: Node, managers: Managers): NodeStateMessage {
  let tasks = 0;
  let nanoCpus = 0;
  let memoryBytes = 0;
  const generic = new Map<string, number>();
  for (const task of view.tasksOfNode(node.meta.id)) {
    if (task.status.state >= TaskState.COMPLETE) continue;
    if (task.desiredState <= TaskState.RUNNING) tasks += 1;
    const reservations = view.revisionOfService(task.serviceId, task.revision)?.spec.task.reservations;
    nanoCpus += reservations?.nanoCpus ?? 0;
    memoryBytes += reservations?.memoryBytes ?? 0;
    for (const [kind, count] of Object.entries(reservations?.generic ?? {}))
      generic.set(kind, (generic.get(kind) ?? 0) + count);
  }
  const manager = managers.find(({ name }) => name === node.description.hostname);
  return { node, tasks, reserved: { nanoCpus, memoryBytes, generic: Object.fromEntries(generic) }, manager };
}

export function listNodes(view: View, managers: Managers): NodeStateMessage[] {
  return [...view.nodes.values()]
    .sort((a, b) => (a.description.hostname < b.description.hostname ? -1 : 1))
    .map((node) => nodeState(view, node, managers));
}

function checkLabels(labels: Readonly<Record<string, string>>): Violation[] {
  const violations: Violation[] = [];
  for (const [key, value] of Object.entries(labels)) {
    if (!labelKey.test(key))
      violations.push({
        field: "labels",
        value: key,
        rule: "must be 1 to 128 letters, digits, '.', '_', '/' or '-', with a letter or digit at both ends",
        fix: "write for example zone=eu",
      });
    if (value.length > labelValueMax)
      violations.push({
        field: `labels.${key}`,
        value: `${value.slice(0, 32)}…`,
        rule: `must be at most ${labelValueMax} characters`,
        fix: "shorten it",
      });
  }
  return violations;
}

/** What is wrong with the request whatever the node is like. */
function checkUpdate(request: UpdateNodeRequest): Violation[] {
  const violations = checkLabels(request.labelsAdd);
  if (!Object.values<number>(NodeRole).includes(request.role))
    violations.push({
      field: "role",
      value: String(request.role),
      rule: "must be worker or manager",
      fix: "use a client of this version",
    });
  if (!Object.values<number>(NodeAvailability).includes(request.availability))
    violations.push({
      field: "availability",
      value: String(request.availability),
      rule: "must be active, cordoned or drained",
      fix: "use a client of this version",
    });
  const { drainDeadlineMs } = request;
  if (drainDeadlineMs !== undefined && drainDeadlineMs > limits.durationMs)
    violations.push({
      field: "drain_deadline",
      value: formatDurationMs(drainDeadlineMs),
      rule: `must be a duration from 0s to ${formatDurationMs(limits.durationMs)}`,
      fix: "use for example 10m",
    });
  return violations;
}

/** The deadline is a drain's: it goes with it. A drain that is asked for again goes on, with a new deadline if one is given. */
function availabilityAfter(
  { spec, description }: Node,
  { availability: wanted, drainDeadlineMs }: UpdateNodeRequest,
  nowMs: number,
): Pick<NodeSpec, "availability" | "availabilitySinceMs" | "drainDeadlineMs"> {
  const availability = wanted === NodeAvailability.UNSPECIFIED ? spec.availability : wanted;
  const changed = availability !== spec.availability;
  if (availability !== NodeAvailability.DRAINED && drainDeadlineMs !== undefined)
    throw ClusterError.invalid([
      {
        field: "drain_deadline",
        value: formatDurationMs(drainDeadlineMs),
        rule: "must come with a drain, and the node is not to be drained",
        fix: `use flotilla node drain --deadline ${formatDurationMs(drainDeadlineMs)} ${description.hostname}`,
      },
    ]);
  return {
    availability,
    availabilitySinceMs: changed ? nowMs : spec.availabilitySinceMs,
    drainDeadlineMs:
      availability === NodeAvailability.DRAINED
        ? (drainDeadlineMs ?? (changed ? undefined : spec.drainDeadlineMs))
        : undefined,
  };
}

function confirmLoss({ status, description: { hostname } }: Node): NodeStatus {
  if (status.state === NodeState.READY)
    throw new ClusterError(
      "failed_precondition",
      `node ${hostname} is connected, and not lost; to move its tasks away: flotilla node drain ${hostname}`,
    );
  return { ...status, lossConfirmed: true };
}

/**
 * A node that is to be a worker has its manager taken out, which is looked at before anything is stored: whoever asks
 * again after a failure in between gets what is left done.
 */
export async function updateNode(
  store: Store,
  clock: Clock,
  consensus: Consensus,
  request: UpdateNodeRequest,
): Promise<NodeStateMessage> {
  const violations = checkUpdate(request);
  if (violations.length > 0) throw ClusterError.invalid(violations);
  const demoted = request.role === NodeRole.WORKER ? managerOn(store.view(), request.node, consensus) : undefined;
  const id = await store.update((tx) => {
    const node = findNode(tx, request.node);
    const labels = { ...node.spec.labels, ...request.labelsAdd };
    for (const key of request.labelsRemove) {
      if (!Object.hasOwn(labels, key))
        throw new ClusterError("not_found", `node ${node.description.hostname} has no label ${JSON.stringify(key)}`);
      delete labels[key];
    }
    if (Object.keys(labels).length > labelsMax)
      throw ClusterError.invalid([
        {
          field: "labels",
          value: String(Object.keys(labels).length),
          rule: `must be at most ${labelsMax}`,
          fix: "remove some",
        },
      ]);
    const nowMs = clock.now();
    tx.put("nodes", {
      ...node,
      meta: { ...node.meta, updatedAtMs: nowMs },
      spec: {
        ...node.spec,
        ...availabilityAfter(node, request, nowMs),
        labels,
        role: request.role === NodeRole.UNSPECIFIED ? node.spec.role : request.role,
      },
      status: request.confirmLoss ? confirmLoss(node) : node.status,
    });
    return node.meta.id;
  });
  if (demoted !== undefined) await consensus.removeManager(String(demoted.id), false);
  const node = store.view().nodes.get(id);
  if (node === undefined) throw new ClusterError("not_found", `node ${id} was removed meanwhile`);
  return nodeState(store.view(), node, consensus.status().managers);
}

/** The manager on that node, if it can be taken out; undefined when there is none. */
function managerOn(view: View, wanted: string, consensus: Consensus): ManagerStatus | undefined {
  const { hostname } = findNode(view, wanted).description;
  const { managers } = consensus.status();
  const manager = managers.find(({ name }) => name === hostname);
  if (manager === undefined) return undefined;
  checkRemoval(manager, managers, false);
  return manager;
}
