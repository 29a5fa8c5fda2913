// How managers reach each other: what raft-ts asks of its transport, and the calls that others make here.

import type { ServerDuplexStream, UntypedServiceImplementation } from "@grpc/grpc-js";
import type { Message, MessageOf } from "raft-ts";
import type { Transport } from "raft-ts/node";
import { type Clock, ClusterError, type Logger, messageOf, type Rng } from "../../../lib/mod.js";
import { toStatus } from "../../../proto/errors.js";
import {
  type JoinRequest,
  type JoinResponse,
  type Member,
  RaftService,
  Welcome,
} from "../../../proto/gen/flotilla/raft/v1/raft.js";
import type { Handlers } from "../../rpc/mod.js";
import { parseFrame } from "./frame.js";
import { checkGreeting, type Host, removedDetail, twiceDetail } from "./greeting.js";
import { Peer } from "./peer.js";
import { sendSnapshot, type SnapshotReceiver, takeSnapshot } from "./snapshots.js";

/** What the transport hands on. */
export interface Receiver extends SnapshotReceiver {
  receive(messages: readonly Message[]): void;
  reportUnreachable(id: number): void;
}

export interface TransportOptions {
  /** `addressOf` and `incarnation` are the transport's own to say. */
  host: Omit<Host, "addressOf" | "incarnation">;
  clock: Clock;
  rng: Rng;
  log: Logger;
  /** A member says that this manager was taken out of the cluster, or that its cluster went on without it. */
  onRemoved(message: string): void;
  /** A member says that it is in touch with another process that is this member, too. */
  onTwice(message: string): void;
}

export interface PeerState {
  id: number;
  address: string | undefined;
  connected: boolean;
  /** Why it is not, in words. */
  problem: string;
  /** Whether something came from it within the last second; a leader hears of everybody ten times in one. */
  heard: boolean;
}

const heardMsMax = 1_000;

type Inbound = ServerDuplexStream<Buffer, Buffer>;

/** The stream that a member sends on, and of which of its processes it is. */
interface From {
  call: Inbound;
  incarnation: string;
}

/** The service as its streams are served here: as bytes, see frame.ts. */
export const raftService = {
  ...RaftService,
  messages: {
    ...RaftService.messages,
    requestSerialize: (bytes: Buffer) => bytes,
    requestDeserialize: (bytes: Buffer) => bytes,
    responseSerialize: (bytes: Buffer) => bytes,
    responseDeserialize: (bytes: Buffer) => bytes,
  },
} as const;

export class RaftTransport implements Transport, AsyncDisposable {
  readonly #options: TransportOptions;
  readonly #host: Host;
  readonly #peers = new Map<number, Peer>();
  /** As members or greetings said last. */
  readonly #addresses = new Map<number, string>();
  readonly #inbound = new Map<number, From>();
  /** When something came from a peer last, on the monotonic clock. */
  readonly #heardMs = new Map<number, number>();
  #members: readonly Member[] = [];
  #node: Receiver | undefined;
  #closed = false;

