import { describe, expect, test } from "vitest";
import {
  type Arbitrary,
  array,
  assert,
  boolean,
  constant,
  constantFrom,
  integer,
  oneof,
  property,
  record as recordOf,
  tuple,
} from "fast-check";
import { seededRng } from "../../lib/mod.js";
import {
  PublishMode,
  ContainerHealth,
  ContainerPhase,
  PullPolicy,
  RestartCondition,
  TaskState,
} from "../../proto/mod.js";
import { makeSpec, makeTask } from "../../test/kit/objects.js";
import type { ContainerState } from "../engine/mod.js";
import { type Context, cutOff, decide, letGo, prepareFailed, prepared, startFailed, starting } from "./decide.js";
import { type Assignment, type TaskRecord, isTerminal, newRecord, reassigned } from "./record.js";

const nowMs = 1_000_000;

function context(changes: Partial<Context> = {}): Context {
  return { nowMs, epoch: "life 1", lostHoldUntilMs: 0, rng: seededRng(1), ...changes };
}

function assignment(changes: Partial<Assignment> & { desired?: TaskState; restart?: object } = {}): Assignment {
  const { desired = TaskState.RUNNING, restart = {}, ...rest } = changes;
  const spec = makeSpec().task;
  return {
    task: makeTask("t1", { desiredState: desired }),
    spec: {
      ...spec,
      container: { ...spec.container, pullPolicy: PullPolicy.MISSING, stopGracePeriodMs: 7_000 },
      restart: {
        condition: RestartCondition.ANY,
        delayMs: 1_000,
        maxAttempts: 3,
        windowMs: 120_000,
        ...restart,
      },
    },
    ports: [{ protocol: 1, targetPort: 80, publishedPort: 0, name: "", mode: PublishMode.INGRESS }],
    drainTimeoutMs: 5_000,
    drained: false,
    serviceLabels: {},
    templateHash: "hash",
    ...rest,
  };
}

function container(changes: Partial<ContainerState> = {}): ContainerState {
  return {
    id: "c1",
    name: "web.1.t1",
    labels: {},
    status: "running",
    exitCode: 0,
    oomKilled: false,
    error: "",
    health: ContainerHealth.NONE,
    startedAtMs: 500_000,
    finishedAtMs: 0,
    address: "10.128.1.2",
    hostPorts: [],
    ...changes,
  };
}

const exited = (exitCode: number, changes: Partial<ContainerState> = {}) =>
  container({ status: "exited", exitCode, address: "", finishedAtMs: 900_000, ...changes });

/** A record in that state, with a container that has run once. */
function record(state: TaskState, changes: Partial<TaskRecord> = {}): TaskRecord {
  return {
    ...newRecord(assignment(), nowMs),
    state,
    containerId: "c1",
    attempt: 1,
    countedRunMs: 500_000,
    epoch: "life 1",
    phase: ContainerPhase.RUNNING,
    ...changes,
  };
}

const ready = { ready: true, readySinceMs: 600_000 };

