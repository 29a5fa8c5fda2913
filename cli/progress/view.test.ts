import { describe, expect, it } from "vitest";
import {
  ContainerPhase,
  type JobRun,
  JobState,
  RolloutState,
  SlotVerdict,
  TaskState,
} from "../../proto/gen/flotilla/objects/v1/objects.js";
import { job, rollout, run, startMs, state, task } from "../../test/kit/cli/states.js";
import { type Aim, endingOf, failures, progressOf, stuckSlots } from "./view.js";

const created: Aim = { revision: 1, rolloutId: "", isRollback: false };
const updated: Aim = { revision: 2, rolloutId: "rollout2", isRollback: false };

describe("progress", () => {
  it("counts ready tasks of what was asked for", () => {
    const view = progressOf(
      state({
        revision: 2,
        replicas: 4,
        tasks: [
          task({ slot: 1, revision: 2 }),
          task({
            slot: 1,
            revision: 1,
            state: TaskState.SHUTDOWN,
            desired: TaskState.SHUTDOWN,
            createdAtMs: startMs - 1,
          }),
          task({ slot: 2, revision: 2, state: TaskState.STARTING }),
          task({ slot: 3, revision: 1, node: "h2" }),
        ],
      }),
    );
    expect(view.slots.map(({ slot, state, done, node, steps }) => [slot, state, done, node, steps])).toEqual([
      [1, "running", true, "h1", 10],
      [2, "starting", false, "h1", 7],
      [3, "running, revision 1", false, "h2", 0],
      [4, "new", false, "", 0],
    ]);
    expect([view.done, view.total, view.leaving]).toEqual([1, 4, 0]);
  });

  it("takes revisions with the same tasks as the same", () => {
    const view = progressOf(
      state({ revision: 2, images: ["nginx:1", "nginx:1"], tasks: [task({ slot: 1, revision: 1 })] }),
    );
    expect(view.slots[0]).toMatchObject({ done: true, old: false });
  });

  it("counts what is still to leave", () => {
    const view = progressOf(
      state({
        replicas: 1,
        tasks: [task({ slot: 1 }), task({ slot: 2, desired: TaskState.SHUTDOWN }), task({ slot: 3 })],
      }),
    );
    expect([view.done, view.total, view.leaving]).toEqual([1, 1, 2]);
  });

  it("shows back-off and missing readiness", () => {
    const view = progressOf(
      state({
        tasks: [task({ slot: 1, phase: ContainerPhase.BACKING_OFF, ready: false }), task({ slot: 2, ready: false })],
      }),
    );
    expect(view.slots.map((slot) => slot.state)).toEqual(["backing off", "running, not ready"]);
    expect(view.done).toBe(0);
  });
});

describe("progress of slots with gaps", () => {
  it("takes the slots that there are", () => {
    const view = progressOf(
      state({
        replicas: 3,
        tasks: [task({ slot: 2 }), task({ slot: 5 }), task({ slot: 9, desired: TaskState.REMOVE })],
      }),
    );
    expect(view.slots.map(({ slot, done }) => [slot, done])).toEqual([
      [2, true],
      [5, true],
      [9, false],
    ]);
    expect([view.done, view.total]).toEqual([2, 3]);
  });

  it("names the nodes of global services, also before a task is placed", () => {
    const mode = { $case: "global" as const, value: {} };
    const view = progressOf(
      state({
        mode,
        replicas: 2,
        tasks: [
          task({ slot: 4, only: "h1" }),
          task({ slot: 7, only: "h2", node: "", state: TaskState.PENDING, placement: "h2: short of memory" }),
        ],
      }),
    );
    expect(view.slots).toMatchObject([
      { slot: 4, label: "h1", done: true },
      { slot: 7, label: "h2", unplaced: true, error: "h2: short of memory" },
    ]);
  });
});

