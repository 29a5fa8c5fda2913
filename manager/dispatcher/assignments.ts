// What one node's agent must know: its own tasks, and what all agents are told alike (see shared.ts). The first message
// is COMPLETE, the later ones carry what changed since, chained by applies_to and results_in. What has not been sent
// yet is kept by object, newest only, so a slow agent costs as much memory as there are objects, and no more.

import { type Task, TaskState } from "../../proto/mod.js";
import {
  type AssignmentChange,
  AssignmentsKind,
  type AssignmentsMessage,
  type TaskAssignment,
} from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import type { View } from "../store/mod.js";
import type { SharedSection, SharedState } from "./shared.js";
import { withShared } from "./wire.js";

/** Whether the node must hear of the task: it has one, and it was not given up as lost. */
function concerns(task: Task, nodeId: string): boolean {
  return task.nodeId === nodeId && task.status.state >= TaskState.ASSIGNED && task.status.state !== TaskState.ORPHANED;
}

export interface AssignmentSources {
  view(): View;
  shared: SharedState;
  /** Whether every ambassador has let go of the task. */
  isDrained(taskId: string): boolean;
  /** How long it takes until every ambassador has been told that an endpoint is draining. */
  announceMs(): number;
}

export class AssignmentSet {
  readonly #nodeId: string;
  readonly #sources: AssignmentSources;
  /** By task id, what was sent of it that can change: its status comes from the agent and is not sent back. */
  readonly #sentTasks = new Map<string, string>();
  readonly #dirtyTasks = new Set<string>();
  /** Of the shared state, as it was told last. */
  #sharedRevision = Number.POSITIVE_INFINITY;
  #sequence = 0;

  constructor(nodeId: string, sources: AssignmentSources) {
    this.#nodeId = nodeId;
    this.#sources = sources;
  }

  /** Up to where the agent was told what all are told; infinite before its COMPLETE. */
  get sharedRevision(): number {
    return this.#sharedRevision;
  }

  touchTask(taskId: string): void {
    this.#dirtyTasks.add(taskId);
  }

  complete(): AssignmentsMessage {
    this.#sentTasks.clear();
    this.#dirtyTasks.clear();
    const { shared } = this.#sources;
    const view = this.#sources.view();
    for (const task of view.tasksOfNode(this.#nodeId)) this.#dirtyTasks.add(task.meta.id);
    return this.#message(AssignmentsKind.COMPLETE, this.#takeTasks(view), shared.whole());
  }

  /** What changed since the last message; undefined when nothing did that the agent does not know. */
  incremental(): AssignmentsMessage | undefined {
    const own = this.#takeTasks(this.#sources.view());
    const section = this.#sources.shared.since(this.#sharedRevision);
    if (own.length === 0 && section.changes.length === 0) return undefined;
    return this.#message(AssignmentsKind.INCREMENTAL, own, section);
  }

  #message(kind: AssignmentsKind, own: readonly AssignmentChange[], section: SharedSection): AssignmentsMessage {
    const appliesTo = kind === AssignmentsKind.COMPLETE ? "" : String(this.#sequence);
    this.#sequence += 1;
    this.#sharedRevision = this.#sources.shared.revision;
    return withShared({ kind, appliesTo, resultsIn: String(this.#sequence) }, own, section);
  }

  #takeTasks(view: View): AssignmentChange[] {
    const changes: AssignmentChange[] = [];
    for (const id of this.#dirtyTasks) {
      const change = this.#taskChange(view, id);
      if (change !== undefined) changes.push(change);
    }
    this.#dirtyTasks.clear();
    return changes;
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
      // It begins when the agent hears of the stop, and the last ambassador hears of it that much later.
      drainTimeoutMs: spec.drainTimeoutMs + this.#sources.announceMs(),
      drained: this.#sources.isDrained(task.meta.id),
      serviceLabels: spec.labels,
      templateHash,
      ...(spec.stopAfterDisconnectMs === undefined ? {} : { stopAfterDisconnectMs: spec.stopAfterDisconnectMs }),
    };
  }
}
