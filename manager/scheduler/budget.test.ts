import { expect, test } from "vitest";
import { type Rollout, RolloutState, type ServiceSpec } from "../../proto/mod.js";
import { makeRevision, makeService, makeSpec, makeTask, readyStatus } from "../../test/kit/objects.js";
import { openMemoryStore } from "../store/mod.js";
import { budgetOf } from "./budget.js";

const budgetWith = async (update: Partial<ServiceSpec["update"]>, rollout: Partial<Rollout>): Promise<number> => {
  const store = openMemoryStore();
  const made = makeSpec({ replicas: 4 });
  const spec = { ...made, update: { ...made.update, ...update } };
  await store.update((tx) => {
    const service = makeService({ spec, rolloutId: "r", revision: 2 });
    tx.create("services", service);
    tx.create("revisions", makeRevision(service, 1, { ...spec, rollback: { ...spec.rollback, maxUnavailable: 3 } }));
    tx.create("revisions", makeRevision(service, 2));
    tx.create("rollouts", {
      meta: { id: "r", version: 0, createdAtMs: 0, updatedAtMs: 0 },
      serviceId: service.meta.id,
      fromRevision: 1,
      toRevision: 2,
      isRollback: false,
      state: RolloutState.RUNNING,
      message: "",
      startedAtMs: 0,
      endedAtMs: 0,
      slots: [],
      batchDoneAtMs: 0,
      rolledBackBy: "",
      ...rollout,
    });
    for (let slot = 1; slot <= 4; slot += 1)
      tx.create("tasks", makeTask(`t${slot}`, { slot, nodeId: "h1", status: readyStatus(), readySinceMs: 1 }));
  });
  return budgetOf(store.view(), "service-web");
};

test("while a rollout is under way, also a paused one, no more than it lets be unavailable; otherwise any number", async () => {
  expect(await budgetWith({}, { state: RolloutState.RUNNING })).toBe(1);
  expect(await budgetWith({ maxUnavailable: 2 }, { state: RolloutState.PAUSED })).toBe(2);
  expect(await budgetWith({ parallelism: 0 }, { state: RolloutState.RUNNING })).toBe(4);
  expect(await budgetWith({}, { state: RolloutState.COMPLETED })).toBe(Number.POSITIVE_INFINITY);
});

test("a rollback goes by the settings of the revision that is being left", async () => {
  const rollback = { state: RolloutState.RUNNING, isRollback: true, fromRevision: 1, toRevision: 2 };
  expect(await budgetWith({}, rollback)).toBe(3);
});
