// Whole command lines, against a real gRPC server on loopback.

import { describe, expect, it } from "vitest";
import { TaskState } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { line } from "../../test/kit/cli/line.js";
import type { Answers } from "../../test/kit/cli/server.js";
import { startMs, state, task } from "../../test/kit/cli/states.js";

describe("task ls", () => {
  const tasks = [
    task({ slot: 1, revision: 1 }),
    task({ slot: 2, revision: 2, leave: "rebalanced: h1 has 5 of 6 tasks" }),
    task({
      slot: 1,
      service: "agent",
      node: "",
      only: "h2",
      state: TaskState.PENDING,
      placement: "h2: short of memory",
    }),
    task({ slot: 1, service: "batch", run: 7, id: "seven" }),
    task({ slot: 1, service: "batch", run: 6, id: "six", state: TaskState.COMPLETE, desired: TaskState.SHUTDOWN }),
  ];
  const answers: Answers = {
    listTasks: () => ({ tasks, nodeNames: { "node-h1": "h1", "node-h2": "h2" } }),
    listServices: () => ({ services: [state({ revision: 2 })] }),
    getService: ({ service }) => {
      if (service === "agent0") return state({ images: ["agent:1"] });
      return state({ revision: 2 });
    },
  };

  it("has tasks of all services, with node, run and why one leaves", async () => {
    const { exit, out, fake } = await line(["task", "ls"], answers);
    expect(exit).toBe(0);
    const lines = out.split("\n");
    expect(lines[0]).toMatch(/^ID +NAME +RUN +IMAGE +NODE +DESIRED STATE +CURRENT STATE +ERROR +PORTS$/);
    // Not placed yet, and it can only be h2.
    expect(lines[1]).toMatch(/agent\.1 +agent:1 +h2 +Running +Pending .* "h2: short of memory"$/);
    expect(lines[2]).toMatch(/^seven +batch\.1 +7 /);
    expect(lines[3]).toMatch(/^six +batch\.1 +6 /);
    expect(lines[4]).toMatch(/web\.1 +nginx:1 +h1/);
    expect(lines[5]).toMatch(
      /web\.2 +nginx:2 +h1 +Running +Running .* ago, to leave +"rebalanced: h1 has 5 of 6 tasks"$/,
    );
    // The list of services has the newest revisions' images; others are asked for once a service.
    expect(fake.asked.filter(({ call }) => call === "getService").map(({ request }) => request)).toMatchObject([
      { service: task({ slot: 1 }).serviceId },
      { service: "agent0" },
      { service: "batch0" },
    ]);
  });

  it("is filtered, and has templates and JSON", async () => {
    const names = async (...filters: string[]) =>
      (await line(["task", "ls", "--format", "{{.Name}}/{{.Run}}", ...filters.flatMap((f) => ["-f", f])], answers)).out;
    expect(await names("service=batch")).toBe("batch.1/7\nbatch.1/6\n");
    expect(await names("service=batch", "run=6")).toBe("batch.1/6\n");
    expect(await names("node=h2")).toBe("agent.1/\n");
    expect(await names("leaving=true")).toBe("web.2/\n");
    expect(await names("state=pending", "state=complete")).toBe("agent.1/\nbatch.1/6\n");
    const wrong = await line(["task", "ls", "-f", "leaving=maybe", "-f", "colour=red"], answers);
    expect([wrong.exit, wrong.fake.asked]).toEqual([125, []]);
    const json = JSON.parse((await line(["task", "ls", "--json", "-f", "service=web"], answers)).out) as unknown;
    expect(json).toMatchObject([
      { slot: 1, run: null, leave: null },
      {
        slot: 2,
        leave: { reason: "rebalanced: h1 has 5 of 6 tasks", startFirst: true, at: "2023-11-14T22:13:20.000Z" },
      },
    ]);
  });
});

describe("task why", () => {
  const waiting = task({ slot: 3, state: TaskState.PENDING, node: "", placement: "2 nodes: 2 short of memory" });
  const explained = {
    task: waiting,
    nodeName: "",
    summary: "it waits for a node: 2 nodes: 2 short of memory",
    steps: [
      { atMs: startMs, text: "made: scaled to 3" },
      { atMs: startMs + 1000, text: "no node fits\u001b[2J" },
    ],
    nodes: [
      { nodeId: "node-h1", nodeName: "h1", fits: false, reason: "short of memory: 412 MiB free, 1 GiB asked for" },
    ],
    advice: ["ask for less with --reserve-memory, or add a node"],
  };

  it("explains: what, how it came to this, what nodes lack, what to do", async () => {
    const { exit, out, fake } = await line(["task", "why", "web.3"], { explainTask: () => explained });
    expect(exit).toBe(0);
    expect(fake.asked[0]?.request).toMatchObject({ task: "web.3" });
    expect(out.replaceAll(/\d+ (years|months) ago/g, "AGO").replace(/WHEN +/, "WHEN ")).toBe(
      `web.3 (${waiting.meta?.id}, no node)
it waits for a node: 2 nodes: 2 short of memory

WHEN WHAT
2023-11-14T22:13:20.000Z (AGO)   made: scaled to 3
2023-11-14T22:13:21.000Z (AGO)   no node fits

NODE   FITS   REASON
h1     no     short of memory: 412 MiB free, 1 GiB asked for

advice: ask for less with --reserve-memory, or add a node
`,
    );
  });

  it("is had as JSON", async () => {
    const { out } = await line(["task", "why", "--json", "web.3"], { explainTask: () => explained });
    expect(JSON.parse(out)).toMatchObject({
      task: { slot: 3, state: "pending" },
      summary: explained.summary,
      steps: [{ at: "2023-11-14T22:13:20.000Z", text: "made: scaled to 3" }, {}],
      nodes: [{ node: "h1", fits: false }],
      advice: explained.advice,
    });
  });
});
