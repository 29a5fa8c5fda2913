// A follower's side of the log: what its leader sends.

import type { RaftState } from "./state.js";
import type { MessageOf } from "./types.js";

export function handleApp(r: RaftState, m: MessageOf<"MsgApp">): void {
  const { prevIndex, prevTerm, entries } = m;
  if (prevIndex < r.log.committed) {
    acknowledge(r, m.from, r.log.committed);
    return;
  }
  const last = r.log.maybeAppend(prevIndex, prevTerm, m.commit, entries);
  if (last !== undefined) {
    acknowledge(r, m.from, last);
    return;
  }
  // The leader's terms up to prevIndex are at most prevTerm: where this log has larger ones the two cannot meet.
  const hint = r.log.findConflictByTerm(prevIndex, prevTerm);
  r.send({
    type: "MsgAppResp",
    from: r.id,
    to: m.from,
    term: r.term,
    index: prevIndex,
    reject: true,
    hintIndex: hint.index,
    hintTerm: hint.term,
  });
}

export function acknowledge(r: RaftState, to: number, index: number): void {
  r.send({ type: "MsgAppResp", from: r.id, to, term: r.term, index, reject: false, hintIndex: 0, hintTerm: 0 });
}

export function handleHeartbeat(r: RaftState, m: MessageOf<"MsgHeartbeat">): void {
  r.log.commitTo(m.commit);
  r.send({ type: "MsgHeartbeatResp", from: r.id, to: m.from, term: r.term, readId: m.readId });
}

/** Its contents are there already. What is older than the commit is not taken, and the answer says how far this log is. */
export function handleSnap(r: RaftState, m: MessageOf<"MsgSnap">): void {
  const { snapshot } = m;
  if (snapshot.index > r.log.committed) {
    if (r.log.matches(snapshot.index, snapshot.term)) {
      // The log has all of it and more: it only learns that so much is committed.
      r.log.commitTo(snapshot.index);
    } else {
      r.log.restore(snapshot);
      r.restoredIndex = snapshot.index;
      r.tracker.switchTo(snapshot.confState, r.log.lastIndex);
      r.settings.log.info({ id: r.id, index: snapshot.index }, "takes a snapshot");
    }
  }
  acknowledge(r, m.from, r.log.committed);
}
