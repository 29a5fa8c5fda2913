// The manager process: consensus, store, calls, and controllers while it leads. Everything is made here and handed
// down; nothing below reaches for a clock, a random number or a global.

import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import {
  ClusterError,
  createLogger,
  Lifetime,
  type Logger,
  type LogLevel,
  messageOf,
  pause,
  serveStatus,
  sleep,
  systemClock,
  systemRng,
  withDeadline,
} from "../lib/mod.js";
import { ControlService } from "../proto/gen/flotilla/control/v1/control.js";
import { controlHandlers } from "./api/control.js";
import { Forwarder } from "./api/forward.js";
import { ManagerMetrics } from "./api/metrics.js";
import {
  type Consensus,
  explained,
  isDiskFailure,
  markRemoved,
  notLeader,
  RaftConsensus,
  raftService,
  SoloConsensus,
} from "./consensus/mod.js";
import { Controllers } from "./controllers.js";
import { dispatcherHandlers, dispatcherService } from "./dispatcher/mod.js";
import { EventLog } from "./events/mod.js";
import { identify } from "./identify.js";
import { Leadership } from "./leadership.js";
import { Handlers } from "./rpc/mod.js";
import { openEtcdStore, openMemoryStore, openRaftStore, type Store } from "./store/mod.js";

export interface ManagerOptions {
  dataDir: string;
  /** host:port of the gRPC calls. */
  listen: string;
  /** host:port of /metrics, /healthz and /readyz. */
  httpListen: string;
  /** host:port where other managers, agents and users reach `listen`. */
  advertise: string;
  /** The host's name; the node of that name is the one this manager runs on. */
  name: string;
  /** Managers of the cluster to join where the data directory is empty. */
  join: readonly string[];
  /** "memory" is a trial: alone, and all is lost at the end. Otherwise the cluster's, as it was made. */
  store: "memory" | undefined;
  /** The etcd servers, where they have moved; empty is as the cluster was made. */
  etcd: readonly string[];
  logLevel: LogLevel;
}

/** The largest message that is taken, bytes; grpc-js's default, stated. */
const receiveBytesMax = 4 * 1024 * 1024;
/** The largest that is sent, and that agents and the command line take: all routes at once, or all tasks of a service. */
const sendBytesMax = 64 * 1024 * 1024;
/** How long a leader that is told to stop tries to hand over first: then nobody has to miss it. */
const handOverMsMax = 2_000;
const memoryClusterName = "flotilla";

export function productVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  const parsed: unknown = JSON.parse(text);
  if (typeof parsed === "object" && parsed !== null && "version" in parsed && typeof parsed.version === "string")
    return parsed.version;
  throw new Error("package.json has no version");
}

function hostPort(text: string): { host: string; port: number } {
  const at = text.lastIndexOf(":");
  return { host: text.slice(0, at), port: Number(text.slice(at + 1)) };
}

/** Why a manager ends by itself. */
interface End {
  readonly signal: AbortSignal;
  /** Its disk or an invariant is broken: `runManager` rejects. */
  fail(error: Error): void;
  /** It was taken out of the cluster: a good end. */
  removed(message: string): void;
}

interface Parts {
  consensus: Consensus;
  store: Store;
  /** What other managers call; absent where there are none. */
  raft?: RaftConsensus;
}

/** Runs until the signal aborts or the manager is removed, then ends in order: controllers, calls, consensus, store. */
export async function runManager(options: ManagerOptions, signal: AbortSignal): Promise<void> {
  const log = createLogger("manager", options.logLevel);
  const end = endOf();
  try {
    await run(options, AbortSignal.any([signal, end.signal]), end, log);
  } catch (error) {
    // Whatever went wrong while it ended, this is why it did.
    const failure = end.failure();
    if (failure !== undefined) throw failure;
    // Told to stop while it still waited for something.
    if (!signal.aborted || (error !== signal.reason && !(error instanceof DOMException))) throw error;
  }
  const failure = end.failure();
  if (failure !== undefined) throw failure;
  const removal = end.removal();
  if (removal === undefined) return;
  await markRemoved(options.dataDir, removal);
  log.info(
    { reason: removal, dataDir: options.dataDir },
    `this manager is not of the cluster any more, and ends; to join anew, as another member: ` +
      `mv ${options.dataDir} ${options.dataDir}.removed; flotilla manager --data-dir ${options.dataDir} --join HOST:7400`,
  );
}

