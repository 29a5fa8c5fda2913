// Whole command lines, against a real gRPC server on loopback.

import { afterEach, describe, expect, it } from "vitest";
import { ClusterError } from "../lib/errors.js";
import { LogStream } from "../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import {
  NodeAvailability,
  RolloutState,
  TaskState,
  type ServiceSpec,
} from "../proto/gen/flotilla/objects/v1/objects.js";
import { branches, newProgram, populate, run } from "./program.js";
import { candidates } from "./command/completion.js";
import { leaves } from "./command/leaf.js";
import { lazyProcesses } from "./processes.js";
import { FakeIo } from "../test/kit/cli/io.js";
import { type Answers, FakeControl, thenWait } from "../test/kit/cli/server.js";
import { node, rollout, startMs, state, task, webId } from "../test/kit/cli/states.js";

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

interface Ran {
  exit: number;
  out: string;
  err: string;
  fake: FakeControl;
}

/** Runs a line with a manager of these answers. */
async function line(
  words: string[],
  answers: Answers = {},
  prepare: (io: FakeIo, fake: FakeControl) => void = () => undefined,
): Promise<Ran> {
  const fake = await FakeControl.start(answers);
  ends.push(() => fake.kill());
  const io = new FakeIo();
  io.env = { FLOTILLA_HOST: fake.address };
  prepare(io, fake);
  const exit = await run(words, io);
  return { exit, out: io.stdout, err: io.stderr, fake };
}

const response = (parts: Parameters<typeof state>[0] = {}) => ({
  service: state(parts).service,
  rollout: parts.rollout,
});
const two = [task({ slot: 1 }), task({ slot: 2 })];

