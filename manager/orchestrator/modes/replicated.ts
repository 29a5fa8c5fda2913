// replicated: so many slots, on whichever nodes the scheduler finds. All of it is in scale.ts.

import { replicasOf, type ServiceSpec, type Task, TaskState } from "../../../proto/mod.js";
import { chooseSlots } from "../scale.js";
import type { SlotSet } from "./slots.js";

export function replicatedSlots(spec: ServiceSpec, slots: ReadonlyMap<number, readonly Task[]>): SlotSet {
  const { keep, drop } = chooseSlots(slots, replicasOf(spec));
  return {
    keep: keep.map((slot) => ({ slot, nodeId: "", closed: false })),
    drop: drop.map((slot) => ({ slot, desired: TaskState.REMOVE })),
  };
}