function endOf(): End & { failure(): Error | undefined; removal(): string | undefined } {
  const controller = new AbortController();
  let failure: Error | undefined;
  let removal: string | undefined;
  return {
    signal: controller.signal,
    fail(error) {
      failure ??= new ClusterError("internal", `this manager cannot go on: ${error.message}`, {
        cause: error,
        details: error instanceof ClusterError ? error.details : {},
      });
      controller.abort(failure);
    },
    removed(message) {
      removal ??= message;
      controller.abort(new ClusterError("failed_precondition", message));
    },
    failure: () => failure,
    removal: () => removal,
  };
}

async function run(options: ManagerOptions, signal: AbortSignal, end: End, log: Logger): Promise<void> {
  await using life = new Lifetime(signal);
  const { consensus, store, raft } = await open(options, life, end, log);
  const metrics = life.use(
    new ManagerMetrics(store, consensus, () => leadership?.current()?.dispatcher.sessionCount ?? 0),
  );
  let events: EventLog | undefined;
  let leadership: Leadership<Controllers> | undefined;
  const addresses = () => {
    const leader = consensus.leader();
    return [...consensus.members()]
      .sort((a, b) => Number(b.id === leader?.id) - Number(a.id === leader?.id))
      .map(({ address }) => address);
  };
  const goesElsewhere = () => {
    const leader = consensus.leader();
    return notLeader(leader?.id === consensus.self.id ? undefined : leader?.address);
  };
  const parts = { store, consensus, clock: systemClock, rng: systemRng };
  const dispatcher = () => {
    const controllers = leadership?.current();
    if (controllers === undefined) throw goesElsewhere();
    return controllers.dispatcher;
  };
  life.defer(consensus.onChange(() => leadership?.current()?.dispatcher.setManagers(addresses())));

  const handlers = new Handlers(log.child({ part: "calls" }), metrics.observeCall);
  const forwarder = life.use(new Forwarder(parts));
  const server = new Server({
    "grpc.max_receive_message_length": receiveBytesMax,
    "grpc.max_send_message_length": sendBytesMax,
    // A peer whose host is gone says nothing: pings find out, and let idle streams live.
    "grpc.keepalive_time_ms": 5_000,
    "grpc.keepalive_timeout_ms": 5_000,
  });
  if (raft !== undefined) server.addService(raftService, raft.handlers(handlers));
  server.addService(dispatcherService, dispatcherHandlers(handlers, dispatcher));
  server.addService(
    ControlService,
    controlHandlers(handlers, {
      ...parts,
      forwarder,
      events: () => {
        if (events === undefined) throw new ClusterError("unavailable", store.health().message);
        return events;
      },
      logs: () => dispatcher().logs,
      version: productVersion(),
    }),
  );
  // As soon as there is somebody to answer: other managers may need this one for their quorum.
  await listen(server, options.listen);
  life.defer(() => stop(server));
  leadership = life.use(
    new Leadership({
      ...parts,
      log,
      start: () =>
        Controllers.start({
          ...parts,
          clusterName: consensus.clusterName,
          managers: addresses,
          managerNames: () => consensus.status().managers.map(({ name }) => name),
          farewell: () =>
            signal.aborted ? new ClusterError("unavailable", "this manager is stopping") : goesElsewhere(),
          log,
        }),
    }),
  );
  life.use(
    await serveStatus({
      ...hostPort(options.httpListen),
      registry: metrics.registry,
      ready: () => {
        const health = [consensus.health(), store.health()].find(({ ready }) => !ready);
        return health ?? (events === undefined ? { ready: false, message: "starting" } : store.health());
      },
      log,
    }),
  );
  log.info({ listen: options.listen, http: options.httpListen }, "manager listens");
  await whenCurrent(store, consensus, log, life.signal);
  if (!signal.aborted) {
    // What is read at the start is no news.
    events = life.use(new EventLog(store, systemClock));
    log.info(
      { cluster: consensus.clusterName, store: store.engine, revision: store.view().revision },
      "manager serves",
    );
  }
  await new Promise<void>((resolve) => {
    if (life.signal.aborted) resolve();
    life.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  log.info("manager stops");
  if (!end.signal.aborted) await handOver(consensus, log);
}

async function open(options: ManagerOptions, life: Lifetime, end: End, log: Logger): Promise<Parts> {
  const { dataDir, name, advertise, httpListen, join } = options;
  if (options.store === "memory") {
    const consensus = life.use(
      new SoloConsensus({ clusterName: memoryClusterName, name, address: advertise, httpAddress: httpListen }),
    );
    return { consensus, store: life.use(openMemoryStore()) };
  }
  // Before the others hear of this process: it may be a second one, on a copy of the directory.
  await requireFree("--listen", options.listen);
  await requireFree("--http-listen", httpListen);
  const clocks = { clock: systemClock, rng: systemRng };
  const { identity } = life.use(
    await identify({ dataDir, name, advertise, httpListen, join, ...clocks, log }, life.signal),
  );
  const common = {
    identity,
    dataDir,
    ...clocks,
    log: log.child({ part: "consensus" }),
    onFatal: (error: Error) => {
      const known = explained(error, dataDir);
      const failure = known instanceof Error ? known : error;
      log.fatal(isDiskFailure(error) ? { error: messageOf(error) } : { err: error }, "this manager cannot go on");
      end.fail(failure);
    },
    onRemoved: (message: string) => end.removed(message),
  };
  if (identity.store === "raft") {
    const store = life.use(openRaftStore({ clock: systemClock }));
    const raft = life.use(await RaftConsensus.open({ ...common, machine: store.machine }));
    store.attach(raft);
    return { consensus: raft, store, raft };
  }
  const raft = life.use(await RaftConsensus.open(common));
  const store = life.use(
    openEtcdStore({
      endpoints: options.etcd.length > 0 ? options.etcd : identity.etcd,
      cluster: identity.cluster,
      fence: { leadership: raft, onFenced: (tenure, reason) => raft.resign(tenure, reason) },
      ...clocks,
      log: log.child({ part: "store" }),
    }),
  );
  return { consensus: raft, store, raft };
}

/** Until everything that was acknowledged before is here. Says every few seconds what it waits for. */
async function whenCurrent(store: Store, consensus: Consensus, log: Logger, signal: AbortSignal): Promise<void> {
  const waiting = new Lifetime(signal);
  void (async () => {
    while (!waiting.signal.aborted) {
      await sleep(systemClock, 5_000, waiting.signal);
      log.warn({ store: store.health().message, consensus: consensus.health().message }, "waiting for the store");
    }
  })().catch(() => {
    // The sleep was ended: there is nothing to say any more.
  });
  try {
    while (!signal.aborted) {
      try {
        await store.ready(signal);
        await store.barrier(signal);
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof ClusterError) || !error.retryable) throw error;
        log.debug({ error: error.message }, "the store is not current yet");
        await pause(systemClock, 100, signal);
      }
    }
  } finally {
    await waiting[Symbol.asyncDispose]();
  }
}

