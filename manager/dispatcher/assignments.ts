// What one node's agent must know: its tasks and every route. The first message is COMPLETE, the later ones carry
// what changed since, chained by applies_to and results_in. What has not been sent yet is kept by object, newest
// only, so a slow agent costs as much memory as there are objects, and no more.

import { type Node, type Task, TaskState } from "../../proto/mod.js";
import {
  type AssignmentChange,
  AssignmentsKind,
  type AssignmentsMessage,
  type TaskAssignment,
} from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import type { RouteTable } from "../routes/mod.js";
import type { View } from "../store/mod.js";

/** Whether the node must hear of the task: it has one, and it was not given up as lost. */
function concerns(task: Task, nodeId: string): boolean {
  return task.nodeId === nodeId && task.status.state >= TaskState.ASSIGNED && task.status.state !== TaskState.ORPHANED;
}

export interface AssignmentSources {
  view(): View;
  routes: RouteTable;
  /** Whether every ambassador has let go of the task. */
  isDrained(taskId: string): boolean;
}

export class AssignmentSet {
  readonly #nodeId: string;
  readonly #sources: AssignmentSources;
  /** By task id, what was sent of it that can change: its status comes from the agent and is not sent back. */
  readonly #sentTasks = new Map<string, string>();
  readonly #dirtyTasks = new Set<string>();
  readonly #dirtyRoutes = new Set<string>();
  readonly #dirtyNodes = new Set<string>();
  #sequence = 0;

  constructor(nodeId: string, sources: AssignmentSources) {
    this.#nodeId = nodeId;
    this.#sources = sources;
  }

  touchTask(taskId: string): void {
    this.#dirtyTasks.add(taskId);
  }

  touchRoute(serviceId: string): void {
    this.#dirtyRoutes.add(serviceId);
  }

  touchNode(nodeId: string): void {
    this.#dirtyNodes.add(nodeId);
  }

  complete(): AssignmentsMessage {
    this.#dirtyTasks.clear();
    this.#dirtyRoutes.clear();
    this.#dirtyNodes.clear();
    this.#sentTasks.clear();
    const view = this.#sources.view();
    const changes: AssignmentChange[] = [];
    for (const task of view.tasksOfNode(this.#nodeId)) {
      const change = this.#taskChange(view, task.meta.id);
      if (change !== undefined) changes.push(change);
    }
    for (const route of this.#sources.routes.routes()) changes.push({ item: { $case: "route", value: route } });
    for (const { meta } of view.nodes.values()) changes.push(nodeChange(view, meta.id));
    this.#sequence += 1;
    return { kind: AssignmentsKind.COMPLETE, appliesTo: "", resultsIn: String(this.#sequence), changes };
  }

  /** What changed since the last message; undefined when nothing did that the agent does not know. */
  incremental(): AssignmentsMessage | undefined {
    const view = this.#sources.view();
    const changes: AssignmentChange[] = [];
    for (const id of this.#dirtyTasks) {
      const change = this.#taskChange(view, id);
      if (change !== undefined) changes.push(change);
    }
    for (const id of this.#dirtyRoutes) {
      const route = this.#sources.routes.get(id);
      changes.push({
        item: route === undefined ? { $case: "removedRouteId", value: id } : { $case: "route", value: route },
      });
    }
    for (const id of this.#dirtyNodes) changes.push(nodeChange(view, id));
    this.#dirtyTasks.clear();
    this.#dirtyRoutes.clear();
    this.#dirtyNodes.clear();
    if (changes.length === 0) return undefined;
    const appliesTo = String(this.#sequence);
    this.#sequence += 1;
    return { kind: AssignmentsKind.INCREMENTAL, appliesTo, resultsIn: String(this.#sequence), changes };
  }

  #taskChange(view: View, id: string): AssignmentChange | undefined {
    const task = view.tasks.get(id);
    const assignment = task !== undefined && concerns(task, this.#nodeId) ? this.#assignment(view, task) : undefined;
    if (assignment === undefined) {
      return this.#sentTasks.delete(id) ? { item: { $case: "removedTaskId", value: id } } : undefined;
    }
    const fingerprint = `${assignment.task?.desiredState} ${assignment.drained}`;
    if (this.#sentTasks.get(id) === fingerprint) return undefined;
    this.#sentTasks.set(id, fingerprint);
    return { item: { $case: "task", value: assignment } };
  }

  #assignment(view: View, task: Task): TaskAssignment {
    const revision = view.revisionOfService(task.serviceId, task.revision);
    // Revisions go after their tasks, in one transaction at the earliest: a task without one is a broken store.
    if (revision === undefined)
      throw new Error(`task ${task.meta.id} has no revision ${task.revision} of ${task.serviceId}`);
    const { spec, templateHash } = revision;
    return {
      task,
      spec: spec.task,
      ports: spec.ports,
      drainTimeoutMs: spec.drainTimeoutMs,
      drained: this.#sources.isDrained(task.meta.id),
      serviceLabels: spec.labels,
      templateHash,
      ...(spec.stopAfterDisconnectMs === undefined ? {} : { stopAfterDisconnectMs: spec.stopAfterDisconnectMs }),
    };
  }
}

/** One for all agents, by the stored node; see wire.ts. */
const nodeChanges = new WeakMap<Node, AssignmentChange>();

/** What a node's name stands for, on every host. */
function nodeChange(view: View, id: string): AssignmentChange {
  const node = view.nodes.get(id);
  if (node === undefined) return { item: { $case: "removedNodeId", value: id } };
  let change = nodeChanges.get(node);
  if (change === undefined) {
    const { hostname, advertiseAddress } = node.description;
    change = { item: { $case: "node", value: { id, hostname, address: advertiseAddress } } };
    nodeChanges.set(node, change);
  }
  return change;
}
