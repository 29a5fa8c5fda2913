// The route builder: what the ambassadors do for a service, derived from the service, its tasks and their nodes.
// Routes are never stored: they follow from what is, so a new leader builds the same ones.

import { type Endpoint, NodeState, type Route, type Service, type Task, TaskState } from "../../proto/mod.js";
import { Route as RouteMessage } from "../../proto/gen/flotilla/objects/v1/objects.js";
import type { View } from "../store/mod.js";

/** Whether the task can be sent requests, or still has some: RUNNING, ready, and on a node that is not lost. */
function endpointOf(view: View, task: Task): Endpoint | undefined {
  const { container } = task.status;
  if (task.status.state !== TaskState.RUNNING || container === undefined || !container.ready) return undefined;
  const node = view.nodes.get(task.nodeId);
  if (node === undefined || node.status.state === NodeState.DOWN) return undefined;
  return {
    taskId: task.meta.id,
    slot: task.slot,
    revision: task.revision,
    nodeId: task.nodeId,
    address: container.address,
    hostAddress: node.description.advertiseAddress,
    hostPorts: container.hostPorts,
    draining: task.desiredState > TaskState.RUNNING,
  };
}

/** The service's route now; endpoints are in order of slot and task, so equal states give equal bytes. */
export function routeOf(view: View, service: Service): Route {
  const endpoints: Endpoint[] = [];
  for (const task of view.tasksOfService(service.meta.id)) {
    const endpoint = endpointOf(view, task);
    if (endpoint !== undefined) endpoints.push(endpoint);
  }
  endpoints.sort((a, b) => a.slot - b.slot || (a.taskId < b.taskId ? -1 : 1));
  return {
    id: service.meta.id,
    serviceName: service.spec.name,
    vip: service.vip,
    ports: service.spec.ports,
    endpoints,
  };
}

/** All routes, kept up to date service by service; says which ones really changed. */
export class RouteTable {
  readonly #routes = new Map<string, { route: Route; bytes: Buffer }>();

  routes(): Route[] {
    return [...this.#routes.values()].map(({ route }) => route);
  }

  get(serviceId: string): Route | undefined {
    return this.#routes.get(serviceId)?.route;
  }

  /** Builds the service's route again. Answers whether it differs from before. */
  refresh(view: View, serviceId: string): boolean {
    const service = view.services.get(serviceId);
    if (service === undefined) return this.#routes.delete(serviceId);
    const route = routeOf(view, service);
    const bytes = Buffer.from(RouteMessage.encode(route).finish());
    if (this.#routes.get(serviceId)?.bytes.equals(bytes)) return false;
    this.#routes.set(serviceId, { route, bytes });
    return true;
  }
}
