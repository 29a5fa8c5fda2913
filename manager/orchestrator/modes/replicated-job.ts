// replicated-job, and each run of cron: slots 1 to completions, so many at the same time.

import { runSize } from "../../../deploy/spec/mod.js";
import type { ServiceSpec } from "../../../proto/mod.js";
import type { SlotSet } from "./slots.js";

export interface RunSlots extends SlotSet {
  /** Tasks that may be there at the same time. */
  maxConcurrent: number;
}

export function replicatedJobSlots(spec: ServiceSpec): RunSlots {
  const size = runSize(spec);
  if (size === undefined) throw new Error(`a ${spec.mode.$case} service has no runs of a given size`);
  return {
    keep: Array.from({ length: size.completions }, (_, i) => ({ slot: i + 1, nodeId: "", closed: false })),
    drop: [],
    maxConcurrent: size.maxConcurrent,
  };
}
