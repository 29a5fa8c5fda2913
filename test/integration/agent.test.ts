// The agent's process on a real Docker Engine, steered by a fake manager.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Lab } from "../../packaging/lab/mod.js";
import { ContainerHealth, ContainerPhase, RestartCondition, TaskState } from "../../proto/mod.js";
import { AgentProcess, assignmentOf, freePort } from "../kit/agent.js";
import { FakeDispatcher } from "../kit/fake-dispatcher.js";
import { eventually } from "../kit/lab.js";

const image = "flotilla/busybox:latest";
let lab: Lab;
let manager: FakeDispatcher;
let agent: AgentProcess;

beforeAll(async () => {
  await Lab.down("agent");
  lab = await Lab.up({ name: "agent", hosts: 1, store: "memory", processes: false, images: ["busybox"] });
});
afterAll(async () => {
  await lab.down();
});

beforeEach(async () => {
  manager = new FakeDispatcher();
  await manager.start();
  agent = new AgentProcess({
    managers: [manager.address],
    hostname: "h1",
    advertiseAddr: lab.address(1),
    docker: `unix://${lab.dockerSocket(1)}`,
    httpListen: "127.0.0.1:0",
    labels: { zone: "eu" },
    logLevel: "info",
    ambassadorCommand: [],
    managerCommand: [],
  });
});
afterEach(async ({ task }) => {
  if (task.result?.state === "fail") process.stderr.write(agent.output);
  await agent[Symbol.asyncDispose]();
  await manager[Symbol.asyncDispose]();
  const left = (await lab.mustDocker(1, ["ps", "-aq"])).split("\n").filter(Boolean);
  if (left.length > 0) await lab.mustDocker(1, ["rm", "-f", ...left]);
});

const reached = (id: string, state: TaskState) =>
  manager.until(`task ${id} in state ${state}`, () => {
    const status = manager.status(id);
    return status !== undefined && status.state >= state && status;
  });
const ready = (id: string) =>
  manager.until(`task ${id} ready`, () => {
    const status = manager.status(id);
    return status?.container?.ready === true && status;
  });
const inspect = async (id: string, format: string) =>
  (await lab.mustDocker(1, ["inspect", "--format", format, id])).trim();
const startedAt = (id: string) => inspect(id, "{{.Id}} {{.State.StartedAt}} {{.State.Pid}}");
const containers = async () =>
  (await lab.mustDocker(1, ["ps", "-a", "--filter", "label=flotilla.task", "--format", "{{.Names}}"]))
    .split("\n")
    .filter(Boolean);
const states = (id: string) => [
  ...new Set(manager.reports.filter(({ taskId }) => taskId === id).map(({ status }) => status.state)),
];

