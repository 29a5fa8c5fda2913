// The MsgApps under way to one follower: a ring of their last indexes and sizes, bounded by number and bytes.

/** Indexes rise from the oldest to the newest. */
export class Inflights {
  readonly #countMax: number;
  readonly #bytesMax: number;
  /** Grows by doubling up to `countMax`, so that an idle follower costs next to nothing. */
  #last: Float64Array;
  #size: Float64Array;
  #start = 0;
  #count = 0;
  #bytes = 0;

  constructor(countMax: number, bytesMax: number) {
    this.#countMax = countMax;
    this.#bytesMax = bytesMax;
    const room = Math.min(8, countMax);
    this.#last = new Float64Array(room);
    this.#size = new Float64Array(room);
  }

  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** The last message may have taken the bytes beyond their limit: one message always goes. */
  get full(): boolean {
    return this.#count >= this.#countMax || this.#bytes >= this.#bytesMax;
  }

  /** `last` is the index of the message's last entry. Only when not full. */
  add(last: number, bytes: number): void {
    if (this.#count === this.#last.length) this.#grow();
    const at = (this.#start + this.#count) % this.#last.length;
    this.#last[at] = last;
    this.#size[at] = bytes;
    this.#count++;
    this.#bytes += bytes;
  }

  /** Messages with a last index up to `index` have arrived. */
  freeTo(index: number): void {
    while (this.#count > 0 && (this.#last[this.#start] ?? 0) <= index) {
      this.#bytes -= this.#size[this.#start] ?? 0;
      this.#start = (this.#start + 1) % this.#last.length;
      this.#count--;
    }
  }

  reset(): void {
    this.#start = 0;
    this.#count = 0;
    this.#bytes = 0;
  }

  #grow(): void {
    const room = Math.min(Math.max(1, this.#last.length * 2), this.#countMax);
    const last = new Float64Array(room);
    const size = new Float64Array(room);
    for (let i = 0; i < this.#count; i++) {
      const from = (this.#start + i) % this.#last.length;
      last[i] = this.#last[from] ?? 0;
      size[i] = this.#size[from] ?? 0;
    }
    this.#last = last;
    this.#size = size;
    this.#start = 0;
  }
}
