// What the parts of one simulation share.

import type { Message } from "../core/mod.js";
import type { Checker } from "./checker.js";
import type { Coverage } from "./coverage.js";
import type { Plan } from "./plan.js";
import type { Rng } from "./rng.js";
import type { Timeline } from "./timeline.js";

export interface World {
  readonly plan: Plan;
  readonly time: Timeline;
  readonly rng: Rng;
  readonly coverage: Coverage;
  readonly checker: Checker;
  readonly events: Events;
  /** Whether the first phase is over: nothing fails any more. */
  healing: boolean;
}

/** Every event goes into one hash, so that two runs of a seed can be compared, and into a trace where one is wanted. */
export class Events {
  count = 0;
  hash = 0x811c_9dc5;
  readonly #time: Timeline;
  readonly #trace: ((line: string) => void) | undefined;

  constructor(time: Timeline, trace?: (line: string) => void) {
    this.#time = time;
    this.#trace = trace;
  }

  /** `text` is made only for a trace. */
  add(kind: number, a: number, b: number, c: number, text: () => string): void {
    this.count += 1;
    let hash = Math.imul(this.hash ^ this.#time.now, 0x0100_0193);
    hash = Math.imul(hash ^ kind, 0x0100_0193);
    hash = Math.imul(hash ^ a, 0x0100_0193);
    hash = Math.imul(hash ^ b, 0x0100_0193);
    this.hash = Math.imul(hash ^ c, 0x0100_0193) >>> 0;
    if (this.#trace !== undefined) this.#trace(`${String(this.#time.now).padStart(6)} ${text()}`);
  }
}

export const eventKind = {
  send: 1,
  deliver: 2,
  drop: 3,
  tick: 4,
  synced: 5,
  start: 6,
  down: 7,
  fault: 8,
  client: 9,
  apply: 10,
  change: 11,
  snapshot: 12,
  refused: 13,
} as const;

export function messageText(m: Message): string {
  const head = `${m.type} ${m.from}→${m.to} term ${m.term}`;
  switch (m.type) {
    case "MsgApp":
      return `${head} after ${m.prevIndex}@${m.prevTerm} commit ${m.commit} entries ${m.entries.map((e) => `${e.index}@${e.term}${e.type === "normal" ? "" : "*"}`).join(" ") || "none"}`;
    case "MsgAppResp":
      return `${head} index ${m.index}${m.reject ? ` refused, hint ${m.hintIndex}@${m.hintTerm}` : ""}`;
    case "MsgVote":
    case "MsgPreVote":
      return `${head} last ${m.lastIndex}@${m.lastTerm}${m.force ? " force" : ""}`;
    case "MsgVoteResp":
    case "MsgPreVoteResp":
      return `${head}${m.reject ? " refused" : " granted"}`;
    case "MsgHeartbeat":
      return `${head} commit ${m.commit} read ${m.readId}`;
    case "MsgHeartbeatResp":
      return `${head} read ${m.readId}`;
    case "MsgSnap":
      return `${head} snapshot ${m.snapshot.index}@${m.snapshot.term}`;
    case "MsgProp":
      return `${head} entries ${m.entries.length}`;
    case "MsgReadIndex":
      return `${head} context ${m.context}`;
    case "MsgReadIndexResp":
      return `${head} context ${m.context} index ${m.index}`;
    case "MsgTransferLeader":
      return `${head} to ${m.transferee}`;
    case "MsgTimeoutNow":
      return head;
  }
}
