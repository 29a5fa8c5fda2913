// The sockets: UDP and TCP on each address that the resolver has. An address may come later, or go and come back with
// Docker's bridge: what cannot be opened is retried and reported in words.

import { type Socket as UdpSocket, createSocket } from "node:dgram";
import { type Server, type Socket, createServer } from "node:net";
import { type Backoff, type Clock, type Logger, type Rng, backoffMs } from "../../lib/mod.js";

const retry: Backoff = { firstMs: 200, maxMs: 5_000, jitter: 0.3 };
const tcpIdleMs = 10_000;
/** Queries of one connection that are not answered yet; reading stops at it. */
const tcpInFlightMax = 64;
/** Answers that one connection has not taken yet; beyond it the connection is cut. */
const tcpUnreadBytesMax = 1024 * 1024;
const tcpConnectionsMax = 256;

export interface DnsServerOptions {
  clock: Clock;
  rng: Rng;
  log: Logger;
  port: number;
  resolve: (message: Buffer, source: string, overTcp: boolean) => Buffer | Promise<Buffer> | undefined;
  onProblems: () => void;
}

interface Binding {
  readonly address: string;
  udp: UdpSocket | undefined;
  tcp: Server | undefined;
  problem: string | undefined;
  attempts: number;
  cancelRetry: (() => void) | undefined;
  opening: Promise<void>;
  closed: boolean;
}

export class DnsServer {
  readonly #options: DnsServerOptions;
  readonly #bindings = new Map<string, Binding>();
  readonly #connections = new Set<Socket>();

  constructor(options: DnsServerOptions) {
    this.#options = options;
  }

