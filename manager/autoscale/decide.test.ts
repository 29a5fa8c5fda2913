import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { AutoscaleSpec, AutoscaleStatus, Task } from "../../proto/mod.js";
import { TaskState } from "../../proto/mod.js";
import { makeTask, readyStatus } from "../../test/kit/objects.js";
import { decide, remember, type Scene, type Use, type Wanted } from "./mod.js";

const nowMs = 10_000_000;
const none = { nanoCpus: 0, memoryBytes: 0, generic: {} };
const spec: AutoscaleSpec = { min: 2, max: 10, cpuPercent: 60 };
/** Long enough for shrinking, and never more was wanted. */
const calm: Wanted[] = [{ atMs: nowMs - 400_000, replicas: 1 }];

function ready(id: string, changes: Partial<Task> = {}): Task {
  return makeTask(id, { status: readyStatus(), readySinceMs: nowMs - 60_000, ...changes });
}

/** One task per entry, which uses so many percent of half a core; undefined: nothing is known of it. */
function scene(percents: readonly (number | undefined)[], changes: Partial<Scene> = {}): Scene {
  const usage = new Map<string, Use>();
  for (const [i, percent] of percents.entries())
    if (percent !== undefined)
      usage.set(`t${i}`, { nanoCpus: percent * 5_000_000, memoryBytes: undefined, requestsMilli: 0 });
  return {
    spec,
    replicas: percents.length,
    reservations: { ...none, nanoCpus: 5e8 },
    limits: none,
    tasks: percents.map((_, i) => ready(`t${i}`)),
    usage,
    status: undefined,
    history: calm,
    nowMs,
    ...changes,
  };
}

const status = (changes: Partial<AutoscaleStatus>): AutoscaleStatus => ({
  scaledUpAtMs: 0,
  scaledDownAtMs: 0,
  message: "",
  ...changes,
});

describe("growing", () => {
  test("to what the use asks for, with the numbers as the cause", () => {
    expect(decide(scene([92, 92, 92]))).toMatchObject({
      replicas: 5,
      outcome: "scaled",
      message: "autoscaled from 3 to 5: cpu 92 % of 60 %",
    });
  });

  test("at most to twice as many at once, and never beyond max", () => {
    expect(decide(scene([400, 400])).replicas).toBe(4);
    expect(decide(scene(Array(8).fill(400))).replicas).toBe(10);
    const atMax = decide(scene(Array(10).fill(90)));
    expect(atMax).toMatchObject({ replicas: 10, outcome: "bounded", message: "cpu 90 % of 60 %: max is 10" });
  });

  test("not within a tenth of the target", () => {
    expect(decide(scene([66, 66, 66]))).toMatchObject({ replicas: 3, outcome: "steady" });
    expect(decide(scene([67, 67, 67])).replicas).toBe(4);
    expect(decide(scene([54, 54, 54])).replicas).toBe(3);
  });

  test("not within its cool-down after a change of either kind", () => {
    const after = (changes: Partial<AutoscaleStatus>) => decide(scene([92, 92, 92], { status: status(changes) }));
    expect(after({ scaledUpAtMs: nowMs - 14_999 })).toMatchObject({ replicas: 3, outcome: "waiting" });
    expect(after({ scaledDownAtMs: nowMs - 14_999 }).replicas).toBe(3);
    expect(after({ scaledUpAtMs: nowMs - 15_000 }).replicas).toBe(5);
    const slower = { ...spec, upCoolDownMs: 60_000 };
    const slow = scene([92, 92, 92], { spec: slower, status: status({ scaledUpAtMs: nowMs - 15_000 }) });
    expect(decide(slow).replicas).toBe(3);
  });

  test("takes tasks that are new, not ready or unknown for tasks that will share the load", () => {
    // Three that are used at 92 %, and two that just came for it: 276 % of use is 5 replicas' at 60 %.
    const tasks = [
      ...["t0", "t1", "t2"].map((id) => ready(id)),
      ready("t3", { readySinceMs: nowMs - 5_000 }),
      ready("t4", { readySinceMs: 0 }),
    ];
    expect(decide(scene([92, 92, 92, 92, 92], { tasks })).replicas).toBe(5);
    expect(decide(scene([92, 92, 92, undefined, undefined])).replicas).toBe(5);
    expect(decide(scene([120, 120, 120, undefined, undefined])).replicas).toBe(6);
  });

  test("by the largest of the targets; memory of the limit where nothing is reserved, requests per replica", () => {
    const all = { ...spec, memoryPercent: 80, requestsPerReplica: 100 };
    const use = { nanoCpus: 3e8, memoryBytes: 150, requestsMilli: 130_000 };
    const usage = new Map(["t0", "t1"].map((id) => [id, use]));
    const both = { spec: all, usage, limits: { ...none, memoryBytes: 100 } };
    expect(decide(scene([0, 0], both)).message).toBe("autoscaled from 2 to 4: memory 150 % of 80 %");
    const roomy = { ...both, limits: { ...none, memoryBytes: 1_000 } };
    expect(decide(scene([0, 0], roomy)).message).toBe("autoscaled from 2 to 3: requests 130/s of 100/s");
  });
});

