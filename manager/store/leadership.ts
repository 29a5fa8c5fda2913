// What the engines need to know of who leads the managers; manager/consensus knows it.

import { type Clock, ClusterError } from "../../lib/mod.js";

/** The time in which this manager leads. */
export interface Tenure {
  readonly epoch: number;
  readonly term: number;
  /** Aborts as soon as leadership is lost, or may be. */
  readonly signal: AbortSignal;
}

export interface Leadership {
  readonly self: { readonly id: number };
  /** Undefined while there is none, or none is known. */
  leader(): { readonly id: number; readonly address: string } | undefined;
  /** Present from when the first entry of the own term is applied here until leadership is lost. */
  tenure(): Tenure | undefined;
  /** After every change of leader or tenure. Returns how to stop it. */
  onChange(listener: () => void): () => void;
  /** `readable`: although it is not ready for everything, as with a full disk, reads are answered. */
  health(): { ready: boolean; message: string; readable?: boolean };
}

/** Why this manager writes nothing: `not_leader` when another one does, `unavailable` when none is known to. */
export function notLeader(leadership: Leadership): ClusterError {
  const leader = leadership.leader();
  if (leader !== undefined && leader.id !== leadership.self.id)
    return new ClusterError("not_leader", `this manager does not lead; ${leader.address} does`, {
      details: { leader: leader.address },
    });
  const { ready, message } = leadership.health();
  return new ClusterError("unavailable", ready ? "the managers' leadership is changing: try again" : message);
}

/**
 * The tenure. One that has just been elected waits for it, for what earlier leaders left must be applied first; any
 * other is refused at once.
 */
export async function tenureWithin(
  leadership: Leadership,
  clock: Clock,
  budgetMs: number,
  signal: AbortSignal,
): Promise<Tenure> {
  const deadline = clock.monotonic() + budgetMs;
  for (;;) {
    signal.throwIfAborted();
    const tenure = leadership.tenure();
    if (tenure !== undefined) return tenure;
    const left = deadline - clock.monotonic();
    if (leadership.leader()?.id !== leadership.self.id || left <= 0) throw notLeader(leadership);
    await newsOf(leadership, clock, left, signal);
  }
}

/** Resolves after the next change that is told, after `ms`, or when a signal aborts. */
export function newsOf(
  leadership: Pick<Leadership, "onChange"> | undefined,
  clock: Clock,
  ms: number,
  ...signals: readonly (AbortSignal | undefined)[]
): Promise<void> {
  return new Promise((resolve) => {
    const settle = () => {
      cancel();
      unsubscribe?.();
      for (const signal of signals) signal?.removeEventListener("abort", settle);
      resolve();
    };
    const cancel = clock.after(ms, settle);
    const unsubscribe = leadership?.onChange(settle);
    for (const signal of signals) signal?.addEventListener("abort", settle, { once: true });
    if (signals.some((signal) => signal?.aborted)) settle();
  });
}
