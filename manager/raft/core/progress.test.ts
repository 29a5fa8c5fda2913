import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Inflights } from "./inflights.js";
import { Progress } from "./progress.js";

const progressAt = (match: number, next: number, count = 3, size = 100): Progress =>
  new Progress(match, next, false, new Inflights(count, size));

describe("inflights", () => {
  it("keep what a plain list would", () => {
    const step = fc.oneof(
      fc.record({ add: fc.integer({ min: 0, max: 40 }) }),
      fc.record({ free: fc.integer({ min: 0, max: 60 }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const inflights = new Inflights(20, 300);
        let list: { last: number; size: number }[] = [];
        let last = 0;
        for (const s of steps) {
          if ("add" in s) {
            if (inflights.full) continue;
            inflights.add(++last, s.add);
            list.push({ last, size: s.add });
          } else {
            inflights.freeTo(s.free);
            list = list.filter((m) => m.last > s.free);
          }
          const size = list.reduce((sum, m) => sum + m.size, 0);
          expect([inflights.count, inflights.bytes]).toEqual([list.length, size]);
          expect(inflights.full).toBe(list.length >= 20 || size >= 300);
        }
      }),
    );
  });

  it("are full by bytes, after one message of any size", () => {
    const inflights = new Inflights(10, 100);
    expect(inflights.full).toBe(false);
    inflights.add(1, 5000);
    expect(inflights.full).toBe(true);
    inflights.freeTo(1);
    expect(inflights.full).toBe(false);
  });
});

describe("progress", () => {
  it("sends one probe at a time", () => {
    const p = progressAt(0, 6);
    p.sent(2, 10);
    expect([p.isPaused, p.next]).toEqual([true, 6]);
    p.acknowledged(7);
    expect([p.isPaused, p.match, p.next]).toEqual([false, 7, 8]);
  });

  it("goes ahead in replicate until as much as may be is under way", () => {
    const p = progressAt(0, 6, 2);
    p.acknowledged(5);
    p.becomeReplicate();
    p.sent(2, 10);
    expect([p.isPaused, p.next]).toEqual([false, 8]);
    p.sent(1, 10);
    expect([p.isPaused, p.next]).toEqual([true, 9]);
    p.acknowledged(7);
    p.inflights.freeTo(7);
    expect([p.isPaused, p.inflights.count]).toEqual([false, 1]);
  });

  it("ignores refusals that are old", () => {
    const p = progressAt(5, 9);
    expect(p.refused(4, 2)).toBe(false);
    expect(p.refused(8, 2)).toBe(true);
    expect(p.next).toBe(6);
    p.becomeReplicate();
    p.sent(3, 3);
    expect(p.refused(5, 1)).toBe(false);
    expect(p.refused(8, 1)).toBe(true);
    expect(p.next).toBe(6);
  });

  it("goes on after a snapshot that was reported, and before it when it failed", () => {
    const p = progressAt(2, 3);
    p.becomeSnapshot(10);
    expect([p.isPaused, p.next]).toEqual([true, 11]);
    p.becomeProbe();
    expect([p.next, p.pendingSnapshot]).toEqual([11, 0]);
    p.becomeSnapshot(10);
    p.pendingSnapshot = 0;
    p.becomeProbe();
    expect(p.next).toBe(3);
  });

  it("keeps match below next, whatever comes", () => {
    const step = fc.record({
      kind: fc.constantFrom("sent", "ack", "refuse", "probe", "replicate", "snapshot"),
      a: fc.integer({ min: 0, max: 30 }),
      b: fc.integer({ min: 0, max: 30 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const p = progressAt(0, 1);
        for (const { kind, a, b } of steps) {
          const before = p.match;
          if (kind === "sent" && !p.isPaused) p.sent(a % 4, b);
          if (kind === "ack") p.acknowledged(a);
          if (kind === "refuse") p.refused(a, b);
          if (kind === "probe") p.becomeProbe();
          if (kind === "replicate") p.becomeReplicate();
          if (kind === "snapshot" && a > p.match) p.becomeSnapshot(a);
          expect(p.match).toBeLessThan(p.next);
          expect(p.match).toBeGreaterThanOrEqual(before);
        }
      }),
    );
  });
});
