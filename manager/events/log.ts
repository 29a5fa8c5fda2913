// Remembers what happened, and tells it to who listens.

import { BoundedStream, type Clock } from "../../lib/mod.js";
import type { Event } from "../../proto/mod.js";
import type { Commit, Store } from "../store/mod.js";
import { describe } from "./describe.js";

/** Events that are remembered, at least; and those that a slow reader may be behind beyond what it asked for. */
const rememberedMax = 1_000;

export class EventLog implements Disposable {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #unsubscribe: () => void;
  readonly #readers = new Set<BoundedStream<Event>>();
  #remembered: Event[] = [];
  #sequence = 0;

  constructor(store: Store, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
    this.#unsubscribe = store.subscribe((commit) => this.#onCommit(commit));
  }

  /** Remembered events since `sinceMs` when it is not 0, then new ones. `resync_required` for a reader too slow. */
  watch(sinceMs: number, signal: AbortSignal): AsyncIterable<Event> {
    const reader: BoundedStream<Event> = new BoundedStream("events", 3 * rememberedMax, () =>
      this.#readers.delete(reader),
    );
    if (sinceMs > 0) for (const event of this.#remembered) if (event.atMs >= sinceMs) reader.push(event);
    this.#readers.add(reader);
    if (signal.aborted) reader.end();
    signal.addEventListener("abort", () => reader.end(), { once: true });
    return reader;
  }

  /** Of one object, in order. */
  remembered(id: string): Event[] {
    return this.#remembered.filter((event) => event.id === id);
  }

  [Symbol.dispose](): void {
    this.#unsubscribe();
    for (const reader of [...this.#readers]) reader.end();
  }

  #onCommit({ changes }: Commit): void {
    const view = this.#store.view();
    for (const change of changes)
      for (const told of describe(view, change)) {
        this.#sequence += 1;
        const event: Event = { ...told, sequence: this.#sequence, atMs: this.#clock.now() };
        this.#remembered.push(event);
        for (const reader of [...this.#readers]) reader.push(event);
      }
    if (this.#remembered.length > 2 * rememberedMax) this.#remembered = this.#remembered.slice(-rememberedMax);
  }
}
