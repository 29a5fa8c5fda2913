// The listening sockets that the routes ask for. An update opens and closes only what changed; a listener that is
// closed leaves its connections alone. What cannot be opened is retried and reported in words.
//
// A published port is opened on each address of the host by itself, not on 0.0.0.0: the wildcard would clash with
// every listener on a VIP with the same port, and with containers' ports that are bound to one address.

import { type Server, type Socket, createServer } from "node:net";
import { type Backoff, type Clock, type Logger, type Rng, backoffMs } from "../../lib/mod.js";
import type { Claim } from "../routes/mod.js";
import { keepAliveMs } from "./carrier.js";

const retry: Backoff = { firstMs: 200, maxMs: 5_000, jitter: 0.3 };
/** Connections that the kernel holds before we accept them; it caps this at net.core.somaxconn. */
const backlog = 4_096;

export interface ListenersOptions {
  clock: Clock;
  rng: Rng;
  log: Logger;
  carry: (client: Socket, claim: Claim) => void;
  /** Called when `problems` may have changed. */
  onProblems: () => void;
}

interface Listener {
  readonly address: string;
  readonly port: number;
  /** Who wants it; the first one has it. */
  claims: { routeId: string; claim: Claim }[];
  server: Server | undefined;
  /** Why it is not open. */
  problem: string | undefined;
  attempts: number;
  cancelRetry: (() => void) | undefined;
  /** Resolves when it was tried, or closed. */
  opening: Promise<void>;
  opened: () => void;
  closed: boolean;
}

export class Listeners {
  readonly #options: ListenersOptions;
  readonly #listeners = new Map<string, Listener>();
  readonly #claims = new Map<string, readonly Claim[]>();
  #hostAddresses: readonly string[] = [];
  #closed = false;

  constructor(options: ListenersOptions) {
    this.#options = options;
  }

