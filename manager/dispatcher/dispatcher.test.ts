import { setMaxListeners } from "node:events";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Metadata, Server, ServerCredentials, credentials } from "@grpc/grpc-js";
import { ClusterError, seededRng, silentLogger } from "../../lib/mod.js";
import { fromServiceError } from "../../proto/errors.js";
import {
  AssignmentsKind,
  type AssignmentsMessage,
  DispatcherClient,
  DispatcherService,
  type SessionMessage,
  type UpdateStatusRequest,
} from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { type Node, NodeRole, NodeState, TaskState } from "../../proto/mod.js";
import { FakeClock } from "../../test/kit/clock.js";
import { makeNode, makeRevision, makeService, makeTask, readyStatus } from "../../test/kit/objects.js";
import { ensureCluster } from "../api/cluster.js";
import { NodeMonitor } from "../nodes/monitor.js";
import { Handlers } from "../rpc/mod.js";
import { openMemoryStore, type Store } from "../store/mod.js";
import { Dispatcher, dispatcherHandlers } from "./mod.js";

const nodeId = "node000001";
const description = makeNode(nodeId).description;

/** Waits, in real time, for what happens over real sockets. */
async function eventually(check: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 400; i += 1) {
    if (await check()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error("it did not happen");
}

describe("Dispatcher over gRPC", () => {
  let store: Store;
  let clock: FakeClock;
  let dispatcher: Dispatcher;
  let monitor: NodeMonitor;
  let server: Server;
  let client: DispatcherClient;

  beforeEach(async () => {
    store = openMemoryStore();
    clock = new FakeClock();
    await ensureCluster(store, "test", clock, seededRng(1));
    await store.update((tx) => {
      tx.create("services", makeService());
      tx.create("revisions", makeRevision(makeService()));
    });
    dispatcher = new Dispatcher({ store, clock, rng: seededRng(2), log: silentLogger, managers: ["127.0.0.1:7400"] });
    monitor = new NodeMonitor({
      store,
      dispatcher,
      clock,
      rng: seededRng(3),
      log: silentLogger,
      managerNames: () => [],
    });
    server = new Server();
    server.addService(
      DispatcherService,
      dispatcherHandlers(new Handlers(silentLogger, () => undefined), () => dispatcher),
    );
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      ),
    );
    client = new DispatcherClient(`127.0.0.1:${port}`, credentials.createInsecure());
  });

  afterEach(async () => {
    client.close();
    await monitor[Symbol.asyncDispose]();
    await dispatcher[Symbol.asyncDispose]();
    server.forceShutdown();
    await store[Symbol.asyncDispose]();
  });

  async function register(id = nodeId, address = description.advertiseAddress) {
    const stream = client.register({ nodeId: id, description: { ...description, advertiseAddress: address } });
    const ended = new Promise<Error | undefined>((resolve) => {
      stream.on("error", resolve);
      stream.on("end", () => resolve(undefined));
    });
    const message = await new Promise<SessionMessage>((resolve, reject) => {
      stream.once("data", resolve);
      stream.once("error", reject);
    });
    return { message, stream, ended };
  }

  function assignments(sessionId: string) {
    const messages: AssignmentsMessage[] = [];
    const stream = client.assignments({ sessionId });
    stream.on("data", (message: AssignmentsMessage) => messages.push(message));
    stream.on("error", () => undefined);
    return { messages, stream };
  }

  const updateStatus = (report: Omit<UpdateStatusRequest, "problems"> & { problems?: { texts: string[] } }) =>
    new Promise<void>((resolve, reject) =>
      client.updateStatus({ problems: undefined, ...report }, new Metadata(), (error) =>
        error === null ? resolve() : reject(fromServiceError(error)),
      ),
    );

  it("stores the node with a subnet of its own, and gives the same one again", async () => {
    const first = await register();
    expect(first.message.node?.subnet).toBe("10.128.1.0/24");
    expect(first.message.cluster?.dnsAddress).toBe("10.127.0.53");
    const other = await register("node000002", "10.77.0.2");
    expect(other.message.node?.subnet).toBe("10.128.2.0/24");
    const again = await register();
    expect(again.message.node?.subnet).toBe("10.128.1.0/24");
    expect(fromServiceError((await first.ended) as never).code).toBe("conflict");
  });

  it("takes back an agent of which nothing need be written only once it knows that it leads still", async () => {
    await register();
    const { revision } = store.view();
    const asked = vi.spyOn(store, "barrier");
    asked.mockRejectedValueOnce(new ClusterError("unavailable", "no quorum"));
    await expect(register()).rejects.toMatchObject({ code: 14 });
    await register();
    expect(asked).toHaveBeenCalledTimes(2);
    expect(store.view().revision).toBe(revision);
  });

  it("remembers nothing of whoever has no node's id, however often it comes", async () => {
    for (let i = 0; i < 12; i += 1) await expect(register("no id")).rejects.toMatchObject({ code: 3 });
    expect(dispatcher.wasSeen("no id")).toBe(false);
  });

  it("refuses a second node on the address of a connected one, naming both", async () => {
    await register();
    await expect(register("node000003")).rejects.toMatchObject({ code: 6 });
  });

  it("sends everything once, then changes chained to it, and nothing for a status that the agent itself sent", async () => {
    await store.update((tx) =>
      tx.create("tasks", makeTask("t1", { nodeId, status: { ...makeTask("t1").status, state: TaskState.ASSIGNED } })),
    );
    const { message } = await register();
    const { messages } = assignments(message.sessionId);
    await eventually(() => messages.length === 1);
    expect(messages[0]?.kind).toBe(AssignmentsKind.COMPLETE);
    expect(messages[0]?.changes.map(({ item }) => item?.$case)).toEqual(["task", "route", "node"]);

    await updateStatus({
      usage: [],
      sessionId: message.sessionId,
      updates: [{ taskId: "t1", status: readyStatus() }],
      drains: [],
    });
    await clock.advance(1);
    await eventually(() => messages.length === 2);
    const [, second] = messages;
    expect(second?.appliesTo).toBe(messages[0]?.resultsIn);
    // The task is as the agent knows it; what is new is that the service has an endpoint.
    expect(second?.changes.map(({ item }) => item?.$case)).toEqual(["route"]);

    await store.update((tx) => tx.put("tasks", { ...tx.tasks.get("t1")!, desiredState: TaskState.SHUTDOWN }));
    await clock.advance(1);
    await eventually(() => messages.length === 3);
    const third = messages[2]?.changes.map(({ item }) => item);
    expect(third?.map((item) => item?.$case)).toEqual(["task", "route"]);
    expect(third?.[1]).toMatchObject({ value: { endpoints: [{ taskId: "t1", draining: true }] } });

    // Every connected node says that nobody uses it any more: its agent may stop it.
    await updateStatus({
      usage: [],
      sessionId: message.sessionId,
      updates: [],
      drains: [{ taskId: "t1", activeConnections: 0 }],
    });
    await clock.advance(1);
    await eventually(() => messages.length === 4);
    expect(messages[3]?.changes).toMatchObject([{ item: { $case: "task", value: { drained: true } } }]);

    await store.update((tx) => tx.remove("tasks", "t1"));
    await clock.advance(1);
    await eventually(() => messages.length === 5);
    expect(messages[4]?.changes.map(({ item }) => item)).toContainEqual({ $case: "removedTaskId", value: "t1" });
  });

  it("tells an agent after how long without managers a task must stop, and nothing where it need not", async () => {
    const spec = { ...makeService().spec, stopAfterDisconnectMs: 60_000 };
    const status = { ...makeTask("t1").status, state: TaskState.ASSIGNED };
    await store.update((tx) => {
      tx.create("revisions", makeRevision(makeService(), 2, spec));
      for (const revision of [1, 2])
        tx.create("tasks", makeTask(`t${revision}`, { slot: revision, revision, nodeId, status }));
    });
    const { message } = await register();
    const { messages } = assignments(message.sessionId);
    await eventually(() => messages.length === 1);
    const tasks = messages[0]?.changes.flatMap(({ item }) => (item?.$case === "task" ? [item.value] : []));
    const after = tasks?.map(({ task, stopAfterDisconnectMs }) => [task?.revision, stopAfterDisconnectMs]);
    expect(after?.sort()).toEqual([
      [1, undefined],
      [2, 60_000],
    ]);
  });

  it("hands on what agents say that tasks use", async () => {
    await store.update((tx) => tx.create("tasks", makeTask("t1", { nodeId, status: readyStatus() })));
    const { message } = await register();
    const usage = [{ taskId: "t1", nanoCpus: 5, memoryBytes: 6, requestsMilli: 7 }];
    await updateStatus({ usage, sessionId: message.sessionId, updates: [], drains: [] });
    expect([...dispatcher.usage()]).toEqual([
      ["t1", { nanoCpus: 5, memoryBytes: 6, requestsMilli: 7, atMs: clock.now() }],
    ]);
  });

  it("tells every agent the names of nodes that join", async () => {
    const one = await register();
    const { messages } = assignments(one.message.sessionId);
    await eventually(() => messages.length === 1);
    await register("node000002", "10.77.0.2");
    await clock.advance(1);
    await eventually(() => messages.length === 2);
    expect(messages[1]?.changes.map(({ item }) => item)).toEqual([
      { $case: "node", value: expect.objectContaining({ id: "node000002", address: "10.77.0.2" }) },
    ]);
  });

  it("tells an agent what is wished of its node, and every agent who the managers are, when that changes", async () => {
    const [one, two] = [await register(), await register("node000002", "10.77.0.2")];
    const heard = new Map([one, two].map(({ stream }) => [stream, [] as SessionMessage[]]));
    for (const [stream, messages] of heard) stream.on("data", (message: SessionMessage) => messages.push(message));
    const [ofOne, ofTwo] = [...heard.values()];
    const change = (spec: Partial<Node["spec"]>) =>
      store.update((tx) => {
        const node = tx.nodes.get(nodeId)!;
        tx.put("nodes", { ...node, spec: { ...node.spec, ...spec } });
      });
    await change({ role: NodeRole.MANAGER });
    await eventually(() => ofOne?.length === 1);
    expect(ofOne?.[0]).toMatchObject({ sessionId: one.message.sessionId, node: { spec: { role: NodeRole.MANAGER } } });
    await change({ labels: { zone: "eu" } });
    await eventually(() => ofOne?.length === 2);
    expect(ofOne?.[1]?.node?.spec?.labels).toEqual({ zone: "eu" });
    // The same again, and what only the managers keep of the node, is no news to its agent.
    await change({ labels: { zone: "eu" } });
    await store.update((tx) => tx.put("nodes", { ...tx.nodes.get(nodeId)!, problems: ["port 80 is taken"] }));
    dispatcher.setManagers(["127.0.0.1:7400"]);
    dispatcher.setManagers(["10.0.0.2:7400", "127.0.0.1:7400"]);
    await eventually(() => ofOne?.length === 3 && ofTwo?.length === 1);
    for (const last of [ofOne?.[2], ofTwo?.[0]]) expect(last?.managers).toEqual(["10.0.0.2:7400", "127.0.0.1:7400"]);
    expect([ofOne?.length, ofTwo?.length]).toEqual([3, 1]);
  });

  it("keeps what a host's ambassador cannot do, until it can", async () => {
    const { message } = await register();
    const report = { usage: [], sessionId: message.sessionId, updates: [], drains: [] };
    const problems = () => store.view().nodes.get(nodeId)?.problems;
    await updateStatus({ ...report, problems: { texts: ["port 8080 is taken"] } });
    await updateStatus(report);
    expect(problems()).toEqual(["port 8080 is taken"]);
    const { revision } = store.view();
    await updateStatus({ ...report, problems: { texts: ["port 8080 is taken"] } });
    expect(store.view().revision).toBe(revision);
    await updateStatus({ ...report, problems: { texts: [] } });
    expect(problems()).toEqual([]);
  });

  it("waits with drained until every connected node has let go", async () => {
    const one = await register();
    const two = await register("node000002", "10.77.0.2");
    await store.update((tx) =>
      tx.create("tasks", makeTask("t1", { nodeId, status: readyStatus(), desiredState: TaskState.SHUTDOWN })),
    );
    await clock.advance(1);
    const { messages } = assignments(one.message.sessionId);
    const drained = () =>
      messages.some(({ changes }) => changes.some(({ item }) => item?.$case === "task" && item.value.drained));
    await updateStatus({
      usage: [],
      sessionId: one.message.sessionId,
      updates: [],
      drains: [{ taskId: "t1", activeConnections: 0 }],
    });
    await updateStatus({
      usage: [],
      sessionId: two.message.sessionId,
      updates: [],
      drains: [{ taskId: "t1", activeConnections: 3 }],
    });
    await clock.advance(1);
    await eventually(() => messages.length > 0);
    expect(drained()).toBe(false);
    await updateStatus({
      usage: [],
      sessionId: two.message.sessionId,
      updates: [],
      drains: [{ taskId: "t1", activeConnections: 0 }],
    });
    await clock.advance(1);
    await eventually(drained);
  });

  it("gives a task that stops more time where it takes longer to tell every agent that it is draining", async () => {
    const { signal } = new AbortController();
    setMaxListeners(0, signal);
    const { drainTimeoutMs } = makeService().spec;
    await store.update((tx) => tx.create("tasks", makeTask("t1", { nodeId, status: readyStatus() })));
    const heard: AssignmentsMessage[][] = [];
    for (let i = 1; i <= 60; i += 1) {
      const id = `node0000${String(i).padStart(2, "0")}`;
      const session = dispatcher.register(
        { nodeId: id, description: { ...description, advertiseAddress: `10.77.0.${i}` } },
        signal,
      );
      const { value } = await session.next();
      const messages: AssignmentsMessage[] = [];
      heard.push(messages);
      void (async () => {
        for await (const message of dispatcher.assignments((value as SessionMessage).sessionId, signal))
          messages.push(message);
      })();
    }
    await clock.advance(1_000);
    const endpoints = () =>
      heard.map((messages) =>
        messages
          .flatMap(({ changes }) => changes)
          .flatMap(({ item }) => (item?.$case === "route" ? [item.value.endpoints] : []))
          .at(-1),
      );
    expect(endpoints()).toEqual(heard.map(() => [expect.objectContaining({ taskId: "t1", draining: false })]));
    await store.update((tx) => tx.put("tasks", { ...tx.tasks.get("t1")!, desiredState: TaskState.SHUTDOWN }));
    await clock.advance(0);
    // Its own agent hears of it at once.
    const stop = heard[0]?.at(-1)?.changes.flatMap(({ item }) => (item?.$case === "task" ? [item.value] : []));
    expect(stop).toMatchObject([{ task: { desiredState: TaskState.SHUTDOWN } }]);
    const extraMs = (stop?.[0]?.drainTimeoutMs ?? 0) - drainTimeoutMs;
    expect(extraMs).toBeGreaterThan(0);
    await clock.advance(extraMs);
    expect(endpoints()).toEqual(heard.map(() => [expect.objectContaining({ taskId: "t1", draining: true })]));
    for (const messages of heard)
      for (const [i, { appliesTo }] of messages.entries()) expect(appliesTo).toBe(messages[i - 1]?.resultsIn ?? "");
  });

  it("does not take hosts for drained because their agents are away: ambassadors outlive them", async () => {
    await store.update((tx) => {
      tx.create("tasks", makeTask("t1", { nodeId, status: readyStatus(), desiredState: TaskState.SHUTDOWN }));
      for (const id of [nodeId, "node000002"]) tx.create("nodes", makeNode(id, { subnet: `of ${id}` }));
    });
    // As after a manager's start: nobody is connected.
    await clock.advance(1);
    const { message } = await register();
    const { messages } = assignments(message.sessionId);
    const drained = () =>
      messages.some(({ changes }) => changes.some(({ item }) => item?.$case === "task" && item.value.drained));
    await eventually(() => messages.length > 0);
    expect(drained()).toBe(false);
    await updateStatus({
      usage: [],
      sessionId: message.sessionId,
      updates: [],
      drains: [{ taskId: "t1", activeConnections: 0 }],
    });
    await clock.advance(1);
    // The other host may still have connections to the task; once it is lost it has none.
    const beat = () =>
      new Promise<void>((resolve, reject) =>
        client.heartbeat({ sessionId: message.sessionId }, (error) => (error === null ? resolve() : reject(error))),
      );
    for (let i = 0; i < 2; i += 1) {
      await clock.advance(9_000);
      await beat();
    }
    expect(drained()).toBe(false);
    await clock.advance(9_000);
    expect(store.view().nodes.get("node000002")?.status.state).toBe(NodeState.DOWN);
    await clock.advance(1);
    await eventually(drained);
  });

  it("does not call a node lost whose registration is stored and whose session is about to open", async () => {
    await clock.advance(60_000);
    const update = store.update.bind(store);
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    // As with etcd, where a commit may come by the watch before the answer to the transaction.
    store.update = async (fn) => {
      store.update = update;
      const answer = await update(fn);
      await gate;
      return answer;
    };
    const states = new Set<number | undefined>();
    store.subscribe(() => states.add(store.view().nodes.get(nodeId)?.status.state));
    const registered = register();
    await eventually(() => store.view().nodes.get(nodeId) !== undefined);
    await clock.advance(1);
    open();
    await registered;
    await clock.advance(1);
    expect([...states]).toEqual([NodeState.READY]);
    // Nor is it forgotten when the call ends in between.
    expect(dispatcher.isRegistering(nodeId)).toBe(false);
  });

  it("ends an assignments stream when the agent opens another: no change is sent where nobody reads", async () => {
    const { message } = await register();
    const first = assignments(message.sessionId);
    await eventually(() => first.messages.length === 1);
    const ended = new Promise((resolve) => first.stream.on("end", resolve));
    const second = assignments(message.sessionId);
    await ended;
    await store.update((tx) =>
      tx.create("tasks", makeTask("t1", { nodeId, status: { ...makeTask("t1").status, state: TaskState.ASSIGNED } })),
    );
    await clock.advance(1);
    await eventually(() => second.messages.length === 2);
    expect(first.messages.length).toBe(1);
  });

  it("ignores states that go backwards, and refuses those of another node's tasks", async () => {
    await store.update((tx) => {
      tx.create("tasks", makeTask("mine", { nodeId, status: readyStatus() }));
      tx.create("tasks", makeTask("theirs", { nodeId: "node000009", slot: 2, status: readyStatus() }));
    });
    const { message } = await register();
    const failed = { ...readyStatus(), state: TaskState.FAILED };
    await updateStatus({
      usage: [],
      sessionId: message.sessionId,
      updates: [
        { taskId: "mine", status: { ...readyStatus(), state: TaskState.STARTING } },
        { taskId: "theirs", status: failed },
        { taskId: "gone", status: failed },
      ],
      drains: [],
    });
    expect(store.view().tasks.get("mine")?.status.state).toBe(TaskState.RUNNING);
    expect(store.view().tasks.get("theirs")?.status.state).toBe(TaskState.RUNNING);
    await updateStatus({
      usage: [],
      sessionId: message.sessionId,
      updates: [{ taskId: "mine", status: failed }],
      drains: [],
    });
    await updateStatus({
      usage: [],
      sessionId: message.sessionId,
      updates: [{ taskId: "mine", status: readyStatus() }],
      drains: [],
    });
    expect(store.view().tasks.get("mine")?.status.state).toBe(TaskState.FAILED);
    expect(store.view().tasks.get("mine")?.endedAtMs).toBe(clock.now());
  });

  it("says not_found to a session it does not know", async () => {
    await expect(updateStatus({ usage: [], sessionId: "nobody", updates: [], drains: [] })).rejects.toMatchObject({
      code: "not_found",
    });
  });

  it("calls a node UNKNOWN when its stream ends, DOWN after 15 s, and orphans its tasks; READY when it is back", async () => {
    const { message, stream } = await register();
    await store.update((tx) => tx.create("tasks", makeTask("t1", { nodeId, status: readyStatus() })));
    const state = () => store.view().nodes.get(nodeId)?.status.state;
    stream.cancel();
    await eventually(() => !dispatcher.hasSession(nodeId));
    await clock.advance(1);
    expect(state()).toBe(NodeState.UNKNOWN);
    await clock.advance(14_000);
    expect(state()).toBe(NodeState.UNKNOWN);
    expect(store.view().tasks.get("t1")?.status.state).toBe(TaskState.RUNNING);
    await clock.advance(1_100);
    expect(state()).toBe(NodeState.DOWN);
    expect(store.view().tasks.get("t1")?.status.state).toBe(TaskState.ORPHANED);

    const back = await register();
    expect(back.message.sessionId).not.toBe(message.sessionId);
    const { messages } = assignments(back.message.sessionId);
    await eventually(() => messages.length === 1);
    expect(messages[0]?.changes.filter(({ item }) => item?.$case === "task")).toEqual([]);
    expect(state()).toBe(NodeState.READY);
  });

  it("ends a session after three missed heartbeats, and keeps one that sends them", async () => {
    const { message } = await register();
    for (let i = 0; i < 5; i += 1) {
      await clock.advance(5_000);
      await new Promise<void>((resolve, reject) =>
        client.heartbeat({ sessionId: message.sessionId }, (error) => (error === null ? resolve() : reject(error))),
      );
    }
    expect(dispatcher.hasSession(nodeId)).toBe(true);
    await clock.advance(15_001);
    await eventually(() => !dispatcher.hasSession(nodeId));
  });

  it("calls nobody lost because this process stood still", async () => {
    const { message } = await register();
    await store.update((tx) => tx.create("tasks", makeTask("t1", { nodeId, status: readyStatus() })));
    await clock.advance(1_000);
    // Timers come late, and before anything that waits in the sockets.
    const { monotonic } = clock;
    clock.monotonic = () => monotonic.call(clock) + 60_000;
    await clock.advance(5_000);
    expect(dispatcher.hasSession(nodeId)).toBe(true);
    expect(store.view().tasks.get("t1")?.status.state).toBe(TaskState.RUNNING);
    await new Promise<void>((resolve, reject) =>
      client.heartbeat({ sessionId: message.sessionId }, (error) => (error === null ? resolve() : reject(error))),
    );
    // Whoever is silent from now on is lost as ever.
    await clock.advance(16_000);
    expect(store.view().nodes.get(nodeId)?.status.state).toBe(NodeState.DOWN);
    expect(store.view().tasks.get("t1")?.status.state).toBe(TaskState.ORPHANED);
  });

  it("does not call a node lost that tries to register while the store takes no writes", async () => {
    const { stream } = await register();
    stream.cancel();
    await eventually(() => !dispatcher.hasSession(nodeId));
    await clock.advance(14_000);
    const update = store.update.bind(store);
    store.update = () => Promise.reject(new ClusterError("unavailable", "no quorum"));
    await expect(register()).rejects.toMatchObject({ code: 14 });
    store.update = update;
    await clock.advance(10_000);
    expect(store.view().nodes.get(nodeId)?.status.state).toBe(NodeState.UNKNOWN);
    await clock.advance(6_000);
    expect(store.view().nodes.get(nodeId)?.status.state).toBe(NodeState.DOWN);
  });

  it("gives nodes that it never heard of time to find it", async () => {
    await store.update((tx) => tx.create("nodes", makeNode("node000005", { subnet: "10.128.5.0/24" })));
    const state = () => store.view().nodes.get("node000005")?.status.state;
    await clock.advance(14_000);
    expect(state()).toBe(NodeState.READY);
    await clock.advance(2_000);
    expect(state()).toBe(NodeState.UNKNOWN);
    await clock.advance(15_000);
    expect(state()).toBe(NodeState.DOWN);
  });
});
