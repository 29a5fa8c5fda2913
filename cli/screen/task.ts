// Tasks as `ps` shows them: newest first within a slot, older ones indented under it, as Docker's.

import { formatDurationMs } from "../../lib/units.js";
import { ContainerHealth, ContainerPhase, type Task, TaskState } from "../../proto/gen/flotilla/objects/v1/objects.js";
import type { Column } from "./table.js";
import { clip } from "./text.js";
import { ago } from "./time.js";
import { capital, containerHealth, taskState } from "./words.js";

export interface TaskRow {
  task: Task;
  /** An older task of a slot whose newest one is shown too. */
  history: boolean;
  node: string;
  image: string;
}

export interface TaskView {
  nowMs: number;
  trunc: boolean;
  runs: boolean;
}

/** As Docker shortens ids. */
export const shortIdLength = 12;

export function shortId(id: string, trunc: boolean): string {
  return trunc ? id.slice(0, shortIdLength) : id;
}

export function stateOf(task: Task): TaskState {
  return task.status?.state ?? TaskState.NEW;
}

export function isOver(task: Task): boolean {
  const state = stateOf(task);
  return state >= TaskState.COMPLETE && state <= TaskState.ORPHANED;
}

/** "web.3" */
export function taskName(task: Task): string {
  return `${task.serviceName}.${task.slot}`;
}

/** By service, of a job newest run first, and slot; in a slot what runs or will run first, then newest first. */
export function orderTasks(tasks: readonly Task[]): Task[] {
  const created = (task: Task) => task.meta?.createdAtMs ?? 0;
  return [...tasks].sort(
    (a, b) =>
      compare(a.serviceName, b.serviceName) ||
      b.run - a.run ||
      a.slot - b.slot ||
      Number(a.desiredState > TaskState.RUNNING) - Number(b.desiredState > TaskState.RUNNING) ||
      created(b) - created(a) ||
      compare(a.meta?.id ?? "", b.meta?.id ?? ""),
  );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** "Running 5 seconds ago", "Running 5 seconds ago, to leave", "Backing off, next start in 4s (attempt 3)", "Running 2 minutes ago (unhealthy)". */
export function currentState(task: Task, nowMs: number): string {
  return isLeaving(task) ? `${observedState(task, nowMs)}, to leave` : observedState(task, nowMs);
}

/** Whether it is to make way though nothing is wrong with it, and still runs. */
export function isLeaving(task: Task): boolean {
  return task.leave !== undefined && task.desiredState <= TaskState.RUNNING && !isOver(task);
}

function observedState(task: Task, nowMs: number): string {
  const { status } = task;
  if (status === undefined) return "New";
  const { container } = status;
  if (status.state === TaskState.RUNNING && container?.phase === ContainerPhase.BACKING_OFF) {
    const leftMs = Math.max(0, container.nextAttemptAtMs - nowMs);
    return `Backing off, next start in ${formatDurationMs(Math.ceil(leftMs / 1000) * 1000)} (attempt ${container.attempt + 1})`;
  }
  const words = `${capital(taskState(status.state))} ${ago(status.sinceMs, nowMs)}`;
  const unwell = container?.health === ContainerHealth.UNHEALTHY || container?.health === ContainerHealth.STARTING;
  if (status.state === TaskState.RUNNING && unwell) return `${words} (health: ${containerHealth(container.health)})`;
  return words;
}

/** What is wrong with the task, or why it waits or is to leave; empty when all is well. */
export function taskError(task: Task): string {
  const error = task.status?.error ?? "";
  if (error !== "") return error;
  if (isLeaving(task)) return task.leave?.reason ?? "";
  return stateOf(task) <= TaskState.PENDING && !isOver(task) ? task.placementMessage : "";
}

const errorCharsMax = 60;

/** `runs`: whether there are tasks of jobs, whose runs tell them apart. */
export function taskColumns({ nowMs, trunc, runs }: TaskView): Column<TaskRow>[] {
  const run: Column<TaskRow> = {
    key: "Run",
    header: "RUN",
    get: ({ task }) => (task.run === 0 ? "" : String(task.run)),
    ...(runs ? {} : { hidden: true }),
  };
  return [
    { key: "ID", header: "ID", get: ({ task }) => shortId(task.meta?.id ?? "", trunc) },
    { key: "Name", header: "NAME", get: ({ task, history }) => `${history ? " \\_ " : ""}${taskName(task)}` },
    run,
    { key: "Image", header: "IMAGE", get: ({ image }) => image },
    { key: "Node", header: "NODE", get: ({ node }) => node },
    { key: "DesiredState", header: "DESIRED STATE", get: ({ task }) => capital(taskState(task.desiredState)) },
    { key: "CurrentState", header: "CURRENT STATE", get: ({ task }) => currentState(task, nowMs) },
    {
      key: "Error",
      header: "ERROR",
      get: ({ task }) => {
        const error = taskError(task);
        return error === "" ? "" : trunc ? clip(JSON.stringify(error), errorCharsMax) : JSON.stringify(error);
      },
    },
    {
      key: "Ports",
      header: "PORTS",
      get: ({ task }) =>
        (task.status?.container?.hostPorts ?? [])
          .map(({ hostPort, targetPort }) => `*:${hostPort}->${targetPort}/tcp`)
          .join(","),
    },
    { key: "Cause", header: "CAUSE", get: ({ task }) => task.cause, hidden: true },
    { key: "Revision", header: "REVISION", get: ({ task }) => String(task.revision), hidden: true },
    { key: "Slot", header: "SLOT", get: ({ task }) => String(task.slot), hidden: true },
    { key: "ContainerID", header: "CONTAINER ID", get: ({ task }) => task.status?.container?.id ?? "", hidden: true },
    { key: "Address", header: "ADDRESS", get: ({ task }) => task.status?.container?.address ?? "", hidden: true },
  ];
}
