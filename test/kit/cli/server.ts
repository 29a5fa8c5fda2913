// For tests of the command line: a real gRPC server on loopback whose answers the test gives. What a test did not
// give an answer for is refused by name.

import {
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
} from "@grpc/grpc-js";
import { ControlService, type ControlServer } from "../../../proto/gen/flotilla/control/v1/control.js";
import { toStatus } from "../../../proto/errors.js";

type Unary<K extends keyof ControlServer> = ControlServer[K] extends (
  call: ServerUnaryCall<infer Req, infer Res>,
  done: sendUnaryData<infer Res>,
) => void
  ? (request: Req) => Res | Promise<Res>
  : never;
type Streaming<K extends keyof ControlServer> = ControlServer[K] extends (
  call: ServerWritableStream<infer Req, infer Res>,
) => void
  ? (request: Req, signal: AbortSignal) => AsyncIterable<Res>
  : never;
const streams = ["watchService", "serviceLogs", "watchEvents", "backupCluster"] as const;
type Streams = (typeof streams)[number];
const isStream = (name: string): name is Streams => (streams as readonly string[]).includes(name);
type Names = Exclude<keyof typeof ControlService, Streams>;

export type Answers = { [K in Names]?: Unary<K> } & { [K in Streams]?: Streaming<K> };

export class FakeControl implements AsyncDisposable {
  readonly answers: Answers;
  /** Requests by call, in order. */
  readonly asked: { call: string; request: unknown }[] = [];
  #server: Server | undefined;
  address = "";

  private constructor(answers: Answers) {
    this.answers = answers;
  }

  static async start(answers: Answers, listen = "127.0.0.1:0"): Promise<FakeControl> {
    const fake = new FakeControl(answers);
    await fake.listen(listen);
    return fake;
  }

  async listen(address: string): Promise<void> {
    const server = new Server();
    server.addService(ControlService, this.#handlers());
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync(address, ServerCredentials.createInsecure(), (error, bound) => {
        if (error === null) resolve(bound);
        else reject(error);
      });
    });
    this.#server = server;
    this.address = `127.0.0.1:${port}`;
  }

  /** As a killed process: connections break. */
  kill(): void {
    this.#server?.forceShutdown();
    this.#server = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill();
    await Promise.resolve();
  }

  #handlers(): ControlServer {
    const handlers: Record<string, unknown> = {};
    for (const name of Object.keys(ControlService)) {
      if (isStream(name))
        handlers[name] = (call: ServerWritableStream<unknown, unknown>) => void this.#stream(name, call);
      else
        handlers[name] = (call: ServerUnaryCall<unknown, unknown>, done: sendUnaryData<unknown>) =>
          void this.#unary(name, call, done);
    }
    return handlers as unknown as ControlServer;
  }

  async #unary(name: string, call: ServerUnaryCall<unknown, unknown>, done: sendUnaryData<unknown>): Promise<void> {
    this.asked.push({ call: name, request: call.request });
    const answer = this.answers[name as Names] as ((request: unknown) => unknown) | undefined;
    try {
      if (answer === undefined) throw new Error(`the test gave no answer for ${name}`);
      done(null, await answer(call.request));
    } catch (error) {
      done(toStatus(error));
    }
  }

  async #stream(name: Streams, call: ServerWritableStream<unknown, unknown>): Promise<void> {
    this.asked.push({ call: name, request: call.request });
    const answer = this.answers[name] as
      | ((request: unknown, signal: AbortSignal) => AsyncIterable<unknown>)
      | undefined;
    const controller = new AbortController();
    call.on("cancelled", () => controller.abort());
    call.on("error", () => controller.abort());
    try {
      if (answer === undefined) throw new Error(`the test gave no answer for ${name}`);
      for await (const message of answer(call.request, controller.signal)) {
        if (controller.signal.aborted) return;
        call.write(message);
      }
      call.end();
    } catch (error) {
      if (!controller.signal.aborted) call.emit("error", toStatus(error));
    }
  }
}

/** Yields these, then waits until nobody listens. */
export async function* thenWait<T>(items: readonly T[], signal: AbortSignal): AsyncGenerator<T> {
  yield* items;
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
