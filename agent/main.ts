// The agent's process: makes its parts and ties them together. When it ends, containers and the ambassador go on.

import { mkdir } from "node:fs/promises";
import { hostname as machineName } from "node:os";
import { join } from "node:path";
import { ClusterError, Lifetime, createLogger, messageOf, serveStatus, systemClock, systemRng } from "../lib/mod.js";
import {
  type AssignmentsMessage,
  AssignmentsKind,
  type NodeAddress,
  type TaskAssignment,
} from "../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import type { NodeDescription, Route } from "../proto/mod.js";
import { AmbassadorProcess, Steering } from "./ambassador/mod.js";
import { DockerEngine, type Engine } from "./engine/mod.js";
import { TaskLogs } from "./logs.js";
import { ManagerKeeper } from "./manager/mod.js";
import { type AgentOptions, checkOptions, splitHostPort } from "./options.js";
import { AgentMetrics, UsageWatch } from "./report/mod.js";
import { ManagerSession } from "./session/mod.js";
import { productVersion } from "./version.js";
import { type HostSettings, type Memory, StateFile, Supervisor, gatewayOf } from "./task/mod.js";

export { type AgentOptions } from "./options.js";

/** Where a manager that the agent starts listens, on the advertise address. */
const managerPorts = { grpc: 7400, http: 7401 };

/** Runs until the signal aborts. Rejects only for what a person must put right: options, state file, listener. */
export async function runAgent(options: AgentOptions, signal: AbortSignal): Promise<void> {
  checkOptions(options);
  const log = createLogger("agent", options.logLevel);
  const agentVersion = productVersion();
  const clock = systemClock;
  const rng = systemRng;
  await makeDataDir(options.dataDir);
  await using life = new Lifetime(signal);

  const file = new StateFile(join(options.dataDir, "agent-state.json"), log);
  const memory = await remember(file);
  log.info({ node: memory.nodeId, tasks: memory.records.length }, "agent begins");

  const metrics: AgentMetrics = new AgentMetrics({
    tasks: () => supervisor.counts(),
    usage: () => usage.samples,
    sessionUp: () => session.connected,
    ambassadorUp: () => steering.connected,
  });
  const engine = new DockerEngine({
    host: options.docker,
    clock,
    rng,
    log,
    onCall: (operation, ms, failed) => metrics.engineCall(operation, ms, failed),
  });
  const supervisor = new Supervisor({
    engine,
    clock,
    rng,
    log,
    file,
    memory,
    advertiseAddress: options.advertiseAddr,
    onStatus: (taskId, status) => session.report(taskId, status),
    onRestart: () => metrics.restart(),
    onNetwork: (host) => steering.configure(hostConfig(host)),
  });
  const ambassador = new AmbassadorProcess({
    command: options.ambassadorCommand,
    dataDir: options.dataDir,
    clock,
    log,
  });
  const steering = new Steering({
    process: ambassador,
    clock,
    rng,
    log,
    onDrain: (taskId, active) => session.reportDrain(taskId, active),
    onProblems: (texts) => session.reportProblems(texts),
  });
  const session = new ManagerSession({
    nodeId: memory.nodeId,
    managers: options.managers,
    remembered: memory.managers,
    clock,
    rng,
    log,
    describe: () => describe(engine, options, agentVersion),
    onContact: (sentMs, isNew) => supervisor.contact(sentMs, isNew),
    onSession: (host, managers) => {
      supervisor.configure(host, managers);
      keeper.assign(host.node.spec.role, managers);
    },
    onAssignments: (message) => spread(message, supervisor, steering),
    statuses: () => supervisor.statuses(),
    drains: () => steering.drains(),
    problems: () => steering.problems,
    logs: new TaskLogs(engine, clock, (taskId) => supervisor.runner(taskId)),
  });

  const usage = new UsageWatch({
    engine,
    clock,
    log,
    running: () => supervisor.running(),
    requests: () => steering.requests(),
    onUsage: (used) => session.reportUsage(used),
  });

  const keeper = new ManagerKeeper({
    command: options.managerCommand,
    dataDir: options.dataDir,
    hostname: options.hostname ?? machineName(),
    address: `${options.advertiseAddr}:${managerPorts.grpc}`,
    httpAddress: `${options.advertiseAddr}:${managerPorts.http}`,
    managers: () => session.managers,
    clock,
    rng,
    log,
  });

  const keepsAmbassador = options.ambassadorCommand.length > 0;
  life.use(
    await serveStatus({
      ...splitHostPort(options.httpListen),
      registry: metrics.registry,
      ready: () => readiness(metrics, session, keepsAmbassador ? steering : undefined),
      log,
    }),
  );
  life.use(supervisor);
  // Ends first: a stop that waits for its container's grace must not keep the agent.
  life.use(engine);
  supervisor.start();
  const parts = [session.run(life.signal), usage.run(life.signal)];
  if (keepsAmbassador) parts.push(steering.run(life.signal));
  if (options.managerCommand.length > 0) parts.push(keeper.run(life.signal));
  await Promise.all(parts);
  log.info("agent ends; containers and ambassador go on");
}

