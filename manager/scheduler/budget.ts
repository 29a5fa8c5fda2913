// How many tasks of a service may be pushed out by preemption: while a rollout moves it, no more than its update config
// lets be unavailable; otherwise as many as it takes.

import { isReady, isWanted } from "../../deploy/strategy/mod.js";
import { RolloutState, type Task, UpdateOrder } from "../../proto/mod.js";
import type { View } from "../store/mod.js";

export function budgetOf(view: View, serviceId: string): number {
  const service = view.services.get(serviceId);
  const rollout = service === undefined ? undefined : view.rollouts.get(service.rolloutId);
  if (service === undefined || rollout?.state !== RolloutState.RUNNING) return Number.POSITIVE_INFINITY;
  const slots = new Set<number>();
  let ready = 0;
  for (const task of view.tasksOfService(serviceId)) {
    if (isWanted(task)) slots.add(task.slot);
    if (stays(task)) ready += 1;
  }
  const { mode } = service.spec;
  const replicas = mode.$case === "replicated" ? mode.value.replicas : slots.size;
  const { order, parallelism, maxUnavailable } = rollout.isRollback ? service.spec.rollback : service.spec.update;
  const atOnce = parallelism === undefined || parallelism === 0 ? replicas : parallelism;
  const unavailable = maxUnavailable ?? (order === UpdateOrder.START_FIRST ? 0 : atOnce);
  return Math.max(0, ready - Math.max(0, replicas - unavailable));
}

function stays(task: Task): boolean {
  return isReady(task) && task.leave === undefined;
}
