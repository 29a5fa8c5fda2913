// Reads that are to see everything committed before them. All that wait when a round begins share its ReadIndex; who
// comes during a round joins the next, for the round may have been confirmed before he came.

import type { NodeId, ReadState } from "../core/mod.js";
import { RaftError } from "./api.js";

/** A read that no quorum confirms fails after this. */
export const readTimeoutMs = 5_000;

/** Reads that wait; beyond it they are refused, "busy". */
export const readsMax = 100_000;

interface Reader {
  deadline: number;
  resolve(): void;
  reject(error: unknown): void;
  /** Takes the listener off the caller's signal. */
  release(): void;
}

interface Round {
  readers: Set<Reader>;
  /** Those of its tries. Each began after the readers came, so any of them may answer. */
  contexts: Set<number>;
  triedAt: number;
}

export interface ReadsOptions {
  monotonic(): number;
  /** Between two tries of a round. */
  retryMs: number;
  /** Where contexts begin: no earlier life of this node may have used the same. */
  firstContext: number;
  /** Asks for an answer to a fresh context. */
  readIndex(context: number): void;
  leader(): NodeId;
}

export class Reads {
  readonly #options: ReadsOptions;
  #context: number;
  #round: Round | undefined;
  #next = new Set<Reader>();

  constructor(options: ReadsOptions) {
    this.#options = options;
    this.#context = options.firstContext;
  }

  /** Whether a round should begin at the turn's end. */
  get due(): boolean {
    return this.#round === undefined && this.#next.size > 0;
  }

  join(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason);
        return;
      }
      if (this.#next.size + (this.#round?.readers.size ?? 0) >= readsMax) {
        reject(new RaftError("busy", `${readsMax} reads wait for their confirmation; try again later`));
        return;
      }
      const aborted = (): void => {
        this.#drop(reader);
        reject(signal?.reason);
      };
      const reader: Reader = {
        deadline: this.#options.monotonic() + readTimeoutMs,
        resolve,
        reject,
        release: () => signal?.removeEventListener("abort", aborted),
      };
      signal?.addEventListener("abort", aborted, { once: true });
      this.#next.add(reader);
    });
  }

  /** Begins a round if one is due. */
  begin(): void {
    if (this.due) {
      this.#round = { readers: this.#next, contexts: new Set(), triedAt: 0 };
      this.#next = new Set();
      this.#try(this.#round);
    }
  }

  /** Asks again at once: a new leader knows nothing of what was asked before. */
  ask(): void {
    if (this.#round !== undefined) {
      this.#try(this.#round);
    }
  }

  /** Everything up to these is applied. */
  readable(reads: readonly ReadState[]): void {
    const round = this.#round;
    if (round !== undefined && reads.some(({ context }) => round.contexts.has(context))) {
      this.#round = undefined;
      for (const reader of round.readers) {
        reader.release();
        reader.resolve();
      }
    }
  }

  /** Tries again what waits for long, and ends what waits too long. */
  tick(): void {
    const now = this.#options.monotonic();
    const round = this.#round;
    // In the order of their coming, so the first that has time left ends the search.
    for (const reader of this.#all()) {
      if (reader.deadline > now) {
        break;
      }
      this.#drop(reader);
      const lead = this.#options.leader();
      reader.reject(
        new RaftError(
          "no-quorum",
          lead === 0
            ? `no leader is known, for ${readTimeoutMs} ms: most members must run and reach each other`
            : `no quorum confirmed the read within ${readTimeoutMs} ms; the leader was last known to be ${lead}`,
          lead,
        ),
      );
    }
    if (round !== undefined && round.readers.size === 0) {
      this.#round = undefined;
    } else if (round !== undefined && now - round.triedAt >= this.#options.retryMs) {
      this.#try(round);
    }
  }

  close(error: () => RaftError): void {
    for (const reader of this.#all()) {
      reader.release();
      reader.reject(error());
    }
    this.#round = undefined;
    this.#next.clear();
  }

  *#all(): Generator<Reader> {
    yield* this.#round?.readers ?? [];
    yield* this.#next;
  }

  #try(round: Round): void {
    round.triedAt = this.#options.monotonic();
    const context = this.#context++;
    round.contexts.add(context);
    this.#options.readIndex(context);
  }

  #drop(reader: Reader): void {
    reader.release();
    this.#next.delete(reader);
    this.#round?.readers.delete(reader);
  }
}
