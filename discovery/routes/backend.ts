// Where the connections to one port of one service go. A backend stands as long as the service has the port, so that
// listeners and waiting connections keep it across updates; only its candidates change.

import type { Rng } from "../../lib/mod.js";
import type { EndpointState } from "./endpoint.js";

/** One endpoint as seen from this host. */
export interface Candidate {
  readonly endpoint: EndpointState;
  readonly host: string;
  readonly port: number;
}

export class Backend {
  readonly serviceName: string;
  readonly targetPort: number;
  /** Endpoints that take new connections. */
  #candidates: readonly Candidate[] = [];
  /** When there last was a candidate; -Infinity before the first. */
  #lastReadyMs = Number.NEGATIVE_INFINITY;
  readonly #waiting = new Set<() => void>();

  constructor(serviceName: string, targetPort: number) {
    this.serviceName = serviceName;
    this.targetPort = targetPort;
  }

  get candidates(): readonly Candidate[] {
    return this.#candidates;
  }

  /** How many connections wait for an endpoint. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Milliseconds since there was an endpoint: 0 while there is one, Infinity when there never was. */
  idleMs(nowMs: number): number {
    return this.#candidates.length > 0 ? 0 : nowMs - this.#lastReadyMs;
  }

  replace(candidates: readonly Candidate[], nowMs: number): void {
    if (this.#candidates.length > 0) this.#lastReadyMs = nowMs;
    this.#candidates = candidates;
    if (candidates.length === 0) return;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  /** Calls `wake` once, when there is a candidate again; the returned function cancels. */
  whenReady(wake: () => void): () => void {
    this.#waiting.add(wake);
    return () => this.#waiting.delete(wake);
  }

  /**
   * The better of two random candidates, by connections in flight and recent failures: nearly as even as comparing
   * all, at constant cost (Mitzenmacher, "The power of two choices", 2001). Ejected ones are taken only when all are.
   * `tried` holds those that this connection has already failed on; undefined when none is left.
   */
  pick(nowMs: number, rng: Rng, tried: readonly Candidate[] = []): Candidate | undefined {
    if (tried.length > 0) {
      const left = this.#candidates.filter((candidate) => !tried.some((t) => t.endpoint === candidate.endpoint));
      return best(left, nowMs);
    }
    const count = this.#candidates.length;
    if (count < 2) return this.#candidates[0];
    const first = rng.below(count);
    const skip = rng.below(count - 1);
    const a = this.#candidates[first];
    const b = this.#candidates[skip >= first ? skip + 1 : skip];
    if (a === undefined || b === undefined) throw new Error("a random index was out of range");
    const aOut = a.endpoint.ejected(nowMs);
    const bOut = b.endpoint.ejected(nowMs);
    if (aOut && bOut) return best(this.#candidates, nowMs);
    if (aOut || bOut) return aOut ? b : a;
    return b.endpoint.load(nowMs) < a.endpoint.load(nowMs) ? b : a;
  }
}

/** The least loaded that is not ejected, or of all when all are. */
function best(candidates: readonly Candidate[], nowMs: number): Candidate | undefined {
  const fit = candidates.filter((candidate) => !candidate.endpoint.ejected(nowMs));
  let found: Candidate | undefined;
  for (const candidate of fit.length > 0 ? fit : candidates)
    if (found === undefined || candidate.endpoint.load(nowMs) < found.endpoint.load(nowMs)) found = candidate;
  return found;
}
