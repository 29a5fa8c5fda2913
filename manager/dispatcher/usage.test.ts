import { beforeEach, expect, test } from "vitest";
import { TaskState } from "../../proto/mod.js";
import { FakeClock } from "../../test/kit/clock.js";
import { makeTask, readyStatus } from "../../test/kit/objects.js";
import { openMemoryStore, type Store } from "../store/mod.js";
import { UsageTable } from "./usage.js";

let clock: FakeClock;
let store: Store;
let table: UsageTable;

beforeEach(async () => {
  clock = new FakeClock();
  store = openMemoryStore();
  table = new UsageTable(clock);
  await store.update((tx) => tx.create("tasks", makeTask("t1", { nodeId: "n1", status: readyStatus() })));
});

const read = () => Object.fromEntries(table.read(store.view()));

test("a task's own node says what it uses, every node what it sends there", async () => {
  table.report("n2", [{ taskId: "t1", requestsMilli: 500, nanoCpus: 7, memoryBytes: 7 }], store.view());
  expect(read()).toEqual({});
  table.report("n1", [{ taskId: "t1", nanoCpus: 3e8, memoryBytes: 1_000, requestsMilli: 1_000 }], store.view());
  expect(read()).toEqual({ t1: { nanoCpus: 3e8, memoryBytes: 1_000, requestsMilli: 1_500, atMs: clock.now() } });
  table.report("n2", [{ taskId: "t1", requestsMilli: 0 }], store.view());
  expect(read()["t1"]?.requestsMilli).toBe(1_000);
  await clock.advance(59_999);
  expect(read()["t1"]).toBeDefined();
  await clock.advance(1);
  expect(read()).toEqual({});
});

test("tasks that nobody knows are not taken, and those that ended are forgotten", async () => {
  const use = { nanoCpus: 1, memoryBytes: 1, requestsMilli: 1 };
  table.report("n1", [{ taskId: "nosuch", ...use }], store.view());
  table.report("n1", [{ taskId: "t1", ...use }], store.view());
  expect(Object.keys(read())).toEqual(["t1"]);
  const status = { ...readyStatus(), state: TaskState.FAILED };
  await store.update((tx) => tx.put("tasks", { ...tx.tasks.get("t1")!, status }));
  expect(read()).toEqual({});
  table.report("n1", [{ taskId: "t1", ...use }], store.view());
  expect(read()).toEqual({});
});
