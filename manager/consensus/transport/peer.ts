// The way to one other manager: a connection and a stream of its own, opened again and again while this manager lives.
// Nothing here waits for anybody, and a peer in trouble holds back no other.

import { Client, type ClientDuplexStream, credentials, type ServiceError } from "@grpc/grpc-js";
import type { Message } from "raft-ts";
import { type Backoff, backoffMs, type Clock, ClusterError, type Logger, type Rng } from "../../../lib/mod.js";
import { fromServiceError } from "../../../proto/errors.js";
import { RaftService } from "../../../proto/gen/flotilla/raft/v1/raft.js";
import { greetingFrame, messagesFrame } from "./frame.js";
import { wordsOf } from "../errors.js";
import { epochDetail, greetingTo, type Host, removedDetail, twiceDetail } from "./greeting.js";
import { SendQueue } from "./queue.js";

/** What waits for a slow peer. Raft has at most 16 MiB of log under way to one. */
const queueLimits = { messagesMax: 4_096, bytesMax: 32 * 1024 * 1024 };
/** Handed to the connection and not yet taken by it. Beyond it only what is urgent goes out. */
const windowBytes = 512 * 1024;
/** A frame has at least one message, and is below the 4 MiB that a receiver takes: an entry is at most 2 MiB. */
const frameBytesMax = 512 * 1024;
/** From dialling to being welcome. */
const welcomeMsMax = 3_000;
const redial: Backoff = { firstMs: 50, maxMs: 1_000, jitter: 0.5 };
/** After a refusal: only an operator, or the membership, changes that. */
const redialRefused: Backoff = { firstMs: 500, maxMs: 5_000, jitter: 0.5 };

/** Of every connection between managers. */
export const channelOptions = {
  "grpc.enable_http_proxy": 0,
  // Each attempt is a new connection: gRPC's own waiting between them would come on top.
  "grpc.use_local_subchannel_pool": 1,
  "grpc.max_receive_message_length": 4 * 1024 * 1024,
  "grpc.max_send_message_length": 64 * 1024 * 1024,
  // A peer behind a cut link says nothing; TCP alone would take minutes to notice, and as long after it is mended.
  "grpc.keepalive_time_ms": 1_000,
  "grpc.keepalive_timeout_ms": 3_000,
} as const;

export interface PeerOptions {
  host: Host;
  id: number;
  clock: Clock;
  rng: Rng;
  log: Logger;
  /** Messages to it are being lost; told once per turn at most. */
  onUnreachable(): void;
  /** The peer says that this manager was taken out, or that its cluster went on without it: for good, either way. */
  onRemoved(error: ClusterError): void;
  /** The peer is in touch with another process that is the same member. */
  onTwice(error: ClusterError): void;
}

type Stream = ClientDuplexStream<Buffer, Buffer>;

interface Connection {
  client: Client;
  stream: Stream;
  address: string;
  welcome: boolean;
  /** Bytes that the stream was given and has not taken yet. */
  pending: number;
  cancelTimer: () => void;
}

export class Peer {
  readonly #options: PeerOptions;
  readonly #queue = new SendQueue(queueLimits);
  #address: string | undefined;
  #connection: Connection | undefined;
  #cancelRedial: (() => void) | undefined;
  #failures = 0;
  #refused = false;
  #problem = "not connected yet";
  #flushing = false;
  #reporting = false;
  #closed = false;

  constructor(options: PeerOptions, address: string | undefined) {
    this.#options = options;
    this.#address = address;
    this.#dial();
  }

  get address(): string | undefined {
    return this.#address;
  }

  get connected(): boolean {
    return this.#connection?.welcome === true;
  }

  /** Why there is no connection, in words; empty while there is one. */
  get problem(): string {
    return this.connected ? "" : this.#problem;
  }

