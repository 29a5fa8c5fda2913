// The session against real gRPC servers of the fake manager.

import { afterEach, beforeEach, expect, test } from "vitest";
import { silentLogger, systemClock, systemRng } from "../../lib/mod.js";
import type { AssignmentsMessage } from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { TaskState, type TaskStatus } from "../../proto/mod.js";
import { assignmentOf } from "../../test/kit/agent.js";
import { FakeDispatcher } from "../../test/kit/fake-dispatcher.js";
import { makeNode } from "../../test/kit/objects.js";
import type { EngineLogLine } from "../engine/mod.js";
import { ManagerSession } from "./mod.js";

let one: FakeDispatcher;
let two: FakeDispatcher;
let controller: AbortController;
let running: Promise<void>;
let statuses: [string, TaskStatus][];
let messages: AssignmentsMessage[];
let contacts: { sentMs: number; isNew: boolean }[];

beforeEach(async () => {
  [one, two] = [new FakeDispatcher({ heartbeatPeriodMs: 50 }), new FakeDispatcher({ heartbeatPeriodMs: 50 })];
  await one.start();
  controller = new AbortController();
  statuses = [];
  messages = [];
  contacts = [];
});
afterEach(async () => {
  controller.abort(new Error("the test ended"));
  await running;
  one.stop();
  two.stop();
});

function begin(managers: string[], logs: EngineLogLine[] = [], described = Promise.resolve()): ManagerSession {
  const session = new ManagerSession({
    nodeId: "node0123456789",
    managers,
    remembered: [],
    clock: systemClock,
    rng: systemRng,
    log: silentLogger,
    describe: async () => {
      await described;
      return makeNode("h1").description;
    },
    onContact: (sentMs, isNew) => contacts.push({ sentMs, isNew }),
    onSession: () => undefined,
    onAssignments: (message) => messages.push(message),
    statuses: () => statuses,
    drains: () => [["draining", 2]],
    problems: () => [],
    logs: {
      async *read() {
        for (const line of logs) yield await Promise.resolve(line);
      },
    },
  });
  running = session.run(controller.signal);
  return session;
}

const status = (state: TaskState, message = ""): TaskStatus => ({
  state,
  sinceMs: 1,
  message,
  error: "",
  container: undefined,
});

test("registers, keeps the session alive, and tells all that there is", async () => {
  statuses = [["t1", status(TaskState.RUNNING)]];
  const session = begin([one.address]);
  await one.until("told", () => one.status("t1")?.state === TaskState.RUNNING);
  await one.until("the drain report", () => one.drains.length > 0);
  expect(one.drains).toMatchObject([{ taskId: "draining", activeConnections: 2 }]);
  await one.until("heartbeats", () => one.heartbeats >= 3);
  expect(session.connected).toBe(true);
  await one.until("contacts", () => contacts.length >= 3);
  expect(contacts.map(({ isNew }) => isNew).slice(0, 3)).toEqual([true, false, false]);
  expect(contacts.map(({ sentMs }) => sentMs)).toEqual(contacts.map(({ sentMs }) => sentMs).sort((a, b) => a - b));
  expect(one.sessions).toBe(1);
});

test("a manager that is dead is passed over for one that lives", async () => {
  await two.start();
  const dead = one.address;
  one.stop();
  begin([dead, two.address]);
  await two.until("a session", () => two.sessions === 1);
});

test("when its manager dies it goes to another, and tells it everything again", async () => {
  await two.start();
  statuses = [["t1", status(TaskState.RUNNING)]];
  const session = begin([one.address, two.address]);
  const first = await Promise.race([
    one.until("one", () => one.status("t1") && one),
    two.until("two", () => two.status("t1") && two),
  ]);
  const second = first === one ? two : one;
  first.stop();
  await second.until("all again", () => second.status("t1")?.state === TaskState.RUNNING);
  expect(session.connected).toBe(true);
});

test("a manager that does not lead sends it to the one that does, though nobody told it of that one", async () => {
  await two.start();
  one.leader = two.address;
  begin([one.address]);
  await two.until("a session", () => two.sessions === 1);
  expect(one.registrations).toHaveLength(1);
});

test("two managers that take each other for the leader are asked again, with waits in between", async () => {
  await two.start();
  [one.leader, two.leader] = [two.address, one.address];
  const session = begin([one.address, two.address]);
  await one.until("it has tried", () => one.registrations.length + two.registrations.length >= 6);
  expect(session.connected).toBe(false);
  two.leader = undefined;
  await two.until("a session", () => two.sessions === 1);
});

test("a leader that is deposed names the next one, and its agents go there", async () => {
  await two.start();
  begin([one.address]);
  await one.until("a session", () => one.sessions === 1);
  one.handOver(two.address);
  await two.until("a session", () => two.sessions === 1);
  expect(one.registrations).toHaveLength(1);
});

test("a session that the manager no longer knows is begun anew", async () => {
  begin([one.address]);
  await one.until("a session", () => one.sessions === 1);
  one.endSessions();
  await one.until("another", () => one.registrations.length === 2);
});

test("only the newest status of a task is sent", async () => {
  const session = begin([one.address]);
  await one.until("a session", () => one.sessions === 1);
  for (let i = 0; i < 1_000; i += 1) session.report("t1", status(TaskState.RUNNING, `${i}`));
  await one.until("the newest", () => one.status("t1")?.message === "999");
  expect(one.reports.length).toBeLessThan(10);
});

test("assignments arrive in order, COMPLETE first", async () => {
  begin([one.address]);
  while (messages.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  one.assign(assignmentOf("t1", { image: "x" }));
  one.assign(assignmentOf("t2", { image: "x" }));
  one.remove("t1");
  const last = () => messages.flatMap(({ changes }) => changes).at(-1)?.item;
  while (last()?.$case !== "removedTaskId") await new Promise((resolve) => setTimeout(resolve, 5));
  expect(messages[0]?.kind).toBe(1);
  expect(last()).toMatchObject({ $case: "removedTaskId", value: "t1" });
});

test("a log of 20,000 lines arrives whole and in order", async () => {
  const lines = Array.from(
    { length: 20_000 },
    (_, i): EngineLogLine => ({ atMs: i, stream: "stdout", text: Buffer.from(`line ${i}`) }),
  );
  begin([one.address], lines);
  await one.until("a log stream", () => one.logStreams === 1);
  one.subscribe({ id: "l", closed: false, taskIds: ["t1"], options: { follow: false, sinceMs: 0 } });
  await one.until("its end", () => one.logEnds.includes("l"));
  expect(one.lines.map(({ line }) => line.atMs)).toEqual(lines.map(({ atMs }) => atMs));
});

test("an end that comes while the engine is asked about the host is not missed (the session outlived the agent)", async () => {
  let described: () => void = () => undefined;
  begin([one.address], [], new Promise((resolve) => (described = resolve)));
  controller.abort(new Error("the agent ends"));
  described();
  await running;
  expect(one.registrations).toEqual([]);
});

test("a log stream that the manager never answers does not hold up the session's end", async () => {
  one.owesLogAnswers = true;
  begin([one.address], [{ atMs: 1, stream: "stdout", text: Buffer.from("line") }]);
  await one.until("a log stream", () => one.logStreams === 1);
  one.subscribe({ id: "l", closed: false, taskIds: ["t1"], options: { follow: false, sinceMs: 0 } });
  await one.until("its end", () => one.logEnds.includes("l"));
  one.endSessions();
  await one.until("another session", () => one.registrations.length === 2);
});
