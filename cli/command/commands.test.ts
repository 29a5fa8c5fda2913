// Whole command lines, against a real gRPC server on loopback.

import { describe, expect, it } from "vitest";
import { ClusterError } from "../../lib/errors.js";
import { NodeAvailability, NodeState, RolloutState, TaskState } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { line } from "../../test/kit/cli/line.js";
import { type Answers, thenWait } from "../../test/kit/cli/server.js";
import { cluster } from "../../test/kit/cli/managers.js";
import { type TaskParts, node, rollout, startMs, state, task } from "../../test/kit/cli/states.js";

describe("nodes", () => {
  it("are drained until they are empty, and say what moved, what waits and why", async () => {
    const drained = (tasks: number) => node("h1", { availability: NodeAvailability.DRAINED, tasks });
    const on = (slot: number, parts: Partial<TaskParts> = {}) => task({ slot, id: `old${slot}`, ...parts });
    const elsewhere = (slot: number, parts: Partial<TaskParts> = {}) =>
      task({ slot, id: `new${slot}`, node: "h2", ...parts });
    const nowhere = { node: "", state: TaskState.PENDING, placement: "2 nodes: 2 short of memory" };
    const stopping = { desired: TaskState.SHUTDOWN };
    const stopped = { desired: TaskState.SHUTDOWN, state: TaskState.SHUTDOWN };
    // Before the drain, then at each look: what is on the node, and all of the service.
    const looks = [
      [on(1), on(2), on(3)],
      [on(1, stopping), elsewhere(1), on(2), elsewhere(2, nowhere), on(3)],
      [on(1, stopped), elsewhere(1), on(2), elsewhere(2), on(3, stopping), elsewhere(3)],
      [on(1, stopped), elsewhere(1), on(2, stopped), elsewhere(2), on(3, stopped), elsewhere(3)],
    ];
    let look = 0;
    const { exit, out, err, fake } = await line(["node", "drain", "--deadline", "2m", "h1"], {
      updateNode: () => {
        look = 1;
        return drained(3);
      },
      getNode: () => {
        look = Math.min(look + 1, looks.length - 1);
        return drained(look >= looks.length - 1 ? 0 : 1);
      },
      listTasks: ({ node: of }) => ({
        tasks: (looks[look] ?? []).filter(({ nodeId }) => of === "" || nodeId === "node-h1"),
        nodeNames: {},
      }),
    });
    expect([exit, out]).toEqual([0, "h1\n"]);
    expect(err).toBe(
      "h1: 0 of 3 tasks moved, 1 stops, 1 still runs, 1 waits: web.2: 2 nodes: 2 short of memory\n" +
        "h1: 1 of 3 tasks moved, 1 stops, 1 still runs\nh1: 3 of 3 tasks moved\nh1: drained\n",
    );
    expect(fake.asked.find(({ call }) => call === "updateNode")?.request).toMatchObject({
      node: "h1",
      availability: NodeAvailability.DRAINED,
      drainDeadlineMs: 120_000,
    });
  });

  it("say what was stopped at the deadline of a drain", async () => {
    const since = startMs;
    const state = (tasks: number) =>
      node("h1", {
        availability: NodeAvailability.DRAINED,
        availabilitySinceMs: since,
        drainDeadlineMs: 60_000,
        tasks,
      });
    const waiting = task({ slot: 1, id: "new1", node: "", state: TaskState.PENDING, placement: "no node fits" });
    let cut = false;
    const { exit, err } = await line(["node", "drain", "h1"], {
      updateNode: () => state(1),
      getNode: () => {
        cut = true;
        return state(0);
      },
      listTasks: ({ node: of }) => {
        const stopped = { desired: TaskState.SHUTDOWN, state: TaskState.SHUTDOWN, desiredSinceMs: since + 60_000 };
        const old = task({ slot: 1, id: "old1", ...(cut ? stopped : {}) });
        return { tasks: of === "" ? [old, waiting] : [old], nodeNames: {} };
      },
    });
    expect(exit).toBe(0);
    expect(err).toBe(
      "h1: 0 of 1 task moved, 1 waits: web.1: no node fits\nh1: the deadline has come: stopped web.1\nh1: drained\n",
    );
  });

  it("stop being drained for others' reasons, for a timeout, or for Ctrl-C", async () => {
    const busy = () => node("h1", { availability: NodeAvailability.DRAINED, tasks: 1 });
    const listTasks = () => ({ tasks: [task({ slot: 1 })], nodeNames: {} });
    const other = await line(["node", "drain", "h1"], {
      updateNode: busy,
      getNode: () => node("h1", { tasks: 1 }),
      listTasks,
    });
    expect(other.exit).toBe(4);
    const late = await line(["node", "drain", "--timeout", "1ms", "h1"], {
      updateNode: busy,
      getNode: busy,
      listTasks,
    });
    expect(late.exit).toBe(5);
    const stopped = await line(["node", "drain", "h1"], { updateNode: busy, getNode: busy, listTasks }, (io) => {
      io.onErr = (text) => {
        if (text.includes("moved")) setImmediate(() => io.stop());
      };
    });
    expect([stopped.exit, stopped.err.includes("node activate h1")]).toEqual([130, true]);
  });

  it("are lost for good only when they are away, and somebody says so", async () => {
    const answers = (state: NodeState = NodeState.UNKNOWN): Answers => ({
      getNode: ({ node: name }) => node(name, { state, tasks: 2 }),
      updateNode: ({ node: id }) => node(id.replace(/^node-(h\d).*/, "$1"), { lossConfirmed: true }),
    });
    const calls = ({ fake }: { fake: { asked: { call: string }[] } }) => fake.asked.map(({ call }) => call);
    const forced = await line(["node", "lost", "--force", "h1", "h2"], answers());
    expect([forced.exit, forced.out]).toEqual([0, "h1\nh2\n"]);
    expect(forced.err).toBe("h1 (unknown): 2 tasks to be replaced\nh2 (unknown): 2 tasks to be replaced\n");
    expect(forced.fake.asked.at(-1)?.request).toMatchObject({
      node: expect.stringMatching(/^node-h2/) as string,
      confirmLoss: true,
    });
    const asked = await line(["node", "lost", "h1"], answers(), (io) => {
      io.inTty = true;
      io.answers = ["n"];
    });
    expect([asked.exit, calls(asked)]).toEqual([1, ["getNode"]]);
    expect(asked.err).toContain("Is it off for good? [y/N] ");
    const nobody = await line(["node", "lost", "h1"], answers());
    expect([nobody.exit, calls(nobody)]).toEqual([125, ["getNode"]]);
    expect(nobody.err).toContain("error: --force is needed: there is no terminal to ask at; write --force");
    const here = await line(["node", "lost", "--force", "h1"], answers(NodeState.READY));
    expect([here.exit, calls(here)]).toEqual([1, ["getNode"]]);
    expect(here.err).toContain(
      "error: h1 is connected, and not lost; nothing was changed\nnext: flotilla node drain h1",
    );
  });

  it("are forgotten, all that can be", async () => {
    const { exit, out, err, fake } = await line(["node", "rm", "--force", "h1", "h2"], {
      removeNode({ node: name }) {
        if (name === "h2") throw new ClusterError("failed_precondition", "h2 is ready: drain it first");
        return { node: node(name).node };
      },
    });
    expect([exit, out, err]).toEqual([1, "h1\n", "error: h2 is ready: drain it first\n"]);
    expect(fake.asked[0]?.request).toMatchObject({ node: "h1", force: true });
    expect((await line(["node", "rm", "h1", "h1"])).exit).toBe(125);
  });

  it("tell of drains, losses and the brake in lists", async () => {
    const nodes = [
      node("h1", { availability: NodeAvailability.DRAINED, tasks: 3 }),
      node("h2", { state: NodeState.UNKNOWN }),
      node("h3", { state: NodeState.DOWN, lossConfirmed: true, generic: { gpu: 2 } }),
    ];
    const answers: Answers = {
      listNodes: () => ({ nodes }),
      getCluster: () => cluster({ brake: { sinceMs: startMs, lostNodes: 2, nodes: 3 } }),
      getNode: ({ node: name }) => nodes.find((each) => each.node?.description?.hostname === name) ?? node(name),
    };
    const { out, err } = await line(["node", "ls"], answers);
    expect(out).toMatch(/h1 +Ready +Drained \(3 tasks left\)/);
    expect(out).toMatch(/h3 +Down \(loss confirmed\)/);
    expect(err).toMatch(
      /^brake: 2 of 3 nodes were lost at once at 2023-11-14T22:13:20.000Z: .*flotilla node lost --force NODE/,
    );
    const pretty = (await line(["node", "inspect", "--pretty", "h1", "h3"], answers)).out;
    expect(pretty).toContain("Drained; 3 tasks left, being stopped\n");
    expect(pretty).toMatch(/Resources: +2 cores, 1 GiB, gpu=2\n/);
    expect(JSON.parse((await line(["node", "inspect", "h1", "h3"], answers)).out)).toMatchObject([
      { drain: { deadlineAt: "2023-11-14T22:23:20.000Z", tasksLeft: 3 }, lossConfirmed: false },
      { drain: null, lossConfirmed: true, resources: { generic: { gpu: 2 } } },
    ]);
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
      cause: "",
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

  it("say what led to them, of jobs and the cluster, too", async () => {
    const base = { atMs: startMs, id: "id1", name: "web", action: "scaled" };
    const events = [
      { ...base, sequence: 1, kind: "service", message: "from 3 to 5", cause: "cpu 92 % of 60 %" },
      { ...base, sequence: 2, kind: "job", action: "failed", message: "run 7", cause: "" },
      { ...base, sequence: 3, kind: "cluster", action: "brake", name: "", message: "", cause: "2 of 3 nodes lost" },
    ];
    const told = async (...words: string[]) =>
      (
        await line(["events", ...words], { watchEvents: (_, signal) => thenWait(events, signal) }, (io) => {
          const out = io.out.bind(io);
          io.out = (chunk) => {
            out(chunk);
            if (io.stdout.includes("brake")) setImmediate(() => io.stop());
          };
        })
      ).out;
    expect(await told()).toBe(
      "2023-11-14T22:13:20.000Z service scaled id1 (name=web) from 3 to 5 (cause: cpu 92 % of 60 %)\n" +
        "2023-11-14T22:13:20.000Z job failed id1 (name=web) run 7\n" +
        "2023-11-14T22:13:20.000Z cluster brake id1 (cause: 2 of 3 nodes lost)\n",
    );
    const some = await told("--json", "-f", "kind=job", "-f", "kind=cluster");
    expect(
      some
        .trimEnd()
        .split("\n")
        .map((text) => JSON.parse(text) as unknown),
    ).toMatchObject([
      { kind: "job", message: "run 7", cause: "" },
      { kind: "cluster", cause: "2 of 3 nodes lost" },
    ]);
  });

  it("end at once when no manager is there", async () => {
    const { exit, err } = await line(["events"], {}, (io) => {
      io.env = { FLOTILLA_HOST: "127.0.0.1:1" };
    });
    expect(exit).toBe(1);
    expect(err).toContain("cannot reach a manager at 127.0.0.1:1 (from FLOTILLA_HOST)");
  });
});
