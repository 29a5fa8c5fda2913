// What to do next for one task: pure. Given what is known, what is wanted and what the engine shows, the answer is the
// new record and one action. Doing it is the runner's part; then everything is looked at again.
//
//   ASSIGNED → ACCEPTED → PREPARING → READY → STARTING → RUNNING → COMPLETE | FAILED | SHUTDOWN
//                  └────────┴── REJECTED (failed before it was started)
//
// A container that fails is started again in place; meanwhile the task's state stays what it was.

import { type Rng, backoffMs, formatDurationMs } from "../../lib/mod.js";
import { ContainerHealth, ContainerPhase, RestartCondition, TaskState } from "../../proto/mod.js";
import type { ContainerState } from "../engine/mod.js";
import { type TaskRecord, isTerminal } from "./record.js";

export type Action =
  | { do: "wait"; untilMs?: number }
  /** Network, image, container. */
  | { do: "prepare" }
  | { do: "start" }
  | { do: "stop"; graceMs: number }
  | { do: "remove" }
  /** There is nothing left of the task. */
  | { do: "forget" };

export interface Step {
  record: TaskRecord;
  action: Action;
}

export interface Context {
  nowMs: number;
  /** The engine's current life. */
  epoch: string;
  /**
   * Containers that the engine's end took with it are not started before: after a reboot the managers may have
   * replaced them elsewhere, and are asked first.
   */
  lostHoldUntilMs: number;
  rng: Rng;
}

/** Healthy for so long, a container has earned a fresh back-off. */
const healthyResetMs = 60_000;
const backoffMaxMs = 60_000;
const jitter = 0.2;

/** `seen` is undefined when there is no container. */
export function decide(before: TaskRecord, seen: ContainerState | undefined, context: Context): Step {
  const record = observed(before, seen, context);
  const isUp = seen !== undefined && (seen.status === "running" || seen.status === "paused");
  if (!record.assigned) return leave(record, seen, isUp);
  if (isTerminal(record.state)) {
    // Started by a call whose answer came too late, or by hand.
    if (isUp) return { record, action: stop(record) };
    return { record, action: { do: "wait" } };
  }
  if (record.assignment.task.desiredState >= TaskState.SHUTDOWN) return shutDown(record, seen, isUp, context);
  if (record.cutOff) return heldBack(record, seen, isUp);
  return live(record, seen, context);
}

/** No manager was reached for as long as the service says: nobody may take the task for running here. */
export function cutOff(record: TaskRecord, afterMs: number): TaskRecord {
  const error = `no manager was reached for ${formatDurationMs(afterMs)}`;
  return { ...record, cutOff: true, message: "stopped until a manager says otherwise", error };
}

/** A manager says that the task is still this node's. */
export function letGo(record: TaskRecord): TaskRecord {
  return { ...record, cutOff: false, message: "starting again: a manager was reached" };
}

/** The engine refused to start the container. `hopeless`: it would refuse again. */
export function startFailed(record: TaskRecord, words: string, hopeless: boolean, context: Context): TaskRecord {
  const tried = { ...record, attempt: record.attempt + 1, ready: false, readySinceMs: 0 };
  if (hopeless) return ended(tried, TaskState.FAILED, "the container could not be started", words, context);
  return charge(tried, words, context);
}

/** The image, the network or the container could not be made. */
export function prepareFailed(record: TaskRecord, words: string, context: Context): TaskRecord {
  const state = record.state < TaskState.STARTING ? TaskState.REJECTED : TaskState.FAILED;
  return ended(record, state, "the container could not be made", words, context);
}

/** The container was made, or found. */
export function prepared(record: TaskRecord, containerId: string): TaskRecord {
  if (record.containerId === containerId) return record;
  return { ...record, containerId, countedRunMs: 0, endedRunMs: 0, phase: phaseOfNew(record) };
}

/** Written down before the start call, so that a run which nobody saw is known to be of this life of the engine. */
export function starting(record: TaskRecord, context: Context): TaskRecord {
  return { ...record, epoch: context.epoch, lost: false, unhealthy: false };
}

