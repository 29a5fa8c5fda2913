import { describe, expect, it } from "vitest";
import { FakeClock } from "../../test/kit/clock.js";
import { TaskState } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { FakeIo } from "../../test/kit/cli/io.js";
import { job, run, state, task } from "../../test/kit/cli/states.js";
import { type Frame, frameLines, screenFor } from "./screens.js";
import { progressOf } from "./view.js";

function frame(parts: Parameters<typeof state>[0], verify = ""): Frame {
  const now = state(parts);
  return { service: "web", revision: now.service?.revision ?? 0, view: progressOf(now), verify };
}

const half = frame({
  replicas: 3,
  tasks: [
    task({ slot: 1 }),
    task({ slot: 2, state: TaskState.PREPARING, node: "h2" }),
    task({ slot: 3, state: TaskState.PENDING, node: "", placement: "no\u001b[2J memory" }),
  ],
});
const failed = {
  task: "web.2",
  id: "abc",
  node: "h2",
  error: "exit code 1",
  logs: ["line 1", "line\u001b[2J 2"],
  noLogs: "",
};

describe("a frame", () => {
  it("has a bar per slot", () => {
    expect(frameLines(half)).toEqual([
      "overall progress: 1 out of 3 tasks",
      "1/3: running   [==========>] h1",
      "2/3: preparing [=====>     ] h2",
      "3/3: pending   [==>        ] no memory",
    ]);
  });

  it("names the nodes of a global service, once, and cuts nothing off a narrow terminal but the end", () => {
    const global = frame({
      mode: { $case: "global", value: {} },
      replicas: 2,
      tasks: [
        task({ slot: 7, only: "h1" }),
        task({ slot: 9, only: "h2", node: "", state: TaskState.PENDING, placement: "h2: short of memory" }),
      ],
    });
    expect(frameLines(global)).toEqual([
      "overall progress: 1 out of 2 tasks",
      "h1: running   [==========>]",
      "h2: pending   [==>        ] h2: short of memory",
    ]);
  });

  it("of a job counts what completed", () => {
    const tasks = [task({ slot: 1, run: 1, state: TaskState.COMPLETE, desired: TaskState.SHUTDOWN })];
    expect(frameLines(frame({ mode: job, tasks, job: { runs: [run(1, { completed: 1 })] } }))).toEqual([
      "job progress: 1 out of 2 complete",
      "1/2: complete  [==========>] h1",
      "2/2: to come   [>          ]",
    ]);
  });

  it("has totals beyond twenty slots", () => {
    const tasks = Array.from({ length: 21 }, (_, i) =>
      task({ slot: i + 1, state: i < 20 ? TaskState.RUNNING : TaskState.STARTING }),
    );
    expect(frameLines(frame({ replicas: 21, tasks }, "watching the new tasks"))).toEqual([
      "overall progress: 20 out of 21 tasks",
      "  20 running, 1 starting",
      "verify: watching the new tasks",
    ]);
    expect(frameLines(frame({ replicas: 0 }))).toEqual(["overall progress: 0 out of 0 tasks"]);
  });
});

describe("a terminal", () => {
  it("is redrawn in place, with failures above, each line cut to its width", async () => {
    const clock = new FakeClock();
    const io = new FakeIo(clock);
    io.width = 30;
    const screen = screenFor("tty", io);
    screen.update(half);
    const lines = ["overall progress: 1 out of 3 …", "1/3: running   [==========>] …"].map((line) => line);
    expect(
      io.stderr
        .split("\n")
        .slice(0, 2)
        .every((line) => line.length <= 29),
    ).toBe(true);
    expect(lines).toHaveLength(2);
    io.stderr = "";
    io.width = 80;
    screen.failed(failed);
    expect(io.stderr).toBe(
      "\u001b[4A\u001b[0Jweb.2 on h2 failed: exit code 1 (task abc)\n  | line 1\n  | line 2\n" +
        "overall progress: 1 out of 3 tasks\n1/3: running   [==========>] h1\n2/3: preparing [=====>     ] h2\n3/3: pending   [==>        ] no memory\n",
    );
    io.stderr = "";
    // Ten states in a moment are one drawing.
    const done = frame({ tasks: [task({ slot: 1 }), task({ slot: 2 })], converged: true }, "service converged");
    for (let i = 0; i < 10; i += 1) screen.update(done);
    expect(io.stderr).toBe("");
    await clock.advance(100);
    expect(io.stderr.match(/overall/g)).toHaveLength(1);
    screen.end();
    expect(io.stderr.endsWith("verify: service converged\n")).toBe(true);
    expect(clock.nextDueMs).toBeUndefined();
  });
});

describe("off a terminal", () => {
  it("each change is a line, said once", () => {
    const io = new FakeIo();
    const screen = screenFor("plain", io);
    screen.update(half);
    screen.update(half);
    expect(io.stderr).toBe(
      "web.1: running on h1\nweb.2: preparing on h2\nweb.3: pending: no memory\noverall progress: 1 out of 3 tasks\n",
    );
    io.stderr = "";
    screen.failed({ ...failed, logs: [], noLogs: "it logged nothing" });
    screen.update(
      frame({ replicas: 3, tasks: [task({ slot: 1 }), task({ slot: 2 }), task({ slot: 3 })] }, "service converged"),
    );
    expect(io.stderr).toBe(
      "web.2 on h2 failed: exit code 1 (task abc)\n  | (it logged nothing)\n" +
        "web.2: running on h1\nweb.3: running on h1\noverall progress: 3 out of 3 tasks\nverify: service converged\n",
    );
    expect(io.stdout).toBe("");
  });

  it("programs get JSON lines on standard output", () => {
    const io = new FakeIo();
    const screen = screenFor("json", io);
    screen.update(half);
    screen.update(half);
    screen.failed(failed);
    screen.say("going back");
    const lines = io.stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines).toMatchObject([
      {
        type: "progress",
        service: "web",
        revision: 1,
        running: 1,
        desired: 3,
        slots: [{ slot: 1, done: true }, { slot: 2 }, { slot: 3 }],
      },
      { type: "failure", task: "web.2", error: "exit code 1", logs: ["line 1", "line\u001b[2J 2"] },
      { type: "message", text: "going back" },
    ]);
    expect(io.stderr).toBe("");
  });

  it("quiet is quiet", () => {
    const io = new FakeIo();
    const screen = screenFor("quiet", io);
    screen.update(half);
    screen.failed(failed);
    screen.end();
    expect(io.stderr + io.stdout).toBe("");
  });
});
