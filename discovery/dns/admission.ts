// Who may ask, and how much: this host and the containers on its bridges, each within a rate. The resolver must never
// serve the world: an open one is a weapon in others' hands.

import { type Cidr, cidrContains, parseIpv4 } from "../../lib/mod.js";

/** Questions per second that one address may ask on average, and at once. Far above what programs ask. */
const ratePerS = 5_000;
const burst = 10_000;
/** Sources remembered; beyond it all are forgotten, which only ever lets more through. */
const sourcesMax = 4_096;

const loopback: Cidr = { base: 0x7f00_0000, prefix: 8 };

interface Bucket {
  tokens: number;
  atMs: number;
}

export type Admission = "ok" | "stranger" | "too_fast";

export class Gate {
  #own: ReadonlySet<string> = new Set();
  #ranges: readonly Cidr[] = [];
  readonly #buckets = new Map<string, Bucket>();
  readonly #known = new Map<string, boolean>();

  /** This host's addresses, and the ranges of its containers and VIPs. */
  allow(own: Iterable<string>, ranges: readonly Cidr[]): void {
    this.#own = new Set(own);
    this.#ranges = [loopback, ...ranges];
    this.#known.clear();
  }

  admit(source: string, nowMs: number): Admission {
    let known = this.#known.get(source);
    if (known === undefined) {
      const address = parseIpv4(source);
      known =
        this.#own.has(source) || (address !== undefined && this.#ranges.some((range) => cidrContains(range, address)));
      if (this.#known.size >= sourcesMax) this.#known.clear();
      this.#known.set(source, known);
    }
    if (!known) return "stranger";
    // The host itself is not held back.
    if (this.#own.has(source)) return "ok";
    let bucket = this.#buckets.get(source);
    if (bucket === undefined) {
      if (this.#buckets.size >= sourcesMax) this.#buckets.clear();
      bucket = { tokens: burst, atMs: nowMs };
      this.#buckets.set(source, bucket);
    }
    bucket.tokens = Math.min(burst, bucket.tokens + ((nowMs - bucket.atMs) * ratePerS) / 1_000);
    bucket.atMs = nowMs;
    if (bucket.tokens < 1) return "too_fast";
    bucket.tokens -= 1;
    return "ok";
  }
}
