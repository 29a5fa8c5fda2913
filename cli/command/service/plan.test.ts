// Whole command lines of plans, runs and rebalancing, against a real gRPC server on loopback.

import { describe, expect, it } from "vitest";
import { ClusterError } from "../../../lib/errors.js";
import { LogStream } from "../../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import type { PlanServiceRequest, PlanServiceResponse } from "../../../proto/gen/flotilla/control/v1/control.js";
import { JobState, type ServiceSpec, TaskState } from "../../../proto/gen/flotilla/objects/v1/objects.js";
import { line, response } from "../../../test/kit/cli/line.js";
import { type Answers, thenWait } from "../../../test/kit/cli/server.js";
import { cron, job, run, spec, state, task, webId } from "../../../test/kit/cli/states.js";

const plan: PlanServiceResponse = {
  version: 41,
  spec: spec("nginx:2", 3),
  changes: [
    { field: "image", before: "nginx:1", after: "nginx:2", replacesTasks: true },
    { field: "labels.team", before: "", after: "b".repeat(50), replacesTasks: false },
  ],
  tasks: [
    { slot: 1, action: 2, nodeId: "n2", nodeName: "h2", message: "fewest tasks of web", taskId: "aaa" },
    { slot: 2, action: 1, nodeId: "", nodeName: "", message: "3 nodes: 3 short of memory", taskId: "" },
  ],
  unchanged: 1,
  warnings: ["slot 2 would wait"],
};

describe("plans", () => {
  it("show the difference, the tasks and what cannot be had, and change nothing", async () => {
    const answers: Answers = { getService: () => state({}), planService: () => plan };
    const words = ["service", "plan", "--image", "nginx:2", "--label-add", "team=x", "web"];
    const { exit, out, err, fake } = await line(words, answers);
    expect([exit, err]).toEqual([0, "warning: slot 2 would wait\n"]);
    expect(out).toBe(
      `web: 2 changes; tasks: 1 to replace, 1 to create, 1 to stay

FIELD         BEFORE    AFTER                                      TASKS
image         nginx:1   nginx:2                                    replaced
labels.team   -         ${"b".repeat(39)}…   stay

SLOT   ACTION    NODE   WHY
1      replace   h2     fewest tasks of web
2      create    -      3 nodes: 3 short of memory
`,
    );
    expect(fake.asked.map(({ call }) => call)).toEqual(["getService", "planService"]);
    const { change } = fake.asked[1]!.request as PlanServiceRequest;
    expect(change).toMatchObject({
      $case: "update",
      value: { service: webId, version: 41, force: false, spec: { task: { container: { image: "nginx:2" } } } },
    });
    const dry = await line(["service", "update", "--dry-run", "--no-trunc", "--image", "nginx:2", "web"], answers);
    expect(dry.out).toContain("b".repeat(50));
    expect(dry.fake.asked.map(({ call }) => call)).toEqual(["getService", "planService"]);
  });

  it("are had as JSON", async () => {
    const { out, err } = await line(["service", "plan", "--json", "--force", "web"], {
      getService: () => state({}),
      planService: () => plan,
    });
    expect(err).toBe("");
    expect(JSON.parse(out)).toMatchObject({
      version: 41,
      nothing: false,
      spec: { name: "web", mode: "replicated", replicas: 3 },
      changes: [{ field: "image", before: "nginx:1", after: "nginx:2", replacesTasks: true }, {}],
      tasks: [
        { slot: 1, action: "replace", node: "h2", taskId: "aaa" },
        { action: "create", node: "" },
      ],
      unchanged: 1,
      warnings: ["slot 2 would wait"],
    });
  });

  it("of a new service are asked for with --dry-run", async () => {
    const { exit, out, fake } = await line(["service", "create", "--dry-run", "--name", "api", "nginx:1"], {
      planService: () => ({
        ...plan,
        version: 0,
        changes: [{ field: "name", before: "", after: "api", replacesTasks: false }],
        tasks: plan.tasks.slice(1),
        unchanged: 0,
        warnings: [],
      }),
    });
    expect([exit, out]).toEqual([
      0,
      "api: a new service; tasks: 1 to create\n\nFIELD   VALUE\nname    api\n\n" +
        "SLOT   ACTION   NODE   WHY\n2      create   -      3 nodes: 3 short of memory\n",
    ]);
    expect(fake.asked.map(({ call }) => call)).toEqual(["planService"]);
    expect((fake.asked[0]!.request as PlanServiceRequest).change).toMatchObject({
      $case: "create",
      value: { spec: { name: "api" } },
    });
  });

  it("say that there is nothing to do, and are made again after somebody else's change", async () => {
    let asked = 0;
    const { exit, out } = await line(["service", "plan", "--label-rm", "x", "web"], {
      getService: () => state({}),
      planService() {
        asked += 1;
        if (asked === 1) throw new ClusterError("conflict", "somebody else changed web");
        return { ...plan, changes: [], tasks: [], warnings: [], unchanged: 2 };
      },
    });
    expect([exit, out, asked]).toEqual([0, "web: nothing to do\n", 2]);
  });

  it("refuse what contradicts the mode of the service, before anything is asked of it", async () => {
    const { exit, err, fake } = await line(["service", "plan", "--cron-suspended", "--completions", "3", "web"], {
      getService: () => state({}),
    });
    expect(exit).toBe(125);
    expect(err).toContain("error: --cron-suspended is of cron services, and the service is replicated; leave it out\n");
    expect(err).toContain('error: --completions: "3" is of replicated jobs and cron services, and the service is');
    expect(fake.asked.map(({ call }) => call)).toEqual(["getService"]);
    expect((await line(["service", "plan", "web"])).err).toContain("service plan");
  });
});