describe("what to do next", () => {
  const rows: {
    name: string;
    record: TaskRecord;
    seen?: ContainerState;
    context?: Partial<Context>;
    state: TaskState;
    action: object;
    also?: Partial<TaskRecord>;
  }[] = [
    {
      name: "an assigned task is accepted and prepared",
      record: newRecord(assignment(), nowMs),
      state: TaskState.PREPARING,
      action: { do: "prepare" },
    },
    {
      name: "once its container is there it waits at the gate",
      record: { ...record(TaskState.PREPARING), assignment: assignment({ desired: TaskState.READY }), countedRunMs: 0 },
      seen: container({ status: "created", startedAtMs: 0 }),
      state: TaskState.READY,
      action: { do: "wait" },
    },
    {
      name: "released, it is started",
      record: record(TaskState.READY, { countedRunMs: 0 }),
      seen: container({ status: "created", startedAtMs: 0 }),
      state: TaskState.STARTING,
      action: { do: "start" },
    },
    {
      name: "running without a health check is running and ready",
      record: record(TaskState.STARTING),
      seen: container(),
      state: TaskState.RUNNING,
      action: { do: "wait" },
      also: { ready: true, readySinceMs: nowMs, address: "10.128.1.2" },
    },
    {
      name: "with a health check it is not running before it is healthy",
      record: record(TaskState.STARTING),
      seen: container({ health: ContainerHealth.STARTING }),
      state: TaskState.STARTING,
      action: { do: "wait" },
      also: { ready: false },
    },
    {
      name: "healthy makes it running",
      record: record(TaskState.STARTING),
      seen: container({ health: ContainerHealth.HEALTHY }),
      state: TaskState.RUNNING,
      action: { do: "wait" },
      also: { ready: true },
    },
    {
      name: "unhealthy is stopped, and not ready from then on",
      record: record(TaskState.RUNNING, ready),
      seen: container({ health: ContainerHealth.UNHEALTHY }),
      state: TaskState.RUNNING,
      action: { do: "stop", graceMs: 7_000 },
      also: { ready: false, unhealthy: true },
    },
    {
      name: "stopped as unhealthy counts as a failure, whatever the exit code",
      record: record(TaskState.RUNNING, {
        unhealthy: true,
        assignment: assignment({ restart: { condition: RestartCondition.ON_FAILURE } }),
      }),
      seen: exited(0),
      state: TaskState.RUNNING,
      action: { do: "wait", untilMs: expect.any(Number) as number },
      also: { error: "its health check failed", phase: ContainerPhase.BACKING_OFF, failures: 1 },
    },
    {
      name: "a failure is restarted in place after a back-off, and stays in its state",
      record: record(TaskState.RUNNING, ready),
      seen: exited(1),
      state: TaskState.RUNNING,
      action: { do: "wait", untilMs: expect.any(Number) as number },
      also: { phase: ContainerPhase.BACKING_OFF, ready: false, exitCode: 1, error: "exit code 1" },
    },
    {
      name: "out of memory is said",
      record: record(TaskState.RUNNING),
      seen: exited(137, { oomKilled: true }),
      state: TaskState.RUNNING,
      action: { do: "wait", untilMs: expect.any(Number) as number },
      also: { error: "exit code 137 (out of memory)", oomKilled: true },
    },
    {
      name: "when the back-off is over it is started",
      record: record(TaskState.RUNNING, {
        phase: ContainerPhase.BACKING_OFF,
        endedRunMs: 500_000,
        nextAttemptAtMs: nowMs - 1,
      }),
      seen: exited(1),
      state: TaskState.RUNNING,
      action: { do: "start" },
    },
    {
      name: "a good end with on-failure is the task's end",
      record: record(TaskState.RUNNING, {
        assignment: assignment({ restart: { condition: RestartCondition.ON_FAILURE } }),
      }),
      seen: exited(0),
      state: TaskState.COMPLETE,
      action: { do: "wait" },
      also: { exitCode: 0, error: "" },
    },
    {
      name: "no restarts: failed at once",
      record: record(TaskState.RUNNING, { assignment: assignment({ restart: { condition: RestartCondition.NONE } }) }),
      seen: exited(4),
      state: TaskState.FAILED,
      action: { do: "wait" },
      also: { error: "exit code 4", phase: ContainerPhase.STOPPED },
    },
    {
      name: "the policy is spent: failed",
      record: record(TaskState.RUNNING, { restartsAtMs: [nowMs - 3_000, nowMs - 2_000, nowMs - 1_000] }),
      seen: exited(1),
      state: TaskState.FAILED,
      action: { do: "wait" },
      also: { error: "exit code 1" },
    },
    {
      name: "restarts outside of the window do not count",
      record: record(TaskState.RUNNING, { restartsAtMs: [1, 2, nowMs - 130_000] }),
      seen: exited(1),
      state: TaskState.RUNNING,
      action: { do: "wait", untilMs: expect.any(Number) as number },
      also: { restartsAtMs: [nowMs] },
    },
    {
      name: "ended by the engine's own end: started again at once, nothing charged, nothing reported as failed",
      record: record(TaskState.RUNNING, { ...ready, restartsAtMs: [nowMs - 3, nowMs - 2, nowMs - 1] }),
      seen: exited(137),
      context: { epoch: "life 2" },
      state: TaskState.RUNNING,
      action: { do: "start" },
      also: { lost: true, error: "", exitCode: undefined, failures: 0 },
    },
    {
      name: "after a reboot it waits for the managers first",
      record: record(TaskState.RUNNING),
      seen: exited(137),
      context: { epoch: "life 2", lostHoldUntilMs: nowMs + 30_000 },
      state: TaskState.RUNNING,
      action: { do: "wait", untilMs: nowMs + 30_000 },
    },
    {
      name: "a charge that the engine's end caused is taken back",
      record: record(TaskState.RUNNING, {
        phase: ContainerPhase.BACKING_OFF,
        endedRunMs: 500_000,
        nextAttemptAtMs: nowMs + 50_000,
        failures: 1,
        restartsAtMs: [nowMs - 1],
      }),
      seen: exited(143),
      context: { epoch: "life 2" },
      state: TaskState.RUNNING,
      action: { do: "start" },
      also: { restartsAtMs: [], failures: 0, epoch: "life 2" },
    },
    {
      name: "what lived through the engine's restart goes on",
      record: record(TaskState.RUNNING, ready),
      seen: container(),
      context: { epoch: "life 2" },
      state: TaskState.RUNNING,
      action: { do: "wait" },
      also: { epoch: "life 2", ready: true, attempt: 1 },
    },
    {
      name: "a run that nobody saw beginning is adopted, and counted",
      record: record(TaskState.STARTING, { countedRunMs: 0, attempt: 0 }),
      seen: container(),
      state: TaskState.RUNNING,
      action: { do: "wait" },
      also: { attempt: 1 },
    },
    {
      name: "a container that somebody removed is a failure",
      record: record(TaskState.RUNNING, ready),
      state: TaskState.RUNNING,
      action: { do: "wait", untilMs: expect.any(Number) as number },
      also: { error: "the container was removed by somebody else", phase: ContainerPhase.BACKING_OFF },
    },
    {
      name: "to be stopped while ready with ports: it serves until it is drained",
      record: record(TaskState.RUNNING, { ...ready, assignment: assignment({ desired: TaskState.SHUTDOWN }) }),
      seen: container(),
      state: TaskState.RUNNING,
      action: { do: "wait", untilMs: nowMs + 5_000 },
      also: { ready: true, drains: true, stopSinceMs: nowMs },
    },
    {
      name: "drained: stopped",
      record: record(TaskState.RUNNING, {
        ...ready,
        assignment: assignment({ desired: TaskState.SHUTDOWN, drained: true }),
        drains: true,
        stopSinceMs: nowMs - 10,
      }),
      seen: container(),
      state: TaskState.RUNNING,
      action: { do: "stop", graceMs: 7_000 },
    },
    {
      name: "the drain lasted long enough: stopped",
      record: record(TaskState.RUNNING, {
        ...ready,
        assignment: assignment({ desired: TaskState.REMOVE }),
        drains: true,
        stopSinceMs: nowMs - 5_000,
      }),
      seen: container(),
      state: TaskState.RUNNING,
      action: { do: "stop", graceMs: 7_000 },
    },
    {
      name: "without ports there is nothing to drain",
      record: record(TaskState.RUNNING, {
        ...ready,
        assignment: assignment({ desired: TaskState.SHUTDOWN, ports: [] }),
      }),
      seen: container(),
      state: TaskState.RUNNING,
      action: { do: "stop", graceMs: 7_000 },
    },
    {
      name: "never ready: stopped at once",
      record: record(TaskState.STARTING, { assignment: assignment({ desired: TaskState.SHUTDOWN }) }),
      seen: container({ health: ContainerHealth.STARTING }),
      state: TaskState.STARTING,
      action: { do: "stop", graceMs: 7_000 },
    },
    {
      name: "stopped: shut down, its container kept for the logs",
      record: record(TaskState.RUNNING, { assignment: assignment({ desired: TaskState.SHUTDOWN }), stopSinceMs: 1 }),
      seen: exited(143),
      state: TaskState.SHUTDOWN,
      action: { do: "wait" },
      also: { exitCode: 143, phase: ContainerPhase.STOPPED, ready: false, error: "" },
    },
    {
      name: "to be stopped before there is a container",
      record: { ...newRecord(assignment({ desired: TaskState.SHUTDOWN }), nowMs) },
      state: TaskState.SHUTDOWN,
      action: { do: "wait" },
    },
    {
      name: "to be stopped while backing off",
      record: record(TaskState.RUNNING, {
        assignment: assignment({ desired: TaskState.SHUTDOWN }),
        phase: ContainerPhase.BACKING_OFF,
      }),
      seen: exited(1),
      state: TaskState.SHUTDOWN,
      action: { do: "wait" },
    },
    {
      name: "no longer assigned while running: stopped",
      record: record(TaskState.RUNNING, { ...ready, assigned: false }),
      seen: container(),
      state: TaskState.RUNNING,
      action: { do: "stop", graceMs: 7_000 },
    },
    {
      name: "no longer assigned and stopped: its container goes",
      record: record(TaskState.SHUTDOWN, { assigned: false }),
      seen: exited(143),
      state: TaskState.SHUTDOWN,
      action: { do: "remove" },
    },
    {
      name: "no longer assigned and nothing left: forgotten",
      record: record(TaskState.SHUTDOWN, { assigned: false }),
      state: TaskState.SHUTDOWN,
      action: { do: "forget" },
    },
    {
      name: "an ended task that runs all the same is stopped",
      record: record(TaskState.FAILED),
      seen: container({ startedAtMs: 999_999 }),
      state: TaskState.FAILED,
      action: { do: "stop", graceMs: 7_000 },
      also: { ready: false },
    },
    {
      name: "paused by hand: not ready, and left alone",
      record: record(TaskState.RUNNING, ready),
      seen: container({ status: "paused" }),
      state: TaskState.RUNNING,
      action: { do: "wait" },
      also: { ready: false },
    },
  ];
  test.each(rows)("$name", ({ record, seen, context: around, state, action, also = {} }) => {
    const step = decide(record, seen, context(around));
    expect(step.action).toEqual(action);
    expect(step.record).toMatchObject({ ...also, state });
    for (const [name, value] of Object.entries(also))
      if (value === undefined) expect(step.record[name as keyof TaskRecord]).toBeUndefined();
  });

  test("an end is charged once, however often it is looked at", () => {
    let step = decide(record(TaskState.RUNNING, ready), exited(1), context());
    for (let i = 0; i < 5; i += 1) step = decide(step.record, exited(1), context());
    expect(step.record.restartsAtMs).toHaveLength(1);
    expect(step.record.failures).toBe(1);
  });

  test("the back-off doubles up to a minute, and begins anew after a healthy minute", () => {
    const restart = { maxAttempts: 100 };
    let current = record(TaskState.RUNNING, { assignment: assignment({ restart }) });
    const waits: number[] = [];
    for (let run = 0; run < 10; run += 1) {
      const seen = exited(1, { startedAtMs: 600_000 + run });
      const step = decide(current, seen, context({ rng: { ...seededRng(1), next: () => 0 } }));
      waits.push(step.record.nextAttemptAtMs - nowMs);
      current = starting(step.record, context());
    }
    expect(waits).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000, 60_000]);
    const healthy = decide(
      { ...current, readySinceMs: nowMs - 60_000, countedRunMs: 700_000 },
      exited(1, { startedAtMs: 700_000 }),
      context({ rng: { ...seededRng(1), next: () => 0 } }),
    );
    expect(healthy.record.nextAttemptAtMs - nowMs).toBe(1_000);
  });

  test("a start that the engine refuses for good is the end; another is tried again", () => {
    const fresh = record(TaskState.STARTING, { attempt: 0, countedRunMs: 0, phase: ContainerPhase.CREATED });
    expect(startFailed(fresh, "no such program", true, context())).toMatchObject({
      state: TaskState.FAILED,
      error: "no such program",
      attempt: 1,
    });
    expect(startFailed(fresh, "a bad moment", false, context())).toMatchObject({
      state: TaskState.STARTING,
      phase: ContainerPhase.BACKING_OFF,
      attempt: 1,
    });
  });

  test("failed before its start is rejected, after it failed", () => {
    expect(prepareFailed(record(TaskState.PREPARING), "no image", context()).state).toBe(TaskState.REJECTED);
    expect(prepareFailed(record(TaskState.RUNNING), "no image", context()).state).toBe(TaskState.FAILED);
  });

  test("the managers' word on a task that ended here before is kept", () => {
    const status = { state: TaskState.FAILED, sinceMs: 5, message: "m", error: "exit code 1", container: undefined };
    const known = newRecord({ ...assignment(), task: makeTask("t1", { status }) }, nowMs);
    expect(decide(known, undefined, context())).toMatchObject({
      record: { state: TaskState.FAILED },
      action: { do: "wait" },
    });
  });

  test("the desired state never goes back", () => {
    const stopping = reassigned(record(TaskState.RUNNING), assignment({ desired: TaskState.SHUTDOWN }));
    expect(reassigned(stopping, assignment()).assignment.task.desiredState).toBe(TaskState.SHUTDOWN);
  });
});

