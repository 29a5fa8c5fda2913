// The rebalance with the real orchestrator and scheduler around it, and an agent that does at once what it is told.

import { expect, it } from "vitest";
import { seededRng, silentLogger } from "../../lib/mod.js";
import { hasEnded, isReady } from "../../deploy/strategy/mod.js";
import { type Task, TaskState } from "../../proto/mod.js";
import { FakeClock } from "../../test/kit/clock.js";
import { makeNode, makeRevision, makeService, makeSpec, makeTask, readyStatus } from "../../test/kit/objects.js";
import { Orchestrator } from "../orchestrator/mod.js";
import { Scheduler } from "../scheduler/mod.js";
import { openMemoryStore } from "../store/mod.js";
import { rebalance } from "./mod.js";

function obeyed(task: Task, now: number): Task | undefined {
  if (task.nodeId === "" || hasEnded(task)) return undefined;
  if (task.desiredState >= TaskState.SHUTDOWN)
    return { ...task, status: { ...task.status, state: TaskState.SHUTDOWN }, readySinceMs: 0, endedAtMs: now };
  if (task.desiredState === TaskState.RUNNING && !isReady(task))
    return { ...task, status: readyStatus(), readySinceMs: now };
  return undefined;
}

it("evens a service out with replacements first, never below what was asked for, and then has nothing left to do", async () => {
  const store = openMemoryStore();
  const clock = new FakeClock();
  const parts = { store, clock, rng: seededRng(4), log: silentLogger };
  const service = makeService({ spec: makeSpec({ replicas: 6 }) });
  await store.update((tx) => {
    tx.create("services", service);
    tx.create("revisions", makeRevision(service));
    for (const id of ["h1", "h2", "h3"]) tx.create("nodes", makeNode(id));
    for (let slot = 1; slot <= 6; slot += 1)
      tx.create("tasks", makeTask(`t${slot}`, { slot, nodeId: "h1", status: readyStatus(), readySinceMs: 1 }));
  });
  let fewest = Number.POSITIVE_INFINITY;
  const ready = () => [...store.view().tasks.values()].filter(isReady);
  store.subscribe(() => {
    fewest = Math.min(fewest, ready().length);
  });
  await using orchestrator = new Orchestrator(parts);
  orchestrator.start();
  await using scheduler = new Scheduler(parts);
  scheduler.start();
  await clock.advance(100);
  const ask = () => rebalance(store, clock, { service: undefined, dryRun: false, maxMoves: 0 });
  const asked = await ask();
  expect(asked.moves.length).toBe(4);
  for (let round = 0; round < 60; round += 1) {
    await clock.advance(500);
    await store.update((tx) => {
      for (const task of [...tx.tasks.values()]) {
        const after = obeyed(task, clock.now());
        if (after !== undefined) tx.put("tasks", after);
      }
    });
  }
  const on = (host: string) => ready().filter(({ nodeId }) => nodeId === host).length;
  expect([on("h1"), on("h2"), on("h3")]).toEqual([2, 2, 2]);
  expect(fewest).toBe(6);
  expect(
    [...store.view().tasks.values()].every(
      ({ leave, status }) => leave === undefined || status.state > TaskState.RUNNING,
    ),
  ).toBe(true);
  expect(await ask()).toEqual({ moves: [], more: 0 });
});
