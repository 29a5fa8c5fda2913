// What must hold after every write of the planner in a ServiceWorld. Each throws with what is wrong.

import { budgetOf, hasEnded, isReady, isReplaced, isWanted } from "../../deploy/strategy/mod.js";
import { configInForce, isUnderWay } from "../../manager/rollout/mod.js";
import { NodeAvailability, NodeState, replicasOf, type Task, TaskState } from "../../proto/mod.js";
import type { ServiceWorld, Write } from "./service-world.js";

/** Both invariants of this file, as a world's check. */
export function checkAll(world: ServiceWorld): (write: Write) => void {
  return (write) => {
    checkSlots(world);
    checkBudget(world, write);
  };
}

/** Invariant 4: at most one task per slot is meant to run, two while one replaces the other start-first. */
export function checkSlots(world: ServiceWorld): void {
  for (const [slot, tasks] of world.live()) {
    const which = tasks.map(({ meta }) => meta.id).join(", ");
    if (tasks.length > 2) throw new Error(`slot ${slot} has ${tasks.length} wanted tasks: ${which}`);
    const running = tasks.filter(({ desiredState }) => desiredState === TaskState.RUNNING);
    if (running.length === 2 && !mayStartFirst(world, running))
      throw new Error(`slot ${slot} has two tasks that are meant to run, though old ones stop first: ${which}`);
  }
}

/** By any spec that these tasks may have been replaced under, or because one was asked to make way so. */
function mayStartFirst({ parts, nodes }: ServiceWorld, tasks: readonly Task[]): boolean {
  const specs = parts.revisions.flatMap(({ spec }) => [spec.update, spec.rollback]);
  if (specs.some((config) => budgetOf(config).maxSurge > 0)) return true;
  return tasks.some(({ leave, nodeId }) => leave?.startFirst === true || nodes.get(nodeId) === undefined);
}

/**
 * Invariant 5: while a rollout is under way, no ready task is told to stop when more slots than max_unavailable are
 * then without one, or when it is what the rollout goes to; and none is made beside another when more tasks than max_surge are then wanted beyond the slots.
 * Scaling down, draining, leaving and lost nodes are no rollout's doing.
 */
export function checkBudget(world: ServiceWorld, { before, after }: Write): void {
  if (!isUnderWay(world.rollout) || world.service.removing) return;
  const { maxUnavailable, maxSurge } = budgetOf(configInForce(world.parts));
  const stopped = before !== undefined && isReady(before) && after !== undefined && !isWanted(after);
  if (stopped && after.desiredState !== TaskState.REMOVE && !mustGo(world, before)) {
    const there = world.live().get(before.slot) ?? [];
    if (!there.some(isReady)) {
      if (isOfTarget(world, before)) throw new Error(`task ${before.meta.id} is as asked and serves, and was stopped`);
      const without = unavailable(world);
      if (without > maxUnavailable)
        throw new Error(
          `task ${before.meta.id} of slot ${before.slot} was stopped: ${without} slots are without a ready task, ` +
            `max_unavailable is ${maxUnavailable}`,
        );
    }
  }
  if (before === undefined && after !== undefined) {
    let surge = 0;
    for (const tasks of world.live().values())
      if (!tasks.some((task) => mustGo(world, task))) surge += Math.max(0, tasks.length - 1);
    const beside = (world.live().get(after.slot) ?? []).filter(({ meta }) => meta.id !== after.meta.id);
    if (beside.length > 0 && !beside.some((task) => mustGo(world, task)) && surge > maxSurge)
      throw new Error(
        `task ${after.meta.id} was made beside another of slot ${after.slot}: ${surge} beyond one per slot, ` +
          `max_surge is ${maxSurge}`,
      );
  }
}

/** Whether it makes way for another reason than a rollout. */
function mustGo({ nodes }: ServiceWorld, { leave, nodeId }: Task): boolean {
  if (leave !== undefined) return true;
  if (nodeId === "") return false;
  const node = nodes.get(nodeId);
  return (
    node === undefined || node.status.state === NodeState.DOWN || node.spec.availability === NodeAvailability.DRAINED
  );
}

/** Whether it is of the template that the rollout, or the rollback, goes to. */
function isOfTarget({ parts }: ServiceWorld, task: Task): boolean {
  const hashOf = (wanted: number) => parts.revisions.find(({ number }) => number === wanted)?.templateHash;
  return hashOf(task.revision) === hashOf(parts.service.revision);
}

/** Slots without a ready task on a connected node, of those that are to have one. */
function unavailable(world: ServiceWorld): number {
  const { service, revisions } = world.parts;
  const served = new Set<string>();
  for (const task of world.tasks.values()) {
    const own = revisions.find(({ number }) => number === task.revision);
    const finished =
      isWanted(task) && hasEnded(task) && own !== undefined && !isReplaced(own.spec.task.restart, task.status.state);
    const serves = isReady(task) && world.nodes.get(task.nodeId)?.status.state === NodeState.READY;
    if (serves || finished) served.add(service.spec.mode.$case === "global" ? task.onlyNodeId : String(task.slot));
  }
  if (service.spec.mode.$case !== "global") return replicasOf(service.spec) - served.size;
  return [...world.nodes.values()].filter(
    ({ meta, spec, status }) =>
      spec.availability === NodeAvailability.ACTIVE && status.state !== NodeState.DOWN && !served.has(meta.id),
  ).length;
}
