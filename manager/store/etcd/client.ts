// Calls to a cluster of etcd servers. One etcd3 client per endpoint with all of etcd3's own fault handling off: its
// retries repeat writes whose outcome is unknown. Here reads are repeated, on another endpoint when one fails;
// writes are sent once, and their caller is told whether a failure is certain to have changed nothing.

import { InterceptingCall, type Interceptor, type StatusObject, status } from "@grpc/grpc-js";
import {
  Etcd3,
  type IDuplexStream,
  type IOptions,
  type IRangeRequest,
  type IRangeResponse,
  type IResponseHeader,
  type ITxnRequest,
  type ITxnResponse,
  type IWatchRequest,
  type IWatchResponse,
} from "etcd3";
import { type Clock, ClusterError, type Logger, type Rng, backoffMs, messageOf, sleep } from "../../../lib/mod.js";

/** The longest that one call may take on one endpoint before it counts as failed there. */
const callTimeoutMs = 2_000;
/** Between rounds over all endpoints. */
const roundBackoff = { firstMs: 50, maxMs: 400, jitter: 0.5 };
/** Answers beyond grpc-js's default of 4 MiB come from pages of large objects. */
const receiveBytesMax = 32 * 1_048_576;

export interface EtcdClientOptions {
  /** "http://host:port" or "host:port". */
  endpoints: readonly string[];
  clock: Clock;
  rng: Rng;
  log: Logger;
}

/** A call that failed on one endpoint. */
export class CallFailure extends Error {
  /** Whether the server is certain not to have done, and never to do, what it was asked. */
  readonly neverMade: boolean;
  /** Whether another endpoint, or the same one later, may do better. */
  readonly retryable: boolean;
  /** Whether the answer was larger than this client takes. */
  readonly tooLarge: boolean;

  constructor(
    message: string,
    kind: { neverMade: boolean; retryable: boolean; tooLarge?: boolean },
    options?: { cause: unknown },
  ) {
    super(message, options);
    this.name = "CallFailure";
    this.neverMade = kind.neverMade;
    this.retryable = kind.retryable;
    this.tooLarge = kind.tooLarge ?? false;
  }
}

/** What the end of a call says about what was done. */
function kindOf(code: status, details: string): { neverMade: boolean; retryable: boolean; tooLarge: boolean } {
  // etcd checks for a leader before it takes the request (we ask for that by metadata).
  if (code === status.UNAVAILABLE && details === "etcdserver: no leader")
    return { neverMade: true, retryable: true, tooLarge: false };
  // grpc-js and etcd use this code both; grpc-js for answers, which come after the fact.
  const exhausted = code === status.RESOURCE_EXHAUSTED;
  const tooLarge = exhausted && !details.startsWith("etcdserver:");
  const neverMade =
    code === status.INVALID_ARGUMENT ||
    code === status.PERMISSION_DENIED ||
    code === status.UNAUTHENTICATED ||
    code === status.FAILED_PRECONDITION ||
    code === status.OUT_OF_RANGE ||
    code === status.UNIMPLEMENTED ||
    (exhausted && !tooLarge);
  return { neverMade, retryable: !neverMade, tooLarge };
}

interface Endpoint {
  readonly name: string;
  readonly etcd: Etcd3;
  /** Whether it has answered as a member of our cluster since its last failure: only then may it be written to. */
  verified: boolean;
  failure: string | undefined;
  foreign: boolean;
}

export class EtcdClient {
  readonly #endpoints: readonly Endpoint[];
  readonly #clock: Clock;
  readonly #rng: Rng;
  readonly #log: Logger;
  #current = 0;
  /** Of the first answer; every later one must have it. */
  #clusterId: string | undefined;
  /** The highest revision in any answer that was current when it was made. */
  #revisionSeen = 0;
  /** Why this etcd must not be used any more. */
  #refusal: string | undefined;

