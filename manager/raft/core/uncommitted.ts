// How many bytes of a leader's own proposals are not committed, entry by entry.

export class Uncommitted {
  readonly #bytesMax: number;
  #bytes = 0;
  /** Of the entries from index `#first` on; those before `#start` are committed already. */
  #sizes: number[] = [];
  #start = 0;
  #first = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** The first is always taken, so that no single size is impossible; what is empty is never refused. */
  hasRoomFor(bytes: number): boolean {
    return this.#bytes === 0 || bytes === 0 || this.#bytes + bytes <= this.#bytesMax;
  }

  /** Indexes are given one after another. */
  add(index: number, bytes: number): void {
    if (this.#start === this.#sizes.length) {
      this.#sizes = [];
      this.#start = 0;
      this.#first = index;
    }
    this.#sizes.push(bytes);
    this.#bytes += bytes;
  }

  committed(index: number): void {
    const end = Math.min(index - this.#first + 1, this.#sizes.length);
    for (; this.#start < end; this.#start++) this.#bytes -= this.#sizes[this.#start] ?? 0;
    if (this.#start > 1024 && this.#start * 2 > this.#sizes.length) {
      this.#sizes = this.#sizes.slice(this.#start);
      this.#first += this.#start;
      this.#start = 0;
    }
  }

  reset(): void {
    this.#bytes = 0;
    this.#sizes = [];
    this.#start = 0;
  }
}
