import { describe, expect, it } from "vitest";
import {
  AutoscaleSpec,
  AutoscaleStatus,
  ContainerHealth,
  ContainerPhase,
  type JobRun,
  JobState,
  JobStatus,
  NodeRole,
  TaskSpec,
  TaskState,
  UpdateConfig,
} from "../../proto/gen/flotilla/objects/v1/objects.js";
import { cron, job, node, rollout, run, startMs, state, task } from "../../test/kit/cli/states.js";
import { statusText } from "../command/rollout.js";
import { UsageError } from "../exit.js";
import { inspectJson, nodeJson, serviceJson, taskJson } from "./json.js";
import { nodeColumns, nodePretty } from "./node.js";
import { serviceColumns, servicePretty } from "./service.js";
import { type Column, parseFormat, renderListing, renderTable } from "./table.js";
import { currentState, orderTasks, taskError } from "./task.js";
import { clip, count, logText, plain, plainLines, safeJson } from "./text.js";
import { ago, humanDuration, iso } from "./time.js";

describe("text from elsewhere", () => {
  it("cannot steer the terminal", () => {
    expect(plain("a\u001b[31mred\u001b[0m\u001b]0;title\u0007b\u001b[2Jc")).toBe("aredbc");
    expect(plain("\u001b]8;;http://evil\u001b\\link\u001b]8;;\u001b\\")).toBe("link");
    expect(plain("a\u0008\u0000\u009b31mb")).toBe("a31mb");
    expect(plain("user\u202egnp.exe\u2066x\u200b")).toBe("usergnp.exex");
    expect(plain("a\nb\r\nc\td")).toBe("a b c d");
    expect(plain("unfinished\u001b[")).toBe("unfinished");
    expect(plain("ünï→🚀")).toBe("ünï→🚀");
  });

  it("keeps lines where lines are wanted", () => {
    expect(plainLines("a\u001b[1m\nb\r\nc")).toBe("a\nb\nc");
  });

  it("keeps tabs in logs, and colours only when they are wanted", () => {
    const line = "\u001b[32mok\u001b[0m\t\u001b[2J\u001b]0;t\u0007done\ufdd0";
    expect(logText(line, false)).toBe("ok\tdone");
    expect(logText(line, true)).toBe("\u001b[32mok\u001b[0m\tdone\u001b[0m");
    expect(logText("plain", true)).toBe("plain");
  });

  it("is exact and harmless as JSON", () => {
    const text = "a\u202eb\u009b\u007f\n";
    expect(safeJson(text)).toBe('"a\\u202eb\\u009b\\u007f\\n"');
    expect(JSON.parse(safeJson(text))).toBe(text);
  });

  it("is cut with a mark, and counted", () => {
    expect(clip("abcdef", 4)).toBe("abc…");
    expect(clip("abcd", 4)).toBe("abcd");
    expect(clip("🚀🚀🚀", 2)).toBe("🚀…");
    expect([count(1, "task"), count(2, "task")]).toEqual(["1 task", "2 tasks"]);
  });
});

describe("times", () => {
  it.each([
    [0, "Less than a second"],
    [1000, "1 second"],
    [59_999, "59 seconds"],
    [60_000, "About a minute"],
    [600_000, "10 minutes"],
    [3_600_000, "About an hour"],
    [36_000_000, "10 hours"],
    [3 * 86_400_000, "3 days"],
    [21 * 86_400_000, "3 weeks"],
    [90 * 86_400_000, "3 months"],
    [800 * 86_400_000, "2 years"],
  ])("%i ms is %s", (ms, words) => {
    expect(humanDuration(ms)).toBe(words);
  });

  it("are never in the future, and never is empty", () => {
    expect(ago(2000, 1000)).toBe("Less than a second ago");
    expect(iso(0)).toBe("");
    expect(iso(1_767_225_600_000)).toBe("2026-01-01T00:00:00.000Z");
  });
});

