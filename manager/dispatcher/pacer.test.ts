import { describe, expect, it } from "vitest";
import { FakeClock } from "../../test/kit/clock.js";
import { Pacer } from "./pacer.js";

interface World {
  clock: FakeClock;
  pacer: Pacer<number>;
  /** Who was told, when, and of which revision. */
  told: { session: number; atMs: number; revision: number }[];
  change(): void;
}

function world(sessions: number, bytesSince: (revision: number) => number = () => 10): World {
  const clock = new FakeClock(0);
  const told: World["told"] = [];
  let revision = 1;
  const pacer = new Pacer<number>({
    clock,
    revision: () => revision,
    bytesSince,
    tell: (session) => told.push({ session, atMs: clock.monotonic(), revision }),
  });
  for (let session = 0; session < sessions; session += 1) pacer.told(session);
  const change = () => {
    revision += 1;
    pacer.changed();
  };
  return { clock, pacer, told, change };
}

describe("Pacer", () => {
  it("tells a few sessions at once, every time", () => {
    const { pacer, told, change } = world(50);
    expect([pacer.intervalMs, pacer.announceMs]).toEqual([0, 0]);
    for (let i = 0; i < 3; i += 1) change();
    expect(told.map(({ session }) => session)).toEqual(Array.from({ length: 150 }, (_, i) => i % 50));
    expect(told.every(({ atMs }) => atMs === 0)).toBe(true);
  });

  it("tells many in turns, all of them, and nobody twice within the interval however much changes", async () => {
    const { clock, pacer, told, change } = world(1_000);
    const { intervalMs } = pacer;
    expect(intervalMs).toBeGreaterThan(0);
    await clock.advance(10 * intervalMs);
    for (let i = 0; i < 5 * intervalMs; i += 1) {
      change();
      await clock.advance(1);
    }
    await clock.advance(pacer.announceMs);
    const last = Math.max(...told.map(({ revision }) => revision));
    for (let session = 0; session < 1_000; session += 1) {
      const own = told.filter((one) => one.session === session);
      expect(own.at(-1)?.revision).toBe(last);
      for (const [i, { atMs }] of own.entries())
        expect(atMs - (own[i - 1]?.atMs ?? Number.NEGATIVE_INFINITY)).toBeGreaterThanOrEqual(intervalMs);
    }
    const perTurn = new Map<number, number>();
    for (const { atMs } of told) perTurn.set(atMs, (perTurn.get(atMs) ?? 0) + 1);
    expect(Math.max(...perTurn.values())).toBe(50);
  });

  it("tells all of a single change within announceMs", async () => {
    const { clock, pacer, told, change } = world(5_000);
    await clock.advance(1);
    change();
    await clock.advance(pacer.announceMs);
    expect(new Set(told.map(({ session }) => session)).size).toBe(5_000);
    expect(told.length).toBe(5_000);
  });

  it("takes more turns for long news", async () => {
    const { clock, pacer, told, change } = world(100, () => 1_500_000);
    await clock.advance(2 * pacer.intervalMs);
    change();
    expect(told.length).toBe(2);
    await clock.advance(100 * 5);
    expect(told.length).toBe(100);
  });

  it("spares who was told in the meantime, and who left", async () => {
    const { clock, pacer, told, change } = world(200);
    await clock.advance(2 * pacer.intervalMs);
    change();
    pacer.told(150);
    pacer.delete(151);
    await clock.advance(2 * pacer.announceMs);
    const heard = new Set(told.map(({ session }) => session));
    expect([heard.has(149), heard.has(150), heard.has(151)]).toEqual([true, false, false]);
    expect(told.length).toBe(198);
  });

  it("tells nobody after its end", async () => {
    const { clock, pacer, told, change } = world(200);
    await clock.advance(2 * pacer.intervalMs);
    change();
    expect(told.length).toBe(50);
    pacer.end();
    change();
    await clock.advance(10_000);
    expect(told.length).toBe(50);
    expect(clock.nextDueMs).toBeUndefined();
  });
});
