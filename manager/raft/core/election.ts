// Who leads: campaigns, votes, and what a new leader begins with. Pre-vote: dissertation §9.6.

import { appendProposals } from "./replication.js";
import type { RaftState } from "./state.js";
import { type MessageOf, nobody, type Outcome, RaftInvariantError } from "./types.js";

const noBytes = new Uint8Array(0);

/** Of the first round, of the real one, or at the wish of the present leader. */
type Campaign = "pre" | "vote" | "transfer";

export function hup(r: RaftState, campaign: Campaign): Outcome {
  if (r.role === "leader") return "not-promotable";
  if (!r.tracker.progress.has(r.id)) return "not-member";
  if (!r.promotable) return "not-promotable";
  // The configuration that counts may be another than the one in force here.
  if (hasUnappliedConfChange(r)) return "not-promotable";
  start(r, campaign);
  return undefined;
}

function hasUnappliedConfChange(r: RaftState): boolean {
  for (let low = r.log.applied + 1; low <= r.log.committed; ) {
    const page = r.log.entries(low, r.log.committed + 1, r.settings.maxCommittedSizePerReady);
    // Compacted: a snapshot took their place, and is not applied yet.
    if (page === undefined || page.length === 0) return true;
    for (const { type } of page) if (type === "conf-change") return true;
    low += page.length;
  }
  return false;
}

function start(r: RaftState, campaign: Campaign): void {
  const pre = campaign === "pre";
  if (pre) {
    // Neither term nor vote change: nothing happened yet.
    r.role = "pre-candidate";
    r.lead = nobody;
    r.tracker.forgetVotes();
    r.drawElectionTimeout();
  } else {
    r.reset(r.term + 1);
    r.role = "candidate";
    r.vote = r.id;
  }
  r.electionElapsed = 0;
  const term = pre ? r.term + 1 : r.term;
  // Without a quorum this goes on for ever: changes of leadership are what the log of an operator is for.
  r.settings.log.debug({ id: r.id, term, campaign }, "campaigns");
  const { lastIndex, lastTerm } = r.log;
  for (const to of r.tracker.voters) {
    if (to === r.id) continue;
    const type = pre ? "MsgPreVote" : "MsgVote";
    r.send({ type, from: r.id, to, term, lastIndex, lastTerm, force: campaign === "transfer" });
  }
  // A real vote of one's own counts once it is durable, like any other: see advance().
  if (!pre) r.selfVoteTerm = r.term;
  else if (r.tracker.voters.includes(r.id)) countVote(r, r.id, true);
}

export function handleVoteRequest(r: RaftState, m: MessageOf<"MsgVote" | "MsgPreVote">): void {
  const pre = m.type === "MsgPreVote";
  const free = r.vote === m.from || (r.vote === nobody && r.lead === nobody) || (pre && m.term > r.term);
  // Learners vote too: one that was promoted may not know it yet, and its vote may be the one that is missing.
  const granted = free && r.log.isUpToDate(m.lastIndex, m.lastTerm);
  // A grant has the request's term: of a pre-vote that is not the voter's own, and the asker ignores lower terms.
  answerVote(r, m, !granted);
  if (granted && !pre) {
    r.electionElapsed = 0;
    r.vote = m.from;
  }
}

export function answerVote(r: RaftState, m: MessageOf<"MsgVote" | "MsgPreVote">, reject: boolean): void {
  const type = m.type === "MsgPreVote" ? "MsgPreVoteResp" : "MsgVoteResp";
  const answer = { type, from: r.id, to: m.from, term: reject ? r.term : m.term, reject } as const;
  const term = r.log.term(r.log.committed);
  if (reject && !r.promotable && r.log.committed > 0 && term !== undefined) {
    r.send({ ...answer, committed: { index: r.log.committed, term } });
  } else r.send(answer);
}

/**
 * A leader that removed itself may be gone before the others know that the change is committed. They then need its
 * vote, which it refuses for the entries that only it has, and it does not campaign: nobody would ever lead. So who
 * cannot campaign says what is committed, and whose log has that entry goes on from there.
 */
export function learnCommitted(r: RaftState, { reject, committed }: MessageOf<"MsgVoteResp" | "MsgPreVoteResp">): void {
  if (!reject || committed === undefined || r.role === "leader" || r.log.pendingSnapshot !== undefined) return;
  if (!r.log.matches(committed.index, committed.term) || !r.log.commitTo(committed.index)) return;
  r.settings.log.info({ id: r.id, index: committed.index }, "learns of a commit from who refused its vote");
  // The configuration it campaigned in may be another one now.
  if (r.role !== "follower" && hasUnappliedConfChange(r)) r.becomeFollower(r.term, nobody);
}

export function handleVoteAnswer(r: RaftState, m: MessageOf<"MsgVoteResp" | "MsgPreVoteResp">): void {
  learnCommitted(r, m);
  const awaited = r.role === "pre-candidate" ? "MsgPreVoteResp" : r.role === "candidate" ? "MsgVoteResp" : undefined;
  if (m.type !== awaited) return;
  // A pre-vote that was granted in an earlier round was for a lower term than this round's.
  if (m.type === "MsgPreVoteResp" && !m.reject && m.term !== r.term + 1) return;
  countVote(r, m.from, !m.reject);
}

/** The vote for oneself is durable. */
export function countSelfVote(r: RaftState, term: number): void {
  if (r.role === "candidate" && r.term === term) countVote(r, r.id, true);
}

function countVote(r: RaftState, from: number, granted: boolean): void {
  const result = r.tracker.vote(from, granted);
  if (result === "lost") r.becomeFollower(r.term, nobody);
  else if (result === "won" && r.role === "pre-candidate") start(r, "vote");
  else if (result === "won") becomeLeader(r);
}

function becomeLeader(r: RaftState): void {
  r.reset(r.term);
  r.role = "leader";
  r.lead = r.id;
  const own = r.tracker.progress.get(r.id);
  if (own === undefined) throw new RaftInvariantError(`${r.id} was elected and is no member`);
  own.recentActive = true;
  own.acknowledged(r.log.stableIndex);
  own.becomeReplicate();
  // There may be a change of the membership anywhere in what is not applied; to look for it is not worth the while.
  r.pendingConfIndex = r.log.lastIndex;
  r.termStart = r.log.lastIndex + 1;
  if (appendProposals(r, [{ type: "normal", data: noBytes }]) !== undefined) {
    throw new RaftInvariantError("the empty entry of a new leader was refused");
  }
  r.settings.log.info({ id: r.id, term: r.term, index: r.termStart }, "leads");
}