describe("progress of a job", () => {
  const tasks = [
    task({ slot: 1, run: 3, state: TaskState.COMPLETE, desired: TaskState.SHUTDOWN }),
    task({ slot: 2, run: 3, id: "again" }),
    task({ slot: 2, run: 3, id: "failed", state: TaskState.FAILED, createdAtMs: startMs - 1 }),
    task({ slot: 1, run: 2, id: "earlier", state: TaskState.FAILED }),
  ];
  const running = state({
    mode: job,
    tasks,
    job: { runs: [run(2, { state: JobState.FAILED }), run(3, { total: 3, completed: 1 })], lastRun: 3 },
  });

  it("is that of its run: what completed, what runs, what is to come", () => {
    const view = progressOf(running, created);
    expect(view.slots.map(({ slot, state, done }) => [slot, state, done])).toEqual([
      [1, "complete", true],
      [2, "running", false],
      [3, "to come", false],
    ]);
    expect([view.done, view.total, view.job?.run?.number]).toEqual([1, 3, 3]);
    expect(failures(running, view).map(({ meta }) => meta?.id)).toEqual(["failed"]);
  });

  it("ends with its run, and only with the one that is waited for", () => {
    const ending = (parts: Partial<JobRun>, aim: Aim = created) =>
      endingOf(state({ mode: job, job: { runs: [run(1, { ...parts, message: "why" })], lastRun: 1 } }), aim).ending;
    expect(ending({})).toBeUndefined();
    expect(ending({ state: JobState.SUCCEEDED })).toEqual({ outcome: "converged" });
    expect(ending({ state: JobState.FAILED })).toEqual({ outcome: "failed", run: 1, reason: "why" });
    expect(ending({ state: JobState.SKIPPED })).toEqual({ outcome: "failed", run: 1, reason: "it was skipped: why" });
    expect(ending({ state: JobState.REPLACED })).toMatchObject({ outcome: "superseded" });
    // A run of the revision before says nothing about the one that is to come.
    expect(ending({ state: JobState.FAILED }, { ...updated, rolloutId: "" })).toBeUndefined();
  });

  it("of a run that was asked for waits for that one, and notices when it has been forgotten", () => {
    const byHand: Aim = { ...created, run: { requestId: "mine", version: 41 } };
    const ending = (parts: Parameters<typeof state>[0]) => endingOf(state({ mode: job, ...parts }), byHand).ending;
    const other = run(1, { state: JobState.SUCCEEDED, requestId: "other" });
    expect(ending({ job: { runs: [other], requested: ["mine"], lastRun: 1 } })).toBeUndefined();
    expect(ending({ job: { runs: [other, run(2, { state: JobState.SUCCEEDED, requestId: "mine" })] } })).toEqual({
      outcome: "converged",
    });
    expect(ending({ job: { runs: [other], lastRun: 2 } })).toMatchObject({ outcome: "superseded" });
    // A manager that has not seen the request yet.
    const early = endingOf(state({ mode: job, job: { runs: [other] } }), {
      ...byHand,
      run: { requestId: "mine", version: 42 },
    });
    expect(early).toEqual({});
  });

  it("is not stuck while a task runs: it will end and make room", () => {
    const waiting = task({ slot: 3, run: 3, node: "", state: TaskState.PENDING, placement: "no room" });
    const busy = { ...running, tasks: [...tasks, waiting] };
    expect(stuckSlots(busy, progressOf(busy, created))).toEqual([]);
    const alone = { ...running, tasks: [waiting] };
    expect(stuckSlots(alone, progressOf(alone, created))).toMatchObject([{ slot: 3 }]);
  });
});

