import * as fc from "fast-check";
import { expect, test } from "vitest";
import { findCycle } from "./depends.js";

const among = (graph: Record<string, string[]>) => (name: string) =>
  Object.hasOwn(graph, name) ? { dependsOn: graph[name] ?? [] } : undefined;

test("a cycle is spelled out from the service that would close it", () => {
  const specOf = among({ b: ["x", "c"], c: ["a"], x: [] });
  expect(findCycle("a", ["b"], specOf)).toEqual(["a", "b", "c", "a"]);
  expect(findCycle("a", ["a"], specOf)).toEqual(["a", "a"]);
});

test("of several the shortest is told", () => {
  expect(findCycle("a", ["b", "d"], among({ b: ["c"], c: ["a"], d: ["a"] }))).toEqual(["a", "d", "a"]);
});

test("what does not lead back is none, be it a diamond, unknown, or another's cycle", () => {
  expect(findCycle("a", ["b", "c"], among({ b: ["d"], c: ["d"], d: [] }))).toBeUndefined();
  expect(findCycle("a", ["nobody"], among({}))).toBeUndefined();
  expect(findCycle("a", ["b"], among({ b: ["c"], c: ["b"] }))).toBeUndefined();
});

test("the service's own new dependencies count, not those it had", () => {
  expect(findCycle("a", ["c"], among({ a: ["b"], b: ["a"], c: [] }))).toBeUndefined();
});

test("a cycle is found exactly when the service reaches itself", () => {
  const names = ["a", "b", "c", "d", "e"];
  fc.assert(
    fc.property(fc.array(fc.subarray(names), { minLength: 5, maxLength: 5 }), (edges) => {
      const graph = Object.fromEntries(names.map((name, i) => [name, edges[i] ?? []]));
      const reached = new Set(graph["a"]);
      for (const name of reached) for (const next of graph[name] ?? []) reached.add(next);
      const cycle = findCycle("a", graph["a"] ?? [], among(graph));
      expect(cycle !== undefined).toBe(reached.has("a"));
      for (const [i, name] of (cycle ?? []).slice(0, -1).entries()) expect(graph[name]).toContain(cycle?.[i + 1]);
    }),
  );
});