describe("tables", () => {
  interface Row {
    id: string;
    name: string;
  }
  const columns: Column<Row>[] = [
    { key: "ID", header: "ID", get: ({ id }) => id },
    { key: "Name", header: "NAME", get: ({ name }) => name },
    { key: "Upper", header: "UPPER", get: ({ name }) => name.toUpperCase(), hidden: true },
  ];
  const rows = [
    { id: "1", name: "web" },
    { id: "1234", name: "\u001b[31mapi" },
  ];
  const list = (format: string | undefined, json = false) =>
    renderListing({ columns, rows, toJson: (row) => row }, parseFormat(format, json));

  it("have columns as wide as their widest cell, and no blanks at the end", () => {
    expect(renderTable(columns, rows)).toBe("ID     NAME\n1      web\n1234   api\n");
    expect(renderTable(columns, [])).toBe("ID   NAME\n");
    expect(renderTable(columns, [{ id: "1", name: "" }])).toBe("ID   NAME\n1\n");
  });

  it("go through templates", () => {
    expect(list("{{.ID}}: {{ .Upper }}!")).toBe("1: WEB!\n1234: [31MAPI!\n".replace("[31M", ""));
    expect(list("table {{.Upper}}\\t{{.ID}}")).toBe("UPPER   ID\nWEB     1\nAPI     1234\n");
    expect(list("{{json .}}").split("\n")[0]).toBe('{"id":"1","name":"web"}');
    expect(JSON.parse(list(undefined, true))).toEqual(rows);
    expect(list("json")).toBe(list("table", true));
  });

  it.each(["{{.Nope}}", "no fields", "{{.ID}} {{", "{{range .}}"])(
    "refuse the template %j and name the fields",
    (format) => {
      expect(() => list(format)).toThrow(UsageError);
      try {
        list(format);
      } catch (error) {
        expect((error as UsageError).violations[0]?.fix).toContain("{{.Upper}}");
      }
    },
  );
});

describe("tasks", () => {
  const now = startMs + 5000;
  it("say how they are", () => {
    expect(currentState(task({ slot: 1 }), now)).toBe("Running 5 seconds ago");
    expect(currentState(task({ slot: 1, health: ContainerHealth.UNHEALTHY, ready: false }), now)).toBe(
      "Running 5 seconds ago (health: unhealthy)",
    );
    expect(
      currentState(task({ slot: 1, phase: ContainerPhase.BACKING_OFF, attempt: 2, nextAttemptAtMs: now + 3500 }), now),
    ).toBe("Backing off, next start in 4s (attempt 3)");
    expect(currentState(task({ slot: 1, state: TaskState.FAILED }), now)).toBe("Failed 5 seconds ago");
  });

  it("say what is wrong, or why they wait", () => {
    expect(taskError(task({ slot: 1, state: TaskState.FAILED, error: "exit code 1", placement: "old" }))).toBe(
      "exit code 1",
    );
    expect(taskError(task({ slot: 1, state: TaskState.PENDING, node: "", placement: "no node" }))).toBe("no node");
    expect(taskError(task({ slot: 1, placement: "stale" }))).toBe("");
  });

  it("come by slot, the one that is meant to run first, then newest first", () => {
    const tasks = [
      task({ slot: 2, id: "d" }),
      task({ slot: 1, id: "a", desired: TaskState.SHUTDOWN, createdAtMs: startMs + 9 }),
      task({ slot: 1, id: "b", desired: TaskState.SHUTDOWN, createdAtMs: startMs + 20 }),
      task({ slot: 1, id: "c", createdAtMs: startMs }),
      task({ slot: 10, id: "e" }),
    ];
    expect(orderTasks(tasks).map(({ meta }) => meta?.id)).toEqual(["c", "b", "a", "d", "e"]);
  });
});

