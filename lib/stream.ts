// Bounded streams: a producer that never waits, a reader that may be slow. At the limit the stream ends with
// ResyncRequired, and the reader starts again from the whole state: memory stays bounded and nothing is lost silently.

import { ClusterError } from "./errors.js";

export class BoundedStream<T> implements AsyncIterableIterator<T> {
  readonly #name: string;
  readonly #capacity: number;
  #items: T[] = [];
  #waiting: { resolve: (result: IteratorResult<T>) => void; reject: (error: unknown) => void } | undefined;
  #ended = false;
  #error: unknown;
  #onEnd: (() => void) | undefined;

  /** `onEnd` runs once, whoever ends the stream: the reader by leaving its loop, the writer, or the limit. */
  constructor(name: string, capacity: number, onEnd?: () => void) {
    this.#name = name;
    this.#capacity = capacity;
    this.#onEnd = onEnd;
  }

  /** Returns false when the stream has ended, by this very push if it was one too many. */
  push(item: T): boolean {
    if (this.#ended) return false;
    if (this.#waiting !== undefined) {
      const { resolve } = this.#waiting;
      this.#waiting = undefined;
      resolve({ done: false, value: item });
      return true;
    }
    if (this.#items.length >= this.#capacity) {
      this.#items = [];
      this.end(
        new ClusterError("resync_required", `${this.#name}: the reader fell more than ${this.#capacity} items behind`),
      );
      return false;
    }
    this.#items.push(item);
    return true;
  }

  /** What was pushed before is still read; then the reader's loop ends, or throws `error`. */
  end(error?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting !== undefined) {
      if (error === undefined) waiting.resolve({ done: true, value: undefined });
      else waiting.reject(error);
    }
    this.#onEnd?.();
    this.#onEnd = undefined;
  }

  next(): Promise<IteratorResult<T>> {
    const item = this.#items.shift();
    if (item !== undefined) return Promise.resolve({ done: false, value: item });
    if (this.#ended) {
      const error = this.#error;
      this.#error = undefined;
      return error === undefined ? Promise.resolve({ done: true, value: undefined }) : Promise.reject(error);
    }
    if (this.#waiting !== undefined) throw new Error(`${this.#name}: two readers at once`);
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  return(): Promise<IteratorResult<T>> {
    this.#items = [];
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** Keeps only the newest value: for readers that want the state and not its history. */
export class LatestStream<T> {
  readonly #stream: BoundedStream<true>;
  #latest: { value: T } | undefined;

  constructor(name: string, onEnd?: () => void) {
    this.#stream = new BoundedStream(name, 1, onEnd);
  }

  push(value: T): void {
    const unread = this.#latest !== undefined;
    this.#latest = { value };
    if (!unread) this.#stream.push(true);
  }

  end(error?: unknown): void {
    this.#stream.end(error);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for await (const _ of this.#stream) {
      const latest = this.#latest;
      this.#latest = undefined;
      if (latest !== undefined) yield latest.value;
    }
  }
}
