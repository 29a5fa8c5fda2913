// The ambassador as a process: takes its socket, serves the last known routes at once, and lets the agent steer it.

import { chmod, mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import {
  type Clock,
  ClusterError,
  Lifetime,
  type LogLevel,
  type Logger,
  createLogger,
  messageOf,
  systemClock,
  systemRng,
} from "../lib/mod.js";
import { Ambassador } from "./ambassador.js";
import { RouteSaver, Steering, claimSocket, loadSaved, removePid, writePid } from "./control/mod.js";
import { serveMetrics } from "./metrics.js";

/** How long open connections may take to end once the process is told to. */
const stopDeadlineMs = 10_000;
const messageBytesMax = 64 * 1024 * 1024;
/** Descriptors for listeners, name servers and files; each connection carried takes two of the others. */
const descriptorsForOthers = 4_096;

export interface AmbassadorOptions {
  dataDir: string;
  logLevel: LogLevel;
  /** `host:port` or `unix:/path` for /metrics and /healthz; none when absent. */
  httpListen?: string;
}

/** Runs until `signal` aborts; rejects when it cannot start. */
export async function runAmbassador(options: AmbassadorOptions, signal: AbortSignal): Promise<void> {
  const log = createLogger("ambassador", options.logLevel);
  const clock = systemClock;
  const life = new Lifetime();
  const paths = {
    socket: join(options.dataDir, "ambassador.sock"),
    pid: join(options.dataDir, "ambassador.pid"),
    routes: join(options.dataDir, "ambassador-routes.bin"),
  };
  await mkdir(options.dataDir, { recursive: true });
  await claimSocket(paths.socket, paths.pid, clock);
  try {
    await start(options, paths, life, log, clock);
    log.info({ dataDir: options.dataDir, pid: process.pid }, "ambassador serves");
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener("abort", () => resolve(), { once: true });
    });
    log.info("ambassador stops");
  } finally {
    await life[Symbol.asyncDispose]();
  }
}

async function start(
  options: AmbassadorOptions,
  paths: { socket: string; pid: string; routes: string },
  life: Lifetime,
  log: Logger,
  clock: Clock,
): Promise<void> {
  const ambassador = new Ambassador({ clock, rng: systemRng, log, connectionsMax: await connectionsMax() });
  const saver = new RouteSaver({ path: paths.routes, clock, log, state: () => ambassador.snapshot() });
  const steering = new Steering({ ambassador, clock, log, applied: () => saver.changed() });
  life.defer(() => saver.flush());
  life.defer(() => ambassador.stop(stopDeadlineMs));

  const saved = await loadSaved(paths.routes, log);
  await ambassador.start();
  if (saved !== undefined) {
    await ambassador.apply(saved);
    log.info({ routes: saved.routes.length, problems: ambassador.problems() }, "serving saved routes");
  }

  const server = new Server({ "grpc.max_receive_message_length": messageBytesMax });
  server.addService(steering.service.definition, steering.service.implementation);
  await listen(server, paths.socket);
  life.defer(async () => {
    steering.close();
    server.forceShutdown();
    await rm(paths.socket, { force: true });
    await removePid(paths.pid);
  });
  await writePid(paths.pid);
  if (options.httpListen !== undefined) await serveMetrics(options.httpListen, ambassador.metrics, life);
}

/** Only root may open the socket: whoever does may send any container's traffic anywhere. */
async function listen(server: Server, socketPath: string): Promise<void> {
  const before = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix:${socketPath}`, ServerCredentials.createInsecure(), (error) => {
        if (error === null) resolve();
        else
          reject(
            new ClusterError("failed_precondition", `cannot open ${socketPath}: ${error.message}`, { cause: error }),
          );
      });
    });
  } finally {
    process.umask(before);
  }
  await chmod(socketPath, 0o600);
}

/** From this process's limit on open files; 8,192 where it cannot be read. */
async function connectionsMax(): Promise<number> {
  const limits = await readFile("/proc/self/limits", "utf8").catch((failure: unknown) => messageOf(failure));
  const files = Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? 20_480);
  return Math.max(256, Math.floor((files - descriptorsForOthers) / 2));
}
