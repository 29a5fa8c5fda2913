// Exponential back-off with jitter, as a pure function of the attempt.

import type { Rng } from "./rng.js";

export interface Backoff {
  firstMs: number;
  maxMs: number;
  /** Share of the delay that is drawn at random, 0..1: 0.5 gives half to whole. */
  jitter: number;
}

/** Milliseconds to wait before attempt number `attempt` (1 is the first retry). */
export function backoffMs(backoff: Backoff, attempt: number, rng: Rng): number {
  // 2^30 is beyond any sensible maximum, and still finite.
  const whole = Math.min(backoff.maxMs, backoff.firstMs * 2 ** Math.min(30, Math.max(0, attempt - 1)));
  return Math.round(whole * (1 - backoff.jitter * rng.next()));
}
