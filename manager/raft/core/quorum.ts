// What a majority says: of one set of voters, and of the two of a joint configuration, which must both agree.

import type { NodeId } from "./types.js";

export type VoteResult = "won" | "lost" | "pending";

/**
 * The largest index that more than half of the voters have reached. Infinity without voters, so that an empty half of a
 * joint configuration does not hold the other back.
 */
export function majorityIndex(voters: readonly NodeId[], indexOf: (id: NodeId) => number): number {
  const count = voters.length;
  if (count === 0) return Infinity;
  // Sorted by insertion, descending: there are seven at most, and this runs at every acknowledgement.
  const sorted: number[] = [];
  for (const id of voters) {
    const index = indexOf(id);
    let at = sorted.length;
    while (at > 0 && (sorted[at - 1] ?? 0) < index) {
      sorted[at] = sorted[at - 1] ?? 0;
      at--;
    }
    sorted[at] = index;
  }
  return sorted[count >> 1] ?? 0;
}

/** What both halves have reached. */
export function jointIndex(
  incoming: readonly NodeId[],
  outgoing: readonly NodeId[],
  indexOf: (id: NodeId) => number,
): number {
  const index = majorityIndex(incoming, indexOf);
  return outgoing.length === 0 ? index : Math.min(index, majorityIndex(outgoing, indexOf));
}

/** An election of no voters is won, for the same reason. `voteOf` is undefined for who has not answered. */
export function majorityVote(voters: readonly NodeId[], voteOf: (id: NodeId) => boolean | undefined): VoteResult {
  let granted = 0;
  let missing = 0;
  for (const id of voters) {
    const vote = voteOf(id);
    if (vote === undefined) missing++;
    else if (vote) granted++;
  }
  const needed = voters.length === 0 ? 0 : (voters.length >> 1) + 1;
  if (granted >= needed) return "won";
  return granted + missing >= needed ? "pending" : "lost";
}

/** Won in both halves, lost in either. */
export function jointVote(
  incoming: readonly NodeId[],
  outgoing: readonly NodeId[],
  voteOf: (id: NodeId) => boolean | undefined,
): VoteResult {
  const one = majorityVote(incoming, voteOf);
  const other = majorityVote(outgoing, voteOf);
  if (one === other) return one;
  return one === "lost" || other === "lost" ? "lost" : "pending";
}