function phaseOfNew(record: TaskRecord): ContainerPhase {
  return record.phase === ContainerPhase.BACKING_OFF ? record.phase : ContainerPhase.CREATED;
}

/** Observed states only grow: this is the one place that writes them. */
function advance(record: TaskRecord, state: TaskState, message: string, { nowMs }: Context, error = ""): TaskRecord {
  if (state <= record.state)
    throw new Error(`task ${record.assignment.task.meta.id}: state ${record.state} would go to ${state}`);
  return { ...record, state, sinceMs: nowMs, message, error };
}

function ended(record: TaskRecord, state: TaskState, message: string, error: string, context: Context): TaskRecord {
  return {
    ...advance(record, state, message, context, error),
    phase: ContainerPhase.STOPPED,
    ready: false,
    readySinceMs: 0,
    nextAttemptAtMs: 0,
  };
}

/** Folds what the engine shows into the record; decides nothing. */
function observed(record: TaskRecord, seen: ContainerState | undefined, { nowMs, epoch }: Context): TaskRecord {
  if (seen === undefined || seen.status === "created")
    return { ...record, ready: false, readySinceMs: 0, address: "", hostPorts: [] };
  const isNewRun = seen.startedAtMs > 0 && seen.startedAtMs !== record.countedRunMs;
  const counted: TaskRecord = isNewRun
    ? {
        ...record,
        attempt: record.attempt + 1,
        countedRunMs: seen.startedAtMs,
        startedAtMs: seen.startedAtMs,
        readySinceMs: 0,
      }
    : record;
  if (seen.status !== "running" && seen.status !== "paused")
    return { ...counted, ready: false, address: "", hostPorts: [], health: ContainerHealth.NONE };
  const ready =
    seen.status === "running" &&
    !isTerminal(record.state) &&
    seen.address !== "" &&
    (seen.health === ContainerHealth.NONE || seen.health === ContainerHealth.HEALTHY);
  return {
    ...counted,
    // It lived through the engine's restart, if there was one.
    epoch,
    phase: isTerminal(record.state) ? record.phase : ContainerPhase.RUNNING,
    nextAttemptAtMs: 0,
    lost: false,
    health: seen.health,
    ready,
    readySinceMs: ready ? counted.readySinceMs || nowMs : 0,
    address: seen.address,
    hostPorts: seen.hostPorts,
  };
}

function stop(record: TaskRecord): Action {
  return { do: "stop", graceMs: record.assignment.spec.container.stopGracePeriodMs };
}

/** Its end is this agent's doing: nothing of it is charged, and it starts at once when it is let go. */
function heldBack(record: TaskRecord, seen: ContainerState | undefined, isUp: boolean): Step {
  const held = { ...record, ready: false, readySinceMs: 0, nextAttemptAtMs: 0 };
  if (isUp) return { record: held, action: stop(record) };
  if (seen === undefined || seen.startedAtMs === 0) return { record: held, action: { do: "wait" } };
  const after = { ...held, endedRunMs: seen.startedAtMs, phase: ContainerPhase.STOPPED };
  return { record: after, action: { do: "wait" } };
}

function leave(record: TaskRecord, seen: ContainerState | undefined, isUp: boolean): Step {
  if (isUp) return { record, action: stop(record) };
  return { record, action: seen === undefined ? { do: "forget" } : { do: "remove" } };
}

/** Requests may be on their way until the ambassadors have let go, or the drain has lasted long enough. */
function shutDown(before: TaskRecord, seen: ContainerState | undefined, isUp: boolean, context: Context): Step {
  const { assignment } = before;
  const record: TaskRecord =
    before.stopSinceMs > 0
      ? before
      : { ...before, stopSinceMs: context.nowMs, drains: before.ready && assignment.ports.length > 0 };
  if (!isUp) {
    const message = record.attempt === 0 ? "stopped before it was started" : "stopped as wanted";
    const known = seen === undefined || seen.startedAtMs === 0 ? record : { ...record, ...endOf(seen) };
    return { record: ended(known, TaskState.SHUTDOWN, message, "", context), action: { do: "wait" } };
  }
  const dueMs = record.stopSinceMs + assignment.drainTimeoutMs;
  // Cut off there is no time for that: nobody would tell of the drain, and another node may begin.
  if (record.drains && record.ready && !record.cutOff && !assignment.drained && context.nowMs < dueMs)
    return { record, action: { do: "wait", untilMs: dueMs } };
  return { record, action: stop(record) };
}