  /** It is found elsewhere from now on. */
  moveTo(address: string): void {
    if (this.#address === address) return;
    this.#address = address;
    this.#failures = 0;
    this.#drop();
    this.#dial();
  }

  /** It lives: it has just dialled here. */
  wake(): void {
    if (this.#connection === undefined) this.#dial();
  }

  send(messages: readonly Message[]): void {
    let lost = this.#connection === undefined;
    if (!lost) for (const message of messages) if (!this.#queue.push(message)) lost = true;
    if (lost) this.#reportUnreachable();
    if (this.#flushing || !this.connected) return;
    this.#flushing = true;
    // What is sent in one turn goes out as one.
    queueMicrotask(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  close(): void {
    this.#closed = true;
    this.#cancelRedial?.();
    this.#drop();
  }

  #flush(): void {
    const connection = this.#connection;
    if (connection?.welcome !== true) return;
    while (this.#queue.length > 0) {
      const isFull = connection.pending >= windowBytes;
      if (isFull && !this.#queue.hasUrgent) return;
      const frame = messagesFrame(this.#queue.take(frameBytesMax, isFull));
      connection.pending += frame.length;
      connection.stream.write(frame, () => {
        const wasFull = connection.pending >= windowBytes;
        connection.pending -= frame.length;
        if (wasFull && this.#connection === connection) this.#flush();
      });
    }
  }

  #reportUnreachable(): void {
    if (this.#reporting) return;
    this.#reporting = true;
    // Not from within the node's own call.
    queueMicrotask(() => {
      this.#reporting = false;
      if (!this.#closed) this.#options.onUnreachable();
    });
  }

  #dial(): void {
    this.#cancelRedial?.();
    this.#cancelRedial = undefined;
    const address = this.#address;
    if (this.#closed || this.#connection !== undefined || address === undefined) return;
    const { host, id, clock } = this.#options;
    const client = new Client(address, credentials.createInsecure(), channelOptions);
    const asIs = (bytes: Buffer) => bytes;
    const stream: Stream = client.makeBidiStreamRequest(RaftService.messages.path, asIs, asIs);
    const connection: Connection = {
      client,
      stream,
      address,
      welcome: false,
      pending: 0,
      cancelTimer: clock.after(welcomeMsMax, () =>
        this.#lost(connection, new ClusterError("unavailable", `no answer within ${welcomeMsMax / 1_000} s`)),
      ),
    };
    this.#connection = connection;
    stream.on("data", () => this.#welcomed(connection));
    stream.on("error", (error: ServiceError) => this.#lost(connection, fromServiceError(error)));
    stream.on("end", () => this.#lost(connection, new ClusterError("unavailable", "it ended the stream")));
    stream.write(greetingFrame(greetingTo(host, id)));
  }

  #welcomed(connection: Connection): void {
    if (connection !== this.#connection || connection.welcome) return;
    connection.cancelTimer();
    connection.welcome = true;
    this.#failures = 0;
    this.#refused = false;
    this.#options.log.info({ peer: this.#options.id, address: connection.address }, "connected to a manager");
    this.#flush();
  }

  #lost(connection: Connection, error: ClusterError): void {
    if (connection !== this.#connection) return;
    const { id, host, clock, rng, log } = this.#options;
    const wasWelcome = connection.welcome;
    this.#drop();
    const problem = wordsOf(error.message);
    if (wasWelcome || problem !== this.#problem)
      log.warn({ peer: id, address: connection.address, error: problem }, "no connection to a manager");
    this.#problem = problem;
    this.#refused = error.code === "failed_precondition";
    this.#reportUnreachable();
    this.#failures += 1;
    this.#cancelRedial = clock.after(backoffMs(this.#refused ? redialRefused : redial, this.#failures, rng), () =>
      this.#dial(),
    );
    if (!this.#refused) return;
    const { [removedDetail]: removed, [epochDetail]: epoch, [twiceDetail]: twice } = error.details;
    // The word of an older epoch counts for nothing: it is that one which was left behind.
    if (removed === String(host.id) || Number(epoch) > host.epoch) this.#options.onRemoved(error);
    else if (twice === String(host.id)) this.#options.onTwice(error);
  }

  #drop(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#queue.clear();
    if (connection === undefined) return;
    connection.cancelTimer();
    connection.stream.cancel();
    connection.client.close();
  }
}
