// The control calls: what users and tools ask of a manager, each handed to the part that does it.

import type { Clock, Rng } from "../../lib/mod.js";
import type { Event } from "../../proto/mod.js";
import type {
  ControlServer,
  GetServiceRequest,
  ServiceLogsRequest,
  WatchEventsRequest,
} from "../../proto/gen/flotilla/control/v1/control.js";
import type { LogBroker } from "../dispatcher/mod.js";
import type { EventLog } from "../events/mod.js";
import type { Handlers } from "../rpc/mod.js";
import type { Store } from "../store/mod.js";
import { findNode, findService } from "./lookup.js";
import { listNodes, nodeState, updateNode } from "./nodes.js";
import { inOrder, nodeNames, serviceState, watchService } from "./service-state.js";
import { Services } from "./services.js";

export interface ControlOptions {
  store: Store;
  clock: Clock;
  rng: Rng;
  events: EventLog;
  logs: LogBroker;
  version: string;
}

export function controlHandlers(handlers: Handlers, options: ControlOptions): ControlServer {
  const { store, clock, events, logs, version } = options;
  const services = new Services(options);
  return {
    getVersion: handlers.unary("GetVersion", () => {
      const [cluster] = store.view().clusters.values();
      return { version, cluster: cluster?.name ?? "", store: store.engine };
    }),

    createService: handlers.unary("CreateService", (request) => services.create(request)),
    updateService: handlers.unary("UpdateService", (request) => services.update(request)),
    scaleService: handlers.unary("ScaleService", (request) => services.scale(request)),
    rollbackService: handlers.unary("RollbackService", (request) => services.rollback(request)),
    removeService: handlers.unary("RemoveService", async ({ service }) => ({
      service: (await services.remove(service)).service,
    })),
    getService: handlers.unary("GetService", ({ service }) => {
      const view = store.view();
      return serviceState(view, findService(view, service));
    }),
    listServices: handlers.unary("ListServices", () => {
      const view = store.view();
      const all = [...view.services.values()].sort((a, b) => (a.spec.name < b.spec.name ? -1 : 1));
      // Counts only: the tasks and revisions of all services at once would not fit into one message.
      return {
        services: all.map((service) => ({ ...serviceState(view, service), tasks: [], revisions: [], nodeNames: {} })),
      };
    }),
    watchService: handlers.serverStream("WatchService", ({ service }: GetServiceRequest, signal) =>
      watchService(store, findService(store.view(), service), signal),
    ),
    serviceLogs: handlers.serverStream(
      "ServiceLogs",
      ({ service, taskId, options: wanted }: ServiceLogsRequest, signal) => {
        const { id } = findService(store.view(), service).meta;
        return logs.read(id, taskId, wanted ?? { follow: false, sinceMs: 0 }, signal);
      },
    ),

    listTasks: handlers.unary("ListTasks", (request) => {
      const view = store.view();
      const service = request.service === "" ? undefined : findService(view, request.service).meta.id;
      const node = request.node === "" ? undefined : findNode(view, request.node).meta.id;
      const source = service !== undefined ? view.tasksOfService(service) : view.tasks.values();
      const tasks = inOrder([...source].filter((task) => node === undefined || task.nodeId === node));
      return { tasks, nodeNames: nodeNames(view, tasks) };
    }),

    listNodes: handlers.unary("ListNodes", () => ({ nodes: listNodes(store.view()) })),
    getNode: handlers.unary("GetNode", ({ node }) => nodeState(store.view(), findNode(store.view(), node))),
    updateNode: handlers.unary("UpdateNode", (request) => updateNode(store, clock, request)),

    pauseRollout: handlers.unary("PauseRollout", (request) => services.pauseRollout(request)),
    resumeRollout: handlers.unary("ResumeRollout", (request) => services.resumeRollout(request)),
    abortRollout: handlers.unary("AbortRollout", (request) => services.abortRollout(request)),

    watchEvents: handlers.serverStream<WatchEventsRequest, Event>("WatchEvents", ({ sinceMs }, signal) =>
      events.watch(sinceMs, signal),
    ),
  };
}