describe("shrinking", () => {
  test("to what the use asks for, never below min", () => {
    expect(decide(scene([20, 20, 20, 20, 20, 20, 20]))).toMatchObject({
      replicas: 3,
      message: "autoscaled from 7 to 3: cpu 20 % of 60 %",
    });
    expect(decide(scene([0, 0, 0, 0])).replicas).toBe(2);
  });

  test("not while anything is missing", () => {
    expect(decide(scene([20, 20, 20, undefined])).outcome).toBe("unknown");
    expect(decide(scene([20, 20, 20, 20], { replicas: 5 })).replicas).toBe(5);
    expect(decide(scene([undefined, undefined, undefined]))).toMatchObject({ replicas: 3, outcome: "unknown" });
    const young = ["t0", "t1", "t2"].map((id, i) => ready(id, { readySinceMs: nowMs - (i === 0 ? 29_999 : 60_000) }));
    expect(decide(scene([20, 20, 20], { tasks: young })).replicas).toBe(3);
    // One target's figures are there, the other's are not.
    const memory = { spec: { ...spec, memoryPercent: 50 }, limits: { ...none, memoryBytes: 100 } };
    expect(decide(scene([20, 20, 20], memory)).replicas).toBe(3);
  });

  test("not within its cool-down, nor to less than was wanted within it, nor by a leader that has not looked as long", () => {
    const tasks = [20, 20, 20, 20, 20, 20];
    const at = (changes: Partial<Scene>) => decide(scene(tasks, changes)).replicas;
    expect(at({ status: status({ scaledUpAtMs: nowMs - 299_999 }) })).toBe(6);
    expect(at({ status: status({ scaledUpAtMs: nowMs - 300_000 }) })).toBe(2);
    expect(at({ history: [...calm, { atMs: nowMs - 200_000, replicas: 4 }] })).toBe(4);
    expect(at({ history: [...calm, { atMs: nowMs - 200_000, replicas: 9 }] })).toBe(6);
    expect(at({ history: [] })).toBe(6);
    expect(at({ history: [{ atMs: nowMs - 100_000, replicas: 1 }] })).toBe(6);
  });

  test("tasks that are to stop do not count", () => {
    const tasks = [ready("t0"), ready("t1"), ready("t2", { desiredState: TaskState.SHUTDOWN })];
    expect(decide(scene([90, 90, 0], { tasks, replicas: 2 })).replicas).toBe(3);
  });
});

test("bounds that were changed hold at once; a service at 0 is left alone", () => {
  const raised = decide(scene([10], { status: status({ scaledUpAtMs: nowMs }) }));
  expect(raised).toMatchObject({ replicas: 2, message: "autoscaled from 1 to 2: bounds are 2 to 10" });
  expect(decide(scene(Array(12).fill(90))).replicas).toBe(10);
  expect(decide(scene([], { replicas: 0 }))).toMatchObject({ replicas: 0, outcome: "off" });
  const one = scene([0, 0], { spec: { min: 0, max: 10, requestsPerReplica: 100 } });
  expect(decide(one).replicas).toBe(1);
});

