import { expect, test } from "vitest";
import { storeContract } from "../contract.js";
import { sampleTask } from "../samples.js";
import { openMemoryStore } from "./memory.js";

storeContract("memory", (options) => Promise.resolve(openMemoryStore(options)));

test("an object changed in place is found out", async () => {
  await using store = openMemoryStore();
  await store.update((tx) => tx.create("tasks", sampleTask("t1", "s1")));
  const task = store.view().tasks.get("t1");
  expect(() => {
    if (task !== undefined) task.status.state = 11;
  }).toThrow(TypeError);
});
