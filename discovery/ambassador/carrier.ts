// Carries accepted connections to endpoints: pick, connect, try another, splice. No byte of the client is read before
// an endpoint took the connection, so another try costs the client nothing but time.

import { type Socket, connect } from "node:net";
import type { Clock, Logger, Rng } from "../../lib/mod.js";
import type { Backend, Candidate, Claim } from "../routes/mod.js";
import { reset, splice } from "./splice.js";

/** Nothing answers for this long: try another endpoint. */
const connectTimeoutMs = 1_000;
const triesMax = 3;
/** A service that lost its last endpoint this recently is being restarted: its connections wait a little. */
const restartingForMs = 10_000;
const waitForEndpointMs = 1_000;
/** Connections that wait per service port; more are refused. */
const waitingMax = 1_024;
/** The kernel asks after this much silence whether the peer still lives, so that lost hosts leave nothing behind. */
export const keepAliveMs = 60_000;

/** This host lacks descriptors, ports or memory: no endpoint is to blame, and another would fare the same. */
const ownFaults: ReadonlySet<string> = new Set(["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EADDRNOTAVAIL"]);

/** Why a connection was not carried. */
export type Refusal = "no_endpoint" | "connect_failed" | "too_many" | "stopping";

/** What happened, for the metrics; called on the hot path. */
export interface CarrierObserver {
  opened(candidate: Candidate, connectMs: number): void;
  closed(candidate: Candidate): void;
  connectFailed(candidate: Candidate): void;
  refused(serviceName: string, why: Refusal): void;
}

export interface CarrierOptions {
  clock: Clock;
  rng: Rng;
  log: Logger;
  observer: CarrierObserver;
  /** Connections carried at once; each needs two file descriptors. More are reset. */
  connectionsMax: number;
}

export class Carrier {
  readonly #options: CarrierOptions;
  readonly #clients = new Set<Socket>();
  #stopping = false;
  #onIdle: (() => void) | undefined;

  constructor(options: CarrierOptions) {
    this.#options = options;
  }

  get open(): number {
    return this.#clients.size;
  }

  /**
   * Takes over an accepted, paused socket. When no endpoint is ready the connection is refused at once with a reset,
   * unless there was one in the last 10 s: then the service is being restarted, and the connection waits up to 1 s.
   */
  carry(client: Socket, claim: Claim): void {
    const { observer, connectionsMax } = this.#options;
    // Errors before the splice end the attempt; those after it are the splice's.
    client.on("error", () => undefined);
    if (this.#stopping || this.#clients.size >= connectionsMax) {
      observer.refused(claim.serviceName, this.#stopping ? "stopping" : "too_many");
      client.resetAndDestroy();
      return;
    }
    this.#clients.add(client);
    client.once("close", () => {
      this.#clients.delete(client);
      if (this.#clients.size === 0) this.#onIdle?.();
    });
    this.#place(client, claim, []);
  }

  /** Refuses new connections; resolves once the open ones have ended, or cuts them after `deadlineMs`. */
  async drain(deadlineMs: number): Promise<void> {
    this.#stopping = true;
    if (this.#clients.size === 0) return;
    await new Promise<void>((resolve) => {
      const cancel = this.#options.clock.after(deadlineMs, resolve);
      this.#onIdle = () => {
        cancel();
        resolve();
      };
    });
    this.#onIdle = undefined;
    if (this.#clients.size > 0)
      this.#options.log.warn({ connections: this.#clients.size }, "connections cut at the deadline");
    for (const client of this.#clients) reset(client);
  }

  #place(client: Socket, claim: Claim, tried: readonly Candidate[]): void {
    const { clock, rng } = this.#options;
    const candidate = claim.only ?? claim.backend.pick(clock.monotonic(), rng, tried);
    if (candidate !== undefined && !candidate.endpoint.draining && !tried.includes(candidate))
      this.#attempt(client, claim, candidate, tried);
    else if (tried.length > 0) this.#refuse(client, claim, "connect_failed");
    else if (claim.only === undefined && this.#worthWaiting(claim.backend)) this.#wait(client, claim);
    else this.#refuse(client, claim, "no_endpoint");
  }

  #worthWaiting(backend: Backend): boolean {
    return backend.waiting < waitingMax && backend.idleMs(this.#options.clock.monotonic()) < restartingForMs;
  }

  #wait(client: Socket, claim: Claim): void {
    const stop = () => {
      cancelTimer();
      cancelWait();
      client.off("close", stop);
    };
    const cancelTimer = this.#options.clock.after(waitForEndpointMs, () => {
      stop();
      this.#refuse(client, claim, "no_endpoint");
    });
    const cancelWait = claim.backend.whenReady(() => {
      stop();
      this.#place(client, claim, []);
    });
    client.once("close", stop);
  }

  #attempt(client: Socket, claim: Claim, candidate: Candidate, tried: readonly Candidate[]): void {
    const { clock, observer } = this.#options;
    const { endpoint, host, port } = candidate;
    const startedMs = clock.monotonic();
    endpoint.begin();
    let settled = false;
    const upstream = connect({
      host,
      port,
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: keepAliveMs,
    });
    const settle = (): boolean => {
      if (settled) return false;
      settled = true;
      cancelTimer();
      client.off("close", abandon);
      return true;
    };
    const abandon = () => {
      if (!settle()) return;
      endpoint.end();
      upstream.destroy();
    };
    const fail = (error?: NodeJS.ErrnoException) => {
      if (!settle()) return;
      if (error?.code !== undefined && ownFaults.has(error.code)) {
        endpoint.end();
        this.#refuse(client, claim, "too_many");
        return;
      }
      const nowMs = clock.monotonic();
      endpoint.connectFailed(nowMs);
      endpoint.end();
      observer.connectFailed(candidate);
      upstream.destroy();
      const next = [...tried, candidate];
      if (next.length < triesMax) this.#place(client, claim, next);
      else this.#refuse(client, claim, "connect_failed");
    };
    const cancelTimer = clock.after(connectTimeoutMs, () => fail());
    client.once("close", abandon);
    upstream.on("error", fail);
    upstream.once("connect", () => {
      if (!settle()) return;
      endpoint.connected();
      observer.opened(candidate, clock.monotonic() - startedMs);
      upstream.pause();
      splice(client, upstream, () => {
        endpoint.end();
        observer.closed(candidate);
      });
    });
  }

  #refuse(client: Socket, claim: Claim, why: Refusal): void {
    this.#options.observer.refused(claim.serviceName, why);
    client.resetAndDestroy();
  }
}
