// Logs that the manager asked for: each subscription is one PublishLogs stream with the lines of its tasks, merged as
// they come. A manager that reads slowly slows the reading down; nothing piles up here.

import type { ServiceError } from "@grpc/grpc-js";
import { type Clock, ClusterError, type Logger, messageOf } from "../../lib/mod.js";
import {
  type DispatcherClient,
  type LogLine,
  LogStream,
  type LogSubscription,
  type PublishLogsRequest,
} from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import type { EngineLogLine, LogRequest } from "../engine/mod.js";
import { fromServiceError } from "../../proto/errors.js";
import { messages } from "./calls.js";

/** A task's log, through the restarts of its container. `not_found` when there is no such task or container here. */
export interface LogSource {
  read(taskId: string, request: LogRequest, signal: AbortSignal): AsyncIterable<EngineLogLine>;
}

/** One more is answered with an error. */
const subscriptionsMax = 64;
const linesMax = 256;
const bytesMax = 256 * 1024;
/** A line waits at most so long for company. */
const gatherMs = 50;

interface Tools {
  clock: Clock;
  log: Logger;
}

/** Serves subscriptions as they come, until the stream of them ends. */
export async function publishLogs(
  client: DispatcherClient,
  sessionId: string,
  source: LogSource,
  tools: Tools,
  signal: AbortSignal,
): Promise<void> {
  const running = new Map<string, AbortController>();
  const ends = new Set<Promise<void>>();
  try {
    for await (const subscription of messages(client.logSubscriptions({ sessionId }), signal)) {
      const { id } = subscription;
      if (subscription.closed) {
        running.get(id)?.abort(new ClusterError("cancelled", "nobody listens any more"));
        continue;
      }
      if (running.has(id)) continue;
      const controller = new AbortController();
      running.set(id, controller);
      const refused = running.size > subscriptionsMax ? `this node serves ${subscriptionsMax} log streams already` : "";
      const end = publish(client, subscription, source, tools, controller.signal, refused)
        .catch((failure: unknown) =>
          tools.log.debug({ subscription: id, error: messageOf(failure) }, "log stream failed"),
        )
        .finally(() => {
          running.delete(id);
          ends.delete(end);
        });
      ends.add(end);
    }
  } finally {
    for (const controller of running.values()) controller.abort(new ClusterError("cancelled", "the session ended"));
    await Promise.all(ends);
  }
}

async function publish(
  client: DispatcherClient,
  subscription: LogSubscription,
  source: LogSource,
  tools: Tools,
  outer: AbortSignal,
  refused: string,
): Promise<void> {
  const controller = new AbortController();
  const { signal } = controller;
  const end = (reason: unknown) => controller.abort(reason);
  const onOuter = () => end(outer.reason);
  if (outer.aborted) onOuter();
  outer.addEventListener("abort", onOuter, { once: true });
  const { call, answered } = openCall(client);
  // The manager may end the call: then reading for it is in vain.
  answered.catch(end);
  // An answer that the manager owes must not hold up the session's end.
  signal.addEventListener("abort", () => call.cancel(), { once: true });
  const writer = new Writer(call, subscription.id, tools.clock, signal);
  try {
    const errors: string[] = refused === "" ? [] : [refused];
    await writer.send([], "");
    const tasks = refused === "" ? subscription.taskIds : [];
    await Promise.all(
      tasks.map(async (taskId) => {
        try {
          for await (const line of source.read(taskId, requestOf(subscription), signal))
            await writer.line(taskId, line);
        } catch (failure) {
          if (!signal.aborted) errors.push(`task ${taskId}: ${messageOf(failure)}`);
        }
      }),
    );
    signal.throwIfAborted();
    await writer.flush();
    if (errors.length > 0) await writer.send([], errors.join("; "));
    call.end();
    await answered;
  } finally {
    outer.removeEventListener("abort", onOuter);
    call.cancel();
  }
}

type LogCall = ReturnType<DispatcherClient["publishLogs"]>;

function openCall(client: DispatcherClient): { call: LogCall; answered: Promise<void> } {
  let settle: (error: ServiceError | null) => void = () => undefined;
  const answered = new Promise<void>((resolve, reject) => {
    settle = (error) => (error === null ? resolve() : reject(fromServiceError(error)));
  });
  return { call: client.publishLogs((error) => settle(error)), answered };
}

function requestOf({ options }: LogSubscription): LogRequest {
  return {
    follow: options?.follow ?? false,
    ...(options?.tail === undefined ? {} : { tail: options.tail }),
    ...(options?.sinceMs === undefined || options.sinceMs === 0 ? {} : { sinceMs: options.sinceMs }),
  };
}

/** Gathers lines into messages, and waits while the other side does not take them. */
class Writer {
  readonly #call: LogCall;
  readonly #subscriptionId: string;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  #lines: LogLine[] = [];
  #bytes = 0;
  #cancelTimer: (() => void) | undefined;
  #sending: Promise<void> = Promise.resolve();

  constructor(call: LogCall, subscriptionId: string, clock: Clock, signal: AbortSignal) {
    this.#call = call;
    this.#subscriptionId = subscriptionId;
    this.#clock = clock;
    this.#signal = signal;
  }

  async line(taskId: string, line: EngineLogLine): Promise<void> {
    const stream = line.stream === "stdout" ? LogStream.STDOUT : LogStream.STDERR;
    this.#lines.push({ taskId, atMs: line.atMs, stream, text: line.text as Buffer });
    this.#bytes += line.text.length;
    if (this.#lines.length >= linesMax || this.#bytes >= bytesMax) await this.flush();
    else
      this.#cancelTimer ??= this.#clock.after(gatherMs, () => {
        // Whoever ended the signal knows why it failed.
        this.flush().catch(() => undefined);
      });
  }

  async flush(): Promise<void> {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    if (this.#lines.length > 0) {
      const lines = this.#lines;
      this.#lines = [];
      this.#bytes = 0;
      this.#sending = this.#sending.then(() => this.send(lines, ""));
    }
    await this.#sending;
  }

  /** Resolves when the message was taken over for sending. */
  async send(lines: LogLine[], error: string): Promise<void> {
    this.#signal.throwIfAborted();
    const message: PublishLogsRequest = { subscriptionId: this.#subscriptionId, lines, error };
    await new Promise<void>((resolve, reject) => {
      const onAbort = () => reject(this.#signal.reason as Error);
      this.#signal.addEventListener("abort", onAbort, { once: true });
      this.#call.write(message, () => {
        this.#signal.removeEventListener("abort", onAbort);
        resolve();
      });
    });
  }
}
