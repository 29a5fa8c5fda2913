// The simulator's only source of chance: sfc32 (Chris Doty-Humphrey's small fast counting generator), 32-bit integers
// only, so that it gives the same sequence on every machine.

export class Rng {
  #a: number;
  #b: number;
  #c: number;
  #counter: number;

  /** `stream` tells generators of one seed apart: what one part draws never shifts what another sees. */
  constructor(seed: number, stream = 0) {
    this.#a = seed | 0;
    this.#b = Math.floor(seed / 0x1_0000_0000) | 0;
    this.#c = Math.imul(stream + 1, 0x9e37_79b9);
    this.#counter = 1;
    for (let i = 0; i < 15; i += 1) this.next();
  }

  /** An integer 0 ≤ r < 2^32. */
  next(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    this.#c |= 0;
    return sum >>> 0;
  }

  /** An integer 0 ≤ r < n. */
  below(n: number): number {
    return Math.floor((this.next() / 0x1_0000_0000) * n);
  }

  /** An integer low ≤ r ≤ high. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  /** True with the probability p. */
  chance(p: number): boolean {
    return p > 0 && this.next() < p * 0x1_0000_0000;
  }

  pick<T>(from: readonly T[]): T {
    const one = from[this.below(from.length)];
    if (one === undefined) throw new RangeError("nothing to pick from");
    return one;
  }
}
