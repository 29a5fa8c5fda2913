// What waits to be sent to one peer, bounded by count and bytes. What keeps the peace goes first: a heartbeat behind
// megabytes of log would be late, and late heartbeats make elections.

import type { Message } from "raft-ts";
import { type Encoded, encode } from "./frame.js";

export interface QueueLimits {
  /** Messages that wait. */
  messagesMax: number;
  /** Their bytes. The first message is always taken. */
  bytesMax: number;
}

export class SendQueue {
  readonly #limits: QueueLimits;
  #urgent: Encoded[] = [];
  #bulk: Encoded[] = [];
  #bytes = 0;

  constructor(limits: QueueLimits) {
    this.#limits = limits;
  }

  get length(): number {
    return this.#urgent.length + this.#bulk.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get hasUrgent(): boolean {
    return this.#urgent.length > 0;
  }

  /** False when it did not fit and is lost: Raft repeats what matters. */
  push(message: Message): boolean {
    if (this.length >= this.#limits.messagesMax) return false;
    const encoded = encode(message);
    if (this.#bytes > 0 && this.#bytes + encoded.bytes > this.#limits.bytesMax) return false;
    this.#bytes += encoded.bytes;
    // Answers of a follower are small and in order; only what carries data can be long.
    if (message.type === "MsgApp" || message.type === "MsgProp") this.#bulk.push(encoded);
    else this.#urgent.push(encoded);
    return true;
  }

  /** The next messages for one frame: all that is urgent, then in order as much as fits, at least one. */
  take(frameBytesMax: number, urgentOnly: boolean): Encoded[] {
    const taken = this.#urgent;
    this.#urgent = [];
    let bytes = 0;
    for (const message of taken) bytes += message.bytes;
    let count = 0;
    const countMax = urgentOnly ? 0 : this.#bulk.length;
    while (count < countMax) {
      const next = this.#bulk[count];
      if (next === undefined || (taken.length + count > 0 && bytes + next.bytes > frameBytesMax)) break;
      bytes += next.bytes;
      count += 1;
    }
    if (count > 0) taken.push(...this.#bulk.splice(0, count));
    this.#bytes -= bytes;
    return taken;
  }

  clear(): void {
    this.#urgent = [];
    this.#bulk = [];
    this.#bytes = 0;
  }
}
