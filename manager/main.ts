// The manager process: store, controllers, calls. Everything is made here and handed down; nothing below reaches for
// a clock, a random number or a global.

import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import {
  ClusterError,
  createLogger,
  Lifetime,
  type Logger,
  type LogLevel,
  messageOf,
  serveStatus,
  sleep,
  systemClock,
  systemRng,
} from "../lib/mod.js";
import { ControlService } from "../proto/gen/flotilla/control/v1/control.js";
import { DispatcherService } from "../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { controlHandlers } from "./api/control.js";
import { ManagerMetrics } from "./api/metrics.js";
import { ensureCluster } from "./api/cluster.js";
import { Dispatcher } from "./dispatcher/mod.js";
import { EventLog } from "./events/mod.js";
import { NodeMonitor } from "./nodes/monitor.js";
import { Orchestrator } from "./orchestrator/mod.js";
import { Handlers } from "./rpc/mod.js";
import { Scheduler } from "./scheduler/mod.js";
import { openEtcdStore, openMemoryStore, type Store } from "./store/mod.js";

export interface ManagerOptions {
  dataDir: string;
  /** host:port of the gRPC calls. */
  listen: string;
  /** host:port of /metrics, /healthz and /readyz. */
  httpListen: string;
  store: "etcd" | "memory";
  /** URLs of the etcd servers; only with store "etcd". */
  etcd: string[];
  cluster: string;
  logLevel: LogLevel;
}

/** The largest message that is taken, bytes; grpc-js's default, stated. */
const receiveBytesMax = 4 * 1024 * 1024;
/** The largest that is sent, and that agents and the command line take: all routes at once, or all tasks of a service. */
const sendBytesMax = 64 * 1024 * 1024;

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

function openStore(options: ManagerOptions, log: Logger): Store {
  if (options.store === "memory") return openMemoryStore();
  return openEtcdStore({
    endpoints: options.etcd,
    cluster: options.cluster,
    clock: systemClock,
    rng: systemRng,
    log: log.child({ part: "store" }),
  });
}

/** Runs until the signal aborts, then ends in order: calls, controllers, store. */
export async function runManager(options: ManagerOptions, signal: AbortSignal): Promise<void> {
  const log = createLogger("manager", options.logLevel);
  await mkdir(options.dataDir, { recursive: true, mode: 0o700 });
  await using life = new Lifetime(signal);
  const store = life.use(openStore(options, log));
  const metrics = new ManagerMetrics(store, () => dispatcher?.sessionCount ?? 0);
  life.use(metrics);
  let dispatcher: Dispatcher | undefined;
  let serving = false;

  const http = hostPort(options.httpListen);
  life.use(
    await serveStatus({
      ...http,
      registry: metrics.registry,
      ready: () => {
        const health = store.health();
        if (!health.ready) return health;
        return serving ? health : { ready: false, message: "starting" };
      },
      log,
    }),
  );
  await waitForStore(store, log, life.signal);
  const cluster = await ensureCluster(store, options.cluster, systemClock, systemRng);
  log.info({ cluster: cluster.name, store: store.engine, revision: store.view().revision }, "store is ready");

  const parts = { store, clock: systemClock, rng: systemRng };
  dispatcher = life.use(
    new Dispatcher({ ...parts, log: log.child({ part: "dispatcher" }), managers: [options.listen] }),
  );
  const orchestrator = life.use(new Orchestrator({ ...parts, log: log.child({ part: "orchestrator" }) }));
  orchestrator.start();
  const scheduler = life.use(new Scheduler({ ...parts, log: log.child({ part: "scheduler" }) }));
  scheduler.start();
  const events = life.use(new EventLog(store, systemClock));

  const handlers = new Handlers(log.child({ part: "calls" }), metrics.observeCall);
  const server = new Server({
    "grpc.max_receive_message_length": receiveBytesMax,
    "grpc.max_send_message_length": sendBytesMax,
    // A peer whose host is gone says nothing: pings find out, and let idle streams live.
    "grpc.keepalive_time_ms": 5_000,
    "grpc.keepalive_timeout_ms": 5_000,
  });
  server.addService(DispatcherService, dispatcher.handlers(handlers));
  server.addService(
    ControlService,
    controlHandlers(handlers, { ...parts, events, logs: dispatcher.logs, version: productVersion() }),
  );
  await listen(server, options.listen);
  life.defer(() => stop(server));
  // Ends before the server: sessions that end because this manager does are no news of their nodes.
  life.use(new NodeMonitor({ ...parts, dispatcher, log: log.child({ part: "nodes" }) }));
  serving = true;
  log.info({ listen: options.listen, http: options.httpListen }, "manager serves");
  await new Promise<void>((resolve) => {
    if (life.signal.aborted) resolve();
    life.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  log.info("manager stops");
}

/** Says every few seconds what it waits for: an operator who looks at the log must not have to guess. */
async function waitForStore(store: Store, log: Logger, signal: AbortSignal): Promise<void> {
  const waiting = new Lifetime(signal);
  void (async () => {
    while (!waiting.signal.aborted) {
      await sleep(systemClock, 5_000, waiting.signal);
      log.warn({ store: store.health().message }, "waiting for the store");
    }
  })().catch(() => {
    // The sleep was ended: there is nothing to say any more.
  });
  try {
    await store.ready(signal);
  } finally {
    await waiting[Symbol.asyncDispose]();
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