function live(record: TaskRecord, seen: ContainerState | undefined, context: Context): Step {
  const again = (next: TaskRecord) => live(next, seen, context);
  switch (record.state) {
    case TaskState.ACCEPTED:
      return again(advance(record, TaskState.PREPARING, "preparing", context));
    case TaskState.PREPARING:
      if (seen === undefined) return { record, action: { do: "prepare" } };
      return again(advance(record, TaskState.READY, "prepared", context));
    case TaskState.READY:
      if (record.assignment.task.desiredState < TaskState.RUNNING) return { record, action: { do: "wait" } };
      return again(advance(record, TaskState.STARTING, "starting", context));
    case TaskState.STARTING:
    case TaskState.RUNNING:
      return keepUp(record, seen, context);
    case TaskState.UNSPECIFIED:
    case TaskState.NEW:
    case TaskState.PENDING:
    case TaskState.ASSIGNED:
      return again(advance(record, TaskState.ACCEPTED, "accepted", context));
    case TaskState.COMPLETE:
    case TaskState.SHUTDOWN:
    case TaskState.FAILED:
    case TaskState.REJECTED:
    case TaskState.ORPHANED:
    case TaskState.REMOVE:
      throw new Error(`task ${record.assignment.task.meta.id} has ended and is asked to live`);
  }
}

/** It has been told to run: keep it running, by its restart policy. */
function keepUp(record: TaskRecord, seen: ContainerState | undefined, context: Context): Step {
  if (seen === undefined) {
    if (record.containerId !== "" && record.phase !== ContainerPhase.BACKING_OFF)
      return settle({ ...charge(record, "the container was removed by somebody else", context) }, seen, context);
    return due(record, { do: "prepare" }, context);
  }
  switch (seen.status) {
    case "created":
      return due(record, { do: "start" }, context);
    case "running":
      return running(record, context);
    case "exited":
    case "dead":
      if (seen.startedAtMs === record.endedRunMs && record.phase === ContainerPhase.BACKING_OFF && !record.lost)
        return due(forgiven(record, context), { do: "start" }, context);
      if (seen.startedAtMs !== record.endedRunMs) {
        const after = runEnded({ ...record, endedRunMs: seen.startedAtMs }, seen, context);
        return settle(after, seen, context);
      }
      return due(record, { do: "start" }, context);
    // By somebody's hand: an event will tell how it goes on.
    case "paused":
    case "restarting":
    case "removing":
      return { record, action: { do: "wait" } };
  }
}

/** After an end was dealt with: over, or waiting for the next start. */
function settle(record: TaskRecord, seen: ContainerState | undefined, context: Context): Step {
  if (isTerminal(record.state)) return { record, action: { do: "wait" } };
  return due(record, { do: seen === undefined ? "prepare" : "start" }, context);
}

function due(record: TaskRecord, action: Action, { nowMs, lostHoldUntilMs }: Context): Step {
  if (record.phase !== ContainerPhase.BACKING_OFF) return { record, action };
  const dueMs = record.lost ? lostHoldUntilMs : record.nextAttemptAtMs;
  if (nowMs >= dueMs) return { record, action };
  return { record: { ...record, nextAttemptAtMs: dueMs }, action: { do: "wait", untilMs: dueMs } };
}

