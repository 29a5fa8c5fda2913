// Time as an argument: everything that waits or dates takes a Clock, so that tests decide what time it is.
// The idea is Tailscale's tstime and etcd's raft: a core without a clock of its own can be replayed.

import { ClusterError } from "./errors.js";

export interface Clock {
  /** Milliseconds since the Unix epoch; may jump when the host's clock is set. */
  now(): number;
  /** Milliseconds since some fixed moment; never goes backwards. Deadlines and durations use this. */
  monotonic(): number;
  /** Calls `fn` once after `ms`; the returned function cancels it and may be called at any time. */
  after(ms: number, fn: () => void): () => void;
}

/** The longest delay that Node's timers take without firing at once (2^31 - 1 ms). */
const timerMsMax = 2_147_483_647;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, fn) {
    const timer = setTimeout(fn, Math.min(Math.max(0, ms), timerMsMax));
    return () => clearTimeout(timer);
  },
};

/** Resolves after `ms`; rejects with the signal's reason as soon as it aborts. */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const onAbort = () => {
      cancel();
      reject(signal?.reason as Error);
    };
    const cancel = clock.after(ms, () => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** Resolves after `ms`, or as soon as the signal aborts: for loops that look at their signal anyway. */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const end = () => {
      cancel();
      signal.removeEventListener("abort", end);
      resolve();
    };
    const cancel = clock.after(ms, end);
    signal.addEventListener("abort", end, { once: true });
  });
}

/**
 * The result of `work`, or a `deadline_exceeded` error naming `what` after `ms`. The work itself gets a signal that
 * aborts at the deadline and when `signal` does; work that ignores it goes on unobserved, its late error is dropped.
 */
export async function withDeadline<T>(
  clock: Clock,
  ms: number,
  what: string,
  work: (signal: AbortSignal) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  signal?.throwIfAborted();
  const controller = new AbortController();
  return await new Promise<T>((resolve, reject) => {
    const stop = (reason: unknown) => {
      reject(reason);
      controller.abort(reason);
    };
    const onAbort = () => stop(signal?.reason);
    const cancel = clock.after(ms, () =>
      stop(new ClusterError("deadline_exceeded", `${what}: no answer within ${ms} ms`)),
    );
    signal?.addEventListener("abort", onAbort, { once: true });
    work(controller.signal)
      .then(resolve, reject)
      .finally(() => {
        cancel();
        signal?.removeEventListener("abort", onAbort);
      });
  });
}
