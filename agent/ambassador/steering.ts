// What the ambassador of this host should route: everything first, then changes, over its Unix socket. Before the
// managers have said everything once, nothing is sent: the ambassador goes on with the routes it remembers.

import { type ClientDuplexStream, credentials } from "@grpc/grpc-js";
import {
  type Backoff,
  type Clock,
  ClusterError,
  type Logger,
  type Rng,
  backoffMs,
  messageOf,
  pause,
  sleep,
} from "../../lib/mod.js";
import {
  AmbassadorClient,
  type Carried,
  type HostConfig,
  type SteerRequest,
  type SteerResponse,
} from "../../proto/gen/flotilla/ambassador/v1/ambassador.js";
import type { NodeAddress } from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import type { Route } from "../../proto/mod.js";
import type { AmbassadorProcess } from "./process.js";

export interface SteeringOptions {
  process: AmbassadorProcess;
  clock: Clock;
  rng: Rng;
  log: Logger;
  onDrain(taskId: string, activeConnections: number): void;
  /** What the ambassador can't do changed; all of it, empty when it can do everything. */
  onProblems(texts: readonly string[]): void;
}

/** Changes that come together go together. */
const gatherMs = 2;
const retry: Backoff = { firstMs: 200, maxMs: 5_000, jitter: 0.5 };
/** The ambassador counts every 15 s: what it said longer ago than this is not so any more. */
const requestsFreshMs = 40_000;
/** A stream that held so long was a good one. */
const goodMs = 10_000;

type Steer = ClientDuplexStream<SteerRequest, SteerResponse>;

export class Steering {
  readonly #options: SteeringOptions;
  readonly #routes = new Map<string, Route>();
  readonly #changed = new Set<string>();
  /** By node id. */
  readonly #nodes = new Map<string, { hostname: string; address: string }>();
  #host: HostConfig | undefined;
  #hostChanged = false;
  /** The managers have said everything once. */
  #known = false;
  #drains = new Map<string, number>();
  #problems: readonly string[] = [];
  #requests: { milli: ReadonlyMap<string, number>; atMs: number } = { milli: new Map(), atMs: 0 };
  #connected = false;
  #wake: () => void = () => undefined;

  constructor(options: SteeringOptions) {
    this.#options = options;
  }

  get connected(): boolean {
    return this.#connected;
  }

