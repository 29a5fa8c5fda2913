// A leader's side of the log: appending proposals, sending them, counting acknowledgements; and handing leadership over.

import { bytesOf } from "./log.js";
import type { Progress } from "./progress.js";
import { handleReadAnswer } from "./reads.js";
import type { RaftState } from "./state.js";
import {
  type Entry,
  type MessageOf,
  type NodeId,
  nobody,
  type Outcome,
  type Proposal,
  RaftInvariantError,
} from "./types.js";

/** All or none. Whether membership changes among them are valid is for the caller to know. */
export function appendProposals(r: RaftState, proposals: readonly Proposal[]): Outcome {
  if (!r.uncommitted.hasRoomFor(bytesOf(proposals))) return "too-much-pending";
  let index = r.log.lastIndex;
  for (const { type, data } of proposals) {
    index++;
    const entry: Entry = { term: r.term, index, type, data };
    r.log.append(entry);
    r.uncommitted.add(index, data.length);
  }
  r.appendsWanted = true;
  return undefined;
}

/** What the followers miss of entries and commit, all that came since in as few messages as possible. */
export function flushAppends(r: RaftState): void {
  if (!r.appendsWanted) return;
  r.appendsWanted = false;
  if (r.role !== "leader") return;
  const last = r.log.lastIndex;
  for (const [to, progress] of r.tracker.progress) {
    if (to === r.id) continue;
    let bump = progress.canBumpCommit(r.log.committed);
    while ((bump || progress.next <= last) && sendAppend(r, to, progress, bump)) bump = false;
  }
}

/** Whether something was sent: entries, a snapshot, or nothing but the commit where `evenEmpty`. */
export function sendAppend(r: RaftState, to: NodeId, progress: Progress, evenEmpty: boolean): boolean {
  if (progress.isPaused) return false;
  const prevIndex = progress.next - 1;
  const prevTerm = r.log.term(prevIndex);
  if (prevTerm === undefined) return sendSnapshot(r, to, progress);
  let entries: readonly Entry[] | undefined = [];
  // When as much is under way as may be, only an empty MsgApp asks how far it came: were all of it lost, nothing else
  // would ever be sent.
  if (progress.state !== "replicate" || !progress.inflights.full) {
    entries = r.log.entries(progress.next, r.log.lastIndex + 1, r.settings.maxSizePerMsg);
    if (entries === undefined) return sendSnapshot(r, to, progress);
  }
  if (entries.length === 0 && !evenEmpty) return false;
  const commit = r.log.committed;
  r.send({ type: "MsgApp", from: r.id, to, term: r.term, prevIndex, prevTerm, commit, entries });
  progress.sent(entries.length, bytesOf(entries));
  progress.sentCommit = Math.max(progress.sentCommit, Math.min(commit, progress.next - 1));
  return true;
}

function sendSnapshot(r: RaftState, to: NodeId, progress: Progress): boolean {
  // A snapshot is big: it is not sent where nobody listens.
  if (!progress.recentActive) return false;
  const snapshot = r.settings.storage.snapshot();
  if (snapshot === undefined || snapshot.index <= progress.match) return false;
  r.settings.log.info({ id: r.id, to, index: snapshot.index }, "sends a snapshot");
  progress.becomeSnapshot(snapshot.index);
  r.send({ type: "MsgSnap", from: r.id, to, term: r.term, snapshot });
  return true;
}

/** Counts what a quorum has, of entries of this term only (paper §5.4.2, figure 8). Whether the commit moved. */
export function maybeCommit(r: RaftState): boolean {
  const index = r.tracker.committed();
  if (index <= r.log.committed || !r.log.matches(index, r.term)) return false;
  r.log.commitTo(index);
  r.uncommitted.committed(index);
  r.appendsWanted = true;
  return true;
}

/** What this leader appended is durable here: that is its own acknowledgement. */
export function acknowledgeSelf(r: RaftState): void {
  const own = r.tracker.progress.get(r.id);
  if (own === undefined) return;
  if (own.acknowledged(r.log.stableIndex)) maybeCommit(r);
}

