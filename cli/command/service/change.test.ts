// Whole command lines, against a real gRPC server on loopback.

import { describe, expect, it } from "vitest";
import { ClusterError } from "../../../lib/errors.js";
import { LogStream } from "../../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { RolloutState, TaskState, type ServiceSpec } from "../../../proto/gen/flotilla/objects/v1/objects.js";
import { line, response, two } from "../../../test/kit/cli/line.js";
import { type Answers, thenWait } from "../../../test/kit/cli/server.js";
import { rollout, state, task, webId } from "../../../test/kit/cli/states.js";

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
    expect([exit, out]).toEqual([125, ""]);
    expect(err).toBe(
      'error: name: "Web" must be lower-case; write web\nerror: image: "ngi nx" must not contain blanks; write nginx:1\n' +
        "See 'flotilla service create --help'.\n",
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
        "error: --name is needed; write for example --name web\n" +
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
    expect(err).toMatch(/^detached from web; the cluster goes on$/m);
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

  it("scales nothing when one of several names is wrong", async () => {
    const { exit, err, fake } = await line(["service", "scale", "web=2", "nope=3"], {
      getService({ service }) {
        if (service === "nope") throw new ClusterError("not_found", 'no service "nope"');
        return state({});
      },
    });
    expect(exit).toBe(1);
    expect(err).toContain('no service "nope"');
    expect(fake.asked.map(({ call }) => call)).not.toContain("scaleService");
  });

  it("refuses a wait of no time at all", async () => {
    const { exit, err, fake } = await line(["service", "scale", "--timeout", "0s", "web=2"]);
    expect(exit).toBe(125);
    expect(err).toContain('--timeout: "0s" must be longer than 0s; write for example 2m, or --detach');
    expect(fake.asked).toEqual([]);
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
