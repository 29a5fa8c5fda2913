// Services that wait for each other for ever.

import type { ServiceSpec } from "../../proto/mod.js";

/**
 * The names of a cycle that `name` would be part of if it depended on `dependsOn`, in order, with `name` first and
 * last: ["a", "b", "a"]; `undefined` when there is none. `specOf` answers the other services' specs; one that does
 * not exist (yet) depends on nothing. Of several cycles a shortest one is given. Every service is looked at once.
 */
export function findCycle(
  name: string,
  dependsOn: readonly string[],
  specOf: (name: string) => Pick<ServiceSpec, "dependsOn"> | undefined,
): string[] | undefined {
  const reachedFrom = new Map<string, string>();
  let front: string[] = [name];
  while (front.length > 0) {
    const next: string[] = [];
    for (const service of front)
      for (const needed of service === name ? dependsOn : (specOf(service)?.dependsOn ?? [])) {
        if (needed === name) {
          const cycle = [name];
          for (let at = service; at !== name; at = reachedFrom.get(at) ?? name) cycle.unshift(at);
          return [name, ...cycle];
        }
        if (reachedFrom.has(needed)) continue;
        reachedFrom.set(needed, service);
        next.push(needed);
      }
    front = next;
  }
  return undefined;
}
