import { expect, test } from "vitest";
import { FakeClock } from "../../test/kit/clock.js";
import { makeTask } from "../../test/kit/objects.js";
import { openMemoryStore } from "../store/mod.js";
import { EventLog } from "./mod.js";

test("a reader of all remembered events has room for those that come while it reads them", async () => {
  const store = openMemoryStore();
  const events = new EventLog(store, new FakeClock());
  let made = 0;
  const more = () =>
    store.update((tx) => {
      for (let i = 0; i < 100; i += 1) {
        made += 1;
        tx.create("tasks", makeTask(`t${made}`, { slot: made }));
      }
    });
  for (let i = 0; i < 20; i += 1) await more();
  const reading = events.watch(1, new AbortController().signal);
  await more();
  let sequence = 0;
  for await (const event of reading) {
    expect(event.sequence).toBe(sequence + 1);
    sequence = event.sequence;
    if (sequence === made) break;
  }
  expect(sequence).toBe(2_100);
  events[Symbol.dispose]();
  await store[Symbol.asyncDispose]();
});
