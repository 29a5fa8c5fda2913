// The engine's HTTP API: one way to ask, with a deadline on every call. dockerode's modem speaks HTTP; its own promises
// never settle when the socket drops after the headers, so each call here races its deadline and the connection's end.

import { setMaxListeners } from "node:events";
import { Agent } from "node:http";
import { inspect } from "node:util";
import Dockerode from "dockerode";
import { type Clock, ClusterError, withDeadline } from "../../../lib/mod.js";
import { classify, isAway } from "./errors.js";
import { Limit } from "./limit.js";

/** The newest API that this code was written for; older engines are spoken to in their own. */
const apiVersionMax = "1.47";
/** What 19.03 speaks; every field that is sent exists there. */
const apiVersionMin = "1.40";

/** Quick calls answer from memory; long ones work, or wait for a container; streams stay open. */
export type Kind = "quick" | "long" | "stream";

/** Open streams at once: events, logs, pulls. One more is refused rather than left waiting for another's end. */
const streamsMax = 256;
/** Quick calls and long ones at once on the socket. More wait in line, within their deadline. */
const socketsMax: Readonly<Record<Kind, number>> = { quick: 16, long: 64, stream: streamsMax };

export interface Call {
  method: "GET" | "POST" | "DELETE";
  /** With the API version left out. */
  path: string;
  query?: Record<string, string>;
  body?: object;
  kind: Kind;
  deadlineMs: number;
  /** What is being tried, for the error: "start container 12ab". */
  what: string;
  signal?: AbortSignal;
}

/** Every call in flight listens to it: more than ten is no leak. */
function newConnection(): AbortController {
  const controller = new AbortController();
  setMaxListeners(0, controller.signal);
  return controller;
}

