import type { EventEmitter } from "node:events";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Server, ServerCredentials, credentials } from "@grpc/grpc-js";
import { ClusterError, type ErrorCode, silentLogger } from "../../lib/mod.js";
import { fromServiceError } from "../../proto/errors.js";
import {
  DispatcherClient,
  DispatcherService,
  type LogSubscription,
  type PublishLogsRequest,
} from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { Handlers } from "./mod.js";

const subscription = (id: string): LogSubscription => ({ id, closed: false, taskIds: [], options: undefined });

describe("Handlers over gRPC", () => {
  let server: Server;
  let client: DispatcherClient;
  let ended: [string, ErrorCode | "ok"][];
  let wake: () => void;
  let produce: (signal: AbortSignal) => AsyncIterable<LogSubscription>;
  let consume: (requests: AsyncIterable<PublishLogsRequest>) => Promise<void>;

  beforeEach(async () => {
    const mine: typeof ended = [];
    ended = mine;
    wake = () => undefined;
    const handlers = new Handlers(silentLogger, (method, code) => {
      mine.push([method, code]);
      wake();
    });
    server = new Server();
    const { logSubscriptions, publishLogs } = DispatcherService;
    server.addService(
      { logSubscriptions, publishLogs },
      {
        logSubscriptions: handlers.serverStream<unknown, LogSubscription>("Stream", (_, signal) => produce(signal)),
        publishLogs: handlers.clientStream<PublishLogsRequest, object>("Upload", async (requests) => {
          await consume(requests);
          return {};
        }),
      },
    );
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      ),
    );
    client = new DispatcherClient(`127.0.0.1:${port}`, credentials.createInsecure());
  });

  afterEach(() => {
    client.close();
    server.forceShutdown();
  });

  /** Resolves when the server has told how a call ended. */
  const outcome = () =>
    new Promise<[string, ErrorCode | "ok"]>((resolve) => {
      wake = () => {
        const [first] = ended;
        if (first !== undefined) resolve(first);
      };
      wake();
    });

  it("ends a generator that waits when its caller goes away, and runs its finally", async () => {
    let left = false;
    produce = async function* (signal) {
      try {
        yield subscription("1");
        await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
      } finally {
        left = true;
      }
    };
    const stream = client.logSubscriptions({ sessionId: "" });
    stream.on("error", () => undefined);
    await new Promise((resolve) => stream.once("data", resolve));
    stream.cancel();
    expect(await outcome()).toEqual(["Stream", "cancelled"]);
    expect(left).toBe(true);
  });

  it("sends what came before an error, and then the error as it was thrown", async () => {
    produce = async function* () {
      await Promise.resolve();
      yield subscription("1");
      throw new ClusterError("resync_required", "lost its place");
    };
    const got: string[] = [];
    const stream = client.logSubscriptions({ sessionId: "" });
    stream.on("data", ({ id }: LogSubscription) => got.push(id));
    const error = await new Promise((resolve) => stream.on("error", resolve));
    expect(got).toEqual(["1"]);
    expect(fromServiceError(error as never)).toMatchObject({ code: "resync_required", message: "lost its place" });
  });

  it("makes no more than a caller that does not read can take, and lets go when it goes away", async () => {
    let made = 0;
    let left = false;
    const big = { ...subscription("x".repeat(64 * 1024)) };
    produce = async function* () {
      try {
        for (;;) {
          await new Promise((resolve) => setImmediate(resolve));
          made += 1;
          yield big;
        }
      } finally {
        left = true;
      }
    };
    const stream = client.logSubscriptions({ sessionId: "" });
    stream.on("error", () => undefined);
    // One read: grpc-js reads ahead without end for who has not begun to read.
    await stream[Symbol.asyncIterator]().next();
    // It comes to a stand, once the buffers on the way are full.
    for (let before = -1; before !== made; ) {
      before = made;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    expect(left).toBe(false);
    stream.cancel();
    expect(await outcome()).toEqual(["Stream", "cancelled"]);
    expect(left).toBe(true);
  });

  it("calls an upload that its caller broke off cancelled, not a fault of ours", async () => {
    let begin: (requests: EventEmitter) => void = () => undefined;
    const begun = new Promise<EventEmitter>((resolve) => {
      begin = resolve;
    });
    let goOn: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    consume = async (requests) => {
      for await (const _ of requests) {
        begin(requests as unknown as EventEmitter);
        await gate;
      }
    };
    const call = client.publishLogs(() => undefined);
    for (let i = 0; i < 3; i += 1) call.write({ subscriptionId: "1", lines: [], error: "" });
    const requests = await begun;
    const closed = new Promise((resolve) => requests.once("close", resolve));
    call.cancel();
    await closed;
    goOn();
    expect(await outcome()).toEqual(["Upload", "cancelled"]);
  });

  it("refuses the rest of an upload with the handler's error", async () => {
    consume = async (requests) => {
      for await (const _ of requests) throw new ClusterError("cancelled", "nobody listens");
    };
    const failure = await new Promise((resolve) => {
      const call = client.publishLogs(resolve);
      call.on("error", () => undefined);
      call.write({ subscriptionId: "1", lines: [], error: "" });
    });
    expect(fromServiceError(failure as never).message).toBe("nobody listens");
  });
});