/** A leader that stops makes another one the leader first, where there is one to be had. */
async function handOver(consensus: Consensus, log: Logger): Promise<void> {
  if (consensus.tenure() === undefined || consensus.members().length < 2) return;
  try {
    await withDeadline(systemClock, handOverMsMax, "handing over", () => consensus.transferLeadership(""));
    log.info({ to: consensus.leader()?.address }, "leadership handed over");
  } catch (error) {
    log.warn({ error: messageOf(error) }, "leadership not handed over: the others will elect");
  }
}

function listen(server: Server, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (cause) => {
      if (cause === null) resolve();
      else reject(new ClusterError("unavailable", `--listen ${address}: ${messageOf(cause)}`, { cause }));
    });
  });
}

/** Throws what the flag's own server would, later. */
async function requireFree(flag: string, address: string): Promise<void> {
  const { host, port } = hostPort(address);
  const probe = createServer();
  await new Promise<void>((resolve, reject) => {
    probe.once("error", (cause) =>
      reject(new ClusterError("unavailable", `${flag} ${address}: ${messageOf(cause)}`, { cause })),
    );
    probe.listen({ host: host.replace(/^\[(.*)\]$/, "$1"), port, exclusive: true }, resolve);
  });
  await new Promise((resolve) => probe.close(resolve));
}

/** Lets calls under way finish for a moment; streams never do by themselves, so they are cut after it. */
function stop(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const cancel = systemClock.after(500, () => server.forceShutdown());
    server.tryShutdown(() => {
      cancel();
      resolve();
    });
  });
}
