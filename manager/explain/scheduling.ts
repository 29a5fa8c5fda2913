// What the scheduler asks, answered from a view: for those who want to know what it would do, without being it.

import { type Settings, settingsOf } from "../../deploy/spec/mod.js";
import type { PortSpec, Resources, Task, TaskSpec } from "../../proto/mod.js";
import { type Claims, demandOf, NodeIndex, type PlaceInput, Usage } from "../scheduler/mod.js";
import type { View } from "../store/mod.js";

type Asked = "specOf" | "portsOf" | "tasksOfService" | "tasksOfNode" | "serviceByName" | "now";

export interface Scheduling extends Pick<Required<PlaceInput>, Asked> {
  settings: Settings;
  nodes: NodeIndex;
  usage: Usage;
  /** Takes in a task as it is now. */
  count(task: Task): void;
  /** What a task takes of its node. */
  needs(task: Task): { reserved: Resources; claims: Claims };
}

const nothing: Resources = { nanoCpus: 0, memoryBytes: 0, generic: {} };
const noClaims: Claims = { hostPorts: [], avoids: [], image: "" };

/** Costs as much as there are tasks: for questions of people, and for what is done now and then. */
export function schedulingOf(view: View, now: number): Scheduling {
  const usage = new Usage();
  const revisionOf = memoised((serviceId, revision) => {
    const spec = view.revisionOfService(serviceId, revision)?.spec;
    return spec === undefined ? undefined : { task: spec.task, ports: spec.ports };
  });
  const specOf = (serviceId: string, revision: number): TaskSpec | undefined => revisionOf(serviceId, revision)?.task;
  const portsOf = (serviceId: string, revision: number): readonly PortSpec[] =>
    revisionOf(serviceId, revision)?.ports ?? [];
  const needs = ({ serviceId, revision }: Task) => {
    const known = revisionOf(serviceId, revision);
    if (known === undefined) return { reserved: nothing, claims: noClaims };
    return { reserved: known.task.reservations, claims: demandOf(known.task, known.ports) };
  };
  const count = (task: Task) => {
    const { reserved, claims } = needs(task);
    usage.set(task, reserved, claims);
  };
  for (const task of view.tasks.values()) count(task);
  const [cluster] = view.clusters.values();
  return {
    nodes: new NodeIndex(view.nodes.values()),
    usage,
    specOf,
    portsOf,
    tasksOfService: (serviceId) => view.tasksOfService(serviceId),
    tasksOfNode: (nodeId) => view.tasksOfNode(nodeId),
    serviceByName: (name) => view.serviceByName(name),
    settings: settingsOf(cluster),
    now,
    count,
    needs,
  };
}

function memoised<T>(
  find: (serviceId: string, revision: number) => T | undefined,
): (serviceId: string, revision: number) => T | undefined {
  const known = new Map<string, T>();
  return (serviceId, revision) => {
    const key = `${serviceId} ${revision}`;
    const before = known.get(key);
    if (before !== undefined) return before;
    const found = find(serviceId, revision);
    if (found !== undefined) known.set(key, found);
    return found;
  };
}