describe("jobs", () => {
  const create = ["service", "create", "--name", "web", "--mode", "replicated-job", "--replicas", "2", "job:1"];
  const asJob = { mode: job, monitorMs: 5000 };

  it("are waited for until their run has succeeded", async () => {
    const done = (slot: number) => task({ slot, run: 1, state: TaskState.COMPLETE, desired: TaskState.SHUTDOWN });
    const { exit, err, fake } = await line(create, {
      createService: () => response(asJob),
      watchService: (_, signal) =>
        thenWait(
          [
            state(asJob),
            state({ ...asJob, tasks: [task({ slot: 1, run: 1 })], job: { runs: [run(1)], lastRun: 1 } }),
            state({
              ...asJob,
              tasks: [done(1), done(2)],
              job: { runs: [run(1, { state: JobState.SUCCEEDED, completed: 2 })], lastRun: 1 },
            }),
          ],
          signal,
        ),
    });
    expect([exit, err]).toEqual([
      0,
      "web.1: to come\nweb.2: to come\njob progress: 0 out of 2 complete\nweb.1: running on h1\n" +
        "web.1: complete on h1\nweb.2: complete on h1\njob progress: 2 out of 2 complete\nverify: run 1 succeeded\n",
    ]);
    expect((fake.asked[0]!.request as { spec: ServiceSpec }).spec.mode).toMatchObject({
      $case: "replicatedJob",
      value: { completions: 2 },
    });
  });

  it("that fail end with 4, with the failing task's last lines", async () => {
    const failed = task({ slot: 1, id: "dead", run: 1, state: TaskState.FAILED, error: "exit code 3" });
    const message = "slot 1 failed 4 times in a row: exit code 3";
    const answers: Answers = {
      createService: () => response(asJob),
      async *serviceLogs() {
        yield await Promise.resolve({
          lines: [{ taskId: "dead", atMs: 0, stream: LogStream.STDERR, text: Buffer.from("no input file") }],
          warning: "",
        });
      },
      watchService: (_, signal) =>
        thenWait(
          [
            state({
              ...asJob,
              tasks: [failed],
              job: { runs: [run(1, { state: JobState.FAILED, message })], lastRun: 1 },
            }),
          ],
          signal,
        ),
    };
    const { exit, err } = await line(create, answers);
    expect(exit).toBe(4);
    expect(err).toContain("web.1 on h1 failed: exit code 3 (task dead)\n  | no input file\n");
    expect(err).toContain(`error: run 1 of web failed\ncause: ${message}\nnext: flotilla service ps --no-trunc web\n`);
    const json = await line([...create.slice(0, 2), "--json", "-q", ...create.slice(2)], answers);
    expect(json.exit).toBe(4);
    expect(JSON.parse(json.out)).toMatchObject({ type: "end", outcome: "failed", run: 1, reason: message, exit: 4 });
  });

  it("are run again by hand, and that run is waited for", async () => {
    let requestId = "";
    const { exit, err, fake } = await line(["service", "run", "web"], {
      runService(request) {
        ({ requestId } = request);
        return response({ mode: cron("@daily"), job: { requested: [requestId] } });
      },
      watchService: (_, signal) => {
        const earlier = run(4, { state: JobState.FAILED, message: "an earlier one" });
        const own = (state: JobState) => run(5, { state, requestId, total: 1, completed: 1 });
        const mode = cron("@daily");
        return thenWait(
          [
            state({ mode, job: { runs: [earlier], requested: [requestId], lastRun: 4 } }),
            state({ mode, job: { runs: [earlier, own(JobState.RUNNING)], lastRun: 5 } }),
            state({ mode, job: { runs: [earlier, own(JobState.SUCCEEDED)], lastRun: 5 } }),
          ],
          signal,
        );
      },
    });
    expect(exit).toBe(0);
    expect(err).toContain("verify: run 5 succeeded\n");
    expect(fake.asked[0]?.request).toMatchObject({ service: "web", requestId: expect.stringMatching(/.+/) as string });
  });

  it("begun by a schedule are not waited for: it says when the first run is due", async () => {
    const words = ["service", "create", "--name", "web", "--cron", "0 12 * * *", "job:1"];
    const { exit, out, err, fake } = await line(words, {
      createService: () => response({ mode: cron("0 12 * * *") }),
    });
    expect([exit, out]).toEqual([0, `${webId}\n`]);
    expect(err).toMatch(
      /^web: the first run is due at \d{4}-\d\d-\d\dT12:00:00.000Z, in .*; 'flotilla service run web'/,
    );
    expect(fake.asked.map(({ call }) => call)).toEqual(["createService"]);
    const suspended = await line([...words.slice(0, 2), "--cron-suspended", "--json", ...words.slice(2)], {
      createService: () => response({ mode: cron("0 12 * * *", { suspended: true }) }),
    });
    expect(JSON.parse(suspended.out)).toMatchObject({
      outcome: "scheduled",
      reason: "suspended",
      nextRunAt: null,
      exit: 0,
    });
    expect((suspended.fake.asked[0]!.request as { spec: ServiceSpec }).spec.mode).toMatchObject({
      $case: "cron",
      value: { schedule: "0 12 * * *", suspended: true },
    });
  });
});