describe("the end of a wait", () => {
  const is = (parts: Parameters<typeof state>[0], aim: Aim) => endingOf(state(parts), aim);

  it("is convergence on the revision that was asked for", () => {
    expect(is({ converged: true }, created)).toEqual({ ending: { outcome: "converged" } });
    expect(is({}, created)).toEqual({});
    expect(is({ revision: 2, converged: true, rollout: rollout({ state: RolloutState.COMPLETED }) }, updated)).toEqual({
      ending: { outcome: "converged" },
    });
  });

  it("is not the convergence of the revision before, read from a manager that has not seen the change", () => {
    expect(is({ revision: 1, converged: true }, updated)).toEqual({});
  });

  it("is a pause, with its reason", () => {
    const paused = rollout({ state: RolloutState.PAUSED, message: "slot 1 failed" });
    expect(is({ revision: 2, rollout: paused }, updated)).toEqual({
      ending: { outcome: "paused", reason: "the rollout is paused: slot 1 failed" },
    });
  });

  it("is the end of the rollback, not its beginning", () => {
    const back = (state: RolloutState) =>
      rollout({ id: "rollout3", from: 2, to: 3, isRollback: true, state, message: "slot 1 failed" });
    expect(
      is({ revision: 2, rollout: rollout({ state: RolloutState.ROLLED_BACK, message: "slot 1 failed" }) }, updated),
    ).toEqual({
      goingBack: "slot 1 failed",
    });
    expect(is({ revision: 3, rollout: back(RolloutState.RUNNING), converged: true }, updated)).toEqual({
      goingBack: "slot 1 failed",
    });
    expect(is({ revision: 3, rollout: back(RolloutState.COMPLETED) }, updated)).toEqual({ goingBack: "slot 1 failed" });
    expect(is({ revision: 3, rollout: back(RolloutState.COMPLETED), converged: true }, updated)).toEqual({
      ending: { outcome: "rolled-back", reason: "slot 1 failed" },
    });
    expect(is({ revision: 3, rollout: back(RolloutState.PAUSED) }, updated).ending?.outcome).toBe("paused");
  });

  it("is success for who asked to go back", () => {
    const back = rollout({ id: "rollout3", from: 2, to: 3, isRollback: true, state: RolloutState.COMPLETED });
    const aim = { revision: 3, rolloutId: "rollout3", isRollback: true };
    expect(is({ revision: 3, rollout: back, converged: true }, aim)).toEqual({ ending: { outcome: "converged" } });
  });

  it("is being overtaken by somebody else's change", () => {
    expect(is({ revision: 3, rollout: rollout({ id: "other", from: 2, to: 3 }) }, updated)).toEqual({
      ending: { outcome: "superseded", reason: "revision 3 (updated) took over from revision 2" },
    });
    const gone = rollout({ state: RolloutState.SUPERSEDED, message: "superseded by 3" });
    expect(is({ revision: 2, rollout: gone }, updated)).toEqual({
      ending: { outcome: "superseded", reason: "superseded by 3" },
    });
  });

  it("is the service's removal", () => {
    const now = state({});
    now.removed = true;
    expect(endingOf(now, created).ending?.outcome).toBe("removed");
    const going = state({ converged: true });
    if (going.service !== undefined) going.service.removing = true;
    expect(endingOf(going, created).ending?.outcome).toBe("removed");
  });

  it("comes for a scaling when an update that it met is paused", () => {
    const paused = rollout({ id: "earlier", to: 1, state: RolloutState.PAUSED });
    const aim = { revision: 2, rolloutId: "", isRollback: false };
    expect(is({ revision: 2, replicas: 1, tasks: [task({ slot: 1 })], rollout: paused }, aim).ending?.outcome).toBe(
      "paused",
    );
    expect(is({ revision: 2, replicas: 2, tasks: [task({ slot: 1 })], rollout: paused }, aim)).toEqual({});
  });
});

describe("slots without a node", () => {
  const waiting = task({ slot: 2, state: TaskState.PENDING, node: "", placement: "no memory" });
  const stuck = (parts: Parameters<typeof state>[0]) => {
    const now = state(parts);
    return stuckSlots(now, progressOf(now)).map(({ slot }) => slot);
  };

  it("are stuck when nothing else goes on", () => {
    expect(stuck({ tasks: [task({ slot: 1 }), waiting] })).toEqual([2]);
  });

  it("are not while a task starts, or one that stops may free what they need", () => {
    expect(stuck({ tasks: [task({ slot: 1, state: TaskState.STARTING }), waiting] })).toEqual([]);
    expect(stuck({ tasks: [task({ slot: 1 }), task({ slot: 3, desired: TaskState.SHUTDOWN }), waiting] })).toEqual([]);
  });

  it("are not while the rollout watches other slots", () => {
    const moving = rollout({});
    moving.slots = [
      { slot: 1, taskId: "t", startedAtMs: 0, verdict: SlotVerdict.PENDING, message: "", startFirst: false },
    ];
    const tasks = [
      task({ slot: 1, revision: 2 }),
      task({ slot: 2, revision: 2, state: TaskState.PENDING, node: "", placement: "no" }),
    ];
    expect(stuck({ revision: 2, tasks, rollout: moving })).toEqual([]);
    moving.slots = [
      { slot: 2, taskId: "t", startedAtMs: 0, verdict: SlotVerdict.PENDING, message: "", startFirst: false },
    ];
    expect(stuck({ revision: 2, tasks, rollout: moving })).toEqual([2]);
  });
});

describe("failing tasks", () => {
  it("are those that ended badly or restart in place", () => {
    const tasks = [
      task({ slot: 1 }),
      task({ slot: 2, state: TaskState.FAILED }),
      task({ slot: 3, state: TaskState.REJECTED }),
      task({ slot: 4, phase: ContainerPhase.BACKING_OFF, ready: false }),
      task({ slot: 5, state: TaskState.SHUTDOWN, desired: TaskState.SHUTDOWN }),
      task({ slot: 6, state: TaskState.ORPHANED }),
    ];
    expect(failures(state({ tasks })).map(({ slot }) => slot)).toEqual([2, 3, 4]);
  });
});
