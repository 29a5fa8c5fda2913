// How messages, entries and configurations are printed: one short line each, terms before indexes as in "2/14".

import type { ConfChange, ConfState, Entry, HardState, Message, NodeId, Proposal } from "../core/mod.js";
import { decodeConfChange } from "../core/mod.js";

const decoder = new TextDecoder();
const charsMax = 24;

export function dataText(data: Uint8Array): string {
  const text = decoder.decode(data);
  return text.length <= charsMax ? `"${text}"` : `"${text.slice(0, 8)}…" ${data.length} bytes`;
}

export function changeText(change: ConfChange): string {
  const signs = { "add-voter": "v", "add-learner": "l", remove: "r" } as const;
  const changes = change.changes.map(({ type, id }) => signs[type] + id).join(" ");
  const how = change.transition === "auto" ? "" : ` ${change.transition.replace("joint-", "")}`;
  return `conf(${changes === "" ? "leave" : changes + how})`;
}

function contentText(entry: Proposal): string {
  return entry.type === "normal" ? dataText(entry.data) : changeText(decodeConfChange(entry.data));
}

export function entryText(entry: Entry): string {
  return `${entry.term}/${entry.index} ${contentText(entry)}`;
}

export function idsText(ids: readonly NodeId[]): string {
  return `(${ids.join(",")})`;
}

export function confText(conf: ConfState): string {
  const parts = [`voters=${idsText(conf.voters)}`];
  if (conf.votersOutgoing.length > 0) parts.push(`outgoing=${idsText(conf.votersOutgoing)}`);
  if (conf.learners.length > 0) parts.push(`learners=${idsText(conf.learners)}`);
  if (conf.learnersNext.length > 0) parts.push(`next=${idsText(conf.learnersNext)}`);
  if (conf.autoLeave) parts.push("auto-leave");
  return parts.join(" ");
}

export function hardText(hard: HardState): string {
  return `term=${hard.term} vote=${hard.vote} commit=${hard.commit}`;
}

export function messageText(m: Message): string {
  return `${m.from}->${m.to} ${m.type}${m.term === 0 ? "" : ` term=${m.term}`}${bodyText(m)}`;
}

function bodyText(m: Message): string {
  switch (m.type) {
    case "MsgApp": {
      const entries = m.entries.length === 0 ? "" : ` [${m.entries.map(entryText).join(", ")}]`;
      return ` prev=${m.prevTerm}/${m.prevIndex} commit=${m.commit}${entries}`;
    }
    case "MsgAppResp":
      return m.reject ? ` refuses=${m.index} hint=${m.hintTerm}/${m.hintIndex}` : ` index=${m.index}`;
    case "MsgVote":
    case "MsgPreVote":
      return ` last=${m.lastTerm}/${m.lastIndex}${m.force ? " force" : ""}`;
    case "MsgVoteResp":
    case "MsgPreVoteResp":
      return m.reject ? " no" : " yes";
    case "MsgHeartbeat":
      return ` commit=${m.commit}${m.readId === 0 ? "" : ` read=${m.readId}`}`;
    case "MsgHeartbeatResp":
      return m.readId === 0 ? "" : ` read=${m.readId}`;
    case "MsgSnap":
      return ` at=${m.snapshot.term}/${m.snapshot.index} ${confText(m.snapshot.confState)}`;
    case "MsgProp":
      return ` [${m.entries.map(contentText).join(", ")}]`;
    case "MsgReadIndex":
      return ` context=${m.context}`;
    case "MsgReadIndexResp":
      return ` context=${m.context} index=${m.index}`;
    case "MsgTransferLeader":
      return ` transferee=${m.transferee}`;
    case "MsgTimeoutNow":
      return "";
  }
}