async function makeDataDir(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch (failure) {
    throw new ClusterError("failed_precondition", `data-dir ${path} cannot be made: ${messageOf(failure)}`, {
      cause: failure,
    });
  }
}

/** A node id is made once, and on the disk before anybody hears it. */
async function remember(file: StateFile): Promise<Memory> {
  const found = await file.read();
  if (found !== undefined) return found;
  const fresh: Memory = { nodeId: systemRng.id(), host: undefined, managers: [], contactAtMs: 0, records: [] };
  await file.write(() => fresh);
  return fresh;
}

async function describe(engine: Engine, options: AgentOptions, agentVersion: string): Promise<NodeDescription> {
  const info = await engine.info();
  return {
    hostname: options.hostname ?? machineName(),
    os: info.os,
    architecture: info.architecture,
    engineVersion: info.version,
    engineApiVersion: info.apiVersion,
    resources: { ...info.resources, generic: { ...options.generic } },
    engineLabels: info.labels,
    advertiseAddress: options.advertiseAddr,
    agentVersion,
    labels: { ...options.labels },
    volumeDrivers: info.volumeDrivers,
  };
}

function hostConfig({ node, cluster, advertiseAddress }: HostSettings) {
  return {
    nodeId: node.meta.id,
    gateway: gatewayOf(node.subnet),
    subnet: node.subnet,
    vipPool: cluster.vipPool,
    nodePool: cluster.nodePool,
    domain: cluster.domain,
    dnsAddress: cluster.dnsAddress,
    nodeAddresses: { [node.description.hostname]: advertiseAddress },
  };
}

/** Tasks to the supervisor, routes to the ambassador. */
function spread(message: AssignmentsMessage, supervisor: Supervisor, steering: Steering): void {
  const tasks: TaskAssignment[] = [];
  const routes: Route[] = [];
  const removedTasks: string[] = [];
  const removedRoutes: string[] = [];
  const nodes: NodeAddress[] = [];
  const removedNodes: string[] = [];
  for (const { item } of message.changes) {
    switch (item?.$case) {
      case "task":
        tasks.push(item.value);
        break;
      case "route":
        routes.push(item.value);
        break;
      case "removedTaskId":
        removedTasks.push(item.value);
        break;
      case "removedRouteId":
        removedRoutes.push(item.value);
        break;
      case "node":
        nodes.push(item.value);
        break;
      case "removedNodeId":
        removedNodes.push(item.value);
        break;
      // Of a newer manager: not for this agent.
      case undefined:
    }
  }
  const complete = message.kind === AssignmentsKind.COMPLETE;
  steering.nodes(complete, nodes, removedNodes);
  steering.route(complete, routes, removedRoutes);
  supervisor.assign(complete, tasks, removedTasks);
}

function readiness(
  metrics: AgentMetrics,
  session: ManagerSession,
  steering: Steering | undefined,
): { ready: boolean; message: string } {
  const missing: string[] = [];
  if (!metrics.engineUp) missing.push("the container engine does not answer");
  if (!session.connected) missing.push("no session with a manager");
  if (steering?.connected === false) missing.push("the ambassador is not steered");
  return { ready: missing.length === 0, message: missing.length === 0 ? "ready" : missing.join("; ") };
}
