// What the agent knows of one task: kept in the state file, so that an agent that was killed goes on where it was. A
// record is immutable; decide.ts makes the next one out of it.

import { ClusterError } from "../../lib/mod.js";
import type { TaskAssignment } from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import {
  ContainerHealth,
  ContainerPhase,
  type HostPort,
  type PortSpec,
  type Task,
  type TaskSpec,
  TaskState,
  type TaskStatus,
} from "../../proto/mod.js";

/** A TaskAssignment whose parts are all there. */
export interface Assignment {
  readonly task: Task;
  readonly spec: TaskSpec;
  readonly ports: PortSpec[];
  readonly drainTimeoutMs: number;
  readonly drained: boolean;
  readonly serviceLabels: Record<string, string>;
  readonly templateHash: string;
  /** Without any manager for so long the task is stopped; absent: it runs on. */
  readonly stopAfterDisconnectMs?: number;
}

export interface TaskRecord {
  readonly assignment: Assignment;
  /** Cleared when the managers no longer list it: stop it, remove its container, forget it. */
  readonly assigned: boolean;

  /** Observed; only grows. */
  readonly state: TaskState;
  readonly sinceMs: number;
  readonly message: string;
  readonly error: string;

  /** Empty when there is none, as far as is known. */
  readonly containerId: string;
  /** Starts so far, those that the engine refused included. */
  readonly attempt: number;
  /** When the newest run that was counted began; with containerId it names a run. */
  readonly countedRunMs: number;
  /** When the newest run whose end was dealt with began: an end is charged once, whoever is killed in between. */
  readonly endedRunMs: number;
  /** The engine's life in which the container was started or last seen running. */
  readonly epoch: string;
  readonly phase: ContainerPhase;
  /** While backing off. */
  readonly nextAttemptAtMs: number;
  /** The last run was ended by the engine's own end: nobody's fault. */
  readonly lost: boolean;
  /** Failures without a healthy minute in between: what the back-off goes by. */
  readonly failures: number;
  /** When restarts were charged to the policy; at most max_attempts, the newest last. */
  readonly restartsAtMs: readonly number[];

  readonly health: ContainerHealth;
  readonly ready: boolean;
  readonly readySinceMs: number;
  readonly address: string;
  readonly hostPorts: readonly HostPort[];
  readonly startedAtMs: number;
  readonly exitCode: number | undefined;
  readonly oomKilled: boolean;

  /** When the wish to stop it was first seen; 0 before. */
  readonly stopSinceMs: number;
  /** Whether requests may have been on their way to it then, so that its end waits for the drain. */
  readonly drains: boolean;
  /** Stopped by the agent because its health check failed: its exit code does not matter. */
  readonly unhealthy: boolean;
  /** Stopped by the agent because no manager was reached for too long: another node may have it by now. */
  readonly cutOff: boolean;
}

export function isTerminal(state: TaskState): boolean {
  return state >= TaskState.COMPLETE;
}

export function mustStop(record: TaskRecord): boolean {
  return !record.assigned || record.assignment.task.desiredState >= TaskState.SHUTDOWN;
}

/** The assignment with its parts checked: a manager that sends half a task is refused rather than half obeyed. */
export function assignmentOf(message: TaskAssignment): Assignment {
  const { task, spec } = message;
  const complete =
    task?.meta !== undefined &&
    task.status !== undefined &&
    spec?.container?.stopGracePeriodMs !== undefined &&
    spec.restart?.delayMs !== undefined &&
    spec.restart.maxAttempts !== undefined &&
    spec.restart.windowMs !== undefined &&
    spec.limits !== undefined &&
    spec.reservations !== undefined;
  if (!complete)
    throw new ClusterError("invalid_argument", `the assignment of task ${task?.meta?.id ?? "?"} lacks a part`);
  return {
    task: task as Task,
    spec: spec as TaskSpec,
    ports: message.ports,
    drainTimeoutMs: message.drainTimeoutMs,
    drained: message.drained,
    serviceLabels: message.serviceLabels,
    templateHash: message.templateHash,
    ...(message.stopAfterDisconnectMs === undefined ? {} : { stopAfterDisconnectMs: message.stopAfterDisconnectMs }),
  };
}

/** A task that was assigned just now. What the managers know of its state is kept: it may have run here before. */
export function newRecord(assignment: Assignment, nowMs: number): TaskRecord {
  const { status } = assignment.task;
  const known = status.state > TaskState.ASSIGNED;
  return {
    assignment,
    assigned: true,
    state: known ? status.state : TaskState.ASSIGNED,
    sinceMs: known ? status.sinceMs : nowMs,
    message: known ? status.message : "",
    error: known ? status.error : "",
    containerId: status.container?.id ?? "",
    attempt: status.container?.attempt ?? 0,
    countedRunMs: status.container?.startedAtMs ?? 0,
    endedRunMs: 0,
    epoch: "",
    phase: ContainerPhase.CREATED,
    nextAttemptAtMs: 0,
    lost: false,
    failures: 0,
    restartsAtMs: [],
    health: ContainerHealth.NONE,
    ready: false,
    readySinceMs: 0,
    address: "",
    hostPorts: [],
    startedAtMs: 0,
    exitCode: status.container?.exitCode,
    oomKilled: status.container?.oomKilled ?? false,
    stopSinceMs: 0,
    drains: false,
    unhealthy: false,
    cutOff: false,
  };
}

/** The record under a newer assignment of the same task. The desired state only grows. */
export function reassigned(record: TaskRecord, assignment: Assignment): TaskRecord {
  const had = record.assignment;
  const desiredState = Math.max(had.task.desiredState, assignment.task.desiredState) as TaskState;
  return {
    ...record,
    assigned: true,
    assignment: {
      ...assignment,
      task: { ...assignment.task, desiredState },
      drained: assignment.drained || had.drained,
    },
  };
}

/** What the managers are told. */
export function statusOf(record: TaskRecord): TaskStatus {
  return {
    state: record.state,
    sinceMs: record.sinceMs,
    message: record.message,
    error: record.error,
    container:
      record.containerId === ""
        ? undefined
        : {
            id: record.containerId,
            attempt: record.attempt,
            phase: record.phase,
            nextAttemptAtMs: record.phase === ContainerPhase.BACKING_OFF ? record.nextAttemptAtMs : 0,
            health: record.health,
            ready: record.ready,
            address: record.address,
            hostPorts: [...record.hostPorts],
            exitCode: record.exitCode,
            oomKilled: record.oomKilled,
            startedAtMs: record.startedAtMs,
          },
  };
}
