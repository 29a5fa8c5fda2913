// A lifetime owns what must end together: sockets, timers, streams, loops. Node 20 has no AsyncDisposableStack.

import { setMaxListeners } from "node:events";
import { messageOf } from "./errors.js";

/**
 * Ends its parts in reverse order of `use`. Its signal aborts first, so that loops stop before what they work on is
 * closed. Disposing twice is harmless; the second call waits for the first.
 */
export class Lifetime implements AsyncDisposable {
  readonly #controller = new AbortController();
  readonly #parts: (() => void | Promise<void>)[] = [];
  #ending: Promise<void> | undefined;

  /** A lifetime with a parent also ends when the parent's signal aborts. */
  constructor(parent?: AbortSignal) {
    // Whoever works under this lifetime listens to its signal; more than ten is no leak.
    setMaxListeners(0, this.#controller.signal);
    const end = () => this.#controller.abort(parent?.reason);
    if (parent?.aborted) end();
    else parent?.addEventListener("abort", end, { once: true, signal: this.#controller.signal });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Hands over something that is disposed with this lifetime. */
  use<T extends AsyncDisposable | Disposable>(part: T): T {
    this.#parts.push(async () => {
      if (Symbol.asyncDispose in part) await part[Symbol.asyncDispose]();
      else part[Symbol.dispose]();
    });
    return part;
  }

  /** Hands over what to do at the end. */
  defer(end: () => void | Promise<void>): void {
    this.#parts.push(end);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending ??= this.#end();
    await this.#ending;
  }

  async #end(): Promise<void> {
    this.#controller.abort(new DOMException("the lifetime ended", "AbortError"));
    const failures: unknown[] = [];
    for (let part = this.#parts.pop(); part !== undefined; part = this.#parts.pop()) {
      try {
        await part();
      } catch (failure) {
        failures.push(failure);
      }
    }
    if (failures.length === 1) throw failures[0];
    if (failures.length > 1) throw new AggregateError(failures, failures.map(messageOf).join("; "));
  }
}
