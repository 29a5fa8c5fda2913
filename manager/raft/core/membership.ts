// Proposals, with the rules for those that change who takes part, and the change itself.

import { changed } from "./changer.js";
import { leaveJoint, encodeConfChange, parseConfChange } from "./conf-change.js";
import { bytesOf } from "./log.js";
import { serveConfirmed } from "./reads.js";
import { appendProposals, maybeCommit } from "./replication.js";
import type { RaftState } from "./state.js";
import {
  type ConfChange,
  type ConfState,
  nobody,
  type NodeId,
  type Outcome,
  type Proposal,
  RaftInvariantError,
} from "./types.js";

const emptyEntry: Proposal = { type: "normal", data: new Uint8Array(0) };

export function propose(r: RaftState, from: NodeId, proposals: readonly Proposal[]): Outcome {
  if (proposals.length === 0) return undefined;
  if (r.role !== "leader") return forward(r, from, proposals);
  if (!r.tracker.progress.has(r.id)) return "not-member";
  if (r.leadTransferee !== nobody) return "transferring";
  let checked = proposals;
  const pendingBefore = r.pendingConfIndex;
  for (let i = 0; i < proposals.length; i++) {
    const proposal = proposals[i];
    if (proposal?.type !== "conf-change") continue;
    const refusal = checkConfChange(r, proposal.data);
    if (refusal === undefined) {
      r.pendingConfIndex = r.log.lastIndex + 1 + i;
      continue;
    }
    if (from === r.id) {
      r.pendingConfIndex = pendingBefore;
      return refusal;
    }
    // Who forwarded it gets no answer; what else came with it is good.
    r.settings.log.info({ id: r.id, from, refusal }, "a forwarded membership change is left out");
    if (checked === proposals) checked = proposals.slice();
    (checked as Proposal[])[i] = emptyEntry;
  }
  const outcome = appendProposals(r, checked);
  if (outcome !== undefined) r.pendingConfIndex = pendingBefore;
  return outcome;
}

function forward(r: RaftState, from: NodeId, proposals: readonly Proposal[]): Outcome {
  if (r.lead === nobody) return "no-leader";
  // Only the proposer's own node forwards: two nodes that take each other for the leader would play ping-pong.
  if (from !== r.id || r.settings.disableForwarding) return "not-leader";
  const bytes = bytesOf(proposals);
  if (r.forwardedBytes > 0 && r.forwardedBytes + bytes > r.settings.maxUncommittedSize) return "too-much-pending";
  r.forwardedBytes += bytes;
  r.send({ type: "MsgProp", from: r.id, to: r.lead, term: 0, entries: proposals });
  return undefined;
}

/**
 * One change at a time: none while another may be in what is not applied, and none before an entry of this term is
 * committed, or two leaders could each count by a configuration of their own (Ongaro, raft-dev, 2015).
 */
function checkConfChange(r: RaftState, data: Uint8Array): Outcome {
  const change = parseConfChange(data);
  if (change === undefined) return "change-invalid";
  if (r.pendingConfIndex > r.log.applied || !r.committedInTerm) return "change-pending";
  return "invalid" in changed(r.tracker.conf, change) ? "change-invalid" : undefined;
}

/** A joint configuration that is to be left by itself is left by its leader once it is in force. */
export function leaveJointIfDue(r: RaftState): void {
  if (r.role !== "leader" || !r.tracker.conf.autoLeave || r.log.applied < r.pendingConfIndex) return;
  const refusal = propose(r, r.id, [{ type: "conf-change", data: encodeConfChange(leaveJoint) }]);
  // Tried again at the next tick: leadership may be about to be handed over, or nothing of this term be committed yet.
  if (refusal !== undefined) r.settings.log.debug({ id: r.id, refusal }, "the joint configuration is not left yet");
}

/** The entry at `index`, if given, is being applied. What a snapshot already brought changes nothing more. */
export function applyConfChange(r: RaftState, change: ConfChange, index: number | undefined): ConfState {
  if (index !== undefined && index <= r.restoredIndex) return r.tracker.conf;
  const conf = changed(r.tracker.conf, change);
  if ("invalid" in conf) {
    throw new RaftInvariantError(
      `a committed membership change cannot be made: ${conf.invalid} (of ${JSON.stringify(r.tracker.conf)})`,
    );
  }
  r.tracker.switchTo(conf, r.log.lastIndex);
  r.settings.log.info({ id: r.id, conf }, "the membership changed");
  if (r.role !== "leader") return conf;
  const own = r.tracker.progress.get(r.id);
  if ((own === undefined || own.isLearner) && r.settings.stepDownOnRemoval) {
    r.becomeFollower(r.term, nobody);
    return conf;
  }
  // A smaller quorum may have more; who is new has everything to hear.
  maybeCommit(r);
  r.appendsWanted = true;
  serveConfirmed(r);
  if (r.leadTransferee !== nobody && !r.tracker.voters.includes(r.leadTransferee)) r.leadTransferee = nobody;
  return conf;
}

/**
 * The application does not make the change whose entry is being applied. It can only be the one that this leader let in
 * itself if that is all that may be pending.
 */
export function rejectConfChange(r: RaftState): void {
  if (r.role !== "leader" || r.pendingConfIndex <= r.termStart || r.pendingConfIndex > r.log.applying) return;
  r.pendingConfIndex = 0;
}
