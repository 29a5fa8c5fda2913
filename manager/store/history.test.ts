import { expect, test } from "vitest";
import { FakeClock, settle } from "../../test/kit/clock.js";
import { ClusterError } from "../../lib/mod.js";
import { History } from "./history.js";
import { sampleTask } from "./samples.js";
import type { Commit } from "./store.js";

function commit(revision: number, changes = 1): Commit {
  return {
    revision,
    changes: Array.from({ length: changes }, (_, i) => ({
      table: "tasks" as const,
      before: undefined,
      after: sampleTask(`t${revision}-${i}`, "s1"),
    })),
  };
}

const idsOf = (commits: readonly Commit[]) =>
  commits.flatMap(({ changes }) => changes.map(({ after }) => after?.meta.id));

/** Reads until the end; `ended` says how that came. */
function readAll(history: History) {
  const reader = { commits: [] as Commit[], ended: "" };
  void (async () => {
    try {
      for await (const one of history.watch(0)) reader.commits.push(one);
      reader.ended = "closed";
    } catch (error) {
      reader.ended = error instanceof ClusterError ? error.code : String(error);
    }
  })();
  return reader;
}

test("many readers are woken together a little later, with all that came by then as one commit", async () => {
  const clock = new FakeClock();
  const history = new History(undefined, clock);
  const readers = Array.from({ length: 1_500 }, () => readAll(history));
  await settle();
  for (let revision = 1; revision <= 10; revision += 1) history.add(commit(revision, 3));
  await settle();
  expect(readers.every(({ commits }) => commits.length === 0)).toBe(true);
  await clock.advance(100);
  const expected = Array.from({ length: 30 }, (_, i) => `t${Math.floor(i / 3) + 1}-${i % 3}`);
  for (const { commits } of readers) {
    expect(idsOf(commits)).toEqual(expected);
    expect(commits.map(({ revision }) => revision)).toEqual([10]);
  }
  // More than goes together, and more while they are being woken.
  for (let revision = 11; revision <= 20; revision += 1) history.add(commit(revision, 300));
  await clock.advance(50);
  history.add(commit(21));
  await clock.advance(200);
  for (const { commits } of readers) {
    expect(idsOf(commits)).toHaveLength(30 + 3_000 + 1);
    expect(commits.at(-1)?.revision).toBe(21);
    expect(Math.max(...commits.map(({ changes }) => changes.length))).toBeLessThanOrEqual(1_000);
  }
  history.close();
  await settle();
  expect(new Set(readers.map(({ ended }) => ended))).toEqual(new Set(["closed"]));
});

test("many readers are not overtaken for being woken late, and none is forgotten at a cut or at the end", async () => {
  const clock = new FakeClock();
  const history = new History({ commitsMax: 40, changesMax: 1_000 }, clock);
  const readers = Array.from({ length: 600 }, () => readAll(history));
  await settle();
  for (let revision = 1; revision <= 200; revision += 1) {
    history.add(commit(revision));
    await Promise.resolve();
    await settle();
  }
  await clock.advance(1_000);
  expect(readers.every(({ commits, ended }) => idsOf(commits).length === 200 && ended === "")).toBe(true);
  // Some have been woken, the others' turn is yet to come.
  history.add(commit(201));
  await clock.advance(50);
  history.cut(commit(300));
  await settle();
  expect(new Set(readers.map(({ ended }) => ended))).toEqual(new Set(["resync_required"]));
  const late = Array.from({ length: 600 }, async () => {
    for await (const one of history.watch(300)) return one.revision;
    return "closed";
  });
  await settle();
  history.close();
  expect(new Set(await Promise.all(late))).toEqual(new Set(["closed"]));
});

test("a reader that leaves while it waits among many is not woken, and holds up nobody", async () => {
  const clock = new FakeClock();
  const history = new History(undefined, clock);
  const leaving = history.watch(0)[Symbol.asyncIterator]();
  const waiting = leaving.next();
  const readers = Array.from({ length: 100 }, () => readAll(history));
  await settle();
  history.add(commit(1));
  await leaving.return?.();
  expect((await waiting).done).toBe(true);
  await clock.advance(1_000);
  expect(readers.every(({ commits }) => commits.length === 1)).toBe(true);
});