describe("service create", () => {
  const create = [
    "service",
    "create",
    "--name",
    "web",
    "--replicas",
    "2",
    "-p",
    "8080:80",
    "nginx:1",
    "nginx",
    "-g",
    "--daemon",
  ];

  it("sends the spec, shows the way, and ends with 0 once converged", async () => {
    const { exit, out, err, fake } = await line(create, {
      createService: () => response(),
      watchService: (_, signal) =>
        thenWait(
          [state({ tasks: [task({ slot: 1, state: TaskState.STARTING })] }), state({ tasks: two, converged: true })],
          signal,
        ),
    });
    expect(exit).toBe(0);
    expect(out).toBe(`${webId}\n`);
    expect(err).toBe(
      "web.1: starting on h1\nweb.2: new\noverall progress: 0 out of 2 tasks\n" +
        "web.1: running on h1\nweb.2: running on h1\noverall progress: 2 out of 2 tasks\nverify: service converged\n",
    );
    const { spec } = fake.asked[0]!.request as { spec: ServiceSpec };
    expect(spec).toMatchObject({
      name: "web",
      mode: { value: { replicas: 2 } },
      ports: [{ targetPort: 80, publishedPort: 8080 }],
      task: { container: { image: "nginx:1", args: ["nginx", "-g", "--daemon"] } },
    });
  });

  it("does not wait with -d", async () => {
    const { exit, out, fake } = await line(["service", "create", "-d", "--name", "web", "nginx:1"], {
      createService: () => response(),
    });
    expect([exit, out]).toEqual([0, `${webId}\n`]);
    expect(fake.asked.map(({ call }) => call)).toEqual(["createService"]);
  });

  it("says the outcome as JSON", async () => {
    const { exit, out } = await line(["service", "create", "--json", "-q", "--name", "web", "nginx:1"], {
      createService: () => response(),
      watchService: (_, signal) => thenWait([state({ tasks: two, converged: true })], signal),
    });
    expect(exit).toBe(0);
    expect(JSON.parse(out)).toEqual({
      type: "end",
      id: webId,
      name: "web",
      outcome: "converged",
      revision: 1,
      reason: "",
      exit: 0,
    });
  });

  it("shows every violation that the manager found", async () => {
    const { exit, out, err } = await line(["service", "create", "--name", "Web", "ngi nx"], {
      createService: () => {
        throw ClusterError.invalid([
          { field: "name", value: "Web", rule: "must be lower-case", fix: "write web" },
          { field: "image", value: "ngi nx", rule: "must not contain blanks", fix: "write nginx:1" },
        ]);
      },
    });
    expect([exit, out]).toEqual([1, ""]);
    expect(err).toBe(
      'error: name: "Web" must be lower-case; write web\nerror: image: "ngi nx" must not contain blanks; write nginx:1\n' +
        "next: flotilla service create --help\n",
    );
  });

  it("asks nobody when the flags are wrong, and names flag, value, rule and fix", async () => {
    const { exit, err, fake } = await line([
      "service",
      "create",
      "--replicas",
      "many",
      "--limit-memory",
      "1q",
      "nginx",
    ]);
    expect(exit).toBe(125);
    expect(err).toBe(
      'error: --replicas: "many" must be a whole number from 0 to 10000; write for example 3\n' +
        'error: --limit-memory: "1q" must be a size: a number with the unit b, k, m, g or t; write for example 512m or 1.5g\n' +
        'error: --name: "" is needed; write for example --name web\n' +
        "See 'flotilla service create --help'.\n",
    );
    expect(fake.asked).toEqual([]);
  });

  it("ends with 5 at its timeout and says how to go on", async () => {
    const { exit, err } = await line([...create.slice(0, 2), "--timeout", "300ms", ...create.slice(2)], {
      createService: () => response(),
      watchService: (_, signal) => thenWait([state({ tasks: [task({ slot: 1 })] })], signal),
    });
    expect(exit).toBe(5);
    expect(err).toContain("error: web: not done within 300ms: 1 out of 2 tasks were ready; the cluster goes on\n");
    expect(err).toContain("next: flotilla rollout status -w --revision 1 web");
  });

  it("ends with 3 when no node fits, with the reasons", async () => {
    const waiting = (slot: number, why: string) => task({ slot, state: TaskState.PENDING, node: "", placement: why });
    const { exit, err, out } = await line([...create.slice(0, 2), "--timeout", "300ms", "--json", ...create.slice(2)], {
      createService: () => response(),
      watchService: (_, signal) => thenWait([state({ tasks: [waiting(1, "no cpu"), waiting(2, "no cpu")] })], signal),
    });
    expect(exit).toBe(3);
    expect(err).toContain("error: no node can take 2 tasks of web; they stay pending\ncause: web.1, web.2: no cpu\n");
    expect(JSON.parse(out)).toMatchObject({
      outcome: "unplaceable",
      exit: 3,
      slots: [{ slot: 1, reason: "no cpu" }, { slot: 2 }],
    });
  });

  it("detaches at Ctrl-C with 130 and the command that goes on", async () => {
    const { exit, err } = await line(
      create,
      { createService: () => response(), watchService: (_, signal) => thenWait([state({ tasks: [] })], signal) },
      (io) => {
        io.onErr = (text) => {
          if (text.includes("overall")) queueMicrotask(() => io.stop());
        };
      },
    );
    expect(exit).toBe(130);
    expect(err).toContain("error: detached from web; the cluster goes on\n");
    expect(err).toContain("flotilla rollout status -w --revision 1 web");
  });

  it("goes on watching when the manager is restarted meanwhile", async () => {
    let watches = 0;
    const { exit, err } = await line(create, {
      createService: () => response(),
      async *watchService(_, signal) {
        watches += 1;
        yield state({ tasks: [task({ slot: 1 })] });
        if (watches === 1) throw new ClusterError("unavailable", "the manager stops");
        yield* thenWait([state({ tasks: two, converged: true })], signal);
      },
    });
    expect(exit).toBe(0);
    expect(err).toContain("lost the manager (the manager stops)");
    expect(err).toContain("a manager answers again");
  });
});

