// Tells events that a new stream repeats from those that are new. Every manager makes its events itself, from the same
// changes, and numbers and dates them itself: the same event is the same words at about the same time.

import type { Event } from "../../proto/gen/flotilla/objects/v1/objects.js";

/** How far the managers' clocks, and the times at which they learn of a change, may be apart. */
const apartMs = 2000;
/** Of one stream's end: more events than this in so short a time are not told apart. */
const rememberedMax = 10_000;

function keyOf({ kind, action, id, name, message, cause }: Event): string {
  return JSON.stringify([kind, action, id, name, message, cause]);
}

export class SeenEvents {
  #newestMs = 0;
  /** Of the last while, oldest first. */
  #recent: { key: string; atMs: number }[] = [];
  /** What a new stream may repeat: how many times each. */
  #expected = new Map<string, number>();
  #expectedUntilMs = 0;

  /** From when on a new stream should tell; undefined when nothing was seen. What it repeats is known then. */
  resume(): number | undefined {
    if (this.#newestMs === 0) return undefined;
    this.#expected = new Map();
    for (const { key } of this.#recent) this.#expected.set(key, (this.#expected.get(key) ?? 0) + 1);
    this.#expectedUntilMs = this.#newestMs + apartMs;
    return this.#newestMs - apartMs;
  }

  /** True for what was seen before the stream was lost; remembers what was not. */
  repeats(event: Event): boolean {
    const { atMs } = event;
    const key = keyOf(event);
    const left = this.#expected.get(key) ?? 0;
    if (left > 0 && atMs <= this.#expectedUntilMs) {
      this.#expected.set(key, left - 1);
      return true;
    }
    this.#newestMs = Math.max(this.#newestMs, atMs);
    this.#recent.push({ key, atMs });
    // A repeated event may be dated earlier than it was here, and be asked for earlier than it is dated.
    const from = this.#newestMs - 2 * apartMs;
    if (this.#recent.length > rememberedMax || (this.#recent[0]?.atMs ?? from) < from)
      this.#recent = this.#recent.filter((each) => each.atMs >= from).slice(-rememberedMax);
    return false;
  }
}
