// Each message and each tick to where it belongs; first of all the rules about terms.

import { answerVote, handleVoteAnswer, handleVoteRequest, hup, learnCommitted } from "./election.js";
import { acknowledge, handleApp, handleHeartbeat, handleSnap } from "./follower.js";
import { leaveJointIfDue, propose } from "./membership.js";
import { broadcastHeartbeat, readIndex } from "./reads.js";
import { handleAppResp, handleHeartbeatResp, transferLeader } from "./replication.js";
import type { RaftState } from "./state.js";
import { type Message, type MessageOf, nobody, type Outcome, RaftInvariantError } from "./types.js";

export function tick(r: RaftState): void {
  r.ticks++;
  r.electionElapsed++;
  if (r.role === "leader") {
    tickLeader(r);
  } else if (r.electionElapsed >= r.electionTimeout && !r.promotable) {
    // It never campaigns, and must not go on naming a leader that nobody hears any more.
    r.lead = nobody;
  } else if (r.electionElapsed >= r.electionTimeout) {
    r.electionElapsed = 0;
    const refusal = hup(r, r.settings.preVote ? "pre" : "vote");
    if (refusal !== undefined) r.settings.log.debug({ id: r.id, refusal }, "does not campaign");
  }
}

function tickLeader(r: RaftState): void {
  r.heartbeatElapsed++;
  if (r.electionElapsed >= r.settings.electionTick) {
    r.electionElapsed = 0;
    if (r.settings.checkQuorum) checkQuorum(r);
    // Who was to lead did not manage it in its time: this node goes on.
    r.leadTransferee = nobody;
  }
  if (r.role !== "leader" || r.heartbeatElapsed < r.settings.heartbeatTick) return;
  r.heartbeatElapsed = 0;
  broadcastHeartbeat(r);
  leaveJointIfDue(r);
}

function checkQuorum(r: RaftState): void {
  if (!r.tracker.quorumActive(r.id)) {
    r.settings.log.warn({ id: r.id, term: r.term }, "steps down: no quorum was heard for an election timeout");
    r.becomeFollower(r.term, nobody);
    return;
  }
  for (const [id, progress] of r.tracker.progress) if (id !== r.id) progress.recentActive = false;
}

/** What is stale or not for this node is ignored. */
export function step(r: RaftState, m: Message): Outcome {
  if (m.to !== r.id && m.to !== nobody) return undefined;
  // What this node asks of itself, or of its leader; of no term, or of one that does not matter.
  if (m.type === "MsgProp") return propose(r, askerOf(r, m), m.entries);
  if (m.type === "MsgReadIndex") return readIndex(r, askerOf(r, m), m.context);
  if (m.type === "MsgTransferLeader" && askerOf(r, m) === r.id) return transferLeader(r, r.id, m.transferee);
  if (m.from === r.id || m.from === nobody || m.term === 0) return undefined;
  if (m.term > r.term && !enterTerm(r, m)) return undefined;
  if (m.term < r.term) {
    answerLowerTerm(r, m);
    return undefined;
  }
  return handle(r, m);
}

function askerOf(r: RaftState, m: Message): number {
  return m.from === nobody ? r.id : m.from;
}

/** False if the message is to be ignored. */
function enterTerm(r: RaftState, m: Message): boolean {
  if (m.type === "MsgVote" || m.type === "MsgPreVote") {
    if (!m.force && protectsLeader(r)) return false;
    // A pre-vote only asks what would be.
    if (m.type === "MsgVote") r.becomeFollower(m.term, nobody);
  } else if (m.type === "MsgApp" || m.type === "MsgHeartbeat" || m.type === "MsgSnap") {
    r.becomeFollower(m.term, m.from);
  } else if (m.type !== "MsgPreVoteResp" || m.reject) {
    // A pre-vote that is granted is of the term that this node would campaign in; a refusal tells of one that is real.
    r.becomeFollower(m.term, nobody);
  }
  return true;
}

/**
 * Who hears a leader lets nobody disturb it (dissertation §4.2.3). Where leaders read by their lease, who just started
 * may have forgotten one.
 */
function protectsLeader(r: RaftState): boolean {
  const { checkQuorum, electionTick, readOnly } = r.settings;
  if (readOnly === "lease" && r.ticks < electionTick) return true;
  return checkQuorum && r.lead !== nobody && r.electionElapsed < electionTick;
}

function answerLowerTerm(r: RaftState, m: Message): void {
  if (m.type === "MsgApp" || m.type === "MsgHeartbeat") {
    // This node's votes are ignored while that leader is heard by others, and the leader's messages are of the past for
    // this node: only an answer of the higher term frees it.
    if (r.settings.checkQuorum || r.settings.preVote) acknowledge(r, m.from, 0);
  } else if (m.type === "MsgPreVote") {
    // Or a candidate with a lower term and one with a shorter log could wait for each other.
    answerVote(r, m, true);
  } else if (m.type === "MsgPreVoteResp") {
    learnCommitted(r, m);
  }
}

/** Of this term, or a pre-vote or its grant, which are of the next. */
function handle(r: RaftState, m: Exclude<Message, MessageOf<"MsgProp" | "MsgReadIndex">>): Outcome {
  switch (m.type) {
    case "MsgVote":
    case "MsgPreVote":
      handleVoteRequest(r, m);
      return undefined;
    case "MsgVoteResp":
    case "MsgPreVoteResp":
      if (r.tracker.progress.has(m.from)) handleVoteAnswer(r, m);
      return undefined;
    case "MsgApp":
      if (!isSequence(m)) return undefined;
      follow(r, m);
      handleApp(r, m);
      return undefined;
    case "MsgHeartbeat":
      follow(r, m);
      handleHeartbeat(r, m);
      return undefined;
    case "MsgSnap":
      follow(r, m);
      handleSnap(r, m);
      return undefined;
    case "MsgAppResp":
    case "MsgHeartbeatResp": {
      const progress = r.role === "leader" ? r.tracker.progress.get(m.from) : undefined;
      if (progress === undefined) return undefined;
      if (m.type === "MsgAppResp") handleAppResp(r, m, progress);
      else handleHeartbeatResp(r, m, progress);
      return undefined;
    }
    case "MsgReadIndexResp":
      if (r.role === "follower" && m.from === r.lead) r.readStates.push({ context: m.context, index: m.index });
      return undefined;
    case "MsgTransferLeader":
      return r.role === "leader" ? transferLeader(r, m.from, m.transferee) : undefined;
    case "MsgTimeoutNow":
      // Without pre-vote: the leader itself wants it, so nobody is disturbed.
      if (r.role === "follower" && (r.lead === m.from || r.lead === nobody)) return hup(r, "transfer");
      return undefined;
  }
}

/** From the leader of this term, whoever it is; there is only one. */
function follow(r: RaftState, m: MessageOf<"MsgApp" | "MsgHeartbeat" | "MsgSnap">): void {
  if (r.role === "leader" || (r.lead !== nobody && r.lead !== m.from)) {
    throw new RaftInvariantError(`${m.from} leads term ${r.term}, and so does ${r.lead}`);
  }
  if (r.role !== "follower") r.becomeFollower(r.term, m.from);
  r.lead = m.from;
  r.electionElapsed = 0;
}

/** Whether the entries follow each other and the index before them; of no leader otherwise. */
function isSequence({ prevIndex, entries }: MessageOf<"MsgApp">): boolean {
  const first = entries[0];
  const last = entries.at(-1);
  return first === undefined || last === undefined
    ? true
    : first.index === prevIndex + 1 && last.index === prevIndex + entries.length;
}
