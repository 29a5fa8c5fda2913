import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Heap } from "./heap.js";

test("whatever is changed, removed and added, the least comes first", () => {
  const step = fc.record({
    pick: fc.nat(),
    kind: fc.constantFrom("change", "remove", "add", "pop"),
    key: fc.integer({ min: 0, max: 20 }),
  });
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 20 })), fc.array(step), (keys, steps) => {
      const items = keys.map((key) => ({ key }));
      const heap = new Heap([...items], (a, b) => a.key < b.key);
      for (const { pick, kind, key } of steps) {
        const item = items[pick % Math.max(1, items.length)];
        if (kind === "add" || item === undefined) {
          const added = { key };
          items.push(added);
          heap.push(added);
        } else if (kind === "change") {
          item.key = key;
          heap.settle(item);
        } else if (kind === "remove") {
          items.splice(items.indexOf(item), 1);
          heap.remove(item);
        } else {
          const least = heap.pop();
          if (least === undefined) throw new Error("the heap is empty too early");
          expect(least.key).toBe(Math.min(...items.map((one) => one.key)));
          items.splice(items.indexOf(least), 1);
        }
      }
      const rest: number[] = [];
      for (let item = heap.pop(); item !== undefined; item = heap.pop()) rest.push(item.key);
      expect(rest).toEqual(items.map((one) => one.key).sort((a, b) => a - b));
    }),
  );
});
