// What happens next: a binary heap of things to do, by time and, within one time, by the order in which they were planned.

interface Planned {
  at: number;
  order: number;
  run: () => void;
}

export class Timeline {
  readonly #heap: Planned[] = [];
  #order = 0;
  /** Time in units; a tick of a node without skew is `unitsPerTick`. */
  now = 0;

  get size(): number {
    return this.#heap.length;
  }

  after(units: number, run: () => void): void {
    const heap = this.#heap;
    const item: Planned = { at: this.now + units, order: this.#order, run };
    this.#order += 1;
    let i = heap.length;
    heap.push(item);
    while (i > 0) {
      const up = (i - 1) >> 1;
      const parent = heap[up];
      if (parent === undefined || !before(item, parent)) break;
      heap[i] = parent;
      i = up;
    }
    heap[i] = item;
  }

  /** Does the next thing; false when there is none at or before `until`. */
  step(until: number): boolean {
    const heap = this.#heap;
    const first = heap[0];
    if (first === undefined || first.at > until) return false;
    const last = heap.pop();
    if (last !== undefined && heap.length > 0) {
      let i = 0;
      for (;;) {
        let down = 2 * i + 1;
        let child = heap[down];
        if (child === undefined) break;
        const right = heap[down + 1];
        if (right !== undefined && before(right, child)) {
          down += 1;
          child = right;
        }
        if (!before(child, last)) break;
        heap[i] = child;
        i = down;
      }
      heap[i] = last;
    }
    this.now = first.at;
    first.run();
    return true;
  }
}

function before(a: Planned, b: Planned): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

export const unitsPerTick = 10;