export class DockerApi implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #socketPath: string;
  readonly #clients: Readonly<Record<Kind, Dockerode>>;
  readonly #agents: readonly Agent[];
  /** Calls in flight end with it, as soon as anything shows that the engine went away. */
  #connection = newConnection();
  #version: Promise<string> | undefined;
  #closed = false;
  readonly #streams = new Limit(streamsMax);

  constructor(socketPath: string, clock: Clock) {
    this.#clock = clock;
    this.#socketPath = socketPath;
    const agents = {
      quick: new Agent({ keepAlive: true, maxSockets: socketsMax.quick }),
      long: new Agent({ keepAlive: true, maxSockets: socketsMax.long }),
      stream: new Agent({ keepAlive: false, maxSockets: socketsMax.stream }),
    };
    this.#agents = Object.values(agents);
    // docker-modem inspects each request's options to the last hidden property for a debug line that nobody prints; with
    // every socket of the agent in them that was four fifths of this process's time. An agent that is one word ends it.
    for (const agent of this.#agents)
      Object.defineProperty(agent, inspect.custom, { value: () => "Agent", enumerable: false });
    // The modem takes an agent; dockerode's types do not know.
    const client = (agent: Agent) => new Dockerode({ socketPath, ...{ agent } });
    this.#clients = { quick: client(agents.quick), long: client(agents.long), stream: client(agents.stream) };
  }

  get socketPath(): string {
    return this.#socketPath;
  }

  /** The engine's answer, decoded from JSON; undefined when it has none. */
  async ask(call: Call): Promise<unknown> {
    const version = await this.#negotiated(call);
    return await this.#dial(call, `/v${version}${call.path}`, false);
  }

  /** The answer's body as it comes. The deadline is that of the headers; the body ends with `signal`. */
  async open(call: Call & { signal: AbortSignal }): Promise<AsyncIterable<Buffer>> {
    const version = await this.#negotiated(call);
    if (!this.#streams.tryTake())
      throw new ClusterError("resource_exhausted", `${call.what}: ${streamsMax} streams are open already`);
    let body: NodeJS.ReadableStream;
    try {
      body = (await this.#dial(call, `/v${version}${call.path}`, true)) as NodeJS.ReadableStream;
    } catch (failure) {
      this.#streams.give();
      throw failure;
    }
    return this.#read(body, call);
  }

  /** Without a version in the path, which is how the version is learned. */
  async askUnversioned(call: Call): Promise<unknown> {
    return await this.#dial(call, call.path, false);
  }

  /** The engine was seen to be away, or back as another process: whatever is in flight will not be answered. */
  interrupt(reason: string): void {
    const connection = this.#connection;
    this.#connection = newConnection();
    this.#version = undefined;
    connection.abort(new ClusterError("unavailable", `the container engine went away (${reason})`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    // Not "cancelled": whoever waits must not take it for a failure of what was asked.
    this.#connection.abort(new ClusterError("unavailable", "the engine's client was closed"));
    for (const agent of this.#agents) agent.destroy();
    await Promise.resolve();
  }

  async #negotiated(call: Call): Promise<string> {
    this.#version ??= this.#negotiate().catch((failure: unknown) => {
      this.#version = undefined;
      throw failure;
    });
    try {
      return await this.#version;
    } catch (failure) {
      throw classify(failure, call.what);
    }
  }

  async #negotiate(): Promise<string> {
    const call: Call = {
      method: "GET",
      path: "/version",
      kind: "quick",
      deadlineMs: 10_000,
      what: "ask the engine's version",
    };
    const { ApiVersion: theirs } = (await this.askUnversioned(call)) as { ApiVersion?: string };
    if (theirs === undefined || !/^\d+\.\d+$/.test(theirs))
      throw new ClusterError("failed_precondition", `the engine at ${this.#socketPath} says no API version`);
    if (compareVersions(theirs, apiVersionMin) < 0)
      throw new ClusterError(
        "failed_precondition",
        `the engine at ${this.#socketPath} speaks API ${theirs}; at least ${apiVersionMin} (Docker 19.03) is needed`,
      );
    return compareVersions(theirs, apiVersionMax) < 0 ? theirs : apiVersionMax;
  }

  async #dial(call: Call, path: string, isStream: boolean): Promise<unknown> {
    if (this.#closed) throw new ClusterError("unavailable", `${call.what}: the engine's client was closed`);
    const connection = this.#connection;
    const ended = new AbortController();
    const onEnd = (by: AbortSignal) => () => ended.abort(by.reason);
    const onConnection = onEnd(connection.signal);
    connection.signal.addEventListener("abort", onConnection, { once: true });
    const onSignal = call.signal === undefined ? undefined : onEnd(call.signal);
    if (call.signal?.aborted) onSignal?.();
    else if (onSignal !== undefined) call.signal?.addEventListener("abort", onSignal, { once: true });
    try {
      return await withDeadline(
        this.#clock,
        call.deadlineMs,
        call.what,
        (signal) => this.#send(call, path, isStream, signal),
        ended.signal,
      );
    } catch (failure) {
      if (isAway(failure) && connection === this.#connection) this.interrupt(`while trying to ${call.what}`);
      throw classify(failure, call.what);
    } finally {
      connection.signal.removeEventListener("abort", onConnection);
      if (onSignal !== undefined) call.signal?.removeEventListener("abort", onSignal);
    }
  }

  #send(call: Call, path: string, isStream: boolean, signal: AbortSignal): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const options = {
        path: call.query === undefined ? path : `${path}?`,
        method: call.method,
        // A body of {} is sent as none; without one the modem would send the query as the body.
        options: { _query: call.query ?? {}, _body: call.body ?? {} },
        isStream,
        // A stream's signal is watched by its reader: the deadline of the headers must not end the body.
        ...(isStream ? {} : { abortSignal: signal }),
        statusCodes: { 200: true, 201: true, 204: true, 304: true },
      } as const;
      this.#clients[call.kind].modem.dial(options, (failure: unknown, answer: unknown) => {
        if (failure !== null && failure !== undefined) reject(failure);
        else if (isStream && signal.aborted) {
          (answer as NodeJS.ReadableStream & { destroy(): void }).destroy();
          reject(signal.reason as Error);
        } else if (Buffer.isBuffer(answer) && answer.length === 0) resolve(undefined);
        else resolve(answer);
      });
    });
  }

  async *#read(
    body: NodeJS.ReadableStream,
    call: Call & { signal: AbortSignal },
  ): AsyncGenerator<Buffer, void, undefined> {
    const destroy = () => (body as NodeJS.ReadableStream & { destroy(): void }).destroy();
    call.signal.addEventListener("abort", destroy, { once: true });
    if (call.signal.aborted) destroy();
    try {
      for await (const chunk of body) yield chunk as Buffer;
    } catch (failure) {
      if (!call.signal.aborted) throw classify(failure, call.what);
    } finally {
      call.signal.removeEventListener("abort", destroy);
      destroy();
      this.#streams.give();
    }
  }
}

/** Like a subtraction: "1.9" is before "1.41". */
export function compareVersions(a: string, b: string): number {
  const [aMajor = 0, aMinor = 0] = a.split(".").map(Number);
  const [bMajor = 0, bMinor = 0] = b.split(".").map(Number);
  return aMajor - bMajor || aMinor - bMinor;
}