  constructor(options: TransportOptions) {
    this.#options = options;
    const { host, rng } = options;
    this.#host = {
      ...host,
      isGone: (id) => host.isGone(id),
      addressOf: (of) => this.#members.find(({ id }) => id === of)?.address,
      incarnation: rng.id(),
    };
  }

  /** Messages are taken from now on; before it, whoever calls is asked to come again. */
  attach(node: Receiver): void {
    this.#node = node;
  }

  /** Dials those who are new, and lets go of those who are gone. */
  setMembers(members: readonly Member[]): void {
    const before = new Map(this.#members.map((member) => [member.id, member.address]));
    this.#members = members;
    for (const { id, address } of members)
      if (id !== this.#options.host.id && before.get(id) !== address) this.#setAddress(id, address);
    for (const id of [...this.#peers.keys()]) if (this.#options.host.isGone(id)) this.#forget(id);
    for (const id of [...this.#inbound.keys()]) if (this.#options.host.isGone(id)) this.#endInbound(id);
  }

  /** Of everybody but this manager, by id. */
  peers(): readonly PeerState[] {
    return [...this.#peers]
      .map(([id, peer]) => ({
        id,
        address: peer.address,
        connected: peer.connected || this.#inbound.has(id),
        problem: peer.problem,
        heard: this.#isHeard(id),
      }))
      .sort((a, b) => a.id - b.id);
  }

  send(to: number, messages: readonly Message[]): void {
    const peer = this.#peers.get(to);
    // Somebody of whom only the id is known so far: it says where it is when it dials.
    if (peer === undefined) queueMicrotask(() => this.#node?.reportUnreachable(to));
    else peer.send(messages);
  }

  async sendSnapshot(
    message: MessageOf<"MsgSnap">,
    chunks: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, log } = this.#options;
    const address = this.#addresses.get(message.to);
    if (address === undefined)
      throw new ClusterError("unavailable", `where manager ${message.to} is, is not known here yet`);
    const { index } = message.snapshot;
    log.info({ peer: message.to, index }, "sending a snapshot");
    try {
      await sendSnapshot(this.#host, address, message, chunks, clock, signal);
      log.info({ peer: message.to, index }, "snapshot sent");
    } catch (error) {
      log.warn({ peer: message.to, index, error: messageOf(error) }, "snapshot not sent");
      throw error;
    }
  }

  /** For `server.addService(raftService, …)`. */
  handlers(handlers: Handlers, join: (request: JoinRequest) => Promise<JoinResponse>): UntypedServiceImplementation {
    const { clock } = this.#options;
    return {
      messages: (call: Inbound) => this.#takeMessages(call),
      snapshot: handlers.clientStream("Snapshot", async (_requests, call) => {
        await takeSnapshot(this.#host, call, this.#receiver(), clock);
        return {};
      }),
      join: handlers.unary("Join", (request: JoinRequest) => join(request)),
    };
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const peer of this.#peers.values()) peer.close();
    for (const { call } of this.#inbound.values()) call.end();
    this.#peers.clear();
    this.#inbound.clear();
    return Promise.resolve();
  }

  #isHeard(id: number): boolean {
    const heardMs = this.#heardMs.get(id) ?? Number.NEGATIVE_INFINITY;
    return this.#options.clock.monotonic() - heardMs <= heardMsMax;
  }

  #setAddress(id: number, address: string): void {
    const { clock, rng, log } = this.#options;
    if (this.#closed || this.#host.isGone(id)) return;
    this.#addresses.set(id, address);
    const peer = this.#peers.get(id);
    if (peer !== undefined) {
      peer.moveTo(address);
      return;
    }
    this.#peers.set(
      id,
      new Peer(
        {
          host: this.#host,
          id,
          clock,
          rng,
          log,
          onUnreachable: () => this.#node?.reportUnreachable(id),
          onRemoved: (error) => this.#options.onRemoved(error.message),
          onTwice: (error) => this.#options.onTwice(error.message),
        },
        address,
      ),
    );
  }

  #forget(id: number): void {
    this.#peers.get(id)?.close();
    this.#peers.delete(id);
    this.#addresses.delete(id);
    this.#heardMs.delete(id);
  }

  #endInbound(id: number): void {
    const from = this.#inbound.get(id);
    this.#inbound.delete(id);
    from?.call.emit(
      "error",
      toStatus(
        new ClusterError("failed_precondition", `manager ${id} was removed from the cluster`, {
          details: { [removedDetail]: String(id) },
        }),
      ),
    );
  }

  #receiver(): Receiver {
    if (this.#node === undefined || this.#closed)
      throw new ClusterError("unavailable", this.#closed ? "this manager is stopping" : "this manager is starting");
    return this.#node;
  }

  #takeMessages(call: Inbound): void {
    const { clock } = this.#options;
    let from: number | undefined;
    const end = (how: () => void) => {
      if (from !== undefined && this.#inbound.get(from)?.call === call) this.#inbound.delete(from);
      how();
    };
    const fail = (error: unknown) => end(() => call.emit("error", toStatus(error)));
    call.on("data", (bytes: Buffer) => {
      try {
        const node = this.#receiver();
        const { greeting, messages } = parseFrame(bytes);
        if (from === undefined) {
          from = this.#greeted(call, greeting);
        } else if (this.#inbound.get(from)?.call !== call) return;
        this.#heardMs.set(from, clock.monotonic());
        if (messages.length > 0) node.receive(messages);
      } catch (error) {
        call.pause();
        fail(error);
      }
    });
    call.on("end", () => end(() => call.end()));
    // A broken connection: its error would end the process if nobody listened.
    call.on("error", () => end(() => undefined));
    call.on("cancelled", () => end(() => undefined));
  }

  #greeted(call: Inbound, greeting: Parameters<typeof checkGreeting>[1]): number {
    checkGreeting(this.#host, greeting);
    const { from, address, incarnation } = greeting;
    const older = this.#inbound.get(from);
    // A process that has just ended has said nothing since; that of a copied directory would push the other one out, which
    // would dial again and push it out in turn.
    if (older !== undefined && older.incarnation !== incarnation && this.#isHeard(from))
      throw new ClusterError(
        "failed_precondition",
        `manager ${from} (${address}) is in touch with ${this.#host.address} already, from another process: ` +
          "its directory was copied, and both copies run",
        { details: { [twiceDetail]: String(from) } },
      );
    // One that dials again has given up what it had.
    this.#inbound.set(from, { call, incarnation });
    older?.call.end();
    // Where a member is, the membership says; this is for one that it has not come to here yet.
    if (!this.#members.some(({ id }) => id === from)) this.#setAddress(from, address);
    this.#peers.get(from)?.wake();
    call.write(Buffer.from(Welcome.encode({}).finish()));
    return from;
  }
}
