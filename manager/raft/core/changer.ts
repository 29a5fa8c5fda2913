// What a membership change makes of a configuration. Model: etcd-io/raft, confchange/confchange.go; rules: dissertation
// §4.1 (one voter at a time) and §4.3 (joint consensus).

import { type ConfChange, type ConfState, type NodeId, RaftInvariantError } from "./types.js";

interface Draft {
  voters: Set<NodeId>;
  votersOutgoing: Set<NodeId>;
  learners: Set<NodeId>;
  learnersNext: Set<NodeId>;
  autoLeave: boolean;
}

/** The configuration after the change, or why it cannot be made. */
export function changed(conf: ConfState, change: ConfChange): ConfState | { invalid: string } {
  const joint = conf.votersOutgoing.length > 0;
  if (change.changes.length === 0) {
    return joint ? leave(conf) : { invalid: "there is no joint configuration to leave" };
  }
  if (joint) return { invalid: "the joint configuration must be left first" };
  const next = draftOf(conf);
  apply(next, change);
  if (next.voters.size === 0) return { invalid: "no voter would be left" };
  if (change.transition === "auto" && differences(conf.voters, next.voters) <= 1) return confStateOf(next);
  // Once more, now with the present voters as the outgoing half: who is demoted stays a voter of it until it is left.
  const entered = draftOf(conf);
  entered.votersOutgoing = new Set(conf.voters);
  entered.autoLeave = change.transition !== "joint-explicit";
  apply(entered, change);
  return confStateOf(entered);
}

function leave(conf: ConfState): ConfState {
  const next = draftOf(conf);
  for (const id of next.learnersNext) next.learners.add(id);
  next.learnersNext.clear();
  next.votersOutgoing.clear();
  next.autoLeave = false;
  return confStateOf(next);
}

function apply(draft: Draft, change: ConfChange): void {
  for (const { type, id } of change.changes) {
    const wasLearner = draft.learners.has(id) || draft.learnersNext.has(id);
    if (type === "add-learner" && wasLearner) continue;
    draft.learners.delete(id);
    draft.learnersNext.delete(id);
    if (type === "add-voter") {
      draft.voters.add(id);
      continue;
    }
    draft.voters.delete(id);
    if (type === "add-learner") (draft.votersOutgoing.has(id) ? draft.learnersNext : draft.learners).add(id);
  }
}

function differences(before: readonly NodeId[], after: ReadonlySet<NodeId>): number {
  const kept = before.filter((id) => after.has(id)).length;
  return before.length - kept + (after.size - kept);
}

/** A configuration that comes from a disk or a snapshot: in order and without doubles, or an error. */
export function checkedConfState(conf: ConfState): ConfState {
  const draft = draftOf(conf);
  const broken = (rule: string): never => {
    throw new RaftInvariantError(`the configuration ${JSON.stringify(conf)} is broken: ${rule}`);
  };
  for (const id of draft.learners) {
    if (draft.voters.has(id) || draft.votersOutgoing.has(id)) broken(`learner ${id} is a voter too`);
  }
  for (const id of draft.learnersNext) {
    if (!draft.votersOutgoing.has(id)) broken(`learnersNext has ${id}, which is no outgoing voter`);
    if (draft.voters.has(id)) broken(`learnersNext has ${id}, which is a voter`);
  }
  if (draft.votersOutgoing.size > 0 && draft.voters.size === 0) broken("it is joint without incoming voters");
  if (draft.votersOutgoing.size === 0 && draft.autoLeave) broken("autoLeave is set and it is not joint");
  return confStateOf(draft);
}

function draftOf(conf: ConfState): Draft {
  return {
    voters: new Set(conf.voters),
    votersOutgoing: new Set(conf.votersOutgoing),
    learners: new Set(conf.learners),
    learnersNext: new Set(conf.learnersNext),
    autoLeave: conf.autoLeave,
  };
}

function confStateOf(draft: Draft): ConfState {
  return {
    voters: ascending(draft.voters),
    votersOutgoing: ascending(draft.votersOutgoing),
    learners: ascending(draft.learners),
    learnersNext: ascending(draft.learnersNext),
    autoLeave: draft.autoLeave,
  };
}

export function ascending(ids: Iterable<NodeId>): NodeId[] {
  return [...new Set(ids)].sort((a, b) => a - b);
}
