// global-job: once to completion per node, as global chooses them. A node that comes later, or is back, has its turn:
// the run that had ended well goes on for it.

import type { Node, ServiceSpec, Task } from "../../../proto/mod.js";
import { globalSlots } from "./global.js";
import type { RunSlots } from "./replicated-job.js";

export function globalJobSlots(
  spec: ServiceSpec,
  slots: ReadonlyMap<number, readonly Task[]>,
  nodes: Iterable<Node>,
): RunSlots {
  return { ...globalSlots({ spec, slots, nodes }), maxConcurrent: Number.POSITIVE_INFINITY };
}
