import { describe, expect, it } from "vitest";
import { FakeClock, settle } from "../../test/kit/clock.js";
import { Admission, type Leave } from "./admission.js";

function world(count: number, bytes: number) {
  const clock = new FakeClock(0);
  const admission = new Admission(clock, () => bytes);
  const controllers = Array.from({ length: count }, () => new AbortController());
  const admitted: { number: number; leave: Leave | undefined }[] = [];
  for (const [number, { signal }] of controllers.entries())
    void admission.enter(signal).then((leave) => admitted.push({ number, leave }));
  return { clock, admission, controllers, admitted };
}

describe("Admission", () => {
  it("admits some per turn, in order of coming, and no more at a time than have a place", async () => {
    const { clock, admitted } = world(100, 1_000);
    await settle();
    expect(admitted.length).toBe(16);
    await clock.advance(5);
    expect(admitted.length).toBe(32);
    await clock.advance(100);
    expect(admitted.map(({ number }) => number)).toEqual(Array.from({ length: 64 }, (_, i) => i));
    for (const { leave } of admitted.slice(0, 3)) {
      leave?.();
      leave?.();
    }
    await settle();
    expect(admitted.length).toBe(67);
  });

  it("admits one per turn where each is long", async () => {
    const { clock, admitted } = world(10, 50_000_000);
    for (let turn = 1; turn <= 10; turn += 1) {
      await settle();
      expect(admitted.length).toBe(turn);
      await clock.advance(5);
    }
  });

  it("does not wait for those that do not read", async () => {
    const { clock, admitted } = world(100, 1_000);
    await clock.advance(2_100);
    expect(admitted.length).toBe(100);
  });

  it("lets those go that gave up, and all at its end", async () => {
    const { clock, admission, controllers, admitted } = world(100, 1_000);
    await clock.advance(100);
    controllers[70]?.abort();
    await settle();
    expect(admitted.at(-1)).toEqual({ number: 70, leave: undefined });
    admission.end();
    await settle();
    expect(admitted.length).toBe(100);
    expect(admitted.slice(64).every(({ leave }) => leave === undefined)).toBe(true);
    expect(await admission.enter(new AbortController().signal)).toBeUndefined();
  });
});