  /** Connections to draining endpoints, as the ambassador last said. */
  drains(): [string, number][] {
    return [...this.#drains];
  }

  /** What the ambassador can't do, as it last said. */
  get problems(): readonly string[] {
    return this.#problems;
  }

  /** Connections per second, times 1,000, that the ambassador gave to tasks lately. */
  requests(): ReadonlyMap<string, number> {
    const { milli, atMs } = this.#requests;
    return this.#options.clock.monotonic() - atMs < requestsFreshMs ? milli : new Map();
  }

  configure(host: HostConfig): void {
    this.#host = host;
    this.#hostChanged = true;
    this.#wake();
  }

  /** Names of the cluster's nodes; `complete`: who is not in `nodes` is gone. */
  nodes(complete: boolean, nodes: readonly NodeAddress[], removed: readonly string[]): void {
    if (complete) this.#nodes.clear();
    for (const id of removed) this.#nodes.delete(id);
    for (const { id, hostname, address } of nodes) this.#nodes.set(id, { hostname, address });
    if (!complete && nodes.length + removed.length === 0) return;
    this.#hostChanged = true;
    this.#wake();
  }

  /** `complete`: what is not in `routes` is gone. */
  route(complete: boolean, routes: readonly Route[], removed: readonly string[]): void {
    const named = new Set(routes.map((route) => route.id));
    const gone = complete ? [...this.#routes.keys()].filter((id) => !named.has(id)) : removed;
    for (const route of routes) {
      this.#routes.set(route.id, route);
      this.#changed.add(route.id);
    }
    for (const id of gone) {
      this.#routes.delete(id);
      this.#changed.add(id);
    }
    if (complete) this.#known = true;
    if (routes.length + gone.length > 0 || complete) this.#wake();
  }

  /** Keeps an ambassador running and steered until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { process, clock, rng, log } = this.#options;
    for (let failures = 0; !signal.aborted; ) {
      const fromMs = clock.monotonic();
      try {
        await process.ensure(signal);
        await this.#steer(signal);
      } catch (failure) {
        if (signal.aborted) return;
        log.warn({ error: messageOf(failure) }, "the ambassador is not steered: connecting again");
      }
      this.#connected = false;
      failures = clock.monotonic() - fromMs > goodMs ? 1 : failures + 1;
      await pause(clock, backoffMs(retry, failures, rng), signal);
    }
  }

  async #steer(signal: AbortSignal): Promise<void> {
    const client = new AmbassadorClient(`unix:${this.#options.process.socket}`, credentials.createInsecure());
    const stream = client.steer();
    const over = new AbortController();
    const end = () => over.abort(new ClusterError("unavailable", "the ambassador ended the stream"));
    over.signal.addEventListener("abort", () => stream.cancel(), { once: true });
    signal.addEventListener("abort", end, { once: true });
    // Aborted while the ambassador was looked for: nobody would say so again.
    if (signal.aborted) end();
    try {
      const speaking = this.#speak(stream, over.signal);
      // It ends with the stream; what the stream ended with says more.
      speaking.catch(end);
      await this.#listen(stream);
      throw new ClusterError("unavailable", "the ambassador ended the stream");
    } finally {
      signal.removeEventListener("abort", end);
      end();
      client.close();
    }
  }

  async #listen(stream: Steer): Promise<void> {
    for await (const message of stream) {
      const response = message as SteerResponse;
      this.#connected = true;
      const drains = new Map(response.drains.map((drain) => [drain.taskId, drain.activeConnections]));
      for (const [taskId, active] of drains)
        if (this.#drains.get(taskId) !== active) this.#options.onDrain(taskId, active);
      this.#drains = drains;
      if (response.carried !== undefined) this.#count(response.carried);
      if (response.problems.join("\n") === this.#problems.join("\n")) continue;
      this.#problems = response.problems;
      this.#options.log.warn({ problems: response.problems }, "listeners of the ambassador");
      this.#options.onProblems(response.problems);
    }
  }

  #count({ overMs, counts }: Carried): void {
    if (overMs === 0) return;
    const milli = new Map(
      counts.map(({ taskId, connections }) => [taskId, Math.round((connections * 1_000_000) / overMs)]),
    );
    this.#requests = { milli, atMs: this.#options.clock.monotonic() };
  }

  /** Writes until the stream is over. Keeps only what differs, so that a slow ambassador costs no memory. */
  async #speak(stream: Steer, over: AbortSignal): Promise<void> {
    for (let sequence = 1; ; sequence += 1) {
      const isFirst = sequence === 1;
      while (!this.#hasNews(isFirst)) {
        await untilCalled(over, (wake) => {
          this.#wake = wake;
        });
        await sleep(this.#options.clock, gatherMs, over);
      }
      const request = this.#request(isFirst, sequence);
      await untilCalled(over, (written) => {
        stream.write(request, () => written());
      });
    }
  }

  #hasNews(isFirst: boolean): boolean {
    if (this.#host === undefined || !this.#known) return false;
    return isFirst || this.#hostChanged || this.#changed.size > 0;
  }

  #request(isFirst: boolean, sequence: number): SteerRequest {
    const ids = isFirst ? [...this.#routes.keys()] : [...this.#changed];
    const request: SteerRequest = {
      complete: isFirst,
      host: isFirst || this.#hostChanged ? this.#hostConfig() : undefined,
      routes: ids.map((id) => this.#routes.get(id)).filter((route) => route !== undefined),
      removedRouteIds: isFirst ? [] : ids.filter((id) => !this.#routes.has(id)),
      sequence,
    };
    this.#changed.clear();
    this.#hostChanged = false;
    return request;
  }

  /** With the nodes' names; the host's own goes last, for it knows itself best. */
  #hostConfig(): HostConfig | undefined {
    if (this.#host === undefined) return undefined;
    const others = [...this.#nodes.values()].map(({ hostname, address }) => [hostname, address] as const);
    return { ...this.#host, nodeAddresses: { ...Object.fromEntries(others), ...this.#host.nodeAddresses } };
  }
}

/** Resolves when what `arm` was given is called; rejects when the signal aborts. */
function untilCalled(signal: AbortSignal, arm: (call: () => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    arm(() => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    });
  });
}