function running(record: TaskRecord, context: Context): Step {
  if (record.unhealthy || record.health === ContainerHealth.UNHEALTHY)
    return { record: { ...record, unhealthy: true, ready: false, readySinceMs: 0 }, action: stop(record) };
  if (record.ready && record.state < TaskState.RUNNING)
    return { record: advance(record, TaskState.RUNNING, "running", context), action: { do: "wait" } };
  if (record.ready && record.error !== "")
    return { record: { ...record, message: `running again after ${record.error}`, error: "" }, action: { do: "wait" } };
  return { record, action: { do: "wait" } };
}

function runEnded(record: TaskRecord, seen: ContainerState, context: Context): TaskRecord {
  if (record.epoch !== "" && record.epoch !== context.epoch) {
    // The exit code was made up by the engine when it came back.
    const hold = Math.max(context.nowMs, context.lostHoldUntilMs);
    const message = "its engine was restarted: starting it again";
    return {
      ...record,
      lost: true,
      phase: ContainerPhase.BACKING_OFF,
      nextAttemptAtMs: hold,
      message,
      readySinceMs: 0,
    };
  }
  const failed = record.unhealthy || seen.exitCode !== 0;
  const known = { ...record, ...endOf(seen) };
  const error = failed ? whyFailed(record, seen) : "";
  const { condition } = record.assignment.spec.restart;
  const isWanted = condition !== RestartCondition.NONE && (failed || condition !== RestartCondition.ON_FAILURE);
  if (!isWanted && failed)
    return ended(known, TaskState.FAILED, "failed, and its restart policy is none", error, context);
  if (!isWanted) return ended(known, TaskState.COMPLETE, "ended by itself", "", context);
  return charge(known, error, context);
}

function endOf(seen: ContainerState) {
  return { endedRunMs: seen.startedAtMs, exitCode: seen.exitCode, oomKilled: seen.oomKilled };
}

/**
 * An engine that is told to end stops its containers first and goes away afterwards: what looked like a failure then
 * was its doing. The charge that is still waiting for its restart is taken back.
 */
function forgiven(record: TaskRecord, { nowMs, epoch }: Context): TaskRecord {
  if (record.epoch === epoch) return record;
  return {
    ...record,
    epoch,
    lost: true,
    failures: Math.max(0, record.failures - 1),
    restartsAtMs: record.restartsAtMs.slice(0, -1),
    nextAttemptAtMs: nowMs,
    message: "its engine was restarted: starting it again",
    error: "",
  };
}

function whyFailed(record: TaskRecord, seen: ContainerState): string {
  if (record.unhealthy) return "its health check failed";
  const why = seen.oomKilled ? " (out of memory)" : seen.error === "" ? "" : ` (${seen.error})`;
  return `exit code ${seen.exitCode}${why}`;
}

/** Another start, charged to the restart policy; the task's end when that is spent. An empty `error` is a good end. */
function charge(record: TaskRecord, error: string, context: Context): TaskRecord {
  const { nowMs, rng } = context;
  const { delayMs, maxAttempts, windowMs } = record.assignment.spec.restart;
  const within = record.restartsAtMs.filter((atMs) => windowMs === 0 || atMs > nowMs - windowMs);
  if (within.length >= maxAttempts) {
    const window = windowMs === 0 ? "" : ` within ${formatDurationMs(windowMs)}`;
    const spent = maxAttempts === 0 ? "no restarts in place" : `${maxAttempts} restarts in place${window}`;
    const state = error === "" ? TaskState.COMPLETE : TaskState.FAILED;
    return ended(record, state, `ended; its restart policy allows ${spent}`, error, context);
  }
  const wasHealthy = record.readySinceMs > 0 && nowMs - record.readySinceMs >= healthyResetMs;
  const failures = wasHealthy ? 1 : record.failures + 1;
  const waitMs = backoffMs({ firstMs: delayMs, maxMs: Math.max(delayMs, backoffMaxMs), jitter }, failures, rng);
  return {
    ...record,
    failures,
    restartsAtMs: [...within, nowMs],
    phase: ContainerPhase.BACKING_OFF,
    nextAttemptAtMs: nowMs + waitMs,
    lost: false,
    ready: false,
    readySinceMs: 0,
    message: `restart ${within.length + 1} of ${maxAttempts}`,
    error,
  };
}