  problems(): readonly string[] {
    return [...this.#bindings.values()]
      .filter((binding) => binding.problem !== undefined)
      .map((binding) => `the resolver on ${binding.address}:${this.#options.port} ${binding.problem}`);
  }

  /** Answers on exactly these addresses from now on. */
  setAddresses(addresses: readonly string[]): void {
    for (const [address, binding] of this.#bindings)
      if (!addresses.includes(address)) {
        this.#bindings.delete(address);
        close(binding);
      }
    for (const address of addresses)
      if (!this.#bindings.has(address)) {
        const binding: Binding = {
          address,
          udp: undefined,
          tcp: undefined,
          problem: undefined,
          attempts: 0,
          cancelRetry: undefined,
          opening: Promise.resolve(),
          closed: false,
        };
        this.#bindings.set(address, binding);
        binding.opening = this.#open(binding);
      }
  }

  /** The host's network changed: what could not be opened may work now. */
  retryNow(): void {
    for (const binding of this.#bindings.values())
      if (binding.cancelRetry !== undefined) {
        binding.cancelRetry();
        binding.cancelRetry = undefined;
        binding.opening = this.#open(binding);
      }
  }

  async settled(): Promise<void> {
    await Promise.all([...this.#bindings.values()].map((binding) => binding.opening));
  }

  close(): void {
    for (const binding of this.#bindings.values()) close(binding);
    this.#bindings.clear();
    for (const connection of this.#connections) connection.destroy();
  }

  async #open(binding: Binding): Promise<void> {
    const { clock, rng, log, onProblems } = this.#options;
    const before = binding.problem;
    try {
      const udp = await this.#openUdp(binding.address);
      try {
        binding.tcp = await this.#openTcp(binding.address);
      } catch (failure) {
        udp.close();
        throw failure;
      }
      binding.udp = udp;
      binding.problem = undefined;
      binding.attempts = 0;
      if (binding.closed) close(binding);
    } catch (failure) {
      if (binding.closed) return;
      binding.problem = inWords(failure as NodeJS.ErrnoException);
      binding.attempts += 1;
      binding.cancelRetry = clock.after(backoffMs(retry, binding.attempts, rng), () => {
        binding.cancelRetry = undefined;
        binding.opening = this.#open(binding);
      });
    }
    if (before === binding.problem) return;
    log.info({ address: binding.address, problem: binding.problem }, "resolver's address");
    onProblems();
  }

  #openUdp(address: string): Promise<UdpSocket> {
    const { log, port, resolve } = this.#options;
    return new Promise((done, failed) => {
      const socket = createSocket({ type: "udp4", recvBufferSize: 1024 * 1024 });
      const refused = (error: Error) => {
        // Node keeps the descriptor of a socket that could not be bound.
        socket.close();
        failed(error);
      };
      socket.once("error", refused);
      socket.bind({ address, port, exclusive: true }, () => {
        socket.off("error", refused);
        socket.on("error", (error) => log.warn({ address, error: error.message }, "resolver's socket"));
        done(socket);
      });
      const send = (bytes: Buffer, toPort: number, to: string) => {
        // Lost answers are asked for again.
        socket.send(bytes, toPort, to, () => undefined);
      };
      socket.on("message", (message, { address: source, port: sourcePort }) => {
        // Port 0 cannot be answered, and asking again would never end.
        if (sourcePort === 0) return;
        const result = resolve(message, source, false);
        if (result instanceof Promise)
          result.then(
            (bytes) => {
              if (this.#isOpen(address, socket)) send(bytes, sourcePort, source);
            },
            (error: unknown) => log.error({ error: String(error) }, "query failed"),
          );
        else if (result !== undefined) send(result, sourcePort, source);
      });
    });
  }

  #isOpen(address: string, socket: UdpSocket): boolean {
    return this.#bindings.get(address)?.udp === socket;
  }

  #openTcp(address: string): Promise<Server> {
    const { log, port } = this.#options;
    return new Promise((done, failed) => {
      const server = createServer({ noDelay: true, allowHalfOpen: true });
      server.maxConnections = tcpConnectionsMax;
      server.on("error", (error) => {
        failed(error);
        if (server.listening) log.warn({ address, error: error.message }, "accept failed");
      });
      server.on("connection", (connection) => this.#serve(connection));
      server.listen({ host: address, port }, () => done(server));
    });
  }

  /** RFC 7766: many queries on one connection, answers in any order, length and body in one write. */
  #serve(connection: Socket): void {
    const { clock, log, resolve } = this.#options;
    const source = connection.remoteAddress ?? "";
    this.#connections.add(connection);
    let unread: Buffer = Buffer.alloc(0);
    let inFlight = 0;
    let ended = false;
    let cancelIdle = () => {};
    const rest = () => {
      cancelIdle();
      cancelIdle = clock.after(tcpIdleMs, () => connection.destroy());
    };
    const reply = (bytes: Buffer) => {
      if (connection.destroyed) return;
      const framed = Buffer.allocUnsafe(2 + bytes.length);
      framed.writeUInt16BE(bytes.length, 0);
      bytes.copy(framed, 2);
      connection.write(framed);
      if (connection.writableLength > tcpUnreadBytesMax) connection.destroy();
    };
    const finish = () => {
      if (ended && inFlight === 0) connection.end();
    };
    const read = () => {
      while (inFlight < tcpInFlightMax && unread.length >= 2) {
        const length = unread.readUInt16BE(0);
        if (unread.length < 2 + length) break;
        const message = unread.subarray(2, 2 + length);
        unread = unread.subarray(2 + length);
        const result = resolve(message, source, true);
        if (result instanceof Promise) {
          inFlight += 1;
          result
            .then(reply, (error: unknown) => log.error({ error: String(error) }, "query failed"))
            .finally(() => {
              inFlight -= 1;
              connection.resume();
              read();
            });
        } else if (result !== undefined) reply(result);
        // No answer is possible: the stream holds no DNS.
        else connection.destroy();
      }
      if (inFlight >= tcpInFlightMax) connection.pause();
      else finish();
    };
    connection.on("error", () => undefined);
    connection.on("close", () => {
      cancelIdle();
      this.#connections.delete(connection);
    });
    connection.on("end", () => {
      ended = true;
      finish();
    });
    connection.on("data", (chunk: Buffer) => {
      rest();
      unread = unread.length === 0 ? chunk : Buffer.concat([unread, chunk]);
      read();
    });
    rest();
  }
}

function close(binding: Binding): void {
  binding.closed = true;
  binding.cancelRetry?.();
  binding.udp?.close();
  binding.tcp?.close();
  binding.udp = undefined;
  binding.tcp = undefined;
}

function inWords(error: NodeJS.ErrnoException): string {
  if (error.code === "EADDRINUSE") return "is in use by another process on this host; stop that name server there";
  if (error.code === "EADDRNOTAVAIL") return "is not an address of this host yet";
  if (error.code === "EACCES") return "may only be opened by root";
  return `cannot be opened: ${error.message}`;
}
