import { describe, expect, it } from "vitest";
import { Drains } from "./drains.js";

function drains(): Drains {
  const all = new Drains();
  for (const node of ["a", "b"]) all.setServing(node, true);
  all.setDraining("s1", ["t1", "t2"]);
  return all;
}

describe("Drains", () => {
  it("calls a task drained once, when each serving node has let go of it", () => {
    const all = drains();
    all.report("t1", "a", 0);
    all.report("t1", "b", 2);
    expect(all.settle()).toEqual([]);
    all.report("t1", "b", 0);
    expect(all.settle()).toEqual(["t1"]);
    expect(all.settle()).toEqual([]);
    expect([all.isDrained("t1"), all.isDrained("t2")]).toEqual([true, false]);
  });

  it("waits again for a node that took a connection after it had let go", () => {
    const all = drains();
    all.report("t1", "a", 0);
    all.report("t1", "a", 1);
    all.report("t1", "b", 0);
    expect(all.settle()).toEqual([]);
  });

  it("waits for lost nodes no longer, and for nodes that said something before they were lost neither", () => {
    const all = drains();
    all.setServing("c", true);
    all.report("t1", "a", 0);
    all.report("t1", "c", 0);
    all.setServing("c", false);
    expect(all.settle()).toEqual([]);
    all.setServing("b", false);
    expect(all.settle()).toEqual(["t1"]);
  });

  it("knows nothing of tasks that are not draining, or no longer", () => {
    const all = drains();
    for (const node of ["a", "b"]) for (const task of ["t1", "t9"]) all.report(task, node, 0);
    all.settle();
    all.setDraining("s1", ["t2"]);
    expect(all.isDrained("t1")).toBe(false);
    all.setDraining("s1", ["t1", "t2"]);
    expect(all.settle()).toEqual([]);
    all.setDraining("s2", ["t9"]);
    expect(all.settle()).toEqual([]);
  });
});
