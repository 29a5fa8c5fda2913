// Which parts of a spec make tasks restart. Equal template hashes mean that a running task may stay as it is.

import { createHash } from "node:crypto";
import type { ServiceSpec } from "../../proto/mod.js";

/** One text for equal values: keys sorted, absent keys left out, fields that this version does not know left out. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (key, part: unknown) => {
    if (key === "_unknownFields") return undefined;
    if (typeof part !== "object" || part === null || Array.isArray(part)) return part;
    return Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

/**
 * The hash of what a task is: its spec without placement, and the ports that its container must expose. Scaling,
 * labels of the service, published ports, update settings and placement are not in it.
 */
export function templateHash(spec: ServiceSpec): string {
  const { placement: _, ...task } = spec.task;
  const ports = spec.ports.map(({ protocol, targetPort }) => `${targetPort}/${protocol}`).sort();
  return createHash("sha256").update(canonical({ task, ports })).digest("hex").slice(0, 32);
}

/** Whether two checked specs say the same. */
export function equalSpecs(a: ServiceSpec, b: ServiceSpec): boolean {
  return canonical(a) === canonical(b);
}

/** Whether both would be placed on the same nodes. */
export function equalPlacement(a: ServiceSpec, b: ServiceSpec): boolean {
  return canonical(a.task.placement) === canonical(b.task.placement);
}

/** How long a spec is as text; `limits.specBytes` bounds it. */
export function specBytes(spec: ServiceSpec): number {
  return Buffer.byteLength(canonical(spec));
}
