import { describe, expect, it } from "vitest";
import { BoundedStream } from "../../lib/stream.js";
import { ClusterError } from "../../lib/errors.js";
import type { ServiceLogsResponse, ServiceState } from "../../proto/gen/flotilla/control/v1/control.js";
import { ContainerPhase, RolloutState, TaskState } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { FakeClock, settle } from "../../test/kit/clock.js";
import type { ControlApi } from "../client/mod.js";
import { FakeIo } from "../../test/kit/cli/io.js";
import { job, rollout, run, state, task, webId } from "../../test/kit/cli/states.js";
import { screenFor } from "./screens.js";
import { type Result, type WatchOptions, watchService } from "./watch.js";

/** A manager whose states the test pushes. */
class Scripted implements Pick<ControlApi, "watchService" | "logs" | "addresses"> {
  readonly addresses = ["10.0.0.1:7400"];
  stream = new BoundedStream<ServiceState>("states", 100);
  opened = 0;
  /** Thrown when the watch is opened. */
  refusal: Error | undefined;
  logLines: string[] | Error = [];
  readonly logsAsked: string[] = [];

  async *watchService(_: string, signal: AbortSignal): AsyncGenerator<ServiceState> {
    this.opened += 1;
    if (this.refusal !== undefined) throw this.refusal;
    this.stream = new BoundedStream("states", 100);
    const { stream } = this;
    signal.addEventListener("abort", () => stream.end());
    yield* stream;
  }

  async *logs({ taskId }: { taskId: string }): AsyncGenerator<ServiceLogsResponse> {
    await Promise.resolve();
    this.logsAsked.push(taskId);
    if (this.logLines instanceof Error) throw this.logLines;
    yield {
      lines: this.logLines.map((text) => ({ taskId, atMs: 0, stream: 1, text: Buffer.from(text) })),
      warning: "",
    };
  }
}

function begin(options: Partial<WatchOptions> = {}) {
  const clock = new FakeClock();
  const io = new FakeIo(clock);
  const api = new Scripted();
  const aim = { revision: 1, rolloutId: "", isRollback: false };
  let result: Result | undefined;
  let error: unknown;
  const done = watchService({
    api,
    io,
    screen: screenFor("plain", io),
    service: webId,
    name: "web",
    aim,
    ...options,
  }).then(
    (value) => {
      result = value;
    },
    (thrown: unknown) => {
      error = thrown;
    },
  );
  return {
    clock,
    io,
    api,
    done,
    get result() {
      return result;
    },
    get error() {
      return error as Error | undefined;
    },
    async push(parts: Parameters<typeof state>[0]) {
      await settle();
      api.stream.push(state(parts));
      await settle();
    },
  };
}

const two = [task({ slot: 1 }), task({ slot: 2 })];
const waiting = task({ slot: 2, state: TaskState.PENDING, node: "", placement: "3 nodes: 3 short of memory" });

