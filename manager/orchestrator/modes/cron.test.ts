import { expect, test } from "vitest";
import {
  ConcurrencyPolicy,
  type CronMode,
  type JobRun,
  JobState,
  RestartCondition,
  type ServiceSpec,
} from "../../../proto/mod.js";
import { makeRevision, makeService, makeSpec } from "../../../test/kit/objects.js";
import { ServiceWorld } from "../../../test/kit/service-world.js";
import { runService } from "../mod.js";
import { dueRuns } from "./cron.js";

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;

function cronSpec(changes: Partial<CronMode> = {}, image = "ends"): ServiceSpec {
  const spec = makeSpec({ image });
  const value: CronMode = {
    schedule: "*/10 * * * *",
    timeZone: "UTC",
    concurrency: ConcurrencyPolicy.FORBID,
    suspended: false,
    ...changes,
  };
  const restart = { ...spec.task.restart, condition: RestartCondition.ON_FAILURE };
  return { ...spec, mode: { $case: "cron", value }, task: { ...spec.task, restart } };
}

function worldOf(spec: ServiceSpec): ServiceWorld {
  return new ServiceWorld(spec, { images: { ends: "completes", hangs: "hangs", exits: "exits" } });
}

const runs = (world: ServiceWorld): JobRun[] => world.service.job?.runs ?? [];
const states = (world: ServiceWorld) => runs(world).map(({ state }) => state);

/** Lets the time pass as long as nothing is due; then a while for what is. */
function toNext(world: ServiceWorld, forMs = 10_000): void {
  world.plan();
  world.now = world.wakeAtMs ?? world.now;
  world.run(forMs);
}

test("each due time begins one run, and nothing is made between", () => {
  const world = worldOf(cronSpec());
  world.run(1000);
  expect(world.converged()).toBe(true);
  expect(world.tasks.size).toBe(0);
  toNext(world);
  toNext(world);
  expect(runs(world).map(({ number, state, dueAtMs }) => [number, state, dueAtMs % (10 * minuteMs)])).toEqual([
    [1, JobState.SUCCEEDED, 0],
    [2, JobState.SUCCEEDED, 0],
  ]);
  expect((runs(world)[1]?.dueAtMs ?? 0) - (runs(world)[0]?.dueAtMs ?? 0)).toBe(10 * minuteMs);
  expect(runs(world)[0]?.startedAtMs).toBe(runs(world)[0]?.dueAtMs);
});

test.each<[string, ConcurrencyPolicy, JobState[]]>([
  ["forbid", ConcurrencyPolicy.FORBID, [JobState.RUNNING, JobState.SKIPPED, JobState.SKIPPED]],
  ["allow", ConcurrencyPolicy.ALLOW, [JobState.RUNNING, JobState.RUNNING, JobState.RUNNING]],
  ["replace", ConcurrencyPolicy.REPLACE, [JobState.REPLACED, JobState.REPLACED, JobState.RUNNING]],
])("what is due while a run goes on, with the policy %s", (_, concurrency, expected) => {
  const world = worldOf(cronSpec({ concurrency }, "hangs"));
  for (let i = 0; i < 3; i += 1) toNext(world);
  expect(states(world)).toEqual(expected);
  if (concurrency === ConcurrencyPolicy.FORBID) expect(runs(world)[1]?.message).toBe("run 1 went on");
});

test("with the policy allow, ten runs go on at most", () => {
  const world = worldOf(cronSpec({ concurrency: ConcurrencyPolicy.ALLOW }, "hangs"));
  for (let i = 0; i < 12; i += 1) toNext(world, 1000);
  expect(states(world).filter((state) => state === JobState.RUNNING).length).toBe(10);
  expect(runs(world).at(-1)).toMatchObject({ state: JobState.SKIPPED, message: "10 runs went on already" });
});

test("after a time without a leader at most the newest missed run is begun, and the others are skipped", () => {
  const world = worldOf(cronSpec());
  world.run(1000);
  world.now += 3 * hourMs - (world.now % (10 * minuteMs)) + 30_000;
  world.run(10_000);
  expect(states(world)).toEqual([JobState.SKIPPED, JobState.SKIPPED, JobState.SKIPPED, JobState.SUCCEEDED]);
  expect(runs(world)[0]?.message).toBe("missed: a later run was due when it was found, as were those before it");
  expect(runs(world).at(-1)?.dueAtMs).toBe(world.now - (world.now % (10 * minuteMs)));
});

test("a run that is found due later than the start deadline is skipped, and the next one comes", () => {
  const world = worldOf(cronSpec({ startDeadlineMs: 60_000 }));
  world.run(1000);
  world.now += 10 * minuteMs - (world.now % (10 * minuteMs)) + 90_000;
  world.run(1000);
  expect(runs(world)).toMatchObject([
    { state: JobState.SKIPPED, message: "found due 1m30s late, its start deadline is 1m" },
  ]);
  toNext(world);
  expect(states(world)).toEqual([JobState.SKIPPED, JobState.SUCCEEDED]);
});

