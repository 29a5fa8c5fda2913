import { expect, test } from "vitest";
import { systemClock } from "../../lib/mod.js";
import { exportChunks, importChunks } from "./chunks.js";
import { codeOf, errorOf } from "./contract.js";
import { openMemoryStore } from "./memory/memory.js";
import { sampleCluster, sampleNode, sampleService, sampleTask } from "./samples.js";
import type { Store, View } from "./store.js";
import { tablesOf } from "./view.js";
import { tables } from "../../proto/mod.js";

async function* later(chunks: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) {
    await Promise.resolve();
    yield chunk;
  }
}

/** A new store gives its own versions. */
function withoutVersions(view: View): Map<string, unknown> {
  const content = new Map<string, unknown>();
  for (const table of tables)
    for (const object of tablesOf(view)[table].values())
      content.set(`${table}/${object.meta.id}`, { ...object, meta: { ...object.meta, version: 0 } });
  return content;
}

async function fill(store: Store): Promise<void> {
  await store.update((tx) => {
    tx.create("clusters", sampleCluster("c1"));
    tx.create("services", sampleService("s1", "web"));
    tx.create("nodes", sampleNode("n1"));
  });
  for (let i = 0; i < 12; i += 1)
    await store.update((tx) => {
      for (let k = 0; k < 90; k += 1) tx.create("tasks", sampleTask(`t${i}-${k}`, "s1", "n1"));
    });
  for (let i = 0; i < 3; i += 1)
    await store.update((tx) => tx.create("tasks", { ...sampleTask(`big${i}`, "s1"), cause: "x".repeat(1_040_000) }));
}

test("a backup of one store is the content of another, objects of any size included", async () => {
  await using from = openMemoryStore();
  await fill(from);
  const chunks = [...exportChunks(from.view())];
  expect(chunks.length).toBeGreaterThan(3);
  for (const chunk of chunks) expect(chunk.length).toBeLessThanOrEqual(1_048_576);
  await using to = openMemoryStore();
  expect(await importChunks(to, later(chunks), systemClock)).toBe(3 + 12 * 90 + 3);
  expect(withoutVersions(to.view())).toEqual(withoutVersions(from.view()));
  expect(to.view().serviceByName("web")?.meta.id).toBe("s1");
});

test("a store that has something is not restored over, and a damaged backup changes nothing", async () => {
  await using from = openMemoryStore();
  await fill(from);
  const chunks = [...exportChunks(from.view())];
  const error = await errorOf(importChunks(from, later(chunks), systemClock));
  expect([error.code, error.message.includes("not empty")]).toEqual(["failed_precondition", true]);
  await using to = openMemoryStore();
  const last = chunks.at(-1) ?? new Uint8Array();
  const damaged = [...chunks.slice(0, -1), last.subarray(0, last.length - 7)];
  expect(await codeOf(importChunks(to, later(damaged), systemClock))).toBe("failed_precondition");
  expect(await codeOf(importChunks(to, later([]), systemClock))).toBe("failed_precondition");
  expect(withoutVersions(to.view()).size).toBe(0);
});

test("an empty store is a backup too", async () => {
  await using from = openMemoryStore();
  const chunks = [...exportChunks(from.view())];
  expect(chunks).toHaveLength(1);
  await using to = openMemoryStore();
  expect(await importChunks(to, later(chunks), systemClock)).toBe(0);
});
