// What each node lacks for a task that has none.

import type { NodeVerdict } from "../../proto/gen/flotilla/control/v1/control.js";
import { judge, needsNode } from "../scheduler/mod.js";
import type { Scene } from "./explain.js";
import { schedulingOf } from "./scheduling.js";

/** Those that fit first, then by name; none for a task that needs no node. */
export function verdictsOf({ view, task, now }: Scene): NodeVerdict[] {
  if (!needsNode(task)) return [];
  const revision = view.revisionOfService(task.serviceId, task.revision);
  if (revision === undefined) return [];
  const { nodes, usage, serviceByName } = schedulingOf(view, now);
  const { task: spec, ports } = revision.spec;
  return judge({ task, spec, ports, nodes, usage, serviceByName });
}