describe("service update", () => {
  const moving = rollout({});
  const whole = { revision: 2, rollout: moving };

  it("changes the spec that is there, by its version", async () => {
    const { exit, fake } = await line(["service", "update", "--image", "nginx:2", "--env-add", "A=1", "web"], {
      getService: () => state({ tasks: two }),
      updateService: () => response(whole),
      watchService: (_, signal) =>
        thenWait(
          [
            state({
              ...whole,
              converged: true,
              rollout: rollout({ state: RolloutState.COMPLETED }),
              tasks: [task({ slot: 1, revision: 2 }), task({ slot: 2, revision: 2 })],
            }),
          ],
          signal,
        ),
    });
    expect(exit).toBe(0);
    expect(fake.asked[1]?.request).toMatchObject({
      service: webId,
      version: 41,
      force: false,
      spec: { name: "web", ports: [{ publishedPort: 8080 }], task: { container: { image: "nginx:2", env: ["A=1"] } } },
    });
  });

  it("reads again when somebody wrote in between, three times at most", async () => {
    let writes = 0;
    const conflict = () => {
      writes += 1;
      if (writes < 3) throw new ClusterError("conflict", "somebody else changed web");
      return response({ revision: 1 });
    };
    const good = await line(["service", "update", "-d", "--label-add", "a=b", "web"], {
      getService: () => state({}),
      updateService: conflict,
    });
    expect([good.exit, writes]).toEqual([0, 3]);
    writes = -100;
    const bad = await line(["service", "update", "-d", "--label-add", "a=b", "web"], {
      getService: () => state({}),
      updateService: conflict,
    });
    expect([bad.exit, writes]).toEqual([1, -96]);
    expect(bad.err).toContain("error: somebody else changed web\nnext: run it again");
  });

  it("ends with 4 when it is paused, with what to do", async () => {
    const { exit, err } = await line(["service", "update", "--image", "bad", "web"], {
      getService: () => state({}),
      updateService: () => response(whole),
      watchService: (_, signal) =>
        thenWait(
          [state({ ...whole, rollout: rollout({ state: RolloutState.PAUSED, message: "slot 1: exit code 1" }) })],
          signal,
        ),
    });
    expect(exit).toBe(4);
    expect(err).toContain(
      "error: web is half-way: the rollout is paused: slot 1: exit code 1\nnext: flotilla rollout resume web",
    );
    expect(err).toContain("flotilla service rollback web");
  });

  it("ends with 4 after the way back, with the failing task's last lines", async () => {
    const back = (state: RolloutState) =>
      rollout({ id: "r3", from: 2, to: 3, isRollback: true, state, message: "rollback: slot 1 failed" });
    const failed = task({ slot: 1, id: "dead", revision: 2, state: TaskState.FAILED, error: "exit code 1" });
    const { exit, err, fake } = await line(["service", "update", "--image", "bad", "web"], {
      getService: () => state({}),
      updateService: () => response(whole),
      async *serviceLogs() {
        yield await Promise.resolve({
          lines: [{ taskId: "dead", atMs: 0, stream: LogStream.STDERR, text: Buffer.from("cannot bind\u001b[2J") }],
          warning: "",
        });
      },
      watchService: (_, signal) =>
        thenWait(
          [
            state({ ...whole, tasks: [failed] }),
            state({ revision: 3, rollout: back(RolloutState.RUNNING), tasks: [failed] }),
            state({
              revision: 3,
              rollout: back(RolloutState.COMPLETED),
              tasks: [failed, task({ slot: 1, revision: 3 }), task({ slot: 2, revision: 1 })],
              converged: true,
            }),
          ],
          signal,
        ),
    });
    expect(exit).toBe(4);
    expect(err).toContain("web.1 on h1 failed: exit code 1 (task dead)\n  | cannot bind\n");
    expect(err).toContain("error: web was rolled back and runs revision 3 now\ncause: rollback: slot 1 failed\n");
    expect(fake.asked.find(({ call }) => call === "serviceLogs")?.request).toMatchObject({
      taskId: "dead",
      options: { tail: 10, follow: false },
    });
  });

  it("refuses to change nothing", async () => {
    const { exit, err, fake } = await line(["service", "update", "web"]);
    expect(exit).toBe(125);
    expect(err).toContain("was given nothing to change");
    expect(fake.asked).toEqual([]);
  });
});