  constructor({ endpoints, clock, rng, log }: EtcdClientOptions) {
    this.#endpoints = endpoints.map((endpoint) => ({
      name: endpoint.replace(/^https?:\/\//, ""),
      etcd: new Etcd3(clientOptions(endpoint)),
      verified: false,
      failure: undefined,
      foreign: false,
    }));
    this.#clock = clock;
    this.#rng = rng;
    this.#log = log;
  }

  /**
   * A linearizable read (unless the request says otherwise), repeated over the endpoints for at most `budgetMs`.
   * `unavailable` after that, `failed_precondition` when those that answer are not our etcd; a CallFailure when etcd
   * refused the request itself or its answer is too large.
   */
  async range(request: IRangeRequest, budgetMs: number, signal: AbortSignal): Promise<IRangeResponse> {
    const deadline = this.#clock.monotonic() + budgetMs;
    for (let attempt = 1; ; attempt += 1) {
      this.#throwIfRefused();
      const endpoint = this.#endpoint();
      try {
        return await this.#rangeOn(endpoint, request, deadline, signal);
      } catch (failure) {
        signal.throwIfAborted();
        if (failure instanceof CallFailure && (failure.tooLarge || !failure.retryable)) throw failure;
        this.#failed(endpoint, failure);
      }
      await this.pause(attempt, deadline, signal);
    }
  }

  /**
   * Sends the transaction once, to an endpoint that is known to be of our cluster. Throws CallFailure when it failed
   * or may have failed; `unavailable` or `failed_precondition` when it was not sent at all.
   */
  async txn(request: ITxnRequest, deadline: number, signal: AbortSignal): Promise<ITxnResponse> {
    const endpoint = await this.#verifiedEndpoint(deadline, signal);
    const seen = this.#revisionSeen;
    try {
      const response = await this.#call(endpoint, deadline, signal, (options) =>
        endpoint.etcd.kv.txn(request, options),
      );
      try {
        this.#check(endpoint, response.header, seen);
      } catch (failure) {
        // Its guards held in an etcd that is not ours or not any more; what that will become is not for us to say.
        if (response.succeeded) throw new ClusterError("unknown_outcome", messageOf(failure), { cause: failure });
        throw failure;
      }
      return response;
    } catch (failure) {
      if (!(failure instanceof CallFailure && failure.neverMade && !failure.retryable)) this.#failed(endpoint, failure);
      throw failure;
    }
  }

  /** A watch stream on the endpoint now in use. */
  async watch(
    request: IWatchRequest,
    deadline: number,
    signal: AbortSignal,
  ): Promise<{ endpoint: string; stream: IDuplexStream<IWatchRequest, IWatchResponse> }> {
    // A stream without a deadline hides that its endpoint is dead: the check before it finds one that is not.
    const endpoint = await this.#verifiedEndpoint(deadline, signal);
    const stream = await endpoint.etcd.watchClient.watch({ interceptors: [requireLeader()] });
    stream.write(request);
    return { endpoint: endpoint.name, stream };
  }

  /** Takes another endpoint for what comes next, if `name` is the one in use. */
  avoid(name: string, why: string): void {
    const endpoint = this.#endpoints.find((candidate) => candidate.name === name);
    if (endpoint !== undefined) this.#failed(endpoint, new Error(`${name}: ${why}`));
  }

  /** Throws unless the header is one of our cluster's; for answers that come by a stream. */
  checkStream(name: string, header: IResponseHeader): void {
    const endpoint = this.#endpoints.find((candidate) => candidate.name === name);
    // A member may lag behind, or have lost its quorum: its stream shows neither the newest revision nor health.
    if (endpoint !== undefined) this.#checkCluster(endpoint, header);
  }

  /** Between two attempts; throws `unavailable` once the deadline has passed. */
  async pause(attempt: number, deadline: number, signal: AbortSignal): Promise<void> {
    this.#throwIfRefused();
    const reachable = this.#endpoints.filter((endpoint) => endpoint.failure === undefined);
    if (reachable.length === 0 && this.#endpoints.some((endpoint) => endpoint.foreign))
      throw new ClusterError("failed_precondition", this.describe());
    const left = deadline - this.#clock.monotonic();
    if (left <= 0) throw new ClusterError("unavailable", this.describe());
    // The first round goes on at once: with one member dead, the next one is a call away.
    if (attempt < this.#endpoints.length) return;
    const round = Math.floor(attempt / this.#endpoints.length);
    await sleep(this.#clock, Math.min(left, backoffMs(roundBackoff, round, this.#rng)), signal);
  }

  /** Why etcd cannot be used, by endpoint. */
  describe(): string {
    if (this.#refusal !== undefined) return this.#refusal;
    const failures = this.#endpoints.filter((endpoint) => endpoint.failure !== undefined);
    if (failures.some((endpoint) => endpoint.foreign) && failures.length === this.#endpoints.length)
      return `etcd: refused: ${failures.map((endpoint) => endpoint.failure).join("; ")}`;
    return `etcd: no quorum: ${failures.map((endpoint) => endpoint.failure).join("; ")}`;
  }

  /** Set for good once etcd has gone back in time. */
  get refusal(): string | undefined {
    return this.#refusal;
  }

  close(): void {
    for (const { etcd } of this.#endpoints) etcd.close();
  }

  #endpoint(): Endpoint {
    const endpoint = this.#endpoints[this.#current];
    if (endpoint === undefined) throw new Error(`etcd: no endpoint ${this.#current}`);
    return endpoint;
  }

  #throwIfRefused(): void {
    if (this.#refusal !== undefined) throw new ClusterError("failed_precondition", this.#refusal);
  }

  async #rangeOn(
    endpoint: Endpoint,
    request: IRangeRequest,
    deadline: number,
    signal: AbortSignal,
  ): Promise<IRangeResponse> {
    const seen = this.#revisionSeen;
    const response = await this.#call(endpoint, deadline, signal, (options) =>
      endpoint.etcd.kv.range(request, options),
    );
    this.#check(endpoint, response.header, request.serializable === true ? 0 : seen);
    return response;
  }

  async #verifiedEndpoint(deadline: number, signal: AbortSignal): Promise<Endpoint> {
    for (let attempt = 1; ; attempt += 1) {
      this.#throwIfRefused();
      const endpoint = this.#endpoint();
      if (endpoint.verified) return endpoint;
      try {
        await this.#rangeOn(endpoint, { key: Buffer.from("/"), keys_only: true, limit: 1 }, deadline, signal);
        return endpoint;
      } catch (failure) {
        signal.throwIfAborted();
        this.#failed(endpoint, failure);
      }
      await this.pause(attempt, deadline, signal);
    }
  }

  /** One call on one endpoint, with a deadline; ended by the signal. Throws CallFailure. */
  async #call<R>(
    endpoint: Endpoint,
    deadline: number,
    signal: AbortSignal,
    invoke: (options: { deadline: number; interceptors: Interceptor[] }) => Promise<R>,
  ): Promise<R> {
    signal.throwIfAborted();
    const timeoutMs = Math.max(1, Math.min(callTimeoutMs, deadline - this.#clock.monotonic()));
    let ended: StatusObject | undefined;
    const interceptor = requireLeader({ signal, onStatus: (statusObject) => (ended = statusObject) });
    try {
      return await invoke({ deadline: this.#clock.now() + timeoutMs, interceptors: [interceptor] });
    } catch (error) {
      // etcd3 turns the status into classes and loses it; the interceptor has seen it.
      const code = ended?.code ?? status.UNKNOWN;
      const details =
        code === status.DEADLINE_EXCEEDED
          ? `no answer within ${Math.round(timeoutMs)} ms`
          : (ended?.details ?? messageOf(error));
      throw new CallFailure(`${endpoint.name}: ${details}`, kindOf(code, details), { cause: error });
    }
  }

  #checkCluster(endpoint: Endpoint, header: IResponseHeader): void {
    this.#clusterId ??= header.cluster_id;
    if (header.cluster_id !== this.#clusterId) {
      endpoint.foreign = true;
      throw new CallFailure(
        `${endpoint.name}: it belongs to another etcd cluster (${hex(header.cluster_id)}) than the one in use (${hex(this.#clusterId)})`,
        { neverMade: true, retryable: true },
      );
    }
  }

  #check(endpoint: Endpoint, header: IResponseHeader, atLeastRevision: number): void {
    this.#checkCluster(endpoint, header);
    const revision = Number(header.revision);
    if (revision < atLeastRevision) {
      this.#refusal =
        `etcd: refused: it went back from revision ${atLeastRevision} to ${revision}, as after a restored backup; ` +
        "restart the managers to go on with what it holds now";
      this.#log.error({ endpoint: endpoint.name, revision, seen: atLeastRevision }, "etcd went back in revision");
      throw new ClusterError("failed_precondition", this.#refusal);
    }
    this.#revisionSeen = Math.max(this.#revisionSeen, revision);
    if (endpoint.failure !== undefined) this.#log.info({ endpoint: endpoint.name }, "etcd endpoint answers again");
    endpoint.verified = true;
    endpoint.foreign = false;
    endpoint.failure = undefined;
  }

  #failed(endpoint: Endpoint, failure: unknown): void {
    const message = messageOf(failure);
    if (endpoint.failure === undefined)
      this.#log.warn({ endpoint: endpoint.name, error: message }, "etcd endpoint failed");
    endpoint.verified = false;
    endpoint.failure = message;
    if (this.#endpoint() === endpoint) this.#current = (this.#current + 1) % this.#endpoints.length;
  }
}

/** Makes a server without a leader refuse at once, certain to have done nothing, instead of trying for seconds. */
function requireLeader(
  observed: { signal?: AbortSignal; onStatus?: (statusObject: StatusObject) => void } = {},
): Interceptor {
  const { signal, onStatus } = observed;
  return (options, nextCall) => {
    const call = new InterceptingCall(nextCall(options), {
      start(metadata, _listener, next) {
        metadata.set("hasleader", "true");
        next(metadata, {
          onReceiveStatus(statusObject, nextStatus) {
            signal?.removeEventListener("abort", cancel);
            onStatus?.(statusObject);
            nextStatus(statusObject);
          },
        });
      },
    });
    const cancel = () => call.cancelWithStatus(status.CANCELLED, "the store is closing");
    signal?.addEventListener("abort", cancel, { once: true });
    return call;
  };
}

function clientOptions(endpoint: string): IOptions {
  const off = passThrough();
  return {
    hosts: [endpoint],
    grpcOptions: {
      "grpc.max_receive_message_length": receiveBytesMax,
      "grpc.enable_retries": 0,
      // Every endpoint has its own connection and its own back-off.
      "grpc.use_local_subchannel_pool": 1,
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.min_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 1_000,
    },
    faultHandling: { global: off, host: () => off },
  };
}

type Policy = NonNullable<NonNullable<IOptions["faultHandling"]>["global"]>;

/** A fault-handling policy that calls through, once. */
function passThrough(): Policy {
  const never = { dispose: () => undefined };
  const policy: Omit<Policy, "_altReturn"> = {
    execute: async (fn, signal) => await fn({ signal: signal ?? new AbortController().signal }),
    onSuccess: () => never,
    onFailure: () => never,
  };
  // _altReturn exists in types only.
  return policy as Policy;
}

function hex(clusterId: string): string {
  return BigInt(clusterId).toString(16);
}
