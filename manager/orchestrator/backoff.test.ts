import { expect, test } from "vitest";
import { TaskState } from "../../proto/mod.js";
import { makeTask } from "../../test/kit/objects.js";
import { nextTaskAtMs } from "./backoff.js";

const failedAt = (endedAtMs: number) =>
  makeTask(`t${endedAtMs}`, {
    status: { state: TaskState.FAILED, sinceMs: endedAtMs, message: "", error: "", container: undefined },
    endedAtMs,
  });

test("a slot waits by its failures in a row, a minute at most", () => {
  expect(nextTaskAtMs([], 0, 1000)).toBe(0);
  expect(nextTaskAtMs([failedAt(1000)], 0, 1000)).toBe(2000);
  expect(nextTaskAtMs([3000, 2000, 1000].map(failedAt), 0, 3000)).toBe(3000 + 16_000);
  expect(nextTaskAtMs([6000, 5000, 3000, 2000, 1000].map(failedAt), 0, 6000)).toBe(66_000);
});

test("what a clock that was far ahead says of a failure keeps no slot waiting until then", () => {
  const dayMs = 86_400_000;
  expect(nextTaskAtMs([failedAt(dayMs)], 0, 1000)).toBe(0);
  expect(nextTaskAtMs([failedAt(2000), failedAt(dayMs)], 0, 2000)).toBe(3000);
});