describe("service scale, rollback and rm", () => {
  const watchService: NonNullable<Answers["watchService"]> = (_, signal) =>
    thenWait([state({ revision: 2, tasks: two, converged: true, images: ["a", "a"] })], signal);

  it("scale several, each checked before any is done", async () => {
    const good = await line(["service", "scale", "-q", "web=2"], {
      scaleService: () => response({ revision: 2 }),
      watchService,
    });
    expect(good.exit).toBe(0);
    expect(good.fake.asked[0]?.request).toMatchObject({ service: "web", replicas: 2 });
    const bad = await line(["service", "scale", "web=2", "api=-1", "db", "web=3"]);
    expect(bad.exit).toBe(125);
    expect(bad.err.match(/^error:/gm)).toHaveLength(3);
    expect(bad.fake.asked).toEqual([]);
  });

  it("roll back to any revision, and that is a success", async () => {
    const back = rollout({ from: 2, to: 3, isRollback: true, state: RolloutState.COMPLETED });
    const { exit, fake } = await line(["service", "rollback", "--to", "web@1", "web"], {
      rollbackService: () => response({ revision: 3, rollout: back }),
      watchService: (_, signal) =>
        thenWait(
          [
            state({
              revision: 3,
              rollout: back,
              tasks: [task({ slot: 1, revision: 3 }), task({ slot: 2, revision: 1 })],
              converged: true,
            }),
          ],
          signal,
        ),
    });
    expect(exit).toBe(0);
    expect(fake.asked[0]?.request).toMatchObject({ service: "web", toRevision: 1 });
  });

  it("remove all that can go, and say what cannot", async () => {
    const { exit, out, err } = await line(["service", "rm", "web", "nope"], {
      removeService({ service }) {
        if (service === "nope") throw new ClusterError("not_found", 'no service "nope"');
        return { service: state({}).service };
      },
    });
    expect([exit, out]).toEqual([1, "web\n"]);
    expect(err).toBe('error: no service "nope"\nnext: flotilla service ls\n');
  });
});

