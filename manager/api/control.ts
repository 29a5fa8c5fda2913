// The control calls: what users and tools ask of a manager, each handed to the part that does it. Reads are answered by
// any manager, of everything that was acknowledged before; what changes something, and what only the leader knows, is
// the leader's, wherever it was asked.

import type { Clock, Rng } from "../../lib/mod.js";
import type { Event } from "../../proto/mod.js";
import {
  type ControlServer,
  ControlService,
  type GetServiceRequest,
  type ServiceLogsRequest,
  type ServiceState,
  type WatchEventsRequest,
} from "../../proto/gen/flotilla/control/v1/control.js";
import { explainTask } from "../explain/mod.js";
import { rebalance } from "../rebalance/mod.js";
import type { Consensus } from "../consensus/mod.js";
import type { LogBroker } from "../dispatcher/mod.js";
import type { EventLog } from "../events/mod.js";
import type { Handlers } from "../rpc/mod.js";
import type { Store } from "../store/mod.js";
import { clusterState, updateCluster } from "./cluster.js";
import type { Forwarder } from "./forward.js";
import { InTouch, type InTouchOptions } from "./in-touch.js";
import { findNode, findService, findTask } from "./lookup.js";
import { listNodes, nodeState, updateNode } from "./nodes.js";
import { inOrder, nodeNames, serviceState, watchService } from "./service-state.js";
import { removeNode } from "./node-removal.js";
import { planRequest } from "./plan.js";
import { Services } from "./services.js";
import { managersHandlers } from "./managers.js";

export interface ControlOptions {
  store: Store;
  consensus: Consensus;
  forwarder: Forwarder;
  clock: Clock;
  rng: Rng;
  /** Throws why there are none (yet). */
  events: () => EventLog;
  /** Of this manager while it leads; throws who does instead. */
  logs: () => LogBroker;
  version: string;
}

type Health = ReturnType<InTouchOptions["health"]>;

export function controlHandlers(handlers: Handlers, options: ControlOptions): ControlServer {
  const { store, consensus, forwarder, clock, rng, events, logs, version } = options;
  const services = new Services(options);
  const inTouch = new InTouch({
    health: () => {
      const own: Health = consensus.health();
      return own.ready || own.readable === true ? store.health() : own;
    },
    clock,
  });
  const current = async () => {
    await store.barrier();
    return store.view();
  };
  return {
    getVersion: handlers.unary("GetVersion", () => ({ version, cluster: consensus.clusterName, store: store.engine })),

    createService: handlers.unary(
      "CreateService",
      forwarder.unary(ControlService.createService, (request) => services.create(request)),
    ),
    updateService: handlers.unary(
      "UpdateService",
      forwarder.unary(ControlService.updateService, (request) => services.update(request)),
    ),
    scaleService: handlers.unary(
      "ScaleService",
      forwarder.unary(ControlService.scaleService, (request) => services.scale(request)),
    ),
    rollbackService: handlers.unary(
      "RollbackService",
      forwarder.unary(ControlService.rollbackService, (request) => services.rollback(request)),
    ),
    removeService: handlers.unary(
      "RemoveService",
      forwarder.unary(ControlService.removeService, async ({ service }) => ({
        service: (await services.remove(service)).service,
      })),
    ),
    getService: handlers.unary("GetService", async ({ service }) => {
      const view = await current();
      return serviceState(view, findService(view, service));
    }),
    listServices: handlers.unary("ListServices", async () => {
      const view = await current();
      const all = [...view.services.values()].sort((a, b) => (a.spec.name < b.spec.name ? -1 : 1));
      // Counts only: the tasks and revisions of all services at once would not fit into one message.
      return {
        services: all.map((service) => ({ ...serviceState(view, service), tasks: [], revisions: [], nodeNames: {} })),
      };
    }),
    watchService: handlers.serverStream<GetServiceRequest, ServiceState>(
      "WatchService",
      async function* ({ service }, signal) {
        const found = findService(await current(), service);
        yield* inTouch.read((whileInTouch) => watchService(store, found, whileInTouch), signal);
      },
    ),
    serviceLogs: handlers.serverStream(
      "ServiceLogs",
      forwarder.stream(
        ControlService.serviceLogs,
        async function* ({ service, taskId, options: wanted }: ServiceLogsRequest, signal) {
          // One that was deposed and does not know it would not know the newest services.
          const { id } = findService(await current(), service).meta;
          yield* logs().read(id, taskId, wanted ?? { follow: false, sinceMs: 0 }, signal);
        },
      ),
    ),

    planService: handlers.unary("PlanService", async (request) =>
      planRequest(await current(), request, { now: clock.now(), id: () => rng.id() }),
    ),
    runService: handlers.unary(
      "RunService",
      forwarder.unary(ControlService.runService, (request) => services.run(request)),
    ),

    explainTask: handlers.unary("ExplainTask", async ({ task }) => {
      const view = await current();
      const log = events();
      return explainTask(view, findTask(view, task), { now: clock.now(), events: (id) => log.remembered(id) });
    }),
    rebalance: handlers.unary(
      "Rebalance",
      forwarder.unary(ControlService.rebalance, ({ service, dryRun, maxMoves }) => {
        const only = service === "" ? undefined : findService(store.view(), service);
        return rebalance(store, clock, { service: only, dryRun, maxMoves });
      }),
    ),

    listTasks: handlers.unary("ListTasks", async (request) => {
      const view = await current();
      const service = request.service === "" ? undefined : findService(view, request.service).meta.id;
      const node = request.node === "" ? undefined : findNode(view, request.node).meta.id;
      const source = service !== undefined ? view.tasksOfService(service) : view.tasks.values();
      const tasks = inOrder([...source].filter((task) => node === undefined || task.nodeId === node));
      return { tasks, nodeNames: nodeNames(view, tasks) };
    }),

    listNodes: handlers.unary("ListNodes", async () => ({
      nodes: listNodes(await current(), consensus.status().managers),
    })),
    getNode: handlers.unary("GetNode", async ({ node }) => {
      const view = await current();
      return nodeState(view, findNode(view, node), consensus.status().managers);
    }),
    updateNode: handlers.unary(
      "UpdateNode",
      forwarder.unary(ControlService.updateNode, (request) => updateNode(store, clock, consensus, request)),
    ),

    removeNode: handlers.unary(
      "RemoveNode",
      forwarder.unary(ControlService.removeNode, (request) => removeNode(store, consensus.status().managers, request)),
    ),

    getCluster: handlers.unary("GetCluster", async () => clusterState(await current())),
    updateCluster: handlers.unary(
      "UpdateCluster",
      forwarder.unary(ControlService.updateCluster, (request) => updateCluster(store, clock, request)),
    ),

    pauseRollout: handlers.unary(
      "PauseRollout",
      forwarder.unary(ControlService.pauseRollout, (request) => services.pauseRollout(request)),
    ),
    resumeRollout: handlers.unary(
      "ResumeRollout",
      forwarder.unary(ControlService.resumeRollout, (request) => services.resumeRollout(request)),
    ),
    abortRollout: handlers.unary(
      "AbortRollout",
      forwarder.unary(ControlService.abortRollout, (request) => services.abortRollout(request)),
    ),

    watchEvents: handlers.serverStream<WatchEventsRequest, Event>("WatchEvents", ({ sinceMs }, signal) =>
      inTouch.read((whileInTouch) => events().watch(sinceMs, whileInTouch), signal),
    ),

    ...managersHandlers(handlers, options),
  };
}
