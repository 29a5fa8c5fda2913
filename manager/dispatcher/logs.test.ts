import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ClusterError, seededRng } from "../../lib/mod.js";
import type { ServiceLogsResponse } from "../../proto/gen/flotilla/control/v1/control.js";
import {
  type LogOptions,
  LogStream,
  type LogSubscription,
  type PublishLogsRequest,
} from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { FakeClock, settle } from "../../test/kit/clock.js";
import { makeNode, makeRevision, makeService, makeTask, readyStatus } from "../../test/kit/objects.js";
import { openMemoryStore, type Store } from "../store/mod.js";
import { AssignmentSet } from "./assignments.js";
import { LogBroker } from "./logs.js";
import { type Session, Sessions } from "./sessions.js";
import { SharedState } from "./shared.js";

const nodeId = "node000001";
const service = makeService();

describe("LogBroker", () => {
  let store: Store;
  let sessions: Sessions;
  let broker: LogBroker;
  let session: Session;
  let user: AbortController;

  beforeEach(async () => {
    store = openMemoryStore();
    await store.update((tx) => {
      tx.create("nodes", makeNode(nodeId));
      tx.create("services", service);
      tx.create("revisions", makeRevision(service));
      tx.create("tasks", makeTask("t1", { nodeId, status: readyStatus() }));
    });
    sessions = new Sessions(new FakeClock(), seededRng(1), ({ nodeId: of }) => broker.sessionEnded(of));
    broker = new LogBroker(store, sessions, seededRng(2));
    session = openSession();
    user = new AbortController();
  });

  afterEach(async () => {
    user.abort();
    await store[Symbol.asyncDispose]();
  });

  function openSession(): Session {
    const sources = {
      view: () => store.view(),
      shared: new SharedState(),
      isDrained: () => false,
      announceMs: () => 0,
    };
    return sessions.open(nodeId, new AssignmentSet(nodeId, sources));
  }

  /** The agent's stream of subscriptions, with what came on it. */
  function listen(): LogSubscription[] {
    const got: LogSubscription[] = [];
    const stream = sessions.openLogs(session);
    void (async () => {
      for await (const subscription of stream) got.push(subscription);
    })();
    broker.sessionOpened(nodeId);
    return got;
  }

  function read(options: LogOptions): { got: ServiceLogsResponse[]; ended: Promise<void> } {
    const got: ServiceLogsResponse[] = [];
    const ended = (async () => {
      for await (const response of broker.read(service.meta.id, "", options, user.signal)) got.push(response);
    })();
    return { got, ended };
  }

  const texts = (got: readonly ServiceLogsResponse[]) =>
    got.flatMap(({ lines }) => lines.map(({ text }) => Buffer.from(text).toString()));

  function said(subscriptionId: string, ...lines: [number, string][]): PublishLogsRequest {
    return {
      subscriptionId,
      lines: lines.map(([atMs, text]) => ({ taskId: "t1", atMs, stream: LogStream.STDOUT, text: Buffer.from(text) })),
      error: "",
    };
  }

  async function* stream(...requests: PublishLogsRequest[]): AsyncGenerator<PublishLogsRequest> {
    await Promise.resolve();
    yield* requests;
  }

  it("ends with the last publisher's lines", async () => {
    const asked = listen();
    const { got, ended } = read({ follow: false, sinceMs: 0 });
    await settle();
    expect(asked).toMatchObject([{ taskIds: ["t1"], closed: false }]);
    await broker.publish(stream(said(asked[0]?.id ?? "", [1, "a"], [2, "b"])));
    await ended;
    expect(texts(got)).toEqual(["a", "b"]);
  });

  it("does not wait for an agent that opened its log stream anew, or whose stream is closed: it says so", async () => {
    listen();
    const first = read({ follow: false, sinceMs: 0 });
    await settle();
    listen();
    await first.ended;
    expect(first.got.map(({ warning }) => warning)).toEqual([
      `node ${nodeId} is not connected; its logs are missing from here on`,
    ]);
    session.logs?.end();
    const second = read({ follow: false, sinceMs: 0 });
    await second.ended;
    expect(second.got.map(({ warning }) => warning)).toEqual([
      `node ${nodeId} is not connected; logs of its 1 tasks are missing`,
    ]);
  });

  it("goes on where it was when the agent is back, instead of telling everything again", async () => {
    const asked = listen();
    const { got } = read({ follow: true, tail: 10, sinceMs: 0 });
    await settle();
    void broker.publish(stream(said(asked[0]?.id ?? "", [1, "a"], [2, "b"])));
    await settle();
    session = openSession();
    const again = listen();
    await settle();
    expect(again).toMatchObject([{ taskIds: ["t1"], options: { follow: true, sinceMs: 2 } }]);
    expect(again[0]?.options?.tail).toBeUndefined();
    // An agent that serves several tasks begins with the one that is furthest behind.
    void broker.publish(stream(said(again[0]?.id ?? "", [1, "a"], [3, "c"])));
    await settle();
    expect(texts(got)).toEqual(["a", "b", "c"]);
  });

  it("tells its readers when agents publish elsewhere: one that follows would wait for ever, and take all nodes for away", async () => {
    const asked = listen();
    const { got, ended } = read({ follow: true, sinceMs: 0 });
    await settle();
    void broker.publish(stream(said(asked[0]?.id ?? "", [1, "a"])));
    await settle();
    broker.end(new ClusterError("not_leader", "another manager leads"));
    sessions.end(session);
    await expect(ended).rejects.toMatchObject({ code: "not_leader" });
    expect(texts(got)).toEqual(["a"]);
    await expect(read({ follow: true, sinceMs: 0 }).ended).rejects.toMatchObject({ code: "not_leader" });
  });

  it("lets a publisher be 64 messages ahead of the reader, however many warnings there were", async () => {
    let asked = listen();
    const reading = broker.read(service.meta.id, "", { follow: true, sinceMs: 0 }, user.signal);
    const first = reading.next();
    await settle();
    for (let i = 0; i < 20; i += 1) {
      asked = listen();
      await (i === 0 ? first : reading.next());
    }
    await settle();
    let taken = 0;
    const endless = async function* (): AsyncGenerator<PublishLogsRequest> {
      for (;;) {
        await Promise.resolve();
        taken += 1;
        yield said(asked[0]?.id ?? "", [taken, "line"]);
      }
    };
    const published = broker.publish(endless()).catch((failure: unknown) => failure);
    await settle();
    // One more is in the publisher's hand.
    expect(taken).toBe(65);
    await reading.return(undefined);
    expect(await published).toMatchObject({ code: "cancelled" });
  });
});