test("a suspended one begins nothing; taken up again, it misses nothing of the time between", () => {
  const world = worldOf(cronSpec({ suspended: true }));
  world.run(1000);
  expect(world.wakeAtMs).toBeUndefined();
  world.now += 5 * hourMs;
  world.update(cronSpec());
  world.run(1000);
  expect(runs(world)).toEqual([]);
  toNext(world);
  expect(states(world)).toEqual([JobState.SUCCEEDED]);
});

test("a new schedule counts from when it came; another image does not begin a run", () => {
  const world = worldOf(cronSpec({ schedule: "@yearly" }));
  world.run(1000);
  world.now += hourMs;
  world.update(cronSpec({ schedule: "*/10 * * * *" }, "exits"));
  world.run(1000);
  world.update(cronSpec({ schedule: "*/10 * * * *" }, "ends"));
  world.run(1000);
  expect(runs(world)).toEqual([]);
  toNext(world);
  expect(runs(world)).toMatchObject([{ state: JobState.SUCCEEDED, revision: 3 }]);
});

test("a run that goes on keeps its revision through an update", () => {
  const world = worldOf(cronSpec({}, "hangs"));
  toNext(world);
  world.update(cronSpec({}, "ends"));
  world.run(5000);
  expect(runs(world)).toMatchObject([{ state: JobState.RUNNING, revision: 1 }]);
});

test("ended runs are kept by their own limits, the newest in any case", () => {
  const world = worldOf(cronSpec({ keepSucceeded: 2, keepFailed: 0 }));
  for (let i = 0; i < 5; i += 1) toNext(world);
  expect(runs(world).map(({ number }) => number)).toEqual([4, 5]);
  expect([...new Set([...world.tasks.values()].map(({ run }) => run))].sort((a, b) => a - b)).toEqual([4, 5]);
});

test("a run by hand is one more, and is refused while one goes on and none may be beside it", () => {
  const world = worldOf(cronSpec({ suspended: true }, "hangs"));
  world.apply(runService(world.parts, { requestId: "r" }, world.making).steps);
  world.run(1000);
  expect(runs(world)).toMatchObject([{ state: JobState.RUNNING, dueAtMs: 0, requestId: "r" }]);
  expect(() => runService(world.parts, { requestId: "" }, world.making)).toThrow(
    /^run 1 of web goes on, and its concurrency policy is forbid/,
  );
});

test("a clock that goes back begins no run twice", () => {
  const world = worldOf(cronSpec());
  toNext(world);
  world.now -= 5 * minuteMs;
  world.run(minuteMs);
  expect(runs(world).length).toBe(1);
  world.plan();
  expect(world.wakeAtMs).toBe((runs(world)[0]?.dueAtMs ?? 0) + 10 * minuteMs);
});

test("a clock that was days ahead and is set right does not stop the schedule until then", () => {
  const world = worldOf(cronSpec());
  toNext(world);
  const before = world.now;
  world.now += 30 * 24 * hourMs;
  toNext(world);
  world.now = before;
  toNext(world);
  const last = runs(world).at(-1);
  expect(last?.state).toBe(JobState.SUCCEEDED);
  expect(last?.dueAtMs).toBe((runs(world)[0]?.dueAtMs ?? 0) + 10 * minuteMs);
  expect(world.now - before).toBeLessThan(hourMs);

  // Also when the service itself is from that time.
  const service = makeService({ spec: cronSpec() });
  const { mode } = service.spec;
  if (mode.$case !== "cron") throw new Error("no cron");
  const now = 1_700_000_000_000;
  const revision = makeRevision(service);
  const revisions = [{ ...revision, meta: { ...revision.meta, createdAtMs: now + 30 * 24 * hourMs } }];
  const first = dueRuns(mode.value, { job: undefined, revisions, now });
  const nextMs = now - (now % (10 * minuteMs)) + 10 * minuteMs;
  expect(first).toEqual({ due: [], nextAtMs: nextMs, countFromMs: now });
  const job = { runs: [], lastRun: 0, lastDueAtMs: now, requested: [] };
  expect(dueRuns(mode.value, { job, revisions, now: nextMs }).due).toEqual([{ dueAtMs: nextMs, skipped: undefined }]);
});

test("years without a look cost a bounded time, and find the newest due time", () => {
  const service = makeService({ spec: cronSpec({ schedule: "* * * * *" }) });
  const revisions = [makeRevision(service)];
  const mode = service.spec.mode.$case === "cron" ? service.spec.mode.value : undefined;
  if (mode === undefined) throw new Error("no cron");
  const now = 1_700_000_000_000;
  const { due } = dueRuns(mode, { job: undefined, revisions, now });
  expect(due.map(({ dueAtMs }) => dueAtMs)).toEqual([3, 2, 1, 0].map((i) => now - (now % minuteMs) - i * minuteMs));
  const yearly = dueRuns({ ...mode, schedule: "@yearly" }, { job: undefined, revisions, now });
  expect(yearly.due.at(-1)?.dueAtMs).toBe(Date.UTC(2023, 0, 1));
});
