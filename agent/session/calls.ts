// gRPC calls as promises and async iterables. Every unary call has a deadline, every stream a signal.

import type { ClientReadableStream, ServiceError } from "@grpc/grpc-js";
import { ClusterError } from "../../lib/mod.js";
import { fromServiceError } from "../../proto/errors.js";

/** One answer to one question. */
export function unary<T>(call: (done: (error: ServiceError | null, answer: T) => void) => unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    call((error, answer) => {
      if (error === null) resolve(answer);
      else reject(fromServiceError(error));
    });
  });
}

/** The messages of a server's stream until it ends, fails, or the signal aborts. Slow readers slow the server down. */
export async function* messages<T>(
  stream: ClientReadableStream<T>,
  signal: AbortSignal,
): AsyncGenerator<T, void, undefined> {
  const cancel = () => stream.cancel();
  if (signal.aborted) cancel();
  else signal.addEventListener("abort", cancel, { once: true });
  try {
    for await (const message of stream) yield message as T;
  } catch (failure) {
    if (!signal.aborted) throw fromServiceError(failure as ServiceError);
  } finally {
    signal.removeEventListener("abort", cancel);
    // A stream that nobody reads any more may still end with an error.
    stream.on("error", () => undefined);
    cancel();
  }
}

/** The manager knows no such session, or leads no more: the session can only be begun anew, maybe elsewhere. */
export function sessionIsOver(failure: unknown): boolean {
  return failure instanceof ClusterError && (failure.code === "not_found" || failure.code === "not_leader");
}
