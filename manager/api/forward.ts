// Calls that only the leader can answer, on any manager: a follower passes them on and the answer back. A caller never
// needs to know who leads.

import {
  Client,
  connectivityState,
  credentials,
  type Deadline,
  Metadata,
  type MethodDefinition,
  type ServiceError,
} from "@grpc/grpc-js";
import { type Clock, ClusterError, withDeadline } from "../../lib/mod.js";
import { errorTrailer, fromServiceError } from "../../proto/errors.js";
import { type Consensus, notLeader } from "../consensus/mod.js";
import type { Call } from "../rpc/mod.js";

/** On calls that were passed on: they go no further, or two managers that take each other for the leader would never end. */
export const forwardedKey = "flotilla-forwarded";
/** For a connection to the leader. */
const connectMsMax = 1_500;
/** How long a manager that has just been elected makes callers wait until it can serve them. */
const tenureMsMax = 3_000;
/** Leaders that are asked one after another: leadership may move while a call is on its way. */
const hopsMax = 3;
/** As the command line takes. */
const messageBytesMax = 64 * 1024 * 1024;

type Unary<Req, Res> = (request: Req, peer: string, call: Call) => Promise<Res>;
type Stream<Req, Res> = (request: Req, signal: AbortSignal, peer: string, call: Call) => AsyncIterable<Res>;

export interface ForwarderOptions {
  consensus: Consensus;
  clock: Clock;
}

export class Forwarder implements Disposable {
  readonly #options: ForwarderOptions;
  /** By address: one for each member that has led, closed when it is none any more. */
  readonly #clients = new Map<string, Client>();
  readonly #unsubscribe: () => void;

  constructor(options: ForwarderOptions) {
    this.#options = options;
    this.#unsubscribe = options.consensus.onChange(() => this.#closeStrangers());
  }

  /** `local` where this manager leads, or the leader's answer. */
  unary<Req, Res>(method: MethodDefinition<Req, Res>, local: (request: Req) => Promise<Res> | Res): Unary<Req, Res> {
    return async (request, _peer, call) => {
      let address = await this.#leaderElsewhere(call);
      for (let hops = 1; ; hops += 1) {
        try {
          return address === undefined ? await local(request) : await this.#ask(address, method, request, call);
        } catch (error) {
          const next = this.#next(error, call);
          if (next === undefined || next === address || hops === hopsMax) throw error;
          // It was not done, and whoever refused it says who leads.
          address = next;
        }
      }
    };
  }

  stream<Req, Res>(
    method: MethodDefinition<Req, Res>,
    local: (request: Req, signal: AbortSignal) => AsyncIterable<Res>,
  ): Stream<Req, Res> {
    const forward = (address: string, request: Req, call: Call) => this.#stream(address, method, request, call);
    const where = (call: Call) => this.#leaderElsewhere(call);
    return async function* (request, signal, _peer, call) {
      const address = await where(call);
      yield* address === undefined ? local(request, signal) : forward(address, request, call);
    };
  }

  [Symbol.dispose](): void {
    this.#unsubscribe();
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }

  /** The leader's address; undefined when this manager is it. */
  async #leaderElsewhere(call: Call): Promise<string | undefined> {
    const { consensus, clock } = this.#options;
    const isElected = () => consensus.leader()?.id === consensus.self.id;
    if (consensus.tenure() !== undefined) return undefined;
    if (isElected())
      await withDeadline(
        clock,
        tenureMsMax,
        "this manager was just elected and is not ready to lead",
        () => this.#until(() => consensus.tenure() !== undefined || !isElected(), call.signal),
        call.signal,
      ).catch((error: unknown) => {
        call.signal.throwIfAborted();
        throw new ClusterError("unavailable", "this manager was just elected, and is not ready to lead: try again", {
          cause: error,
        });
      });
    if (consensus.tenure() !== undefined) return undefined;
    const leader = consensus.leader();
    if (leader === undefined) throw new ClusterError("unavailable", consensus.health().message);
    if (leader.id === consensus.self.id || wasForwarded(call)) throw notLeader(leader.address);
    return leader.address;
  }

  /** Where to go after a refusal; undefined when it is final here. */
  #next(error: unknown, call: Call): string | undefined {
    if (!(error instanceof ClusterError) || error.code !== "not_leader" || wasForwarded(call)) return undefined;
    const { leader } = error.details as { leader?: string };
    return leader === this.#options.consensus.self.address ? undefined : leader;
  }

  async #ask<Req, Res>(
    address: string,
    method: MethodDefinition<Req, Res>,
    request: Req,
    { deadline, signal }: Call,
  ): Promise<Res> {
    const client = this.#client(address);
    await this.#connected(client, address, signal);
    return await new Promise<Res>((resolve, reject) => {
      const call = client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        passedOn(),
        within(deadline),
        (error: ServiceError | null, response) => {
          signal.removeEventListener("abort", cancel);
          if (error !== null) reject(failure(address, error));
          else if (response === undefined) reject(new ClusterError("internal", `${address} gave an empty answer`));
          else resolve(response);
        },
      );
      const cancel = () => call.cancel();
      signal.addEventListener("abort", cancel, { once: true });
      if (signal.aborted) cancel();
    });
  }

  async *#stream<Req, Res>(
    address: string,
    method: MethodDefinition<Req, Res>,
    request: Req,
    { deadline, signal }: Call,
  ): AsyncGenerator<Res> {
    const client = this.#client(address);
    await this.#connected(client, address, signal);
    const call = client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      passedOn(),
      within(deadline),
    );
    // The loop below throws the error; without a listener of its own it would end the process in between two reads.
    call.on("error", () => undefined);
    const cancel = () => call.cancel();
    signal.addEventListener("abort", cancel, { once: true });
    try {
      for await (const message of call) yield message as Res;
    } catch (error) {
      signal.throwIfAborted();
      throw failure(address, error as ServiceError, "unavailable");
    } finally {
      signal.removeEventListener("abort", cancel);
      call.cancel();
    }
  }

  /** Nothing was sent where this throws. */
  async #connected(client: Client, address: string, signal: AbortSignal): Promise<void> {
    const channel = client.getChannel();
    const { clock } = this.#options;
    const untilMs = clock.monotonic() + connectMsMax;
    for (;;) {
      signal.throwIfAborted();
      const state = channel.getConnectivityState(true);
      if (state === connectivityState.READY) return;
      const leftMs = untilMs - clock.monotonic();
      if (leftMs <= 0 || state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.SHUTDOWN)
        throw new ClusterError("unavailable", `the leader, ${address}, cannot be reached from here: nothing was done`);
      await new Promise<void>((resolve) => {
        channel.watchConnectivityState(state, clock.now() + leftMs, () => resolve());
      });
    }
  }

  #client(address: string): Client {
    const known = this.#clients.get(address);
    if (known !== undefined) return known;
    const client = new Client(address, credentials.createInsecure(), {
      "grpc.enable_http_proxy": 0,
      "grpc.max_receive_message_length": messageBytesMax,
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 1_000,
      "grpc.keepalive_time_ms": 2_000,
      "grpc.keepalive_timeout_ms": 3_000,
    });
    this.#clients.set(address, client);
    return client;
  }

  #closeStrangers(): void {
    const addresses = new Set(this.#options.consensus.members().map(({ address }) => address));
    for (const [address, client] of this.#clients) {
      if (addresses.has(address)) continue;
      this.#clients.delete(address);
      client.close();
    }
  }

  #until(holds: () => boolean, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (!holds() && !signal.aborted) return;
        stop();
        signal.removeEventListener("abort", look);
        resolve();
      };
      const stop = this.#options.consensus.onChange(look);
      signal.addEventListener("abort", look, { once: true });
      look();
    });
  }
}

function wasForwarded({ metadata }: Call): boolean {
  return metadata.get(forwardedKey).length > 0;
}

function passedOn(): Metadata {
  const metadata = new Metadata();
  metadata.set(forwardedKey, "1");
  return metadata;
}

function within(deadline: Deadline): { deadline?: Deadline } {
  return deadline === Number.POSITIVE_INFINITY ? {} : { deadline };
}

/** The leader's own refusal as it is. A call that broke off may have been done; a stream's reader asks again. */
function failure(
  address: string,
  error: ServiceError,
  broken: "unknown_outcome" | "unavailable" = "unknown_outcome",
): ClusterError {
  const known = fromServiceError(error);
  const wasSaid = error.metadata?.get(errorTrailer).length > 0;
  // A leader that stops cancels what is under way: to the caller that is no answer.
  if (wasSaid || known.code === "deadline_exceeded") return known;
  return new ClusterError(broken, `the leader, ${address}, went away before it answered: ${known.message}`, {
    cause: error,
  });
}
