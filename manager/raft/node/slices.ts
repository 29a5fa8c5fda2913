// Long work on the one thread there is, in slices, so that ticks, heartbeats and answers stay punctual.

/** Of work within one turn of the event loop. */
export const sliceMs = 5;

/** Resolves in the next turn of the event loop, after what has arrived meanwhile was looked at. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** What is left of the turn's time for long work, shared by all who ask. */
export class Turn {
  readonly #monotonic: () => number;
  #until: number | undefined;

  constructor(monotonic: () => number) {
    this.#monotonic = monotonic;
  }

  /** Whether the turn's time for long work is used up: go on in the next turn. */
  over(): boolean {
    const now = this.#monotonic();
    if (this.#until === undefined) {
      this.#until = now + sliceMs;
      setImmediate(() => {
        this.#until = undefined;
      });
      return false;
    }
    return now >= this.#until;
  }
}

/** The chunks one after another, with a pause between them whenever the turn's time is used up. */
export async function* inSlices(chunks: Iterable<Uint8Array>, turn: Turn): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) {
    yield chunk;
    if (turn.over()) {
      await nextTurn();
    }
  }
}

/** The chunks, or the signal's reason as soon as it is given: also while one is waited for that never comes. */
export async function* untilAborted(
  chunks: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  signal.throwIfAborted();
  const source = chunks[Symbol.asyncIterator]();
  let abort = (): void => {};
  const aborted = new Promise<undefined>((resolve) => {
    abort = () => resolve(undefined);
  });
  signal.addEventListener("abort", abort, { once: true });
  let ended = false;
  try {
    for (;;) {
      const next = await Promise.race([source.next(), aborted]);
      signal.throwIfAborted();
      if (next === undefined || next.done === true) {
        ended = true;
        return;
      }
      yield next.value;
    }
  } finally {
    signal.removeEventListener("abort", abort);
    if (!ended) {
      // Not waited for: a source that hangs may never answer. How it ends does not matter to who has enough of it.
      Promise.resolve(source.return?.()).catch(() => {});
    }
  }
}