describe("services and nodes", () => {
  it("look as Docker's", () => {
    const rows = [state({ tasks: [task({ slot: 1 })] })];
    expect(renderTable(serviceColumns({ trunc: true, nowMs: startMs }), rows)).toBe(
      "ID             NAME   MODE         REPLICAS   IMAGE     PORTS\n" +
        "web000000000   web    replicated   1/2        nginx:1   *:8080->80/tcp\n",
    );
    expect(
      renderTable(nodeColumns(true), [
        node("h1", { tasks: 3, manager: { id: 1, voter: true, leader: true, reachable: true } }),
        node("h2", { manager: { id: 2, voter: true, reachable: true } }),
        node("h3", { manager: { id: 3, voter: true, reachable: false } }),
        node("h4", { manager: { id: 4, voter: false, reachable: true } }),
        node("h5"),
      ]),
    ).toBe(
      "ID             HOSTNAME   STATUS   AVAILABILITY   MANAGER       TASKS   ENGINE VERSION   ADDRESS\n" +
        "node-h100000   h1         Ready    Active         Leader        3       20.10.24         10.0.0.1\n" +
        "node-h200000   h2         Ready    Active         Reachable     0       20.10.24         10.0.0.1\n" +
        "node-h300000   h3         Ready    Active         Unreachable   0       20.10.24         10.0.0.1\n" +
        "node-h400000   h4         Ready    Active         Learner       0       20.10.24         10.0.0.1\n" +
        "node-h500000   h5         Ready    Active                       0       20.10.24         10.0.0.1\n",
    );
  });

  it("are readable when pretty", () => {
    const text = servicePretty(
      state({ revision: 2, rollout: rollout({ message: "2 of 3\u001b[2J" }) }),
      startMs + 60_000,
    );
    expect(text).toContain("Revision: 2, About a minute ago\n");
    expect(text).toContain("Rollout:  1 → 2: running (2 of 3)\n");
    expect(text).toContain("  2  About a minute ago  nginx:2  updated\n");
    expect(text).not.toContain("Env:");
  });

  it("show what is particular to a mode", () => {
    const nowMs = Date.UTC(2026, 0, 31, 11, 30);
    const row = (parts: Parameters<typeof state>[0]) => {
      const columns = serviceColumns({ trunc: true, nowMs });
      return ["Mode", "Replicas"].map((key) => columns.find((column) => column.key === key)?.get(state(parts)));
    };
    const tasks = [task({ slot: 1 }), task({ slot: 2 })];
    expect(row({ mode: { $case: "global", value: {} }, tasks })).toEqual(["global", "2/2"]);
    expect(row({ mode: job })).toEqual(["replicated-job", "0/2 done"]);
    const runs = (...some: JobRun[]) => ({ runs: some, lastRun: some.length });
    expect(row({ mode: job, job: runs(run(1, { completed: 1 })) })).toEqual(["replicated-job", "1/2 done"]);
    const failed = run(1, { state: JobState.FAILED, completed: 1 });
    expect(row({ mode: job, job: runs(failed) })).toEqual(["replicated-job", "failed, 1/2 done"]);
    expect(row({ mode: cron("0 12 * * *") })).toEqual(["cron", "next 12:00:00Z"]);
    const skipped = run(2, { state: JobState.SKIPPED });
    expect(row({ mode: cron("0 11 * * *"), job: runs(failed, skipped) })).toEqual([
      "cron",
      "skipped, next 2026-02-01T11:00:00Z",
    ]);
    expect(row({ mode: cron("@daily", { suspended: true }) })).toEqual(["cron", "suspended"]);
    expect(row({ waitingFor: "waits for db" })).toEqual(["replicated", "0/2 (waits)"]);
  });

  it("show all that a spec has, for people and for programs", () => {
    const whole = state({
      mode: cron("0 12 * * *", { timeZone: "Europe/Paris", concurrency: 3, completions: 4, keepFailed: 9 }),
    });
    const { service } = whole;
    if (service?.spec?.task === undefined) throw new Error("the test's state has a spec");
    const { spec } = service;
    spec.dependsOn = ["db"];
    spec.stopAfterDisconnectMs = 300_000;
    spec.autoscale = AutoscaleSpec.fromPartial({
      min: 2,
      max: 10,
      cpuPercent: 60,
      requestsPerReplica: 100,
      upCoolDownMs: 15_000,
    });
    spec.update = UpdateConfig.fromPartial({ maxSurge: 2, maxUnavailable: 0 });
    spec.task = TaskSpec.fromPartial({
      ...spec.task,
      priority: 7,
      reservations: { nanoCpus: 1e9, generic: { gpu: 2 } },
      placement: {
        preferences: ["spread=node.labels.zone"],
        strategy: 2,
        affinities: [
          { expression: "service==db", weight: 10 },
          { expression: "service==web", weight: -50 },
          { expression: "node.hostname!=h1", required: true },
        ],
      },
      container: { image: "i", mounts: [{ type: 2, source: "data", target: "/d", volumeDriver: "nfs" }] },
    });
    service.job = JobStatus.fromPartial({
      lastRun: 12,
      runs: [
        run(11, { state: JobState.SUCCEEDED, completed: 2, endedAtMs: startMs + 60_000 }),
        run(12, { message: "late\u001b[2J" }),
      ],
    });
    service.autoscale = AutoscaleStatus.fromPartial({ message: "from 3 to 5: cpu 92 % of 60 %" });
    const pretty = servicePretty(whole, startMs + 120_000);
    for (const text of [
      /^Mode: +cron$/m,
      /^Schedule: +0 12 \* \* \* \(Europe\/Paris\), replace while a run goes on, keeps 9 that failed$/m,
      /^Completions: +4$/m,
      /^Depends on: +db$/m,
      /^Autoscale: +2 to 10 replicas by cpu 60 %, 100 requests\/s each; up after 15s$/m,
      /^Autoscaled: +from 3 to 5: cpu 92 % of 60 %$/m,
      /^Affinities: +service==db \(weight 10\), rather not service==web \(weight 50\), node\.hostname!=h1 \(required\)$/m,
      /^Strategy: +binpack$/m,
      /^Priority: +7$/m,
      /^Reserved: +1 cores, gpu=2$/m,
      /^Mounts: +volume data→\/d \(driver nfs\)$/m,
      /^Without managers: +tasks stop after 5m and are replaced only then$/m,
      /^Runs:\n {2}12 {2}running 2 minutes ago +0\/2 done {2}revision 1 {2}late\n/m,
      /^ {2}11 {2}succeeded About a minute ago \(took about a minute\) {2}2\/2 done {2}revision 1$/m,
    ])
      expect(pretty).toMatch(text);
    expect(pretty).not.toContain("Update:");
    const mode = { $case: "replicated" as const, value: { replicas: 2 } };
    const replicated = { ...whole, service: { ...service, spec: { ...spec, mode } } };
    expect(servicePretty(replicated, startMs)).toMatch(/^Update: +max surge 2, max unavailable 0$/m);
    expect(inspectJson(whole, Date.UTC(2026, 0, 31, 11, 30))).toMatchObject({
      mode: "cron",
      nextRunAt: "2026-02-01T11:00:00.000Z",
      job: {
        lastRun: 12,
        requested: 0,
        runs: [{ number: 11, state: "succeeded", endedAt: "2023-11-14T22:14:20.000Z" }, { number: 12 }],
      },
      autoscale: { message: "from 3 to 5: cpu 92 % of 60 %", scaledUpAt: null },
      spec: {
        mode: "cron",
        replicas: null,
        completions: 4,
        cron: {
          schedule: "0 12 * * *",
          timeZone: "Europe/Paris",
          concurrency: "replace",
          keepFailed: 9,
          suspended: false,
        },
        dependsOn: ["db"],
        stopAfterDisconnectMs: 300_000,
        autoscale: { min: 2, max: 10, cpuPercent: 60, memoryPercent: null, requestsPerReplica: 100 },
        priority: 7,
        reservations: { generic: { gpu: 2 } },
        placement: {
          preferences: ["spread=node.labels.zone"],
          strategy: "binpack",
          affinities: [
            { expression: "service==db", weight: 10, required: false },
            { weight: -50 },
            { expression: "node.hostname!=h1", weight: null, required: true },
          ],
        },
        container: { mounts: [{ volumeDriver: "nfs" }] },
        update: { maxSurge: 2, maxUnavailable: 0 },
      },
    });
  });

  it("have stable names in JSON, units included, and words for enums", () => {
    const whole = state({ tasks: [task({ slot: 1 })], rollout: rollout({}) });
    expect(serviceJson(whole, startMs)).toMatchObject({
      name: "web",
      replicas: { running: 1, desired: 2 },
      ports: [{ target: 80, published: 8080, protocol: "tcp", name: "" }],
      rollout: { state: "running", fromRevision: 1, toRevision: 2 },
    });
    expect(taskJson(task({ slot: 1, state: TaskState.FAILED, error: "boom" }), "h1")).toMatchObject({
      state: "failed",
      desiredState: "running",
      node: "h1",
      error: "boom",
      endedAt: null,
    });
    expect(nodeJson(node("h1", { labels: { zone: "eu" } }))).toMatchObject({
      state: "ready",
      availability: "active",
      labels: { zone: "eu" },
    });
    expect(nodeJson(node("h1"))).toMatchObject({ role: "unspecified", manager: null });
    const manager = {
      id: 2,
      name: "h2",
      address: "10.0.0.2:7400",
      voter: true,
      reachable: true,
      matchIndex: 7,
      lag: 1,
    };
    expect(nodeJson(node("h2", { role: NodeRole.MANAGER, manager }))).toMatchObject({
      role: "manager",
      manager: { id: 2, name: "h2", address: "10.0.0.2:7400", role: "voter", leader: false, match: 7, lag: 1 },
    });
    expect(nodePretty(node("h2", { role: NodeRole.WORKER, manager }), startMs)).toContain(
      "Manager:      Reachable (voter 2 at 10.0.0.2:7400), being taken out\n",
    );
    expect(nodePretty(node("h3", { role: NodeRole.MANAGER }), startMs)).toContain("none yet; the node was promoted\n");
    const json = JSON.stringify(inspectJson(whole, startMs));
    expect(json).not.toContain("_unknownFields");
    expect(json).not.toContain("$case");
  });

  it("show a rollout slot by slot", () => {
    const moving = rollout({ message: "paused by the user", state: 2 });
    moving.slots = [
      { slot: 2, taskId: "bbb", startedAtMs: 0, verdict: 3, message: "exit code 1", startFirst: false },
      { slot: 1, taskId: "aaa", startedAtMs: 0, verdict: 2, message: "", startFirst: false },
    ];
    expect(statusText("web", moving, startMs + 2000)).toBe(
      "web: rollout from revision 1 to 2: paused (paused by the user)\nbegan 2 seconds ago\n\n" +
        "SLOT   TASK   VERDICT   MESSAGE\n1      aaa    good\n2      bbb    failed    exit code 1\n",
    );
  });
});
