// Randomness as an argument: the system's for production, a seeded one for tests and simulations that replay.

import { randomBytes } from "node:crypto";

export interface Rng {
  /** Uniform in [0, 1). */
  next(): number;
  /** Uniform integer in [0, below). */
  below(below: number): number;
  /** An identifier of 25 characters of [0-9a-z], about 125 random bits: as Swarm's. */
  id(): string;
}

const digits = "0123456789abcdefghijklmnopqrstuvwxyz";
const idLength = 25;

function idFrom(below: (n: number) => number): string {
  let id = "";
  for (let i = 0; i < idLength; i += 1) id += digits[below(digits.length)];
  return id;
}

/** Not for secrets, except `id()`, which draws from the system's cryptographic source. */
export const systemRng: Rng = {
  next: () => Math.random(),
  below: (below) => Math.floor(Math.random() * below),
  id() {
    let id = "";
    while (id.length < idLength) {
      // Bytes of 252 and above would favour the first digits: 252 is the largest multiple of 36 in a byte.
      for (const byte of randomBytes(32)) if (byte < 252 && id.length < idLength) id += digits[byte % 36];
    }
    return id;
  },
};

/** Deterministic: the same seed gives the same sequence. Mulberry32. */
export function seededRng(seed: number): Rng {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
  const below = (n: number) => Math.floor(next() * n);
  return { next, below, id: () => idFrom(below) };
}
