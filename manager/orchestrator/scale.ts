// Which slots a service has, and which go when it shrinks.

import { hasEnded, isReady, isWanted } from "../../deploy/strategy/mod.js";
import { type Task, TaskState } from "../../proto/mod.js";

export interface SlotChoice {
  /** The slots that the service has, ascending. */
  keep: number[];
  /** Those whose tasks are to be removed. */
  drop: number[];
}

/**
 * Slots are kept as long as any task of theirs is, history included. Growing takes the lowest free numbers, shrinking
 * the slots that are missed least: without a node, then not ready, then on the fullest node, then the highest. After
 * shrinking, numbers may have gaps.
 */
export function chooseSlots(slots: ReadonlyMap<number, readonly Task[]>, replicas: number): SlotChoice {
  const used = [...slots]
    .filter(([, tasks]) => tasks.some(({ desiredState }) => desiredState !== TaskState.REMOVE))
    .map(([slot]) => slot);
  const keep = new Set(used);
  for (let slot = 1; keep.size < replicas; slot += 1) keep.add(slot);
  const drop = shrink(slots, keep, keep.size - replicas);
  return { keep: sorted(keep), drop: sorted(drop) };
}

/** Takes `count` slots out of `keep`, and answers which. */
function shrink(slots: ReadonlyMap<number, readonly Task[]>, keep: Set<number>, count: number): Set<number> {
  const drop = new Set<number>();
  if (count <= 0) return drop;
  // Per rank of what is missed least, the slots of each node; "" is no node.
  const ranks = [new Map<string, number[]>(), new Map<string, number[]>(), new Map<string, number[]>()];
  const onNode = new Map<string, number>();
  for (const slot of sorted(keep)) {
    const wanted = (slots.get(slot) ?? []).filter((task) => isWanted(task) && !hasEnded(task));
    const main = wanted.find(isReady) ?? wanted.find(({ nodeId }) => nodeId !== "");
    const nodeId = main?.nodeId ?? "";
    const rank = ranks[main === undefined ? 0 : isReady(main) ? 2 : 1];
    const there = rank?.get(nodeId);
    if (there === undefined) rank?.set(nodeId, [slot]);
    else there.push(slot);
    if (nodeId !== "") onNode.set(nodeId, (onNode.get(nodeId) ?? 0) + 1);
  }
  for (const rank of ranks) {
    while (rank.size > 0 && drop.size < count) {
      const [nodeId, there] = fullest(rank, onNode);
      const slot = there.pop();
      if (slot === undefined) rank.delete(nodeId);
      else {
        keep.delete(slot);
        drop.add(slot);
        onNode.set(nodeId, (onNode.get(nodeId) ?? 1) - 1);
      }
    }
  }
  return drop;
}

/** The node with most of the service's slots, and its slots of this rank; among equals the one with the highest slot. */
function fullest(rank: ReadonlyMap<string, number[]>, onNode: ReadonlyMap<string, number>): [string, number[]] {
  let best: [string, number[]] = ["", []];
  let most = Number.NEGATIVE_INFINITY;
  for (const [nodeId, there] of rank) {
    const load = onNode.get(nodeId) ?? 0;
    if (load < most || (load === most && (there.at(-1) ?? 0) <= (best[1].at(-1) ?? 0))) continue;
    best = [nodeId, there];
    most = load;
  }
  return best;
}

function sorted(slots: Iterable<number>): number[] {
  return [...slots].sort((a, b) => a - b);
}
