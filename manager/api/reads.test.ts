// What any manager answers of what it knows, and when it must not.

import { afterEach, beforeEach, expect, it } from "vitest";
import { ClusterError, seededRng, silentLogger } from "../../lib/mod.js";
import type { ServiceLogsRequest, ServiceLogsResponse } from "../../proto/gen/flotilla/control/v1/control.js";
import { FakeClock, settle } from "../../test/kit/clock.js";
import { makeRevision, makeService, makeSpec, makeTask } from "../../test/kit/objects.js";
import { SoloConsensus } from "../consensus/mod.js";
import type { LogBroker } from "../dispatcher/mod.js";
import { EventLog } from "../events/mod.js";
import { type Call, Handlers } from "../rpc/mod.js";
import { openMemoryStore, type Store } from "../store/mod.js";
import { ensureCluster } from "./cluster.js";
import { controlHandlers } from "./control.js";
import { Forwarder } from "./forward.js";

type Begin = (request: unknown, signal: AbortSignal, peer: string, call: Call) => AsyncIterable<unknown>;

type Ask = (request: unknown, peer: string, call: Call) => Promise<unknown>;

/** Hands the calls to the test instead of gRPC. */
function collecting(begin: Map<string, Begin>, asked: Map<string, Ask>): Handlers {
  const handlers = new Handlers(silentLogger, () => undefined);
  const answer = handlers.unary.bind(handlers);
  handlers.unary = (method, handle) => {
    asked.set(method, async (request, peer, call) => await (handle as Ask)(request, peer, call));
    return answer(method, handle);
  };
  const serve = handlers.serverStream.bind(handlers);
  handlers.serverStream = (method, handle) => {
    begin.set(method, handle as Begin);
    return serve(method, handle);
  };
  return handlers;
}

class Cut extends SoloConsensus {
  isCut = false;

  override health(): { ready: boolean; message: string } {
    return this.isCut ? { ready: false, message: "no leader for 3 s" } : super.health();
  }
}

const service = makeService();
let store: Store;
let clock: FakeClock;
let consensus: Cut;
let streams: Map<string, Begin>;
let unary: Map<string, Ask>;
let user: AbortController;
let events: EventLog;

beforeEach(async () => {
  store = openMemoryStore();
  clock = new FakeClock();
  consensus = new Cut({ clusterName: "c", name: "h1", address: "127.0.0.1:1", httpAddress: "127.0.0.1:2" });
  streams = new Map();
  unary = new Map();
  user = new AbortController();
  events = new EventLog(store, clock);
  await store.update((tx) => {
    tx.create("services", service);
    tx.create("revisions", makeRevision(service));
  });
  controlHandlers(collecting(streams, unary), {
    store,
    consensus,
    forwarder: new Forwarder({ consensus, clock }),
    clock,
    rng: seededRng(1),
    events: () => events,
    logs: () =>
      ({
        async *read(): AsyncGenerator<ServiceLogsResponse> {
          await Promise.resolve();
          yield { lines: [], warning: "read" };
        },
      }) as unknown as LogBroker,
    version: "1",
  });
});

afterEach(async () => {
  user.abort();
  events[Symbol.dispose]();
  await store[Symbol.asyncDispose]();
});

/** What comes, and how it ends. */
function read(method: string, request: unknown): { got: unknown[]; ended: Promise<unknown> } {
  const got: unknown[] = [];
  const call = { signal: user.signal } as Call;
  const ended = (async () => {
    for await (const message of streams.get(method)!(request, user.signal, "", call)) got.push(message);
    return "ended";
  })().catch((error: unknown) => error);
  return { got, ended };
}

it("tells those who watch that it has lost touch: they would wait for ever at a manager that is cut off", async () => {
  const reads = [read("WatchService", { service: "web" }), read("WatchEvents", { sinceMs: 1 })];
  await settle();
  expect(reads.map(({ got }) => got.length)).toEqual([1, 1]);
  // An election is no reason.
  consensus.isCut = true;
  await clock.advance(3_000);
  consensus.isCut = false;
  await clock.advance(10_000);
  await store.update((tx) => tx.put("services", { ...store.view().services.get(service.meta.id)!, revision: 9 }));
  await settle();
  expect(reads.map(({ got }) => got.length)).toEqual([2, 2]);
  consensus.isCut = true;
  await clock.advance(10_000);
  for (const { ended } of reads)
    expect(await ended).toMatchObject({ code: "unavailable", message: "no leader for 3 s" });
});

it("ends a watch without an error when its reader leaves", async () => {
  const { ended } = read("WatchEvents", { sinceMs: 0 });
  await settle();
  user.abort();
  expect(await ended).toBe("ended");
});

it("reads logs of a service only after a barrier: one that was deposed may not know the newest", async () => {
  const request: ServiceLogsRequest = { service: "web", taskId: "", options: undefined };
  const { got, ended } = read("ServiceLogs", request);
  expect(await ended).toBe("ended");
  expect(got).toEqual([{ lines: [], warning: "read" }]);
  store.barrier = () => Promise.reject(new ClusterError("unavailable", "no quorum confirms it"));
  for (const name of ["web", "api"])
    expect(await read("ServiceLogs", { ...request, service: name }).ended).toMatchObject({ code: "unavailable" });
});

it("plans and explains at any manager, only after a barrier, and writes nothing", async () => {
  await ensureCluster(store, "c", clock, seededRng(2));
  const task = makeTask("task000001");
  await store.update((tx) => tx.create("tasks", task));
  const call = { signal: user.signal } as Call;
  const ask = (method: string, request: unknown) => unary.get(method)!(request, "", call);
  const plan = { change: { $case: "create", value: { spec: makeSpec({ name: "api" }), requestId: "" } } };
  const before = store.view().revision;
  // A follower cannot write.
  store.update = () => Promise.reject(new ClusterError("not_leader", "h2 leads"));
  expect(await ask("PlanService", plan)).toMatchObject({ tasks: [{ slot: 1 }] });
  expect(await ask("ExplainTask", { task: "web.1" })).toMatchObject({ task: { meta: { id: "task000001" } } });
  expect(await ask("GetCluster", {})).toMatchObject({ cluster: { name: "c", settings: { taskHistory: 5 } } });
  expect(store.view().revision).toBe(before);
  store.barrier = () => Promise.reject(new ClusterError("unavailable", "no quorum confirms it"));
  for (const [method, request] of [
    ["PlanService", plan],
    ["ExplainTask", { task: "web.1" }],
    ["GetCluster", {}],
  ] as const)
    await expect(ask(method, request)).rejects.toMatchObject({ code: "unavailable" });
});