describe("properties", () => {
  type Event =
    | { kind: "desired"; state: TaskState }
    | { kind: "unassign" }
    | { kind: "exit"; code: number }
    | { kind: "health"; health: ContainerHealth }
    | { kind: "vanish" }
    | { kind: "engine restart" }
    | { kind: "agent killed"; before: "act" | "save" }
    | { kind: "time"; ms: number }
    | { kind: "start refused"; hopeless: boolean }
    | { kind: "cut off" | "let go" };

  const events: Arbitrary<Event> = oneof(
    recordOf({
      kind: constant("desired" as const),
      state: constantFrom(TaskState.READY, TaskState.RUNNING, TaskState.SHUTDOWN, TaskState.REMOVE),
    }),
    recordOf({ kind: constant("unassign" as const) }),
    recordOf({ kind: constant("exit" as const), code: constantFrom(0, 1, 137) }),
    recordOf({
      kind: constant("health" as const),
      health: constantFrom(
        ContainerHealth.STARTING,
        ContainerHealth.HEALTHY,
        ContainerHealth.UNHEALTHY,
        ContainerHealth.NONE,
      ),
    }),
    recordOf({ kind: constant("vanish" as const) }),
    recordOf({ kind: constant("engine restart" as const) }),
    recordOf({ kind: constant("agent killed" as const), before: constantFrom("act" as const, "save" as const) }),
    recordOf({ kind: constant("time" as const), ms: integer({ min: 1, max: 100_000 }) }),
    recordOf({ kind: constant("start refused" as const), hopeless: boolean() }),
    recordOf({ kind: constantFrom("cut off" as const, "let go" as const) }),
  );

  /** Plays events against the decisions, with a container that does as it is told. */
  function play(
    list: readonly Event[],
    seed: number,
    check: (record: TaskRecord, seen: ContainerState | undefined) => void,
  ) {
    let now = nowMs;
    let epoch = 1;
    let current = newRecord(assignment({ desired: TaskState.READY }), now);
    let seen: ContainerState | undefined;
    let saved = current;
    let refuse: { hopeless: boolean } | undefined;
    const rng = seededRng(seed);
    const around = (): Context => ({ nowMs: now, epoch: `life ${epoch}`, lostHoldUntilMs: 0, rng });
    const settleDown = (killedBefore?: "act" | "save") => {
      for (let i = 0; i < 30; i += 1) {
        now += 1;
        const step = decide(current, seen, around());
        current = step.record;
        check(current, seen);
        if (killedBefore === "save") {
          current = saved;
          return;
        }
        saved = current;
        const { action } = step;
        if (killedBefore === "act" || action.do === "wait" || action.do === "forget") return;
        if (action.do === "prepare") {
          seen = container({ status: "created", startedAtMs: 0, address: "" });
          current = prepared(current, "c1");
        } else if (action.do === "start") {
          current = starting(current, around());
          saved = current;
          if (refuse !== undefined) current = startFailed(current, "refused", refuse.hopeless, around());
          else seen = container({ startedAtMs: now, health: ContainerHealth.NONE });
          refuse = undefined;
        } else if (action.do === "stop" && seen !== undefined)
          seen = { ...seen, status: "exited", exitCode: 143, address: "", health: ContainerHealth.NONE };
        else if (action.do === "remove") seen = undefined;
      }
      throw new Error("it never comes to rest");
    };
    for (const event of list) {
      switch (event.kind) {
        case "desired":
          current = reassigned(current, assignment({ desired: event.state }));
          break;
        case "unassign":
          current = { ...current, assigned: false };
          break;
        case "exit":
          if (seen?.status === "running") seen = { ...seen, status: "exited", exitCode: event.code, address: "" };
          break;
        case "health":
          if (seen?.status === "running") seen = { ...seen, health: event.health };
          break;
        case "vanish":
          seen = undefined;
          break;
        case "engine restart":
          epoch += 1;
          if (seen?.status === "running") seen = { ...seen, status: "exited", exitCode: 137, address: "" };
          break;
        case "time":
          now += event.ms;
          break;
        case "start refused":
          refuse = { hopeless: event.hopeless };
          break;
        case "agent killed":
          settleDown(event.before);
          break;
        case "cut off":
          if (!isTerminal(current.state) && !current.cutOff) current = cutOff(current, 60_000);
          break;
        case "let go":
          if (current.cutOff) current = letGo(current);
          break;
      }
      settleDown();
    }
    return { current, seen };
  }

  const plays = tuple(array(events, { maxLength: 25 }), integer());

  test("the observed state never goes back, and nothing changes after the end", () => {
    assert(
      property(plays, ([list, seed]) => {
        let last = TaskState.UNSPECIFIED as TaskState;
        let end: TaskState | undefined;
        play(list, seed, (now) => {
          // A killed agent that had not written its newest state down may repeat it: never more than that.
          if (!list.some((event) => event.kind === "agent killed" && event.before === "save"))
            expect(now.state).toBeGreaterThanOrEqual(last);
          last = now.state;
          if (end !== undefined) expect(now.state).toBe(end);
          if (isTerminal(now.state) && !list.some((event) => event.kind === "agent killed")) end = now.state;
        });
      }),
      { numRuns: 500 },
    );
  });

  test("ready means: running, healthy or without a check, with an address, and not ended", () => {
    assert(
      property(plays, ([list, seed]) => {
        play(list, seed, (now, seen) => {
          if (!now.ready) return;
          expect(seen?.status).toBe("running");
          expect([ContainerHealth.NONE, ContainerHealth.HEALTHY]).toContain(seen?.health);
          expect(seen?.address).not.toBe("");
          expect(isTerminal(now.state)).toBe(false);
        });
      }),
      { numRuns: 500 },
    );
  });

  test("never more restarts within the window than the policy allows", () => {
    assert(
      property(plays, ([list, seed]) => {
        play(list, seed, (now) => {
          expect(now.restartsAtMs.length).toBeLessThanOrEqual(3);
        });
      }),
      { numRuns: 500 },
    );
  });

  test("what is cut off does not run, and charges nothing; let go it lives on as before", () => {
    assert(
      property(plays, ([list, seed]) => {
        const before = play([...list, { kind: "let go" }], seed, () => undefined);
        const cut = play([...list, { kind: "let go" }, { kind: "cut off" }], seed, () => undefined);
        if (isTerminal(before.current.state)) return;
        expect(cut.current.cutOff).toBe(true);
        expect(cut.seen?.status).not.toBe("running");
        expect(cut.current.ready).toBe(false);
        expect(cut.current.restartsAtMs).toEqual(before.current.restartsAtMs);
        // What was to stop anyway has ended by it, without a wait for its drain.
        if (cut.current.assignment.task.desiredState >= TaskState.SHUTDOWN || !cut.current.assigned) return;
        expect(cut.current.state).toBe(before.current.state);
        // A refusal that waits for the next start is charged to that.
        if (list.some(({ kind }) => kind === "start refused" || kind === "agent killed")) return;
        const back: Event[] = [...list, { kind: "let go" }, { kind: "cut off" }, { kind: "let go" }];
        const after = play(back, seed, () => undefined).current;
        expect(after.restartsAtMs).toEqual(before.current.restartsAtMs);
        // It may get on, for it waits for no back-off any more, but does not end by it.
        expect(after.state).toBeGreaterThanOrEqual(before.current.state);
        expect(isTerminal(after.state)).toBe(false);
      }),
      { numRuns: 500 },
    );
  });

  test("what is no longer assigned comes to nothing: no container is left", () => {
    assert(
      property(plays, ([list, seed]) => {
        const { seen } = play([...list, { kind: "unassign" }], seed, () => undefined);
        expect(seen).toBeUndefined();
      }),
      { numRuns: 300 },
    );
  });
});