describe("waiting for a service", () => {
  it("ends when it converged, and leaves no timer", async () => {
    const watch = begin();
    await watch.push({ tasks: [task({ slot: 1 })] });
    expect(watch.result).toBeUndefined();
    await watch.push({ tasks: two, converged: true });
    await watch.done;
    expect(watch.result).toEqual({ outcome: "converged", revision: 1 });
    expect(watch.clock.nextDueMs).toBeUndefined();
  });

  // A program that ends a second after its start was once reported as a success.
  it("watches tasks that no rollout watches, and begins again when one fails", async () => {
    const watch = begin({ created: true });
    await watch.push({ tasks: two, converged: true, monitorMs: 5000 });
    await watch.clock.advance(4000);
    expect(watch.result).toBeUndefined();
    expect(watch.io.stderr).toContain("verify: watching the new tasks for 5s\n");
    await watch.push({ tasks: [task({ slot: 1 }), task({ slot: 2, ready: false })], monitorMs: 5000 });
    await watch.clock.advance(2000);
    await watch.push({ tasks: two, converged: true, monitorMs: 5000 });
    await watch.clock.advance(4000);
    expect(watch.result).toBeUndefined();
    await watch.clock.advance(1500);
    await watch.done;
    expect(watch.result).toEqual({ outcome: "converged", revision: 1 });
    expect(watch.io.stderr).toMatch(/verify: service converged\n$/);
    expect(watch.clock.nextDueMs).toBeUndefined();
  });

  it("watches what came up before its eyes, and not what ran already or was watched by its rollout", async () => {
    const grown = begin();
    await grown.push({ tasks: [task({ slot: 1 })], monitorMs: 5000 });
    await grown.push({ tasks: two, converged: true, monitorMs: 5000 });
    expect(grown.result).toBeUndefined();
    await grown.clock.advance(5500);
    await grown.done;
    expect(grown.result?.outcome).toBe("converged");

    const unchanged = begin();
    await unchanged.push({ tasks: two, converged: true, monitorMs: 5000 });
    await unchanged.done;
    expect(unchanged.result?.outcome).toBe("converged");

    const updated = begin({ aim: { revision: 2, rolloutId: "rollout2", isRollback: false } });
    await updated.push({ revision: 2, tasks: [task({ slot: 1 })], rollout: rollout({}), monitorMs: 5000 });
    const done = rollout({ state: RolloutState.COMPLETED });
    const tasks = [task({ slot: 1, revision: 2 }), task({ slot: 2, revision: 2 })];
    await updated.push({ revision: 2, tasks, rollout: done, converged: true, monitorMs: 5000 });
    await updated.done;
    expect(updated.result?.outcome).toBe("converged");
  });

  it("does not end well on what a lost manager last said", async () => {
    const watch = begin({ created: true });
    await watch.push({ tasks: two, converged: true, monitorMs: 5000 });
    watch.api.refusal = new ClusterError("unavailable", "gone");
    watch.api.stream.end(new ClusterError("unavailable", "gone"));
    await watch.clock.advance(20_000);
    expect(watch.result).toBeUndefined();
    watch.api.refusal = undefined;
    await watch.clock.advance(3000);
    await watch.push({ tasks: two, converged: true, monitorMs: 5000 });
    await watch.done;
    expect(watch.result?.outcome).toBe("converged");
  });

  it("ends after its timeout, even when no state was ever seen", async () => {
    const watch = begin({ timeoutMs: 3000 });
    await watch.clock.advance(2900);
    expect(watch.result).toBeUndefined();
    await watch.clock.advance(500);
    await watch.done;
    expect(watch.result).toMatchObject({ outcome: "timeout", reason: "not done within 3s: no state was seen" });
  });

  it("ends when nothing gets better for long, but not while a rollout with its own deadline runs", async () => {
    const watch = begin({ aim: { revision: 2, rolloutId: "rollout2", isRollback: false } });
    await watch.push({ revision: 2, tasks: two, rollout: rollout({}) });
    await watch.clock.advance(3_600_000);
    expect(watch.result).toBeUndefined();
    await watch.push({ revision: 2, tasks: two, rollout: rollout({ state: RolloutState.COMPLETED }) });
    await watch.clock.advance(601_000);
    await watch.done;
    expect(watch.result?.outcome).toBe("timeout");
  });

  it("ends when tasks find no node and nothing else goes on, after a moment of grace", async () => {
    const watch = begin();
    await watch.push({ tasks: [task({ slot: 1 }), waiting] });
    await watch.clock.advance(4000);
    // Something changed: the grace begins anew.
    await watch.push({ tasks: [task({ slot: 1, state: TaskState.STARTING }), waiting] });
    await watch.clock.advance(4000);
    await watch.push({ tasks: [task({ slot: 1 }), waiting] });
    await watch.clock.advance(4000);
    expect(watch.result).toBeUndefined();
    await watch.clock.advance(1500);
    await watch.done;
    expect(watch.result).toMatchObject({
      outcome: "unplaceable",
      reason: "3 nodes: 3 short of memory",
      slots: [{ slot: 2, reason: "3 nodes: 3 short of memory" }],
    });
  });

  it("says unplaceable rather than timeout when that is why", async () => {
    const watch = begin({ timeoutMs: 2000 });
    await watch.push({ tasks: [task({ slot: 1 }), waiting] });
    await watch.clock.advance(2500);
    await watch.done;
    expect(watch.result?.outcome).toBe("unplaceable");
  });

  it("detaches at Ctrl-C, at once", async () => {
    const watch = begin();
    await watch.push({ tasks: [task({ slot: 1 })] });
    expect(watch.io.stop()).toBe(true);
    await watch.done;
    expect(watch.result).toMatchObject({ outcome: "detached", revision: 1 });
    expect(watch.io.stop()).toBe(false);
  });

  it("follows a rollback to its end", async () => {
    const watch = begin({ aim: { revision: 2, rolloutId: "rollout2", isRollback: false } });
    const back = (state: RolloutState) =>
      rollout({ id: "rollout3", from: 2, to: 3, isRollback: true, state, message: "slot 1 failed" });
    await watch.push({ revision: 3, rollout: back(RolloutState.RUNNING) });
    await watch.push({ revision: 3, rollout: back(RolloutState.RUNNING), tasks: two });
    expect(watch.io.stderr.match(/going back: slot 1 failed/g)).toHaveLength(1);
    await watch.push({ revision: 3, rollout: back(RolloutState.COMPLETED), tasks: two, converged: true });
    await watch.done;
    expect(watch.result).toEqual({ outcome: "rolled-back", reason: "slot 1 failed", revision: 3 });
  });

  it("goes on after a lost manager, and says so once", async () => {
    const watch = begin();
    await watch.push({ tasks: [task({ slot: 1 })] });
    watch.api.refusal = new ClusterError("unavailable", "connect ECONNREFUSED");
    watch.api.stream.end(new ClusterError("unavailable", "connection dropped"));
    await watch.clock.advance(10_000);
    expect(watch.api.opened).toBeGreaterThan(3);
    expect(watch.io.stderr.match(/lost the manager \(connection dropped\)/g)).toHaveLength(1);
    watch.api.refusal = undefined;
    await watch.clock.advance(2500);
    await watch.push({ tasks: two, converged: true });
    await watch.done;
    expect(watch.io.stderr).toContain("a manager answers again");
    expect(watch.result?.outcome).toBe("converged");
  });

  it("gives up when no manager comes back, and says how to look later", async () => {
    const watch = begin();
    await watch.push({ tasks: [task({ slot: 1 })] });
    watch.api.refusal = new ClusterError("unavailable", "connect ECONNREFUSED");
    watch.api.stream.end(watch.api.refusal);
    await watch.clock.advance(125_000);
    await watch.done;
    expect(watch.error?.message).toMatch(/no manager at 10\.0\.0\.1:7400 answered for 2m/);
  });

  it("does not repeat what cannot become right", async () => {
    const watch = begin();
    await settle();
    watch.api.stream.end(new ClusterError("permission_denied", "no"));
    await watch.done;
    expect(watch.error).toMatchObject({ code: "permission_denied" });
  });

  it("takes a service that is gone after a reconnect as removed", async () => {
    const watch = begin();
    await watch.push({ tasks: two });
    watch.api.refusal = new ClusterError("not_found", "no service");
    watch.api.stream.end(new ClusterError("unavailable", "dropped"));
    await watch.clock.advance(1000);
    await watch.done;
    expect(watch.result?.outcome).toBe("removed");
  });
});