describe("a task", () => {
  test("runs, is reached, is stopped with its code, and leaves nothing when it is no longer assigned", async () => {
    agent.start();
    await manager.until("a session", () => manager.sessions > 0);
    expect(manager.registrations[0]?.description).toMatchObject({
      hostname: "h1",
      os: "linux",
      advertiseAddress: lab.address(1),
      labels: { zone: "eu" },
    });
    manager.assign(assignmentOf("t1", { image, ports: [80] }));
    const status = await ready("t1");
    expect(status).toMatchObject({
      state: TaskState.RUNNING,
      error: "",
      container: { attempt: 1, phase: ContainerPhase.RUNNING, health: ContainerHealth.NONE },
    });
    expect(status.container?.address).toMatch(/^10\.128\.7\./);
    expect(status.container?.hostPorts).toMatchObject([{ targetPort: 80 }]);
    expect(await containers()).toEqual(["web.1.t1"]);
    const labels = JSON.parse(await inspect("web.1.t1", "{{json .Config.Labels}}")) as Record<string, string>;
    expect(labels).toMatchObject({
      "flotilla.cluster": "test",
      "flotilla.service": "web",
      "flotilla.task": "t1",
      "flotilla.slot": "1",
    });
    expect(await inspect("web.1.t1", "{{json .Config.Env}}")).toContain("FLOTILLA_TASK=t1");
    expect(await inspect("web.1.t1", "{{json .HostConfig.Dns}} {{.HostConfig.RestartPolicy.Name}}")).toBe(
      '["10.128.7.1"] no',
    );

    manager.change("t1", (was) => ({
      ...was,
      task: { ...was.task, desiredState: TaskState.SHUTDOWN } as never,
      drained: true,
    }));
    expect(await reached("t1", TaskState.SHUTDOWN)).toMatchObject({
      state: TaskState.SHUTDOWN,
      container: { exitCode: 0, ready: false, phase: ContainerPhase.STOPPED },
    });
    // Kept for its logs.
    expect(await containers()).toEqual(["web.1.t1"]);
    manager.remove("t1");
    await eventually("the container is gone", async () => (await containers()).length === 0);
    const seen = states("t1");
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
  });

  test("waits at the gate until it is released", async () => {
    agent.start();
    manager.assign(assignmentOf("t1", { image, desired: TaskState.READY }));
    await reached("t1", TaskState.READY);
    expect(await inspect("web.1.t1", "{{.State.Status}}")).toBe("created");
    manager.change("t1", (was) => ({ ...was, task: { ...was.task, desiredState: TaskState.RUNNING } as never }));
    await ready("t1");
  });

  test("that fails is restarted in place with back-off, and is FAILED with its code when the policy is spent", async () => {
    agent.start();
    manager.assign(assignmentOf("t1", { image, script: "exit 3", restart: { maxAttempts: 2, delayMs: 100 } }));
    const end = await reached("t1", TaskState.COMPLETE);
    expect(end).toMatchObject({
      state: TaskState.FAILED,
      error: "exit code 3",
      container: { attempt: 3, exitCode: 3 },
    });
    const phases = manager.reports.map(({ status }) => status.container?.phase);
    expect(phases).toContain(ContainerPhase.BACKING_OFF);
    const waiting = manager.reports.find(({ status }) => status.container?.phase === ContainerPhase.BACKING_OFF);
    expect(waiting?.status).toMatchObject({ container: { ready: false, exitCode: 3 } });
    expect(waiting?.status.container?.nextAttemptAtMs).toBeGreaterThan(0);
    expect(await containers()).toEqual(["web.1.t1"]);
  });

  test("that ends well under on-failure is COMPLETE", async () => {
    agent.start();
    manager.assign(
      assignmentOf("t1", { image, script: "exit 0", restart: { condition: RestartCondition.ON_FAILURE } }),
    );
    expect(await reached("t1", TaskState.COMPLETE)).toMatchObject({ state: TaskState.COMPLETE, error: "" });
  });

  test("is running only when its health check says so, and is restarted when it stops saying so", async () => {
    agent.start();
    manager.assign(
      assignmentOf("t1", {
        image,
        script: "trap 'exit 0' TERM; sleep 2; touch /tmp/ok; while :; do sleep 1 & wait $!; done",
        healthcheck: {
          test: ["CMD-SHELL", "test -e /tmp/ok"],
          intervalMs: 1_000,
          timeoutMs: 1_000,
          startPeriodMs: 20_000,
          retries: 1,
        },
        restart: { delayMs: 100 },
      }),
    );
    const starting = await reached("t1", TaskState.STARTING);
    expect(starting.container?.ready ?? false).toBe(false);
    expect(await ready("t1")).toMatchObject({
      state: TaskState.RUNNING,
      container: { health: ContainerHealth.HEALTHY, attempt: 1 },
    });
    await lab.mustDocker(1, ["exec", "web.1.t1", "rm", "/tmp/ok"]);
    await manager.until("unhealthy", () => manager.status("t1")?.error === "its health check failed");
    expect(manager.status("t1")).toMatchObject({ state: TaskState.RUNNING, container: { ready: false } });
    await manager.until(
      "ready again",
      () => manager.status("t1")?.container?.ready && manager.status("t1")?.container?.attempt === 2,
    );
  });

  test("to be stopped goes on serving until it is drained", async () => {
    agent.start();
    manager.assign(assignmentOf("t1", { image, ports: [80], drainTimeoutMs: 600_000 }));
    manager.assign(assignmentOf("t2", { image, drainTimeoutMs: 600_000 }));
    await ready("t1");
    await ready("t2");
    const shutDown = (id: string, drained: boolean) =>
      manager.change(id, (was) => ({
        ...was,
        task: { ...was.task, desiredState: TaskState.SHUTDOWN } as never,
        drained,
      }));
    shutDown("t1", false);
    shutDown("t2", false);
    // Without ports there is nothing to drain: its end shows that the wish has arrived.
    await reached("t2", TaskState.SHUTDOWN);
    expect(await inspect("web.1.t1", "{{.State.Status}}")).toBe("running");
    expect(manager.status("t1")).toMatchObject({ state: TaskState.RUNNING, container: { ready: true } });
    shutDown("t1", true);
    await reached("t1", TaskState.SHUTDOWN);
  });

  test("that ignores SIGTERM is killed after its grace", async () => {
    agent.start();
    manager.assign(assignmentOf("t1", { image, script: "trap '' TERM; while :; do sleep 1; done", graceMs: 1_000 }));
    await ready("t1");
    manager.change("t1", (was) => ({ ...was, task: { ...was.task, desiredState: TaskState.SHUTDOWN } as never }));
    expect(await reached("t1", TaskState.SHUTDOWN)).toMatchObject({ container: { exitCode: 137 } });
  });

  test("with an image that cannot be had is REJECTED in the engine's words", async () => {
    agent.start();
    manager.assign(assignmentOf("t1", { image: "nosuch.invalid/image:1" }));
    const status = await reached("t1", TaskState.COMPLETE);
    expect(status.state).toBe(TaskState.REJECTED);
    expect(status.error).toMatch(/pull nosuch\.invalid\/image:1: .*lookup nosuch\.invalid/);
  });

  test("whose program does not exist is FAILED in the engine's words", async () => {
    agent.start();
    const task = assignmentOf("t1", { image });
    if (task.spec?.container !== undefined) task.spec.container.command = ["/no/such/program"];
    manager.assign(task);
    expect(await reached("t1", TaskState.COMPLETE)).toMatchObject({
      state: TaskState.FAILED,
      error: expect.stringContaining("/no/such/program") as string,
    });
  });

  test("whose name a foreign container holds is REJECTED, and the foreign one is left alone", async () => {
    await lab.mustDocker(1, ["run", "-d", "--name", "web.1.t1", image, "sleep", "1000"]);
    const before = await startedAt("web.1.t1");
    agent.start();
    manager.assign(assignmentOf("t1", { image }));
    const status = await reached("t1", TaskState.COMPLETE);
    expect(status).toMatchObject({
      state: TaskState.REJECTED,
      error: expect.stringContaining("container name web.1.t1 is taken") as string,
    });
    manager.remove("t1");
    expect(await startedAt("web.1.t1")).toBe(before);
  });

  test("whose container somebody removes is started anew", async () => {
    agent.start();
    manager.assign(assignmentOf("t1", { image, restart: { delayMs: 100 } }));
    const first = await ready("t1");
    await lab.mustDocker(1, ["rm", "-f", "web.1.t1"]);
    await manager.until("another container", () => {
      const now = manager.status("t1")?.container;
      return now?.ready === true && now.id !== first.container?.id;
    });
  });

  test("has its log read, then followed through a restart", async () => {
    agent.start();
    manager.assign(
      assignmentOf("t1", {
        image,
        script: "echo begin; sleep 1; echo oops >&2; exit 1",
        restart: { delayMs: 100, maxAttempts: 2 },
      }),
    );
    await manager.until("a log stream", () => manager.logStreams > 0);
    await ready("t1");
    manager.subscribe({ id: "l1", closed: false, taskIds: ["t1"], options: { follow: true, sinceMs: 0 } });
    await manager.until("the end of the log", () => manager.logEnds.includes("l1"));
    const words = manager.lines.map(({ line }) => Buffer.from(line.text).toString());
    expect(words).toEqual(["begin", "oops", "begin", "oops", "begin", "oops"]);
    manager.subscribe({
      id: "l2",
      closed: false,
      taskIds: ["t1", "nosuch"],
      options: { follow: false, tail: 1, sinceMs: 0 },
    });
    await manager.until("the end of the second", () => manager.logEnds.includes("l2"));
    expect(manager.lines.filter(({ subscription }) => subscription === "l2")).toHaveLength(1);
    expect(manager.logErrors).toMatchObject([
      { subscription: "l2", error: expect.stringContaining("nosuch") as string },
    ]);
  });
});

