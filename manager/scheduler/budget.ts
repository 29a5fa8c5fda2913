// How many tasks of a service may be pushed out by preemption: while a rollout moves it, no more than its update config
// lets be unavailable; otherwise as many as it takes. The orchestrator, which stops them, goes by the same.

import { budgetOf as updateBudgetOf, isReady, isWanted } from "../../deploy/strategy/mod.js";
import type { Task } from "../../proto/mod.js";
import { configInForce, isUnderWay } from "../rollout/mod.js";
import type { View } from "../store/mod.js";

export function budgetOf(view: View, serviceId: string): number {
  const service = view.services.get(serviceId);
  const rollout = service === undefined ? undefined : view.rollouts.get(service.rolloutId);
  if (service === undefined || !isUnderWay(rollout)) return Number.POSITIVE_INFINITY;
  const slots = new Set<number>();
  let ready = 0;
  for (const task of view.tasksOfService(serviceId)) {
    if (isWanted(task)) slots.add(task.slot);
    if (stays(task)) ready += 1;
  }
  const { mode } = service.spec;
  const replicas = mode.$case === "replicated" ? mode.value.replicas : slots.size;
  const revisions = view.revisionsOfService(serviceId);
  const { maxUnavailable } = updateBudgetOf(configInForce({ service, revisions, rollout }));
  return Math.max(0, ready - Math.max(0, replicas - maxUnavailable));
}

function stays(task: Task): boolean {
  return isReady(task) && task.leave === undefined;
}
