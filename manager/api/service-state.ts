// Everything about one service at one moment, as users and the command line's progress see it.

import { LatestStream } from "../../lib/mod.js";
import { isGlobal } from "../../deploy/spec/mod.js";
import { isConverged } from "../../deploy/strategy/mod.js";
import type { Service, Task } from "../../proto/mod.js";
import type { ServiceState } from "../../proto/gen/flotilla/control/v1/control.js";
import type { Store, View } from "../store/mod.js";

/** By slot, newest first within it. */
export function inOrder(tasks: Iterable<Task>): Task[] {
  return [...tasks].sort(
    (a, b) =>
      a.serviceName.localeCompare(b.serviceName) ||
      a.slot - b.slot ||
      b.meta.createdAtMs - a.meta.createdAtMs ||
      (a.meta.id < b.meta.id ? -1 : 1),
  );
}

export function nodeNames(view: View, tasks: readonly Task[]): Record<string, string> {
  const names: Record<string, string> = {};
  // Also of those that have no node yet and may run on one only.
  for (const id of tasks.flatMap(({ nodeId, onlyNodeId }) => [nodeId, onlyNodeId])) {
    const hostname = view.nodes.get(id)?.description.hostname;
    if (hostname !== undefined) names[id] = hostname;
  }
  return names;
}

export function serviceState(view: View, service: Service): ServiceState {
  const tasks = inOrder(view.tasksOfService(service.meta.id));
  const revisions = view.revisionsOfService(service.meta.id);
  const rollout = view.rollouts.get(service.rolloutId);
  const { converged, running, desired } = isConverged({
    service,
    revisions,
    tasks,
    rollout,
    nodes: view.nodes.values(),
  });
  return {
    service,
    rollout,
    tasks,
    revisions,
    nodeNames: nodeNames(view, tasks),
    converged,
    removed: false,
    replicasRunning: running,
    replicasDesired: desired,
  };
}

/** The service's state now and after each change that concerns it, until it is gone; the newest when read slowly. */
export async function* watchService(store: Store, service: Service, signal: AbortSignal): AsyncGenerator<ServiceState> {
  const { id } = service.meta;
  const changes = new LatestStream<true>(`watch of service ${service.spec.name}`);
  const unsubscribe = store.subscribe((commit) => {
    const concerns = commit.changes.some((change) => {
      // How many tasks a global service is to have.
      if (change.table === "nodes") return isGlobal(service.spec);
      if (change.table === "services") return (change.after ?? change.before)?.meta.id === id;
      if (change.table === "tasks" || change.table === "rollouts" || change.table === "revisions")
        return (change.after ?? change.before)?.serviceId === id;
      return false;
    });
    if (concerns) changes.push(true);
  });
  const stop = () => changes.end();
  signal.addEventListener("abort", stop, { once: true });
  try {
    let last = serviceState(store.view(), service);
    yield last;
    for await (const _ of changes) {
      const now = store.view().services.get(id);
      if (now === undefined) {
        yield { ...last, tasks: [], converged: true, removed: true, replicasRunning: 0, replicasDesired: 0 };
        return;
      }
      last = serviceState(store.view(), now);
      yield last;
    }
  } finally {
    unsubscribe();
    signal.removeEventListener("abort", stop);
    changes.end();
  }
}