describe("the agent", () => {
  test("killed and started again: no container is restarted, and its status is reported again", async () => {
    agent.start();
    manager.assign(assignmentOf("t1", { image, ports: [80] }));
    manager.assign(assignmentOf("t2", { image }));
    await ready("t1");
    await ready("t2");
    const before = [await startedAt("web.1.t1"), await startedAt("web.1.t2")];
    await agent.end("SIGKILL");
    manager.reports.length = 0;
    agent.start();
    expect((await ready("t1")).container?.attempt).toBe(1);
    await ready("t2");
    expect([await startedAt("web.1.t1"), await startedAt("web.1.t2")]).toEqual(before);
    expect(manager.registrations.map(({ nodeId }) => nodeId)).toEqual(Array(2).fill(manager.registrations[0]?.nodeId));
  });

  test("ends on SIGTERM and leaves its containers running", async () => {
    agent.start();
    manager.assign(assignmentOf("t1", { image }));
    await ready("t1");
    const before = await startedAt("web.1.t1");
    expect(await agent.end("SIGTERM")).toBe(0);
    expect(await startedAt("web.1.t1")).toBe(before);
  });

  test("ends on SIGTERM at once, even while it waits for a container to stop", async () => {
    agent.start();
    manager.assign(assignmentOf("t1", { image, script: "trap '' TERM; while :; do sleep 1; done", graceMs: 60_000 }));
    await ready("t1");
    manager.change("t1", (was) => ({ ...was, task: { ...was.task, desiredState: TaskState.SHUTDOWN } as never }));
    manager.assign(assignmentOf("t2", { image }));
    await ready("t2");
    expect(await agent.end("SIGTERM")).toBe(0);
    // Had the agent waited, it would have been killed by now.
    expect(await inspect("web.1.t1", "{{.State.Status}}")).toBe("running");
  });

  test("killed at many moments of ten starts: ten containers, each started once", async () => {
    const ids = Array.from({ length: 10 }, (_, i) => `k${i}`);
    for (const id of ids) manager.assign(assignmentOf(id, { image, script: "sleep 1000" }));
    for (const count of [1, 12, 25, 34]) {
      manager.reports.length = 0;
      agent.start();
      await manager.until(
        `${count} reports`,
        () => manager.reports.length >= count || ids.every((id) => manager.status(id)?.container?.ready),
        60_000,
      );
      await agent.end("SIGKILL");
    }
    agent.start();
    for (const id of ids) await ready(id);
    expect((await containers()).toSorted()).toEqual(ids.map((id) => `web.1.${id}`).toSorted());
    for (const id of ids) {
      expect(manager.status(id)).toMatchObject({ state: TaskState.RUNNING, container: { attempt: 1 } });
      expect(await inspect(`web.1.${id}`, "{{.RestartCount}}")).toBe("0");
    }
  });

  test("away while a container exits: reported once, with its code, and not counted as more than one", async () => {
    agent.start();
    manager.assign(
      assignmentOf("t1", {
        image,
        script: "while [ ! -e /tmp/go ]; do sleep 0.1; done; exit 7",
        restart: { condition: RestartCondition.NONE },
      }),
    );
    await ready("t1");
    await agent.end("SIGKILL");
    await lab.mustDocker(1, ["exec", "web.1.t1", "touch", "/tmp/go"]);
    await eventually("it exited", async () => (await inspect("web.1.t1", "{{.State.Status}}")) === "exited");
    manager.reports.length = 0;
    agent.start();
    expect(await reached("t1", TaskState.COMPLETE)).toMatchObject({
      state: TaskState.FAILED,
      error: "exit code 7",
      container: { exitCode: 7, attempt: 1 },
    });
  });

  test("goes on without managers: restarts in place, and tells all when they are back", async () => {
    agent.start();
    manager.assign(
      assignmentOf("t1", {
        image,
        script: "while [ ! -e /tmp/go ]; do sleep 0.1; done; rm /tmp/go; exit 1",
        restart: { delayMs: 100 },
      }),
    );
    await ready("t1");
    manager.stop();
    await lab.mustDocker(1, ["exec", "web.1.t1", "touch", "/tmp/go"]);
    const before = await startedAt("web.1.t1");
    await eventually("it runs again", async () => {
      const now = await startedAt("web.1.t1");
      return now !== before && !now.endsWith(" 0");
    });
    manager.reports.length = 0;
    await manager.start();
    expect(await ready("t1")).toMatchObject({ state: TaskState.RUNNING, container: { attempt: 2, exitCode: 1 } });
  });

  test("started again without managers goes on with what it remembers", async () => {
    agent.start();
    manager.assign(assignmentOf("t1", { image }));
    await ready("t1");
    manager.stop();
    await agent.end("SIGKILL");
    agent.start();
    const before = await startedAt("web.1.t1");
    await lab.mustDocker(1, ["kill", "web.1.t1"]);
    await eventually("it runs again", async () => {
      const now = await startedAt("web.1.t1");
      return now !== before && !now.endsWith(" 0");
    });
  });

  test("back after its task was replaced elsewhere: stops it and removes it", async () => {
    agent.start();
    manager.assign(assignmentOf("t1", { image }));
    manager.assign(assignmentOf("t2", { image }));
    await ready("t1");
    await ready("t2");
    await agent.end("SIGKILL");
    manager.dropSilently("t1");
    agent.start();
    await eventually("only the other is left", async () => (await containers()).join() === "web.1.t2");
  });

  test("removes containers of its own that nobody knows, once the managers have said everything", async () => {
    agent.start();
    await manager.until("a session", () => manager.sessions > 0);
    const nodeId = manager.registrations[0]?.nodeId ?? "";
    await agent.end("SIGKILL");
    const run = (name: string, node: string) =>
      lab.mustDocker(1, [
        "run",
        "-d",
        "--name",
        name,
        "--label",
        `flotilla.node=${node}`,
        "--label",
        `flotilla.task=${name}`,
        image,
        "sleep",
        "1000",
      ]);
    await run("ours", nodeId);
    await run("anothers", "another");
    agent.start();
    await eventually("ours is gone", async () => (await containers()).join() === "anothers");
  });

  test("statuses that could not be stored are sent again", async () => {
    agent.start();
    await manager.until("a session", () => manager.sessions > 0);
    manager.refuseStatuses = true;
    manager.assign(assignmentOf("t1", { image }));
    await eventually("it runs", async () => (await lab.mustDocker(1, ["ps", "-q"])).trim() !== "");
    expect(manager.reports).toEqual([]);
    manager.refuseStatuses = false;
    await ready("t1");
  });

  test("a gap in the assignments is healed by asking for all", async () => {
    agent.start();
    await manager.until("a session", () => manager.sessions > 0);
    manager.assign(assignmentOf("t1", { image }));
    await ready("t1");
    manager.skipSequence();
    manager.assign(assignmentOf("t2", { image }));
    await ready("t2");
  });

  test("is ready when it has a session and an engine, and shows its metrics", async () => {
    const port = await freePort();
    await using other = new AgentProcess({
      managers: [manager.address],
      hostname: "h1",
      advertiseAddr: lab.address(1),
      docker: `unix://${lab.dockerSocket(1)}`,
      httpListen: `127.0.0.1:${port}`,
      labels: {},
      logLevel: "info",
      ambassadorCommand: [],
      managerCommand: [],
    });
    other.start();
    const get = async (path: string) => await fetch(`http://127.0.0.1:${port}${path}`);
    await eventually("ready", async () => (await get("/readyz")).status === 200);
    expect((await get("/healthz")).status).toBe(200);
    manager.assign(assignmentOf("t1", { image }));
    await ready("t1");
    const metrics = await (await get("/metrics")).text();
    expect(metrics).toContain('flotilla_agent_tasks{state="running"} 1');
    expect(metrics).toContain("flotilla_agent_session_up 1");
    manager.stop();
    await eventually("not ready", async () => (await get("/readyz")).status === 503);
    expect(await (await get("/readyz")).text()).toContain("no session with a manager");
    const state = JSON.parse(readFileSync(join(other.dataDir, "agent-state.json"), "utf8")) as { records: unknown[] };
    expect(state.records).toHaveLength(1);
  });
});