  /** Addresses and ports that are open now. */
  get open(): readonly string[] {
    return [...this.#listeners].filter(([, listener]) => listener.server?.listening === true).map(([key]) => key);
  }

  /** One line for each claim that is not met. */
  problems(): readonly string[] {
    const problems: string[] = [];
    const published = new Map<string, string[]>();
    for (const { address, port, claims, problem } of this.#listeners.values()) {
      const [holder, ...others] = claims;
      if (holder !== undefined && problem !== undefined) {
        const what = describe(holder.claim);
        if (holder.claim.kind === "published")
          published.set(`${what}: ${problem}`, [...(published.get(`${what}: ${problem}`) ?? []), `${address}:${port}`]);
        else problems.push(`${what}: ${address}:${port} ${problem}`);
      }
      for (const { claim } of others)
        if (claim.serviceName !== holder?.claim.serviceName)
          published.set(
            `${describe(claim)}: is taken by service ${holder?.claim.serviceName}; publish another port`,
            [],
          );
    }
    for (const [text, at] of published) problems.push(at.length === 0 ? text : `${text} (${at.join(", ")})`);
    return problems;
  }

  /** What this route wants from now on; nothing when it is gone. */
  set(routeId: string, claims: readonly Claim[]): void {
    if (this.#closed) return;
    if (claims.length === 0) this.#claims.delete(routeId);
    else this.#claims.set(routeId, claims);
    const wanted = new Map<string, { address: string; port: number; claim: Claim }>();
    for (const claim of claims) {
      const addresses = claim.address === undefined ? this.#hostAddresses : [claim.address];
      for (const address of addresses) {
        const key = `${address}:${claim.port}`;
        if (!wanted.has(key)) wanted.set(key, { address, port: claim.port, claim });
      }
    }
    for (const [key, listener] of this.#listeners)
      if (!wanted.has(key) && listener.claims.some((held) => held.routeId === routeId)) {
        listener.claims = listener.claims.filter((held) => held.routeId !== routeId);
        if (listener.claims.length === 0) this.#close(key, listener);
      }
    for (const [key, { address, port, claim }] of wanted) {
      const listener = this.#listeners.get(key);
      if (listener === undefined) this.#open(key, { address, port, claims: [{ routeId, claim }] });
      else {
        const held = listener.claims.find((h) => h.routeId === routeId);
        if (held === undefined) listener.claims.push({ routeId, claim });
        else held.claim = claim;
      }
    }
  }

  /** The host's own addresses, on which published ports are opened. What failed is tried again at once. */
  setHostAddresses(addresses: readonly string[]): void {
    this.#hostAddresses = addresses;
    for (const [routeId, claims] of this.#claims)
      if (claims.some((claim) => claim.address === undefined)) this.set(routeId, claims);
    this.retryNow();
  }

  /** The host's network changed: what could not be opened may work now. */
  retryNow(): void {
    for (const [key, listener] of this.#listeners)
      if (listener.cancelRetry !== undefined) {
        listener.cancelRetry();
        listener.cancelRetry = undefined;
        this.#listen(key, listener);
      }
  }

  /** Resolves when every listener has been tried at least once. */
  async settled(): Promise<void> {
    await Promise.all([...this.#listeners.values()].map((listener) => listener.opening));
  }

  /** Closes all; connections go on. */
  close(): void {
    this.#closed = true;
    this.#claims.clear();
    for (const [key, listener] of this.#listeners) this.#close(key, listener);
  }

  #open(key: string, of: Pick<Listener, "address" | "port" | "claims">): void {
    const listener: Listener = {
      ...of,
      server: undefined,
      problem: undefined,
      attempts: 0,
      cancelRetry: undefined,
      opening: Promise.resolve(),
      opened: () => undefined,
      closed: false,
    };
    this.#listeners.set(key, listener);
    this.#listen(key, listener);
  }

  #listen(key: string, listener: Listener): void {
    const { clock, rng, log, carry, onProblems } = this.#options;
    const server = createServer({
      allowHalfOpen: true,
      pauseOnConnect: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: keepAliveMs,
    });
    listener.server = server;
    listener.opening = new Promise((resolve) => {
      listener.opened = resolve;
      server.on("connection", (client) => {
        const holder = listener.claims[0];
        // Accepted in the very turn in which the route went.
        if (holder === undefined) client.resetAndDestroy();
        else carry(client, holder.claim);
      });
      server.on("error", (error: NodeJS.ErrnoException) => {
        if (server.listening) {
          // Out of descriptors or of memory: the kernel drops this connection, the listener stays.
          log.warn({ listener: key, error: error.message }, "accept failed");
          return;
        }
        resolve();
        if (listener.closed) return;
        listener.server = undefined;
        listener.attempts += 1;
        const before = listener.problem;
        listener.problem = inWords(error);
        const delayMs = backoffMs(retry, listener.attempts, rng);
        listener.cancelRetry = clock.after(delayMs, () => {
          listener.cancelRetry = undefined;
          this.#listen(key, listener);
        });
        if (before !== listener.problem) {
          log.warn({ listener: key, error: error.message }, "listener not open");
          onProblems();
        }
      });
      server.listen({ host: listener.address, port: listener.port, backlog }, () => {
        resolve();
        // Closed while it was being opened, when there was no socket to close yet.
        if (listener.closed) {
          server.close();
          return;
        }
        listener.attempts = 0;
        if (listener.problem !== undefined) {
          listener.problem = undefined;
          onProblems();
        }
      });
    });
  }

  #close(key: string, listener: Listener): void {
    this.#listeners.delete(key);
    listener.closed = true;
    listener.claims = [];
    listener.cancelRetry?.();
    listener.cancelRetry = undefined;
    listener.server?.close();
    listener.opened();
    if (listener.problem !== undefined) this.#options.onProblems();
  }
}

function describe(claim: Claim): string {
  if (claim.kind === "published") return `published port ${claim.port} of service ${claim.serviceName}`;
  return `port ${claim.port} of service ${claim.serviceName}`;
}

function inWords(error: NodeJS.ErrnoException): string {
  if (error.code === "EADDRINUSE")
    return "is in use by another process on this host; stop that one, or choose another port";
  if (error.code === "EADDRNOTAVAIL") return "is not an address of this host yet";
  if (error.code === "EACCES") return "may only be opened by root";
  return `cannot be opened: ${error.message}`;
}
