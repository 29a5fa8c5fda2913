// Asking a running cluster to take this host in: every address given, in turn, following hints to the leader, until
// one answers for good or time is up.

import { Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import { type Backoff, backoffMs, type Clock, ClusterError, type Logger, pause, type Rng } from "../../lib/mod.js";
import { fromServiceError } from "../../proto/errors.js";
import { type JoinRequest, type JoinResponse, Member, RaftService } from "../../proto/gen/flotilla/raft/v1/raft.js";
import { wordsOf } from "./errors.js";
import { type Identity, type Joining, writeIdentity, writeJoining } from "./identity.js";

const deadlineMsDefault = 60_000;
/** For one manager's answer: it is given once the change is committed, and a replacement is two changes. */
const answerMsMax = 15_000;
const retry: Backoff = { firstMs: 250, maxMs: 3_000, jitter: 0.5 };
/** Hints followed one after another before going on with the list. */
const hintsMax = 3;

export interface JoinOptions {
  dataDir: string;
  name: string;
  address: string;
  httpAddress: string;
  /** host:port of managers of the cluster, in the order they are asked. */
  managers: readonly string[];
  /** Stays without a vote. Default false. */
  learner?: boolean;
  /** How long managers that do not answer are asked again, ms; default 60,000. */
  deadlineMs?: number;
  clock: Clock;
  rng: Rng;
  /** Says which manager is asked and what it answers. */
  log: Logger;
}

/** The identity that the cluster gave, written down. The nonce is kept before it is sent: a repeated join is the same. */
export async function requestJoin(
  ask: JoinOptions,
  begun: Joining | undefined,
  signal: AbortSignal,
): Promise<Identity> {
  const { dataDir, name, address, httpAddress, managers, learner = false, clock, rng, log } = ask;
  if (managers.length === 0)
    throw ClusterError.invalid([
      {
        field: "join",
        value: "",
        rule: "must name at least one manager of the cluster",
        fix: "write for example --join 10.0.0.1:7400",
      },
    ]);
  // With another address it is another request: what was begun is taken out by whoever has its address next.
  const joining = begun?.address === address ? begun : { nonce: rng.id(), address };
  if (joining !== begun) await writeJoining(dataDir, joining);
  const request: JoinRequest = { name, address, httpAddress, nonce: joining.nonce, learner };
  const deadlineMs = clock.monotonic() + (ask.deadlineMs ?? deadlineMsDefault);
  let last: ClusterError | undefined;
  for (let round = 1; ; round += 1) {
    for (const manager of managers) {
      let next: string | undefined = manager;
      for (let hints = 0; next !== undefined && hints <= hintsMax; hints += 1) {
        const asked: string = next;
        next = undefined;
        signal.throwIfAborted();
        const leftMs = deadlineMs - clock.monotonic();
        if (leftMs <= 0) throw gaveUp(managers, last);
        log.info({ manager: asked }, "asking to join");
        try {
          const response = await askOnce(asked, request, clock, Math.min(answerMsMax, leftMs), signal);
          const identity = identityFrom(ask, joining, response);
          await writeIdentity(dataDir, identity);
          log.info({ cluster: identity.cluster, member: identity.memberId, manager: asked }, "joined the cluster");
          return identity;
        } catch (thrown) {
          signal.throwIfAborted();
          if (!(thrown instanceof ClusterError)) throw thrown;
          last = new ClusterError(thrown.code, `${asked}: ${wordsOf(thrown.message)}`, {
            cause: thrown,
            details: thrown.details,
          });
          // The same request again is the same member: an unknown outcome is as good as none.
          if (!thrown.retryable && thrown.code !== "unknown_outcome" && thrown.code !== "resource_exhausted")
            throw last;
          log.warn({ manager: asked, error: wordsOf(thrown.message) }, "not joined yet");
          const { leader } = thrown.details as { leader?: string };
          if (thrown.code === "not_leader" && leader !== undefined && leader !== asked) next = leader;
        }
      }
    }
    await pause(clock, Math.min(backoffMs(retry, round, rng), Math.max(0, deadlineMs - clock.monotonic())), signal);
  }
}

function gaveUp(managers: readonly string[], last: ClusterError | undefined): ClusterError {
  return new ClusterError(
    "unavailable",
    `no manager of ${managers.join(", ")} took this one in in time; the last answer was: ${last?.message ?? "none"}`,
    last === undefined ? {} : { cause: last },
  );
}

function identityFrom(
  { name, address, httpAddress }: JoinOptions,
  { nonce }: Joining,
  response: JoinResponse,
): Identity {
  const { clusterId, cluster, epoch, id, store, etcd } = response;
  // Only what is known here goes into the file.
  const members = response.members.map((member) => Member.fromPartial(member));
  if (store !== "raft" && store !== "etcd")
    throw new ClusterError(
      "failed_precondition",
      `the cluster keeps its objects in ${JSON.stringify(store)}, which this version does not know`,
    );
  return {
    clusterId,
    cluster,
    memberId: id,
    name,
    address,
    httpAddress,
    epoch,
    store,
    etcd,
    nonce,
    begun: false,
    members,
  };
}

/** One call to one manager, on a connection of its own. */
export function askOnce(
  address: string,
  request: JoinRequest,
  clock: Clock,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<JoinResponse> {
  const { path, requestSerialize, responseDeserialize } = RaftService.join;
  const client = new Client(address, credentials.createInsecure(), { "grpc.enable_http_proxy": 0 });
  return new Promise<JoinResponse>((resolve, reject) => {
    const call = client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      { deadline: clock.now() + deadlineMs },
      (error: ServiceError | null, response) => {
        signal.removeEventListener("abort", stop);
        if (error !== null)
          reject(error.code === status.CANCELLED && signal.aborted ? signal.reason : fromServiceError(error));
        else if (response === undefined)
          reject(new ClusterError("internal", `${address} answered a join with nothing`));
        else resolve(response);
      },
    );
    const stop = () => call.cancel();
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
  }).finally(() => client.close());
}