describe("the engine", () => {
  test("killed and back: nothing is reported as failed, nothing charged, and the tasks run again", async () => {
    agent.start();
    manager.assign(assignmentOf("t1", { image, restart: { maxAttempts: 0 } }));
    await ready("t1");
    await lab.kill("dockerd", 1);
    await lab.start("dockerd", 1);
    await manager.until("running again", () => {
      const now = manager.status("t1")?.container;
      return now?.ready === true && now.attempt === 2;
    });
    expect(states("t1").filter((state) => state > TaskState.RUNNING)).toEqual([]);
    expect(manager.status("t1")).toMatchObject({ error: "", container: { exitCode: undefined } });
  });

  test("killed together with the agent, its host's power gone: what is no longer assigned does not run again", async () => {
    agent.start();
    manager.assign(assignmentOf("t1", { image }));
    manager.assign(assignmentOf("t2", { image }));
    await ready("t1");
    await ready("t2");
    const before = await startedAt("web.1.t1");
    manager.stop();
    await agent.end("SIGKILL");
    await lab.kill("host", 1);
    await lab.start("host", 1);
    manager.dropSilently("t1");
    agent.start();
    await eventually("the agent has looked", () => agent.output.includes("no session with this manager"));
    expect((await inspect("web.1.t1", "{{.State.Status}} {{.State.StartedAt}}")).startsWith("exited")).toBe(true);
    await manager.start();
    manager.reports.length = 0;
    await ready("t2");
    await eventually("the other is gone", async () => (await containers()).join() === "web.1.t2");
    expect(before).not.toBe("");
  });
});
