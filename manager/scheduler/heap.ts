// A binary heap: the least of many, again and again, for the cost of a logarithm.

export class Heap<T> {
  readonly #items: T[];
  readonly #less: (a: T, b: T) => boolean;

  constructor(items: T[], less: (a: T, b: T) => boolean) {
    this.#items = items;
    this.#less = less;
    for (let i = (items.length >> 1) - 1; i >= 0; i -= 1) this.#down(i);
  }

  get size(): number {
    return this.#items.length;
  }

  peek(): T | undefined {
    return this.#items[0];
  }

  pop(): T | undefined {
    const items = this.#items;
    const top = items[0];
    const last = items.pop();
    if (last !== undefined && items.length > 0) {
      items[0] = last;
      this.#down(0);
    }
    return top;
  }

  push(item: T): void {
    this.#items.push(item);
    this.#up(this.#items.length - 1, item);
  }

  /** To be called when what `item` is compared by has changed; without one, the first. */
  settle(item: T | undefined = this.#items[0]): void {
    if (item === undefined) return;
    const at = this.#indexOf(item);
    if (!this.#up(at, item)) this.#down(at);
  }

  remove(item: T): void {
    const items = this.#items;
    const at = this.#indexOf(item);
    const last = items.pop();
    if (last === undefined || at === items.length) return;
    items[at] = last;
    this.settle(last);
  }

  /** Nearly always it is the first. */
  #indexOf(item: T): number {
    const at = this.#items.indexOf(item);
    if (at < 0) throw new Error("the heap does not hold the item");
    return at;
  }

  /** Whether it moved. */
  #up(from: number, item: T): boolean {
    const items = this.#items;
    let i = from;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      const above = items[parent];
      if (above === undefined || !this.#less(item, above)) break;
      items[i] = above;
      i = parent;
    }
    items[i] = item;
    return i !== from;
  }

  #down(from: number): void {
    const items = this.#items;
    const item = items[from];
    if (item === undefined) return;
    let i = from;
    for (;;) {
      let child = 2 * i + 1;
      let least = items[child];
      if (least === undefined) break;
      const right = items[child + 1];
      if (right !== undefined && this.#less(right, least)) {
        least = right;
        child += 1;
      }
      if (!this.#less(least, item)) break;
      items[i] = least;
      i = child;
    }
    items[i] = item;
  }
}
