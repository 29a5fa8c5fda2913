// One manager: a gRPC channel that says whether a call left this machine. Only then may its outcome be unknown.

import {
  type ChannelCredentials,
  Client,
  type MethodDefinition,
  type ServiceError,
  connectivityState,
  credentials,
  status,
} from "@grpc/grpc-js";
import { ClusterError } from "../../lib/errors.js";
import type { Clock } from "../../lib/clock.js";
import { ControlService } from "../../proto/gen/flotilla/control/v1/control.js";
import { errorTrailer, fromServiceError } from "../../proto/errors.js";

/** How far a call came that was not answered as it should. */
export type Reached =
  /** No connection: nothing was asked. */
  | "nobody"
  /** The manager itself refused. */
  | "manager"
  /** Sent, and no answer came back. */
  | "unknown";

export class CallFailure extends Error {
  readonly reached: Reached;
  readonly error: ClusterError;

  constructor(reached: Reached, error: ClusterError) {
    super(error.message, { cause: error });
    this.reached = reached;
    this.error = error;
  }
}

/** A service with thousands of tasks is several megabytes; beyond this a manager is broken. */
const messageBytesMax = 64 * 1024 * 1024;

export class ManagerChannel {
  readonly address: string;
  readonly #client: Client;
  readonly #clock: Clock;
  /** Why the last attempt at a connection failed, in words; empty before one did. */
  #whyNot = "";

  constructor(address: string, clock: Clock, security: ChannelCredentials = credentials.createInsecure()) {
    this.address = address;
    this.#clock = clock;
    this.#client = new Client(address, security, {
      "grpc.max_receive_message_length": messageBytesMax,
      // A proxy of the user's web traffic has no business between the command line and the managers.
      "grpc.enable_http_proxy": 0,
      // Not the back-off of another channel of this process that failed a moment ago.
      "grpc.use_local_subchannel_pool": 1,
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 1000,
      // A stream over which nothing comes for hours must still notice that the other side is gone.
      "grpc.keepalive_time_ms": 10_000,
      "grpc.keepalive_timeout_ms": 5000,
    });
  }

  close(): void {
    this.#client.close();
  }

  async unary<Req, Res>(
    method: MethodDefinition<Req, Res>,
    request: Req,
    connectMs: number,
    answerMs: number,
  ): Promise<Res> {
    const connected = await this.#connected(connectMs);
    return await new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        { deadline: Date.now() + answerMs },
        (error, response) => {
          if (error !== null) reject(failure(error, connected));
          else if (response === undefined)
            reject(new CallFailure("unknown", new ClusterError("internal", `${this.address} gave an empty answer`)));
          else resolve(response);
        },
      );
      void call;
    });
  }

  /** Yields until the stream ends; aborting the signal ends it without an error. */
  async *stream<Req, Res>(
    method: MethodDefinition<Req, Res>,
    request: Req,
    connectMs: number,
    signal: AbortSignal,
  ): AsyncGenerator<Res, void, undefined> {
    const connected = await this.#connected(connectMs);
    if (signal.aborted) return;
    const call = this.#client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
    );
    const cancel = () => call.cancel();
    signal.addEventListener("abort", cancel, { once: true });
    // The loop below throws the error; without a listener of its own it would end the process in between two reads.
    call.on("error", () => undefined);
    try {
      for await (const message of call) yield message as Res;
    } catch (error) {
      if (!signal.aborted) throw failure(error as ServiceError, connected);
    } finally {
      signal.removeEventListener("abort", cancel);
      call.cancel();
    }
  }

  /** Whether there is a connection; when there is none, the next call fails at once and says why. */
  async #connected(withinMs: number): Promise<boolean> {
    const channel = this.#client.getChannel();
    const until = this.#clock.monotonic() + withinMs;
    for (;;) {
      const state = channel.getConnectivityState(true);
      if (state === connectivityState.READY) return true;
      if (state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.SHUTDOWN) break;
      const leftMs = until - this.#clock.monotonic();
      if (leftMs <= 0)
        throw new CallFailure(
          "nobody",
          new ClusterError("unavailable", `no connection within ${Math.round(withinMs / 100) / 10} s`),
        );
      await new Promise<void>((resolve) => {
        channel.watchConnectivityState(state, Date.now() + leftMs, () => resolve());
      });
    }
    return await this.#probe(withinMs);
  }

  /** A call that changes nothing, to learn why there is no connection, or that there is one by now. */
  async #probe(withinMs: number): Promise<boolean> {
    const { getVersion } = ControlService;
    return await new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        getVersion.path,
        getVersion.requestSerialize,
        getVersion.responseDeserialize,
        {},
        { deadline: Date.now() + withinMs },
        (error) => {
          if (error === null) resolve(true);
          else reject(this.#withReason(failure(error, false)));
        },
      );
      void call;
    });
  }

  #withReason(thrown: CallFailure): CallFailure {
    const { reached, error } = thrown;
    if (reached !== "nobody") return thrown;
    if (!forgotten.test(error.message)) {
      this.#whyNot = error.message;
      return thrown;
    }
    const why = this.#whyNot === "" ? "no connection; trying again in a moment" : this.#whyNot;
    return new CallFailure(reached, new ClusterError(error.code, why, { cause: error }));
  }
}

/** While gRPC waits to try again it may have forgotten why it does. */
const forgotten = /^null\b/;

function failure(error: ServiceError, connected: boolean): CallFailure {
  const said = error.metadata?.get(errorTrailer).length > 0;
  const cluster = fromServiceError(error);
  if (said) return new CallFailure("manager", cluster);
  const lost: readonly string[] = ["unavailable", "unknown_outcome", "deadline_exceeded", "cancelled", "internal"];
  // What gRPC itself says of a request, as "unimplemented", is an answer too.
  // Another gRPC server, as etcd, or a manager of a version without this request.
  if (error.code === status.UNIMPLEMENTED)
    return new CallFailure(
      "nobody",
      new ClusterError("unavailable", `what listens there is no manager of this version (${error.details})`, {
        cause: error,
      }),
    );
  if (connected && !lost.includes(cluster.code)) return new CallFailure("manager", cluster);
  if (connected) return new CallFailure("unknown", cluster);
  return new CallFailure("nobody", new ClusterError(cluster.code, whyNoConnection(cluster.message), { cause: error }));
}

/** gRPC's words for people: what the system said, without gRPC's own frame around it. */
function whyNoConnection(message: string): string {
  if (/protocol error/i.test(message)) return "what listens there is no manager: it does not speak gRPC";
  return message
    .replace(/^No connection established\. Last error: (?:Error: )?/, "")
    .replace(/\. Resolution note: *$/, "");
}
