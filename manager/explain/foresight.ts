// How a service will be once a change has been brought about: the orchestrator's and the scheduler's own functions, run
// on a layer over the view in which every task that is told to stop has stopped, and every one that is placed is ready.

import { hasEnded, isWanted } from "../../deploy/strategy/mod.js";
import {
  ContainerHealth,
  ContainerPhase,
  type ServiceSpec,
  type Task,
  TaskState,
  type UpdateConfig,
  UpdateOrder,
} from "../../proto/mod.js";
import { planService } from "../orchestrator/mod.js";
import type { Making, ServiceChange, Step } from "../rollout/mod.js";
import { budgetOf, needsNode, place } from "../scheduler/mod.js";
import { Layer, type View } from "../store/mod.js";
import { type Scheduling, schedulingOf } from "./scheduling.js";

/** With everything replaced at once it takes three; a plan that has not settled by then shows what it has come to. */
const roundsMax = 20;
/** Later than the longest wait before a slot's next task. */
const laterMs = 61_000;
const patienceMs = 24 * 3_600_000;

export interface Foreseen {
  /** That will be meant to run, at the end; those without a node say why. */
  tasks: Task[];
  /** Whom those without a node would push out, where the cluster allows it. */
  pushedOut: Task[];
}

export function foresee(view: View, change: ServiceChange, making: Making): Foreseen {
  const layer = new Layer(view);
  const { id } = change.service.meta;
  absorb(layer, change.steps);
  hasten(layer, id);
  const now = making.now + laterMs;
  const scheduling = schedulingOf(layer, now);
  for (let round = 0; round < roundsMax; round += 1) {
    const service = layer.services.get(id);
    if (service === undefined) break;
    const rollout = layer.rollouts.get(service.rolloutId);
    const { steps } = planService(
      {
        service,
        revisions: layer.revisionsOfService(id),
        tasks: [...layer.tasksOfService(id)],
        rollout,
        rollouts: rollout === undefined ? [] : [rollout],
        node: (nodeId) => layer.nodes.get(nodeId),
        nodes: () => layer.nodes.values(),
      },
      { now, id: making.id },
    );
    if (steps.length === 0) break;
    absorb(layer, steps);
    settle(layer, id, scheduling);
  }
  const tasks = [...layer.tasksOfService(id)].filter((task) => isWanted(task) && !hasEnded(task));
  return { tasks, pushedOut: pushedOutBy(tasks.filter(needsNode), layer, scheduling) };
}

function pushedOutBy(waiting: readonly Task[], layer: Layer, scheduling: Scheduling): Task[] {
  if (waiting.length === 0 || !scheduling.settings.preemption) return [];
  // A layer looks through all that was planned for each node that it is asked for: seconds, where both are thousands.
  const byNode = new Map<string, Task[]>();
  for (const task of layer.tasks.values()) {
    const there = byNode.get(task.nodeId);
    if (there === undefined) byNode.set(task.nodeId, [task]);
    else there.push(task);
  }
  const { preempted } = place({
    ...scheduling,
    tasksOfNode: (nodeId) => byNode.get(nodeId) ?? [],
    tasks: waiting,
    budgetOf: (serviceId) => budgetOf(layer, serviceId),
  });
  return preempted.flatMap(({ taskId }) => layer.tasks.get(taskId) ?? []);
}

/** The transaction's limit is the store's, and nothing here goes there. */
function absorb(layer: Layer, steps: readonly Step[]): void {
  for (const step of steps) {
    if (step.do === "remove") layer.absorb(step.table, step.id, undefined);
    else absorbObject(layer, step);
  }
}

function absorbObject(layer: Layer, step: Exclude<Step, { do: "remove" }>): void {
  layer.absorb(step.table, step.object.meta.id, step.object);
}

/** The end is the same whatever the pace: all slots at once, nothing waited for. */
function hasten(layer: Layer, serviceId: string): void {
  const service = layer.services.get(serviceId);
  if (service === undefined) return;
  const spec = hastened(service.spec);
  layer.absorb("services", serviceId, { ...service, spec });
  for (const revision of layer.revisionsOfService(serviceId))
    layer.absorb("revisions", revision.meta.id, { ...revision, spec: hastened(revision.spec) });
}

function hastened(spec: ServiceSpec): ServiceSpec {
  const atOnce: UpdateConfig = {
    ...spec.update,
    parallelism: 0,
    delayMs: 0,
    monitorMs: 0,
    minHealthyTimeMs: 0,
    progressDeadlineMs: patienceMs,
    // The old task's room is the new one's at the end.
    order: UpdateOrder.STOP_FIRST,
    maxSurge: undefined,
    maxUnavailable: undefined,
  };
  const { mode } = spec;
  return {
    ...spec,
    // By its schedule it will run later, and not by this change.
    mode: mode.$case === "cron" ? { $case: "cron", value: { ...mode.value, suspended: true } } : mode,
    update: atOnce,
    rollback: atOnce,
    dependsOn: [],
  };
}

/** Tasks that are to stop have stopped; then those that need a node get one, and are well there. */
function settle(layer: Layer, serviceId: string, scheduling: Scheduling): void {
  const { now, settings } = scheduling;
  const put = (task: Task) => {
    layer.absorb("tasks", task.meta.id, task);
    scheduling.count(task);
  };
  for (const task of layer.tasksOfService(serviceId))
    if (!isWanted(task) && !hasEnded(task))
      put({
        ...task,
        status: { ...task.status, state: TaskState.SHUTDOWN, sinceMs: now },
        readySinceMs: 0,
        endedAtMs: now,
      });
  const waiting = [...layer.tasksOfService(serviceId)].filter(needsNode);
  const { assigned, unplaced } = place({
    ...scheduling,
    tasks: waiting,
    // Whom it would push out is a matter of the moment.
    settings: { ...settings, preemption: false },
  });
  for (const placed of assigned) {
    const task = layer.tasks.get(placed.taskId);
    if (task === undefined) continue;
    put(readyOn({ ...task, nodeId: placed.nodeId, placementReason: placed.reason }, now));
  }
  for (const { taskId, message } of unplaced) {
    const task = layer.tasks.get(taskId);
    if (task !== undefined) layer.absorb("tasks", taskId, { ...task, placementMessage: message });
  }
}

function readyOn(task: Task, now: number): Task {
  return {
    ...task,
    desiredState: Math.max(task.desiredState, TaskState.RUNNING) as TaskState,
    status: {
      state: TaskState.RUNNING,
      sinceMs: now,
      message: "",
      error: "",
      container: {
        id: "",
        attempt: 1,
        phase: ContainerPhase.RUNNING,
        nextAttemptAtMs: 0,
        health: ContainerHealth.NONE,
        ready: true,
        address: "",
        hostPorts: [],
        exitCode: undefined,
        oomKilled: false,
        startedAtMs: now,
      },
    },
    readySinceMs: now,
    placementMessage: "",
  };
}