describe("rebalancing", () => {
  const move = {
    taskId: "t".repeat(25),
    serviceName: "web",
    slot: 3,
    fromNodeId: "n1",
    fromNodeName: "h1",
    toNodeId: "n2",
    toNodeName: "h2",
    reason: "h1 has 5 of 6 tasks",
  };

  it("shows the moves and what more there would be", async () => {
    const { exit, out, err, fake } = await line(["service", "rebalance", "--max-moves", "1", "web"], {
      rebalance: () => ({ moves: [move], more: 2 }),
    });
    expect([exit, out]).toEqual([
      0,
      "TASK           NAME    FROM   TO   REASON\ntttttttttttt   web.3   h1     h2   h1 has 5 of 6 tasks\n",
    ]);
    expect(err).toContain("2 more moves would be worth it");
    expect(fake.asked[0]?.request).toMatchObject({ service: "web", dryRun: false, maxMoves: 1 });
  });

  it("does nothing with --dry-run, and says when there is nothing to do", async () => {
    const dry = await line(["service", "rebalance", "--dry-run", "--json"], {
      rebalance: () => ({ moves: [move], more: 0 }),
    });
    expect(dry.fake.asked[0]?.request).toMatchObject({ service: "", dryRun: true, maxMoves: 0 });
    expect(JSON.parse(dry.out)).toMatchObject({
      dryRun: true,
      moves: [{ service: "web", slot: 3, from: "h1", to: "h2" }],
      more: 0,
    });
    const { out, err } = await line(["service", "rebalance"], { rebalance: () => ({ moves: [], more: 0 }) });
    expect([out, err]).toEqual(["", "nothing to move: the tasks are where they would be placed today\n"]);
    expect((await line(["service", "rebalance", "--max-moves", "0"])).exit).toBe(125);
  });
});