describe("failing tasks while waiting", () => {
  it("are shown once each, with their last ten lines", async () => {
    const watch = begin();
    watch.api.logLines = Array.from({ length: 14 }, (_, i) => `line ${i + 1}`);
    const failed = task({ slot: 1, id: "dead", state: TaskState.FAILED, error: "exit code 1" });
    await watch.push({ tasks: [failed] });
    await watch.push({ tasks: [failed, task({ slot: 1 })] });
    await watch.push({ tasks: [failed, ...two], converged: true });
    await watch.done;
    expect(watch.io.stderr.match(/web\.1 on h1 failed: exit code 1 \(task dead\)/g)).toHaveLength(1);
    expect(watch.io.stderr).not.toContain("line 4\n");
    expect(watch.io.stderr).toContain("  | line 5\n");
    expect(watch.io.stderr).toContain("  | line 14\n");
  });

  it("say why there are no lines", async () => {
    const watch = begin();
    watch.api.logLines = new ClusterError("unavailable", "h1 is away");
    await watch.push({ tasks: [task({ slot: 1, phase: ContainerPhase.BACKING_OFF, ready: false, oomKilled: true })] });
    await watch.push({ tasks: two, converged: true });
    await watch.done;
    expect(watch.io.stderr).toContain("web.1 on h1 failed: it used more memory than its limit");
    expect(watch.io.stderr).toContain("  | (no log lines: h1 is away)\n");
  });

  it("are only those of this change", async () => {
    const watch = begin({ aim: { revision: 2, rolloutId: "rollout2", isRollback: false } });
    const old = task({ slot: 1, id: "old", revision: 1, state: TaskState.FAILED, error: "long ago" });
    await watch.push({ revision: 2, tasks: [old], rollout: rollout({}) });
    await watch.push({
      revision: 2,
      tasks: [old, task({ slot: 2, id: "new", revision: 2, state: TaskState.FAILED, error: "now" })],
      rollout: rollout({}),
    });
    expect(watch.api.logsAsked).toEqual(["new"]);
    watch.io.stop();
    await watch.done;
  });

  it("are not shown without end", async () => {
    const watch = begin();
    const dead = Array.from({ length: 30 }, (_, i) => task({ slot: i + 1, state: TaskState.FAILED, error: "boom" }));
    await watch.push({ replicas: 30, tasks: dead });
    expect(watch.api.logsAsked).toHaveLength(5);
    expect(watch.io.stderr.match(/more tasks fail/g)).toHaveLength(1);
    watch.io.stop();
    await watch.done;
  });

  it("says what a service waits for, and how far a job is; long work is not idle", async () => {
    const watch = begin({ limits: { idleMs: 60_000 } });
    await watch.push({ replicas: 1, mode: job, waitingFor: "waits for db\u001b[2J" });
    expect(watch.io.stderr).toContain("web: waits for db\n");
    await watch.push({ mode: job, tasks: [task({ slot: 1, run: 1 })], job: { runs: [run(1)] } });
    await watch.clock.advance(600_000);
    expect(watch.result).toBeUndefined();
    await watch.push({ mode: job, job: { runs: [run(1)] } });
    await watch.clock.advance(61_000);
    await watch.done;
    expect(watch.result).toMatchObject({
      outcome: "timeout",
      reason: expect.stringContaining("no more tasks completed") as string,
    });
  });
});