describe("lists", () => {
  it("of services, filtered, in a template, as ids", async () => {
    const answers: Answers = {
      listServices: () => ({ services: [state({ tasks: two }), { ...state({}), service: undefined }] }),
    };
    expect(
      (await line(["service", "ls", "--filter", "name=we", "--format", "{{.Name}} {{.Replicas}}"], answers)).out,
    ).toBe("web 2/2\n");
    expect((await line(["service", "ls", "-q", "-f", "id=web"], answers)).out).toBe("web000000000\n");
    expect(JSON.parse((await line(["--json", "service", "ls", "-f", "name=web"], answers)).out)).toMatchObject([
      { name: "web" },
    ]);
    const bad = await line(["service", "ls", "-f", "colour=red"], answers);
    expect([bad.exit, bad.fake.asked]).toEqual([125, []]);
  });

  it("of tasks, with history under its slot and whole reasons below", async () => {
    const reason = "3 nodes: 2 short of memory (largest free 412 MiB), 1 excluded by node.labels.zone==eu";
    const tasks = [
      task({ slot: 1, id: "aaaaaaaaaaaaaaaaaaaaaaaaa" }),
      task({
        slot: 1,
        id: "bbbbbbbbbbbbbbbbbbbbbbbbb",
        state: TaskState.FAILED,
        desired: TaskState.SHUTDOWN,
        error: "exit code 1",
        createdAtMs: startMs - 5,
      }),
      task({ slot: 2, id: "ccccccccccccccccccccccccc", state: TaskState.PENDING, node: "", placement: reason }),
    ];
    const { out } = await line(["service", "ps", "web"], { getService: () => state({ tasks }) });
    const lines = out.split("\n");
    expect(lines[0]).toMatch(/^ID +NAME +IMAGE +NODE +DESIRED STATE +CURRENT STATE +ERROR +PORTS$/);
    expect(lines[1]).toMatch(/^aaaaaaaaaaaa   web\.1 +nginx:1   h1 +Running +Running .* ago$/);
    expect(lines[2]).toMatch(/^bbbbbbbbbbbb    \\_ web\.1   nginx:1   h1 +Shutdown +Failed .* ago +"exit code 1"$/);
    expect(lines[3]).toMatch(/"3 nodes: 2 short of memory.*…$/);
    expect(out).toContain(`\nweb.2 pending: ${reason}\n`);
    const whole = await line(["service", "ps", "--no-trunc", "-f", "slot=2", "web"], {
      getService: () => state({ tasks }),
    });
    expect(whole.out).toContain(`"${reason}"`);
    expect(whole.out).toContain("ccccccccccccccccccccccccc");
    expect(whole.out).not.toContain("web.1");
  });

  it("of nodes and their tasks", async () => {
    const nodes = () => ({
      nodes: [node("h2", { availability: NodeAvailability.DRAINED }), node("h1", { labels: { zone: "eu" } })],
    });
    expect(
      (await line(["node", "ls", "--format", "{{.Hostname}} {{.Availability}} {{.Labels}}"], { listNodes: nodes })).out,
    ).toBe("h1 Active zone=eu\nh2 Drained \n");
    const ps = await line(["node", "ps", "--format", "{{.Name}} {{.Image}} {{.Node}}", "h1"], {
      listTasks: () => ({ tasks: two, nodeNames: { "node-h1": "h1" } }),
      getService: () => state({ tasks: two }),
    });
    expect(ps.out).toBe("web.1 nginx:1 h1\nweb.2 nginx:1 h1\n");
  });

  it("inspect as JSON and for people", async () => {
    const answers: Answers = { getService: () => state({ tasks: two }), getNode: () => node("h1") };
    expect(JSON.parse((await line(["service", "inspect", "web"], answers)).out)).toMatchObject([
      { name: "web", spec: { replicas: 2 }, tasks: [{ slot: 1 }, { slot: 2 }] },
    ]);
    expect((await line(["service", "inspect", "--pretty", "web"], answers)).out).toContain("Ports:    *:8080->80/tcp");
    expect((await line(["node", "inspect", "--pretty", "h1"], answers)).out).toContain(
      "Resources:    2 cores, 1 GiB\n",
    );
  });
});

describe("nodes", () => {
  it("are drained until they are empty", async () => {
    let left = 3;
    const { exit, out, err, fake } = await line(["node", "drain", "h1"], {
      updateNode: () => node("h1", { availability: NodeAvailability.DRAINED, tasks: left }),
      getNode: () => node("h1", { availability: NodeAvailability.DRAINED, tasks: (left -= 3) }),
    });
    expect([exit, out, err]).toEqual([0, "h1\n", "h1: 3 tasks to move\nh1: drained\n"]);
    expect(fake.asked[0]?.request).toMatchObject({ node: "h1", availability: NodeAvailability.DRAINED });
  });

  it("stop being drained for others' reasons, for a timeout, or for Ctrl-C", async () => {
    const busy = () => node("h1", { availability: NodeAvailability.DRAINED, tasks: 1 });
    const other = await line(["node", "drain", "h1"], { updateNode: busy, getNode: () => node("h1", { tasks: 1 }) });
    expect(other.exit).toBe(4);
    const late = await line(["node", "drain", "--timeout", "1ms", "h1"], { updateNode: busy, getNode: busy });
    expect(late.exit).toBe(5);
    const stopped = await line(["node", "drain", "h1"], { updateNode: busy, getNode: busy }, (io) => {
      io.onErr = (text) => {
        if (text.includes("to move")) setImmediate(() => io.stop());
      };
    });
    expect([stopped.exit, stopped.err.includes("node activate h1")]).toEqual([130, true]);
  });

  it("get labels and availability", async () => {
    const { exit, fake } = await line(
      ["node", "update", "--label-add", "zone=eu", "--label-rm", "old", "--availability", "pause", "h1"],
      { updateNode: () => node("h1") },
    );
    expect(exit).toBe(0);
    expect(fake.asked[0]?.request).toMatchObject({
      node: "h1",
      availability: NodeAvailability.CORDONED,
      labelsAdd: { zone: "eu" },
      labelsRemove: ["old"],
    });
    expect((await line(["node", "update", "h1"])).exit).toBe(125);
    const both = await line(["node", "cordon", "h1", "h2"], { updateNode: ({ node: name }) => node(name) });
    expect(both.out).toBe("h1\nh2\n");
  });
});

describe("rollouts", () => {
  it("are shown, and watched to their end by revision", async () => {
    const shown = await line(["rollout", "status", "web"], {
      getService: () => state({ revision: 2, rollout: rollout({ message: "1 of 2" }) }),
    });
    expect(shown.out).toContain("web: rollout from revision 1 to 2: running (1 of 2)\n");
    const done = rollout({ id: "r3", from: 2, to: 3, isRollback: true, state: RolloutState.COMPLETED });
    const back = state({
      revision: 3,
      rollout: done,
      converged: true,
      tasks: [task({ slot: 1, revision: 3 }), task({ slot: 2, revision: 3 })],
    });
    const answers: Answers = { getService: () => back, watchService: (_, signal) => thenWait([back], signal) };
    expect((await line(["rollout", "status", "-w", "web"], answers)).exit).toBe(0);
    expect((await line(["rollout", "status", "-w", "--revision", "2", "web"], answers)).exit).toBe(4);
  });

  it("are paused, resumed and aborted", async () => {
    const paused = await line(["rollout", "pause", "web"], {
      pauseRollout: () => ({ rollout: rollout({ state: RolloutState.PAUSED }) }),
    });
    expect([paused.exit, paused.out, paused.err]).toEqual([0, "web: paused\n", "next: flotilla rollout resume web\n"]);
    const aborted = await line(["rollout", "abort", "web"], { abortRollout: () => ({ rollout: rollout({}) }) });
    expect(aborted.fake.asked[0]?.request).toMatchObject({
      service: "web",
      requestId: expect.stringMatching(/^[0-9a-z]{25}$/) as string,
    });
    const finished = state({
      revision: 2,
      rollout: rollout({ state: RolloutState.COMPLETED }),
      converged: true,
      tasks: [],
    });
    const resumed = await line(["rollout", "resume", "web"], {
      resumeRollout: () => ({ rollout: rollout({}) }),
      getService: () => finished,
      watchService: (_, signal) => thenWait([finished], signal),
    });
    expect(resumed.exit).toBe(0);
    const none = await line(["rollout", "pause", "web"], {
      pauseRollout: () => {
        throw new ClusterError("failed_precondition", "no rollout of web is under way");
      },
    });
    expect([none.exit, none.err]).toEqual([1, "error: no rollout of web is under way\n"]);
  });
});

describe("logs", () => {
  const lines = (...texts: string[]) => ({
    lines: texts.map((text, i) => ({
      taskId: task({ slot: 1 }).meta?.id ?? "",
      atMs: startMs + i,
      stream: i === 0 ? LogStream.STDOUT : LogStream.STDERR,
      text: Buffer.from(text),
    })),
    warning: "",
  });
  const answers = (): Answers => ({
    getService: () => state({ tasks: [task({ slot: 1 }), task({ slot: 12, node: "h2" })] }),
    async *serviceLogs() {
      yield await Promise.resolve(lines("out\u001b[31m", "err"));
      yield { lines: [], warning: "h2 is away" };
    },
  });

  it("say whose line it is, and go where they came from", async () => {
    const { exit, out, err, fake } = await line(
      ["service", "logs", "--tail", "5", "--since", "2026-01-31T12:00:00Z", "web"],
      answers(),
    );
    expect(exit).toBe(0);
    expect(out).toBe("web.1.task1r100000@h1     | out\u001b[31m\n");
    expect(err).toBe("web.1.task1r100000@h1     | err\nwarning: h2 is away\n");
    expect(fake.asked[1]?.request).toMatchObject({
      service: "web",
      taskId: "",
      options: { tail: 5, sinceMs: Date.UTC(2026, 0, 31, 12), follow: false },
    });
  });

  it("cannot steer a terminal", async () => {
    const { out } = await line(
      ["service", "logs", "--no-task-ids", "--timestamps", "--no-color", "web"],
      answers(),
      (io) => {
        io.outTty = true;
      },
    );
    expect(out).toBe("2023-11-14T22:13:20.000Z web.1@h1     | out\n");
  });

  it("are bare with --raw, and objects with --json", async () => {
    expect((await line(["service", "logs", "--raw", "web"], answers())).out).toBe("out\u001b[31m\n");
    const json = (await line(["service", "logs", "--json", "web"], answers())).out.trimEnd().split("\n");
    expect(JSON.parse(json[1] ?? "")).toMatchObject({ task: "web.1", node: "h1", stream: "stderr", text: "err" });
  });

  it("follow until Ctrl-C, or until nobody reads", async () => {
    const following = (act: (io: FakeIo) => void) =>
      line(
        ["service", "logs", "-f", "web"],
        { getService: () => state({ tasks: two }), serviceLogs: (_, signal) => thenWait([lines("a", "b")], signal) },
        (io) => {
          io.onErr = () => setImmediate(() => act(io));
        },
      );
    expect((await following((io) => io.stop())).exit).toBe(130);
    expect((await following((io) => io.readerLeaves())).exit).toBe(0);
  });
});

describe("events", () => {
  it("are lines, filtered, once each across a reconnect, until Ctrl-C", async () => {
    const event = (sequence: number, name: string) => ({
      sequence,
      atMs: startMs,
      kind: "task",
      action: "running",
      id: `id${sequence}`,
      name,
      message: "",
    });
    let streams = 0;
    const { exit, out } = await line(
      ["events", "--since", "10m", "-f", "name=web"],
      {
        async *watchEvents(_, signal) {
          streams += 1;
          yield* [event(1, "web"), event(2, "api")];
          if (streams === 1) throw new ClusterError("resync_required", "too slow");
          yield* thenWait([event(3, "web")], signal);
        },
      },
      (io) => {
        const out = io.out.bind(io);
        io.out = (chunk) => {
          out(chunk);
          if (io.stdout.includes("id3")) setImmediate(() => io.stop());
        };
      },
    );
    expect(exit).toBe(130);
    expect(out).toBe(
      "2023-11-14T22:13:20.000Z task running id1 (name=web)\n2023-11-14T22:13:20.000Z task running id3 (name=web)\n",
    );
  });

  it("end at once when no manager is there", async () => {
    const { exit, err } = await line(["events"], {}, (io) => {
      io.env = { FLOTILLA_HOST: "127.0.0.1:1" };
    });
    expect(exit).toBe(1);
    expect(err).toContain("cannot reach a manager at 127.0.0.1:1 (from FLOTILLA_HOST)");
  });
});

describe("the command line itself", () => {
  it.each([
    [["servce", "ls"], "error: unknown command 'servce' (Did you mean service?)\nSee 'flotilla --help'.\n"],
    [["service", "lss"], "error: unknown command 'lss' (Did you mean ls?)\nSee 'flotilla service --help'.\n"],
    [
      ["service", "ls", "--quite"],
      "error: unknown option '--quite' (Did you mean --quiet?)\nSee 'flotilla service ls --help'.\n",
    ],
    [["service", "create"], "error: missing required argument 'IMAGE'\nSee 'flotilla service create --help'.\n"],
    [
      ["service", "ls", "x"],
      "error: too many arguments for 'ls'. Expected 0 arguments but got 1. See 'flotilla service ls --help'.\n",
    ],
    [["--host"], "error: option '-H, --host <ADDRESS:7400[,…]>' argument missing\nSee 'flotilla --help'.\n"],
    [
      ["--host", "a:b:c", "service", "ls"],
      'error: --host: "a:b:c" has "a:b:c", which must be HOST:PORT or HOST, the port at most 65535; write for example 10.0.0.1:7400, or [fd00::1]:7400 for IPv6\nSee \'flotilla service ls --help\'.\n',
    ],
    [
      ["completion", "tcsh"],
      "error: SHELL: \"tcsh\" must be bash, zsh or fish; write for example flotilla completion bash\nSee 'flotilla completion --help'.\n",
    ],
  ])("%j is refused with 125", async (words, text) => {
    const { exit, err, out } = await line(words);
    expect({ exit, out, err: err.replace("1.\nSee", "1. See") }).toEqual({ exit: 125, out: "", err: text });
  });

  it("global flags stand anywhere, the last one counts", async () => {
    const answers: Answers = { listServices: () => ({ services: [] }) };
    const fake = await FakeControl.start(answers);
    ends.push(() => fake.kill());
    for (const words of [
      ["--host", fake.address, "service", "ls", "--json"],
      ["--json", "-H", "127.0.0.1:1", "service", "ls", "--host", fake.address],
    ]) {
      const io = new FakeIo();
      expect([await run(words, io), io.stdout]).toEqual([0, "[]\n"]);
    }
  });

  it("help is on standard output, with examples, under a screen for the whole", async () => {
    const io = new FakeIo();
    expect(await run(["--help"], io)).toBe(0);
    expect(io.stdout.split("\n").length).toBeLessThanOrEqual(40);
    for (const { name, hidden } of branches) expect(io.stdout.includes(`  ${name} `), name).toBe(hidden !== true);
    const bare = new FakeIo();
    expect([await run([], bare), bare.stdout]).toEqual([0, io.stdout]);
    const group = new FakeIo();
    expect(await run(["help", "service", "create"], group)).toBe(0);
    expect(group.stdout).toContain("Examples:\n  flotilla service create --name web");
  });

  it("every command has a description and an example that names it", async () => {
    const io = new FakeIo();
    const cli = { io, processes: lazyProcesses, globals: new Map<string, string[]>(), exit: 0 as const };
    const program = newProgram(cli);
    await populate(program, cli, "all");
    const walk = (command: typeof program): (typeof program)[] => [command, ...command.commands.flatMap(walk)];
    let seen = 0;
    for (const command of walk(program)) {
      const leaf = leaves.get(command);
      expect(command.description(), command.name()).not.toBe("");
      if (leaf === undefined || leaf.hidden === true) continue;
      seen += 1;
      const full = `${command.parent === program ? "" : `${command.parent?.name()} `}${leaf.name}`;
      expect(
        leaf.examples.some((text) => text.includes(`flotilla ${full}`)),
        full,
      ).toBe(true);
    }
    expect(seen).toBeGreaterThan(20);
  });

  it("version asks nobody, unless it is told to", async () => {
    const alone = await line(["version", "--json"]);
    expect(JSON.parse(alone.out)).toMatchObject({
      client: { version: expect.stringMatching(/^\d+\.\d+\.\d+/) as string },
    });
    expect(alone.fake.asked).toEqual([]);
    const both = await line(["version", "--server"], {
      getVersion: () => ({ version: "9.9.9", cluster: "c\u001b[2J", store: "etcd" }),
    });
    expect(both.out).toContain("Server:\n Version:  9.9.9\n Cluster:  c\n Store:    etcd\n");
  });

  it("a failure that nobody foresaw is called one", async () => {
    const { exit, err } = await line(["service", "ls"], { listServices: () => ({ services: [] }) }, (io) => {
      io.out = () => {
        throw new TypeError("surprise");
      };
    });
    expect(exit).toBe(1);
    expect(err).toMatch(/^error: this should not have happened: surprise\n/);
  });
});

describe("completion", () => {
  const answers: Answers = {
    listServices: () => ({ services: [state({})] }),
    listNodes: () => ({ nodes: [node("h1"), node("h2")] }),
  };
  const complete = async (...words: string[]) =>
    (await line(["__complete", "--", ...words], answers)).out.split("\n").filter((word) => word !== "");

  it("knows commands, flags and values", async () => {
    expect(await complete("ser")).toEqual(["service"]);
    expect(await complete("service", "r")).toEqual(["rm", "rollback"]);
    expect(await complete("service", "create", "--update-o")).toEqual(["--update-order"]);
    expect(await complete("service", "create", "--update-order", "")).toEqual(["start-first", "stop-first"]);
    expect(await complete("service", "create", "--update-order=st")).toEqual([
      "--update-order=start-first",
      "--update-order=stop-first",
    ]);
    expect(await complete("lab", "u")).toEqual(["up"]);
    expect(await complete("")).not.toContain("__complete");
  });

  it("knows live names, where they belong", async () => {
    expect(await complete("service", "ps", "w")).toEqual(["web"]);
    expect(await complete("service", "scale", "")).toEqual(["web="]);
    expect(await complete("service", "update", "--image", "x", "")).toEqual(["web"]);
    expect(await complete("service", "update", "web", "")).toEqual([]);
    expect(await complete("node", "drain", "")).toEqual(["h1", "h2"]);
    expect(await complete("service", "create", "nginx", "--")).toEqual([]);
  });

  it("is silent when no manager answers", async () => {
    const { exit, out, err } = await line(["__complete", "--", "service", "ps", ""], {}, (io) => {
      io.env = { FLOTILLA_HOST: "127.0.0.1:1" };
    });
    expect([exit, out, err]).toEqual([0, "", ""]);
  });

  it("prints a script for each shell that asks for what comes next", async () => {
    for (const shell of ["bash", "zsh", "fish"])
      expect((await line(["completion", shell])).out).toContain("flotilla __complete --");
  });

  it("does not offer names of another kind", async () => {
    const io = new FakeIo();
    const cli = { io, processes: lazyProcesses, globals: new Map<string, string[]>(), exit: 0 as const };
    const program = newProgram(cli);
    await populate(program, cli, "all");
    const asked: string[] = [];
    await candidates(program, ["node", "ps", ""], async (what) => {
      asked.push(what);
      return await Promise.resolve(["x\u001b[2J"]);
    });
    expect(asked).toEqual(["nodes"]);
  });
});