test("the history goes back one entry further than the cool-down, and stays small whatever that is", () => {
  let history: Wanted[] = [];
  const add = (atMs: number, replicas: number, within: AutoscaleSpec) =>
    (history = remember(history, { atMs, replicas }, within));
  for (let atMs = 0; atMs <= 600_000; atMs += 15_000) add(atMs, 3, spec);
  expect([history[0]?.atMs, history.length]).toEqual([300_000, 21]);
  history = [];
  const long = { ...spec, downCoolDownMs: 10 * 86_400_000 };
  for (let i = 0; i < 5_000; i += 1) add(i * 15_000, i === 77 ? 9 : 3, long);
  expect(history.length).toBeLessThanOrEqual(1_001);
  expect(history[0]?.atMs).toBe(0);
  expect(Math.max(...history.map(({ replicas }) => replicas))).toBe(9);
});

const anySpec = fc
  .record({
    min: fc.integer({ min: 0, max: 20 }),
    above: fc.integer({ min: 0, max: 50 }),
    upCoolDownMs: fc.integer({ min: 0, max: 120_000 }),
    downCoolDownMs: fc.integer({ min: 0, max: 600_000 }),
    cpuPercent: fc.integer({ min: 1, max: 100 }),
  })
  .map(({ min, above, ...rest }) => ({ ...rest, min, max: Math.max(1, min + above) }));

test("property: within its bounds, at most twice as many, whatever is known", () => {
  const anyPercents = fc.array(fc.option(fc.integer({ min: 0, max: 1_000 }), { nil: undefined }), {
    minLength: 1,
    maxLength: 40,
  });
  fc.assert(
    fc.property(anySpec, anyPercents, (spec, percents) => {
      const { replicas, outcome } = decide(scene(percents, { spec }));
      const least = Math.max(1, spec.min);
      expect(replicas).toBeGreaterThanOrEqual(least);
      expect(replicas).toBeLessThanOrEqual(spec.max);
      expect(replicas).toBeLessThanOrEqual(Math.max(least, percents.length * 2));
      expect(replicas !== percents.length).toBe(outcome === "scaled");
      if (percents.includes(undefined) && percents.length >= least && percents.length <= spec.max)
        expect(replicas).toBeGreaterThanOrEqual(percents.length);
    }),
  );
});

test("property: under a load that stays, it settles where the load fits, and then changes no more; cool-downs hold", () => {
  fc.assert(
    fc.property(anySpec, fc.integer({ min: 0, max: 3_000 }), fc.integer({ min: 1, max: 60 }), (spec, load, start) => {
      let replicas = Math.min(spec.max, Math.max(1, spec.min, start));
      let history: Wanted[] = [];
      let now = status({});
      const changes: { atMs: number; up: boolean }[] = [];
      for (let atMs = nowMs; atMs < nowMs + 3_600_000; atMs += 15_000) {
        const percents = Array.from({ length: replicas }, () => load / replicas);
        const view = { ...scene(percents, { spec, status: now, nowMs: atMs }), history };
        const decision = decide(view);
        if (decision.wanted !== undefined) history = remember(history, { atMs, replicas: decision.wanted }, spec);
        if (decision.replicas === replicas) continue;
        const up = decision.replicas > replicas;
        const last = changes.at(-1);
        const coolMs = up ? spec.upCoolDownMs : spec.downCoolDownMs;
        if (last !== undefined) expect(atMs - last.atMs).toBeGreaterThanOrEqual(coolMs);
        changes.push({ atMs, up });
        now = status(up ? { ...now, scaledUpAtMs: atMs } : { ...now, scaledDownAtMs: atMs });
        replicas = decision.replicas;
      }
      expect(new Set(changes.map(({ up }) => up)).size).toBeLessThanOrEqual(1);
      expect(changes.length).toBeLessThanOrEqual(8);
      if (replicas < spec.max) expect(load / replicas).toBeLessThanOrEqual(spec.cpuPercent * 1.1 + 1e-6);
    }),
  );
});
