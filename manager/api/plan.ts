// What a create or update would do, without doing it: the same decisions as the real call, on a layer over the view
// that is thrown away. What is shown is the end of the change; its pace on the way there is the rollout's.

import { diffSpecs, isGlobal, parseConstraint } from "../../deploy/spec/mod.js";
import { type ConvergenceInput, hasEnded, isWanted } from "../../deploy/strategy/mod.js";
import { ClusterError } from "../../lib/mod.js";
import { type Node, type Service, type ServiceSpec, type Task, UpdateOrder } from "../../proto/mod.js";
import {
  type PlannedTask,
  PlannedAction,
  type PlanServiceRequest,
  type PlanServiceResponse,
} from "../../proto/gen/flotilla/control/v1/control.js";
import type { Making, ServiceChange } from "../rollout/mod.js";
import { judge, place } from "../scheduler/mod.js";
import type { View } from "../store/mod.js";
import { findService } from "./lookup.js";
import { foresee, type Foreseen, schedulingOf } from "../explain/mod.js";
import { whyUnready } from "../orchestrator/mod.js";
import { decideCreate, decideUpdate } from "./services.js";

/** Different reasons that are told apart; one that needs more has other troubles. */
const warningsMax = 20;
const nodesShownMax = 5;

export function planRequest(view: View, { change }: PlanServiceRequest, making: Making): PlanServiceResponse {
  if (change === undefined)
    throw ClusterError.invalid([
      { field: "change", value: "", rule: "must be a create or an update", fix: "send one of them" },
    ]);
  // Without its request id: a plan for what was done before would say that nothing is left to do.
  if (change.$case === "create")
    return describe(view, undefined, decideCreate(view, { ...change.value, requestId: "" }, making), making);
  const before = findService(view, change.value.service);
  return describe(view, before, decideUpdate(view, { ...change.value, requestId: "" }, making), making);
}

function describe(view: View, before: Service | undefined, change: ServiceChange, making: Making): PlanServiceResponse {
  const { spec } = change.service;
  const answer = { version: before?.meta.version ?? 0, spec, changes: diffSpecs(before?.spec, spec) };
  const now = before === undefined ? [] : [...view.tasksOfService(before.meta.id)].filter(isLive);
  // An equal spec changes nothing, whatever else may be under way.
  if (change.steps.length === 0) return { ...answer, tasks: [], unchanged: now.length, warnings: [] };
  const foreseen = foresee(view, change, making);
  const { tasks, unchanged } = compare(view, now, foreseen.tasks);
  return {
    ...answer,
    tasks,
    unchanged,
    warnings: [
      ...impossible(foreseen.tasks),
      ...nowhere(view, change.service, foreseen.tasks, making),
      ...noRoomBeside(view, before, change, making),
      ...preemption(foreseen),
      ...dependencies(view, change.service),
      ...unknownAttributes(view, spec),
    ].slice(0, warningsMax),
  };
}

function isLive(task: Task): boolean {
  return isWanted(task) && !hasEnded(task);
}

function slotOf({ run, slot }: Task): string {
  return `${run} ${slot}`;
}

function compare(view: View, now: readonly Task[], then: readonly Task[]): { tasks: PlannedTask[]; unchanged: number } {
  const stays = new Set(then.map(({ meta }) => meta.id));
  const leaving = new Map<string, Task[]>();
  for (const task of now)
    if (!stays.has(task.meta.id)) leaving.set(slotOf(task), [...(leaving.get(slotOf(task)) ?? []), task]);
  const known = new Set(now.map(({ meta }) => meta.id));
  const tasks: PlannedTask[] = [];
  let unchanged = 0;
  const hostname = (id: string) => view.nodes.get(id)?.description.hostname ?? "";
  for (const task of then) {
    if (known.has(task.meta.id)) {
      unchanged += 1;
      continue;
    }
    const replaced = leaving.get(slotOf(task))?.shift();
    tasks.push({
      slot: task.slot,
      action: replaced === undefined ? PlannedAction.CREATE : PlannedAction.REPLACE,
      nodeId: task.nodeId,
      nodeName: hostname(task.nodeId),
      message: task.nodeId === "" ? task.placementMessage : task.placementReason,
      taskId: replaced?.meta.id ?? "",
    });
  }
  for (const task of [...leaving.values()].flat())
    tasks.push({
      slot: task.slot,
      action: PlannedAction.STOP,
      nodeId: task.nodeId,
      nodeName: hostname(task.nodeId),
      message: "not asked for any more",
      taskId: task.meta.id,
    });
  tasks.sort((a, b) => a.slot - b.slot || a.action - b.action || (a.taskId < b.taskId ? -1 : 1));
  return { tasks, unchanged };
}

