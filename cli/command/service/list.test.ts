// Whole command lines, against a real gRPC server on loopback.

import { describe, expect, it } from "vitest";
import { ClusterError } from "../../../lib/errors.js";
import { LogStream } from "../../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { NodeAvailability, TaskState } from "../../../proto/gen/flotilla/objects/v1/objects.js";
import { type FakeIo } from "../../../test/kit/cli/io.js";
import { line, two } from "../../../test/kit/cli/line.js";
import { type Answers, thenWait } from "../../../test/kit/cli/server.js";
import { cron, job, node, startMs, state, task } from "../../../test/kit/cli/states.js";

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
    for (const args of [
      ["service", "ls", "-f", "mode=swarm"],
      ["node", "ls", "-f", "status=redy"],
      ["events", "-f", "kind=foo"],
    ]) {
      const nothing = await line(args, answers);
      expect([nothing.exit, nothing.fake.asked]).toEqual([125, []]);
      expect(nothing.err).toMatch(/must have a (mode|status|kind) of /);
    }
    expect((await line(["service", "ps", "-f", "state=runing", "web"], { getService: () => state({}) })).exit).toBe(
      125,
    );
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

  it("of services by mode, and say of tasks why there are none", async () => {
    const answers: Answers = {
      listServices: () => ({ services: [state({ mode: job }), state({ mode: cron("@daily", { suspended: true }) })] }),
      getService: () => state({ waitingFor: "waits: 1 of 3 tasks of service db are ready" }),
    };
    const ls = (...filters: string[]) =>
      line(["service", "ls", "--format", "{{.Mode}}: {{.Replicas}}", ...filters], answers);
    expect((await ls("-f", "mode=cron")).out).toBe("cron: suspended\n");
    expect((await ls("-f", "mode=cron", "-f", "mode=replicated-job")).out).toContain("replicated-job: 0/2 done\n");
    expect((await line(["service", "ps", "web"], answers)).err).toBe(
      "web: waits: 1 of 3 tasks of service db are ready\n",
    );
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

  it("go on from another manager when one is lost, without a line twice", async () => {
    const at = (atMs: number, ...texts: string[]) => ({
      lines: texts.map((text) => ({
        taskId: task({ slot: 1 }).meta?.id ?? "",
        atMs: startMs + atMs,
        stream: LogStream.STDOUT,
        text: Buffer.from(text),
      })),
      warning: "",
    });
    const streams = [
      [at(1, "a"), at(2, "b", "c")],
      [at(1, "a"), at(2, "b", "c", "d"), at(3, "e")],
    ];
    const { exit, out, err, fake } = await line(["service", "logs", "-f", "--raw", "--tail", "9", "web"], {
      getService: () => state({ tasks: two }),
      async *serviceLogs() {
        const stream = streams.shift() ?? [];
        yield* stream;
        await Promise.resolve();
        if (streams.length > 0) throw new ClusterError("unavailable", "the manager stops");
      },
    });
    expect([exit, out]).toEqual([0, "a\nb\nc\nd\ne\n"]);
    expect(err).toBe("lost the manager (the manager stops); asking again\n");
    const asked = fake.asked.filter(({ call }) => call === "serviceLogs").map(({ request }) => request);
    expect(asked).toMatchObject([
      { options: { follow: true, tail: 9, sinceMs: 0 } },
      { options: { follow: true, tail: undefined, sinceMs: startMs + 2 - 5000 } },
    ]);
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
