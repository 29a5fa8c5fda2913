// global: one slot per node that the placement allows and that is neither drained nor down. The number stays with the
// node as long as any task of it is kept, so that its history does, too; a new node gets the lowest free one. A
// cordoned node keeps what it has, also through updates, and gets nothing new.

import { eligibilityOf, placementOf } from "../../../deploy/strategy/mod.js";
import { type Node, NodeAvailability, NodeState, type ServiceSpec, type Task, TaskState } from "../../../proto/mod.js";
import type { Slot, SlotSet } from "./slots.js";

export interface GlobalInput {
  spec: ServiceSpec;
  /**
   * What an update under way comes from: where only that allows tasks, they stay until the update is done, so that
   * moving a service to other nodes leaves no time without it.
   */
  leaving?: ServiceSpec | undefined;
  slots: ReadonlyMap<number, readonly Task[]>;
  nodes: Iterable<Node>;
}

export function globalSlots({ spec, leaving, slots, nodes }: GlobalInput): SlotSet {
  const slotOf = new Map<string, number>();
  for (const [slot, tasks] of slots) {
    const task = tasks.find(({ desiredState }) => desiredState !== TaskState.REMOVE);
    if (task !== undefined) slotOf.set(task.onlyNodeId, slot);
  }
  const eligibility = eligibilityOf(spec);
  const allowedBefore = leaving === undefined ? () => false : placementOf(leaving);
  const keep: Slot[] = [];
  const drop: SlotSet["drop"] = [];
  const free = freeNumbers(slots);
  for (const node of nodes) {
    const nodeId = node.meta.id;
    const there = slotOf.get(nodeId);
    slotOf.delete(nodeId);
    const is = eligibility(node);
    if (is === "open") keep.push({ slot: there ?? free(), nodeId, closed: false });
    else if (there !== undefined) {
      if (is === "closed") keep.push({ slot: there, nodeId, closed: true });
      else if (!isServing(node) || !allowedBefore(node)) drop.push({ slot: there, desired: TaskState.SHUTDOWN });
    }
  }
  // Their nodes were removed.
  for (const slot of slotOf.values()) drop.push({ slot, desired: TaskState.REMOVE });
  keep.sort((a, b) => a.slot - b.slot);
  return { keep, drop };
}

function isServing({ status, spec }: Node): boolean {
  return status.state !== NodeState.DOWN && spec.availability !== NodeAvailability.DRAINED;
}

/** The numbers that no task has, ascending. */
function freeNumbers(slots: ReadonlyMap<number, unknown>): () => number {
  let next = 0;
  return () => {
    do next += 1;
    while (slots.has(next));
    return next;
  };
}