/** Per reason, how many tasks would wait. */
function impossible(tasks: readonly Task[]): string[] {
  const reasons = new Map<string, number>();
  for (const { nodeId, placementMessage } of tasks)
    if (nodeId === "") reasons.set(placementMessage, (reasons.get(placementMessage) ?? 0) + 1);
  return [...reasons].map(
    ([reason, count]) => `${count} of ${tasks.length} ${tasks.length === 1 ? "task" : "tasks"} would wait: ${reason}`,
  );
}

/** A service with a task per node has none to say why where no node may have one. */
function nowhere(view: View, service: Service, tasks: readonly Task[], { now }: Making): string[] {
  const { spec } = service;
  if (tasks.length > 0 || !isGlobal(spec)) return [];
  const { nodes, usage, serviceByName } = schedulingOf(view, now);
  const task = { serviceId: service.meta.id, serviceName: spec.name, onlyNodeId: "" };
  const verdicts = judge({ task, spec: spec.task, ports: spec.ports, nodes, usage, serviceByName });
  const shown = verdicts.slice(0, nodesShownMax).map(({ nodeName, reason }) => `${nodeName}: ${reason}`);
  const more = verdicts.length > shown.length ? [`${verdicts.length - shown.length} more`] : [];
  const why = shown.length === 0 ? "no agent has joined the cluster yet" : [...shown, ...more].join(", ");
  return [`no node may have a task of it now: ${why}`];
}

/** A start-first update needs room for one task more while the old ones still run. */
function noRoomBeside(view: View, before: Service | undefined, change: ServiceChange, making: Making): string[] {
  const { service, rollout } = change;
  if (before === undefined || rollout === undefined || service.spec.update.order !== UpdateOrder.START_FIRST) return [];
  const sample = [...view.tasksOfService(before.meta.id)].find((task) => isLive(task) && task.nodeId !== "");
  if (sample === undefined) return [];
  const extra: Task = {
    ...sample,
    meta: { ...sample.meta, id: making.id(), createdAtMs: making.now },
    nodeId: "",
    revision: service.revision,
  };
  const scheduling = schedulingOf(view, making.now);
  const isNew = (id: string, revision: number) => id === service.meta.id && revision === service.revision;
  const [missed] = place({
    ...scheduling,
    tasks: [extra],
    specOf: (id, revision) => (isNew(id, revision) ? service.spec.task : scheduling.specOf(id, revision)),
    portsOf: (id, revision) => (isNew(id, revision) ? service.spec.ports : scheduling.portsOf(id, revision)),
    settings: { ...scheduling.settings, preemption: false },
  }).unplaced;
  if (missed === undefined) return [];
  return [
    `update.order: start-first needs room for a new task beside the old ones, and there is none now: ${missed.message}; use stop-first, or make room`,
  ];
}

function preemption({ pushedOut }: Foreseen): string[] {
  if (pushedOut.length === 0) return [];
  const names = pushedOut.slice(0, 5).map(({ serviceName, slot }) => `${serviceName}.${slot}`);
  const more = pushedOut.length > names.length ? ` and ${pushedOut.length - names.length} more` : "";
  return [`those that wait would push out tasks of lower priority: ${names.join(", ")}${more}`];
}

/** One that has begun is not held up any more. */
function dependencies(view: View, { spec, waitingFor }: Service): string[] {
  if (waitingFor === "") return [];
  return spec.dependsOn.flatMap((name, i) => {
    const service = view.serviceByName(name);
    const why = whyUnready(name, service === undefined ? undefined : convergenceOf(view, service));
    return why === undefined ? [] : [`depends_on[${i}]: ${why}; tasks wait for it`];
  });
}

function convergenceOf(view: View, service: Service): ConvergenceInput {
  const { id } = service.meta;
  return {
    service,
    revisions: view.revisionsOfService(id),
    tasks: view.tasksOfService(id),
    rollout: view.rollouts.get(service.rolloutId),
    nodes: view.nodes.values(),
  };
}

/** A label that no node has is a typing mistake more often than a plan; with != it would go unnoticed. */
function unknownAttributes(view: View, { task: { placement } }: ServiceSpec): string[] {
  const nodes = [...view.nodes.values()];
  if (nodes.length === 0) return [];
  return placement.constraints.flatMap((text, i) => {
    const parsed = parseConstraint(text);
    if (!("constraint" in parsed) || !("label" in parsed.constraint.key)) return [];
    const { kind, label } = parsed.constraint.key;
    const isThere = nodes.some((node) =>
      Object.hasOwn(kind === "engine.labels" ? node.description.engineLabels : labelsOfNode(node), label),
    );
    return isThere ? [] : [`constraints[${i}]: no node has ${kind}.${label}`];
  });
}

function labelsOfNode({ spec, description }: Node): Record<string, string> {
  return { ...description.labels, ...spec.labels };
}
