// Handlers as async functions: errors become statuses at this one place, streams respect their readers' pace, and a
// caller that goes away aborts the handler's signal.

import type {
  Deadline,
  handleClientStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  Metadata,
  ServerReadableStream,
  ServerUnaryCall,
  ServerWritableStream,
} from "@grpc/grpc-js";
import { ClusterError, type ErrorCode, type Logger, toClusterError } from "../../lib/mod.js";
import { toStatus } from "../../proto/errors.js";

/** Told of every call that ended: for metrics. */
export type CallObserver = (method: string, code: ErrorCode | "ok") => void;

/** What a caller sent along, for those who pass the call on. */
export interface Call {
  readonly metadata: Metadata;
  readonly deadline: Deadline;
  /** Aborts when the caller goes away. */
  readonly signal: AbortSignal;
}

/** Most handlers never look at the signal: it is made when one does. */
class UnaryCall<Req, Res> implements Call {
  readonly #call: ServerUnaryCall<Req, Res>;
  #controller: AbortController | undefined;

  constructor(call: ServerUnaryCall<Req, Res>) {
    this.#call = call;
  }

  get metadata(): Metadata {
    return this.#call.metadata;
  }

  get deadline(): Deadline {
    return this.#call.getDeadline();
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      const controller = new AbortController();
      this.#controller = controller;
      if (this.#call.cancelled) controller.abort(callerGone());
      else this.#call.on("cancelled", () => controller.abort(callerGone()));
    }
    return this.#controller.signal;
  }
}

export class Handlers {
  readonly #log: Logger;
  readonly #observe: CallObserver;

  constructor(log: Logger, observe: CallObserver) {
    this.#log = log;
    this.#observe = observe;
  }

  unary<Req, Res>(
    method: string,
    handle: (request: Req, peer: string, call: Call) => Promise<Res> | Res,
  ): handleUnaryCall<Req, Res> {
    return (call, callback) => {
      void (async () => {
        try {
          const response = await handle(call.request, call.getPeer(), new UnaryCall(call));
          this.#observe(method, "ok");
          callback(null, response);
        } catch (thrown) {
          callback(this.#failed(method, thrown));
        }
      })();
    };
  }

  /** What the handler yields is written one by one, waiting for a slow reader. */
  serverStream<Req, Res>(
    method: string,
    handle: (request: Req, signal: AbortSignal, peer: string, call: Call) => AsyncIterable<Res>,
  ): handleServerStreamingCall<Req, Res> {
    return (call) => {
      const controller = new AbortController();
      call.on("cancelled", () => controller.abort(callerGone()));
      // A broken connection also ends in "cancelled"; without a listener its error event would end the process.
      call.on("error", (error) => controller.abort(error));
      void (async () => {
        try {
          for await (const response of handle(call.request, controller.signal, call.getPeer(), {
            metadata: call.metadata,
            deadline: call.getDeadline(),
            signal: controller.signal,
          })) {
            if (controller.signal.aborted) break;
            if (!call.write(response)) await drained(call, controller.signal);
          }
          this.#observe(method, controller.signal.aborted ? "cancelled" : "ok");
          call.end();
        } catch (thrown) {
          if (controller.signal.aborted) {
            this.#observe(method, "cancelled");
            call.end();
          } else call.emit("error", this.#failed(method, thrown));
        }
      })();
    };
  }

  /** The handler reads the requests at its own pace. */
  clientStream<Req, Res>(
    method: string,
    handle: (requests: AsyncIterable<Req>, call: ServerReadableStream<Req, Res>) => Promise<Res>,
  ): handleClientStreamingCall<Req, Res> {
    return (call, callback) => {
      void (async () => {
        try {
          const response = await handle(call as ServerReadableStream<Req, Res> & AsyncIterable<Req>, call);
          this.#observe(method, "ok");
          callback(null, response);
        } catch (thrown) {
          // Reading breaks off when the caller goes away; nobody is left to be told.
          callback(this.#failed(method, call.cancelled ? callerGone() : thrown));
        }
      })();
    };
  }

  #failed(method: string, thrown: unknown): ReturnType<typeof toStatus> {
    const error = toClusterError(thrown);
    this.#observe(method, error.code);
    // Anything unforeseen is our fault and worth a stack; the rest is the caller's business.
    if (error.code === "internal") this.#log.error({ method, err: error.cause ?? error }, "call failed");
    else this.#log.debug({ method, code: error.code, error: error.message }, "call refused");
    return toStatus(error);
  }
}

function callerGone(): ClusterError {
  return new ClusterError("cancelled", "the caller went away");
}

function drained<Req, Res>(call: ServerWritableStream<Req, Res>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      call.off("drain", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    call.once("drain", done);
    signal.addEventListener("abort", done, { once: true });
  });
}