export function handleAppResp(r: RaftState, m: MessageOf<"MsgAppResp">, progress: Progress): void {
  progress.recentActive = true;
  if (m.reject) {
    handleRefusal(r, m, progress);
    return;
  }
  if (m.index > r.log.lastIndex) {
    throw new RaftInvariantError(`${m.from} acknowledges ${m.index}, but the leader's log ends at ${r.log.lastIndex}`);
  }
  const news = progress.acknowledged(m.index);
  if (!news && !(progress.match === m.index && progress.state === "probe")) return;
  if (progress.state === "probe") {
    progress.becomeReplicate();
  } else if (progress.state === "snapshot") {
    // It does not matter which snapshot it has, or how it came to it, if the log goes on from there.
    if (progress.match + 1 >= r.log.firstIndex) progress.becomeReplicate();
  } else {
    progress.inflights.freeTo(m.index);
  }
  maybeCommit(r);
  r.appendsWanted = true;
  if (m.from === r.leadTransferee && progress.match === r.log.lastIndex) sendTimeoutNow(r, m.from);
}

function handleRefusal(r: RaftState, m: MessageOf<"MsgAppResp">, progress: Progress): void {
  // At and above the hint the follower's terms are at least hintTerm, and below it at most: wherever this log has a larger
  // term than that up to the hint, the two cannot meet.
  const hint = m.hintTerm > 0 ? r.log.findConflictByTerm(m.hintIndex, m.hintTerm).index : m.hintIndex;
  if (!progress.refused(m.index, hint)) return;
  if (progress.state === "replicate") progress.becomeProbe();
  sendAppend(r, m.from, progress, true);
}

export function handleHeartbeatResp(r: RaftState, m: MessageOf<"MsgHeartbeatResp">, progress: Progress): void {
  progress.recentActive = true;
  progress.paused = false;
  // Empty when as much as may be is under way, or when it is only to find out that the follower has all.
  if (progress.match < r.log.lastIndex || progress.state === "probe") sendAppend(r, m.from, progress, true);
  handleReadAnswer(r, m);
}

export function reportUnreachable(r: RaftState, id: NodeId): void {
  const progress = r.role === "leader" && id !== r.id ? r.tracker.progress.get(id) : undefined;
  // Messages that were sent ahead are probably lost.
  if (progress?.state === "replicate") progress.becomeProbe();
}

export function reportSnapshot(r: RaftState, id: NodeId, ok: boolean): void {
  const progress = r.role === "leader" ? r.tracker.progress.get(id) : undefined;
  if (progress?.state !== "snapshot") return;
  if (!ok) progress.pendingSnapshot = 0;
  progress.becomeProbe();
  // Its acknowledgement, or the answer to the next heartbeat, goes on.
  progress.paused = true;
}

export function transferLeader(r: RaftState, from: NodeId, to: NodeId): Outcome {
  if (r.role !== "leader") {
    if (r.lead === nobody) return "no-leader";
    if (from !== r.id) return "not-leader";
    r.send({ type: "MsgTransferLeader", from: r.id, to: r.lead, term: r.term, transferee: to });
    return undefined;
  }
  const progress = r.tracker.progress.get(to);
  if (progress === undefined) return "not-member";
  if (progress.isLearner) return "not-promotable";
  if (to === r.leadTransferee) return undefined;
  r.leadTransferee = nobody;
  if (to === r.id) return undefined;
  r.settings.log.info({ id: r.id, term: r.term, to }, "hands leadership over");
  // It has an election timeout to come to its end.
  r.electionElapsed = 0;
  r.leadTransferee = to;
  if (progress.match === r.log.lastIndex) sendTimeoutNow(r, to);
  else sendAppend(r, to, progress, true);
  return undefined;
}

function sendTimeoutNow(r: RaftState, to: NodeId): void {
  r.leaseGivenAway = true;
  r.send({ type: "MsgTimeoutNow", from: r.id, to, term: r.term });
}
