// Which parts of a spec make tasks restart. Equal template hashes mean that a running task may stay as it is.

import { createHash } from "node:crypto";
import { type PortSpec, PublishMode, type ServiceSpec } from "../../proto/mod.js";

/** One text for equal values: keys sorted, absent keys left out, fields that this version does not know left out. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (key, part: unknown) => {
    if (key === "_unknownFields") return undefined;
    if (typeof part !== "object" || part === null || Array.isArray(part)) return part;
    return Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

/**
 * What a container has of a port: the ambassadors publish from outside of it, and may change that; a port of the host
 * itself is bound when the container is created.
 */
export function portTemplate({ protocol, targetPort, publishedPort, mode }: PortSpec): string {
  return `${targetPort}/${protocol}${mode === PublishMode.HOST ? `@${publishedPort}` : ""}`;
}

/**
 * The hash of what a task is: its container with mounts and their drivers, what it reserves and may use, how it is
 * restarted, and its ports. Mode and replicas, automatic scaling, the service's labels, published ports, update
 * settings, priority, placement and dependencies are not in it. stop_after_disconnect is: a task goes by what its agent was
 * told with it, and one that runs on by the old rule would only look fenced.
 */
export function templateHash(spec: ServiceSpec): string {
  const { placement: _, priority: __, ...task } = spec.task;
  const ports = spec.ports.map(portTemplate).sort();
  const { stopAfterDisconnectMs } = spec;
  return createHash("sha256").update(canonical({ task, ports, stopAfterDisconnectMs })).digest("hex").slice(0, 32);
}

/** Whether two checked specs say the same. */
export function equalSpecs(a: ServiceSpec, b: ServiceSpec): boolean {
  return canonical(a) === canonical(b);
}

/**
 * Whether both would be placed alike: constraints, preferences, affinities, strategy and the most per node. Priority
 * is no part of it: it says when a task gets a node, not which.
 */
export function equalPlacement(a: ServiceSpec, b: ServiceSpec): boolean {
  return canonical(a.task.placement) === canonical(b.task.placement);
}

/** How long a spec is as text; `limits.specBytes` bounds it. */
export function specBytes(spec: ServiceSpec): number {
  return Buffer.byteLength(canonical(spec));
}
