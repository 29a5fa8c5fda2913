// What planRolling answers for single states; whole rollouts are tested on manager/orchestrator's planner.

import { expect, test } from "vitest";
import { type Rollout, RolloutState, type SlotProgress, SlotVerdict, UpdateOrder } from "../../proto/mod.js";
import { makeSpec, makeTask } from "../../test/kit/objects.js";
import { budgetOf } from "./budget.js";
import { planRolling, type RollingSlot } from "./rolling.js";

const now = 1_700_000_000_000;
const { update, task } = makeSpec();

const slotOf = (slot: number, changes: Partial<RollingSlot> = {}): RollingSlot => ({
  slot,
  ready: true,
  away: false,
  finished: false,
  closed: false,
  live: 1,
  current: undefined,
  currentReady: false,
  watched: undefined,
  watchedLost: false,
  ...changes,
});

const rolloutWith = (slots: SlotProgress[], changes: Partial<Rollout> = {}): Rollout => ({
  meta: { id: "r1", version: 0, createdAtMs: now, updatedAtMs: now },
  serviceId: "service-web",
  fromRevision: 1,
  toRevision: 2,
  isRollback: false,
  state: RolloutState.RUNNING,
  message: "",
  startedAtMs: now,
  endedAtMs: 0,
  slots,
  batchDoneAtMs: 0,
  rolledBackBy: "",
  ...changes,
});

const failed = (slot: number, startedAtMs: number): SlotProgress => ({
  slot,
  taskId: `t${slot}`,
  startedAtMs,
  verdict: SlotVerdict.FAILED,
  message: "rejected",
  startFirst: false,
});

test("the defaults of the budget hang on the order and on parallelism", () => {
  const all = Number.POSITIVE_INFINITY;
  const budget = (order: UpdateOrder, parallelism: number) => {
    const { maxSurge, maxUnavailable } = budgetOf({ order, parallelism });
    return [maxSurge, maxUnavailable];
  };
  expect(budget(UpdateOrder.STOP_FIRST, 3)).toEqual([0, 3]);
  expect(budget(UpdateOrder.START_FIRST, 3)).toEqual([3, 0]);
  expect(budget(UpdateOrder.STOP_FIRST, 0)).toEqual([0, all]);
  expect(budget(UpdateOrder.START_FIRST, 0)).toEqual([all, 0]);
});

test("the end of a batch that ended in the millisecond it was begun in is recorded once", () => {
  const tolerant = { ...update, maxFailureRatio: 1 };
  const slots = [slotOf(1, { ready: false }), slotOf(2)];
  const input = { config: tolerant, restart: task.restart, slots };
  const first = planRolling({ ...input, rollout: rolloutWith([failed(1, now)]), now });
  expect(first.batchDoneAtMs).toBe(now);
  const rollout = rolloutWith(first.progress, { batchDoneAtMs: first.batchDoneAtMs });
  expect(planRolling({ ...input, rollout, now: now + 60_000 }).batchDoneAtMs).toBe(now);
});

test("what serves nobody goes first, what cannot be talked to last, and what is closed not at all", () => {
  const slots = [
    slotOf(1, { away: true }),
    slotOf(2),
    slotOf(3, { ready: false }),
    slotOf(4, { closed: true }),
    slotOf(5),
  ];
  const begun = (parallelism: number) =>
    planRolling({
      rollout: rolloutWith([]),
      config: { ...update, parallelism, maxUnavailable: 5 },
      restart: task.restart,
      slots,
      now,
    }).progress.map(({ slot }) => slot);
  expect([1, 2, 3, 4, 5].map((parallelism) => begun(parallelism))).toEqual([
    [3],
    [2, 3],
    [2, 3, 5],
    [1, 2, 3, 5],
    [1, 2, 3, 5],
  ]);
});

test("a slot's surge place stays taken while its failed task is made again", () => {
  const entry = { ...failed(1, now), startFirst: true };
  const config = { ...update, order: UpdateOrder.START_FIRST, parallelism: 2, maxSurge: 1, maxFailureRatio: 1 };
  const between = planRolling({
    rollout: rolloutWith([entry]),
    config,
    restart: task.restart,
    slots: [slotOf(1), slotOf(2)],
    now: now + 1,
  });
  expect(between.progress).toEqual([entry]);
  const replaced = slotOf(1, { current: makeTask("t9", { readySinceMs: now }), currentReady: true });
  const after = planRolling({
    rollout: rolloutWith([entry]),
    config,
    restart: task.restart,
    slots: [replaced, slotOf(2)],
    now: now + 1,
  });
  expect(after.progress.map(({ slot, startFirst }) => [slot, startFirst])).toEqual([
    [1, true],
    [2, true],
  ]);
});
