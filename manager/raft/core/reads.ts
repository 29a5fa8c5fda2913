// Linearizable reads: a leader answers once a quorum has confirmed that it still leads. Heartbeats carry the question, so
// they are here too.

import type { Read } from "./read-only.js";
import type { RaftState } from "./state.js";
import { type MessageOf, type NodeId, nobody, type Outcome } from "./types.js";

export function readIndex(r: RaftState, from: NodeId, context: number): Outcome {
  if (r.role === "leader") {
    if (from !== r.id && !r.tracker.progress.has(from)) return "not-member";
    return r.reads.add({ from, context }) ? undefined : "too-much-pending";
  }
  if (r.lead === nobody) return "no-leader";
  // Only the asker's own node forwards: two nodes that take each other for the leader would play ping-pong.
  if (from !== r.id || r.settings.disableForwarding) return "not-leader";
  r.send({ type: "MsgReadIndex", from: r.id, to: r.lead, term: 0, context });
  return undefined;
}

/** Asks a quorum about all reads that came since, in one round of heartbeats. */
export function flushReads(r: RaftState): void {
  if (r.role !== "leader" || !r.reads.hasUnasked || !r.committedInTerm) return;
  if (leaseHolds(r)) {
    for (const read of r.reads.takeUnasked()) answer(r, read, r.log.committed);
    return;
  }
  const readId = r.reads.ask(r.log.committed);
  serveConfirmed(r);
  if (r.reads.waiting) sendHeartbeats(r, readId);
}

/**
 * A quorum answered heartbeats that were sent so lately that none of it has voted for another yet. Two ticks less than
 * the election timeout, since the ticks of two nodes do not fall together. Trusts that ticks come at their time.
 */
function leaseHolds(r: RaftState): boolean {
  const { readOnly, electionTick } = r.settings;
  return readOnly === "lease" && !r.leaseGivenAway && r.ticks - r.reads.leaseTick <= electionTick - 2;
}

export function broadcastHeartbeat(r: RaftState): void {
  const lease = r.settings.readOnly === "lease";
  sendHeartbeats(r, lease ? r.reads.startRound(r.ticks, r.settings.electionTick) : r.reads.lastAsked);
  // Who is alone has its quorum at once.
  if (lease) serveConfirmed(r);
}

function sendHeartbeats(r: RaftState, readId: number): void {
  for (const [to, progress] of r.tracker.progress) {
    if (to === r.id) continue;
    // Never beyond what the follower is known to have: its log may end otherwise after that.
    const commit = Math.min(progress.match, r.log.committed);
    progress.sentCommit = Math.max(progress.sentCommit, commit);
    r.send({ type: "MsgHeartbeat", from: r.id, to, term: r.term, commit, readId });
  }
}

export function handleReadAnswer(r: RaftState, m: MessageOf<"MsgHeartbeatResp">): void {
  if (m.readId === 0) return;
  r.reads.answered(m.from, m.readId);
  serveConfirmed(r);
}

/** Also after a change of the configuration, which may have made the quorum smaller. */
export function serveConfirmed(r: RaftState): void {
  const confirmed = r.tracker.quorumOf((id) => r.reads.confirmedBy(id, r.id));
  r.reads.confirmRounds(confirmed);
  for (const { index, reads } of r.reads.takeConfirmed(confirmed)) {
    for (const read of reads) answer(r, read, index);
  }
}

function answer(r: RaftState, { from, context }: Read, index: number): void {
  if (from === r.id) r.readStates.push({ context, index });
  else r.send({ type: "MsgReadIndexResp", from: r.id, to: from, term: r.term, context, index });
}
