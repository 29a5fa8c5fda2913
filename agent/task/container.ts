// A task as a container: its name, labels, environment and place on the network. Names and labels are derived from
// the task alone, so that an agent that lost its memory finds what it made.

import { formatIpv4, parseCidr } from "../../lib/mod.js";
import type { Cluster, Node } from "../../proto/mod.js";
import type { ContainerRequest, ContainerState } from "../engine/mod.js";
import type { Assignment } from "./record.js";

export const networkName = "flotilla";

export const labels = {
  cluster: "flotilla.cluster",
  node: "flotilla.node",
  service: "flotilla.service",
  serviceId: "flotilla.service.id",
  revision: "flotilla.revision",
  task: "flotilla.task",
  slot: "flotilla.slot",
  specHash: "flotilla.spec-hash",
} as const;

/** What the containers of this node have in common. */
export interface HostSettings {
  cluster: Cluster;
  node: Node;
  advertiseAddress: string;
}

/** The first address of the node's subnet: the bridge's own, where the resolver listens. */
export function gatewayOf(subnet: string): string {
  const cidr = parseCidr(subnet);
  if (cidr === undefined) throw new Error(`the node's subnet ${JSON.stringify(subnet)} is not an IPv4 CIDR`);
  return formatIpv4(cidr.base + 1);
}

export function containerName({ task }: Assignment): string {
  return `${task.serviceName}.${task.slot}.${task.meta.id}`;
}

export function containerRequest(assignment: Assignment, host: HostSettings, networkId: string): ContainerRequest {
  const { task, spec } = assignment;
  const { cluster, node } = host;
  return {
    name: containerName(assignment),
    labels: {
      ...assignment.serviceLabels,
      ...spec.container.labels,
      [labels.cluster]: cluster.name,
      [labels.node]: node.meta.id,
      [labels.service]: task.serviceName,
      [labels.serviceId]: task.serviceId,
      [labels.revision]: String(task.revision),
      [labels.task]: task.meta.id,
      [labels.slot]: String(task.slot),
      [labels.specHash]: assignment.templateHash,
    },
    spec: {
      ...spec.container,
      // The user's own go last: they win.
      env: [
        `FLOTILLA_TASK=${task.meta.id}`,
        `FLOTILLA_SERVICE=${task.serviceName}`,
        `FLOTILLA_SLOT=${task.slot}`,
        `FLOTILLA_REVISION=${task.revision}`,
        `FLOTILLA_NODE=${node.description.hostname}`,
        ...spec.container.env,
      ],
    },
    limits: spec.limits,
    reservations: spec.reservations,
    networkId,
    dns: { servers: [gatewayOf(node.subnet)], search: [cluster.domain] },
    ports: assignment.ports,
    hostAddress: host.advertiseAddress,
  };
}

/** Whether the container was made for this very task on this very node. */
export function isOf(container: ContainerState, taskId: string, nodeId: string): boolean {
  return container.labels[labels.task] === taskId && container.labels[labels.node] === nodeId;
}

export function foreignName(name: string, holder: ContainerState): string {
  const id = holder.id.slice(0, 12);
  return `container name ${name} is taken by container ${id}, which is not this task's: remove or rename it`;
}
