// Whole command lines, against a real gRPC server on loopback.

import { describe, expect, it } from "vitest";
import { ClusterError } from "../../lib/errors.js";
import { NodeAvailability, RolloutState, TaskState } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { line } from "../../test/kit/cli/line.js";
import { type Answers, thenWait } from "../../test/kit/cli/server.js";
import { node, rollout, startMs, state, task } from "../../test/kit/cli/states.js";

describe("nodes", () => {
  it("are drained until they are empty", async () => {
    let left = 3;
    // A task that is replaced elsewhere still runs here until its connections have ended.
    const listed = [[task({ slot: 1, desired: TaskState.SHUTDOWN })], [task({ slot: 1, state: TaskState.SHUTDOWN })]];
    const { exit, out, err, fake } = await line(["node", "drain", "h1"], {
      updateNode: () => node("h1", { availability: NodeAvailability.DRAINED, tasks: left }),
      getNode: () => node("h1", { availability: NodeAvailability.DRAINED, tasks: (left = 0) }),
      listTasks: () => ({ tasks: listed.shift() ?? [], serviceNames: {}, nodeNames: {} }),
    });
    expect([exit, out, err]).toEqual([0, "h1\n", "h1: 3 tasks to move\nh1: 1 task to stop\nh1: drained\n"]);
    expect(listed).toEqual([]);
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

  it("end at once when no manager is there", async () => {
    const { exit, err } = await line(["events"], {}, (io) => {
      io.env = { FLOTILLA_HOST: "127.0.0.1:1" };
    });
    expect(exit).toBe(1);
    expect(err).toContain("cannot reach a manager at 127.0.0.1:1 (from FLOTILLA_HOST)");
  });
});
