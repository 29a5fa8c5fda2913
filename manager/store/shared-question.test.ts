import { expect, test } from "vitest";
import { SharedQuestion } from "./shared-question.js";

interface Put {
  answer: (value: number) => void;
  fail: (error: Error) => void;
}

function questions() {
  const put: Put[] = [];
  const shared = new SharedQuestion<number>(
    () => new Promise((resolve, reject) => put.push({ answer: resolve, fail: reject })),
  );
  return { put, shared };
}

const turns = () => new Promise((resolve) => setImmediate(resolve));

test("who asks together shares one question; who asks while it is under way shares the next", async () => {
  const { put, shared } = questions();
  const first = [shared.ask(), shared.ask()];
  await turns();
  expect(put).toHaveLength(1);
  const second = [shared.ask(), shared.ask()];
  await turns();
  // Never two at once.
  expect(put).toHaveLength(1);
  put[0]?.answer(1);
  expect(await Promise.all(first)).toEqual([1, 1]);
  await turns();
  expect(put).toHaveLength(2);
  put[1]?.answer(2);
  expect(await Promise.all(second)).toEqual([2, 2]);
  const third = shared.ask();
  await turns();
  put[2]?.answer(3);
  expect(await third).toBe(3);
});

test("a question that fails fails for those who shared it, and the next is put", async () => {
  const { put, shared } = questions();
  const first = shared.ask();
  await turns();
  const second = shared.ask();
  put[0]?.fail(new Error("no quorum"));
  await expect(first).rejects.toThrow("no quorum");
  await turns();
  put[1]?.answer(2);
  expect(await second).toBe(2);
});
