import { expect, it } from "vitest";
import { addCoverage, covered, noCoverage } from "./coverage.js";
import { Machine } from "./machine.js";
import { planOf, profiles } from "./plan.js";
import { Rng } from "./rng.js";
import { simulate } from "./simulation.js";
import { Timeline } from "./timeline.js";

it("finds nothing in a slice of seeds, and exercises all that it is for", { timeout: 240_000 }, () => {
  const coverage = noCoverage();
  for (let seed = 1; seed <= 200; seed += 1) {
    const result = simulate(seed);
    expect(result.broken, `npm run sim -- --seed ${seed} --trace`).toBeUndefined();
    addCoverage(coverage, result.coverage);
  }
  const missing = covered.filter((name) => coverage[name] === 0);
  expect(missing).toEqual([]);
});

it("holds in every profile", { timeout: 240_000 }, () => {
  for (const profile of profiles)
    for (let seed = 5_000; seed < 5_010; seed += 1) {
      const { broken } = simulate(seed, { profile });
      expect(broken, `npm run sim -- --seed ${seed} --profile ${profile} --trace`).toBeUndefined();
    }
});

it("goes the same way twice, event by event, traced or not", () => {
  for (const seed of [3, 17, 40]) {
    const one: string[] = [];
    const other: string[] = [];
    const first = simulate(seed, { trace: (line) => one.push(line) });
    const second = simulate(seed, { trace: (line) => other.push(line) });
    expect(one.length).toBeGreaterThan(100);
    expect(other).toEqual(one);
    expect(simulate(seed)).toEqual(first);
    expect(second).toEqual(first);
  }
  const hashes = new Set(Array.from({ length: 20 }, (_, i) => simulate(i).hash));
  expect(hashes.size).toBe(20);
});

it("draws plans within their bounds", () => {
  for (let seed = 0; seed < 500; seed += 1) {
    const plan = planOf(seed);
    expect(plan.voters).toBeGreaterThanOrEqual(1);
    expect(plan.voters).toBeLessThanOrEqual(7);
    expect(plan.heartbeatTick).toBeLessThan(plan.electionTick);
  }
});

it("draws evenly, and each stream its own", () => {
  const rng = new Rng(7);
  const counts = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
  for (let i = 0; i < 100_000; i += 1) counts[rng.below(10)]! += 1;
  for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
  expect(new Rng(7, 1).next()).not.toBe(new Rng(7, 2).next());
  expect(new Rng(7, 1).next()).toBe(new Rng(7, 1).next());
  // Seeds beyond 32 bits are seeds of their own.
  expect(new Rng(2 ** 32 + 7).next()).not.toBe(new Rng(7).next());
});

it("does things by their time, and at one time in the order of asking", () => {
  const time = new Timeline();
  const done: string[] = [];
  const rng = new Rng(1);
  const expected: { at: number; order: number }[] = [];
  for (let order = 0; order < 500; order += 1) {
    const at = rng.below(40);
    expected.push({ at, order });
    time.after(at, () => done.push(`${time.now}.${order}`));
  }
  while (time.step(100));
  expected.sort((a, b) => a.at - b.at || a.order - b.order);
  expect(done).toEqual(expected.map(({ at, order }) => `${at}.${order}`));
  time.after(10, () => done.push("later"));
  expect(time.step(time.now + 9)).toBe(false);
});

it("has a machine that takes a retried request once, and snapshots that are whole or not taken", () => {
  const machine = new Machine();
  const request = { client: 1, number: 1, command: { kind: "append" as const, key: "k", value: 5 }, padding: "" };
  machine.apply(request);
  machine.apply(request);
  machine.apply({ ...request, number: 2, command: { kind: "append", key: "k", value: 6 } });
  expect(machine.read("k")).toBe("5,6");
  expect(machine.repeated).toBe(1);
  const bytes = machine.snapshot();
  const again = Machine.restore(bytes)!;
  expect(again.read("k")).toBe("5,6");
  expect(again.has(1, 2)).toBe(true);
  expect(again.has(1, 3)).toBe(false);
  for (let at = 0; at < bytes.length; at += 1) {
    const damaged = bytes.slice();
    damaged[at]! ^= 4;
    expect(Machine.restore(damaged)).toBeUndefined();
    expect(Machine.restore(bytes.subarray(0, at))).toBeUndefined();
  }
});
