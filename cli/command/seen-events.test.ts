import { describe, expect, it } from "vitest";
import type { Event } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { SeenEvents } from "./seen-events.js";

const atMs = 1_700_000_000_000;
const event = (id: string, at = 0, sequence = 1): Event => ({
  sequence,
  atMs: atMs + at,
  kind: "task",
  action: "running",
  id,
  name: "web.1",
  cause: "",
  message: "",
});

describe("events of a new stream", () => {
  it("are repeated ones when another manager tells the same, with its own numbers and times", () => {
    const seen = new SeenEvents();
    expect(seen.resume()).toBeUndefined();
    expect([event("a"), event("b", 5)].map((each) => seen.repeats(each))).toEqual([false, false]);
    expect(seen.resume()).toBe(atMs + 5 - 2000);
    const again = [event("a", -700, 40), event("b", 900, 41), event("c", 901, 42)];
    expect(again.map((each) => seen.repeats(each))).toEqual([true, true, false]);
  });

  it("that happened as often as before are repeated, and once more is new", () => {
    const seen = new SeenEvents();
    expect([event("a"), event("a", 1)].map((each) => seen.repeats(each))).toEqual([false, false]);
    seen.resume();
    expect([event("a"), event("a", 1), event("a", 2)].map((each) => seen.repeats(each))).toEqual([true, true, false]);
    // All three are known to the next one.
    seen.resume();
    expect([event("a"), event("a"), event("a"), event("a")].map((each) => seen.repeats(each))).toEqual([
      true,
      true,
      true,
      false,
    ]);
  });

  it("are new when they come later than any clock could make a repeated one", () => {
    const seen = new SeenEvents();
    seen.repeats(event("a"));
    seen.resume();
    expect(seen.repeats(event("a", 2001))).toBe(false);
  });

  it("do not fill the memory", () => {
    const seen = new SeenEvents();
    for (let i = 0; i < 25_000; i += 1) seen.repeats(event(`e${i}`));
    seen.resume();
    expect([seen.repeats(event("e24999")), seen.repeats(event("e0"))]).toEqual([true, false]);
  });
});
