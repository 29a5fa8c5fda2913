// A model of the agents of a ServiceWorld: what the containers of an image do, told as agents tell it.

import { hasEnded } from "../../deploy/strategy/mod.js";
import { applyStatus } from "../../manager/dispatcher/mod.js";
import { ContainerHealth, ContainerPhase, type Task, TaskState, type TaskStatus } from "../../proto/mod.js";

/**
 * How the containers of an image behave. rejects: the image cannot be pulled; exits: fails soon after its start;
 * crash-loops: again and again a second after it was ready, restarted in place, until the policy is spent; hangs:
 * never gets ready; sickens: as crash-loops, but after `sickAfterMs`; flaps: ready or not, every second, for ever.
 */
export type Behaviour = "good" | "rejects" | "exits" | "crash-loops" | "hangs" | "completes" | "sickens" | "flaps";

export interface Pace {
  /** How long a container takes from its start to ready, and from the stop signal to its end. */
  startMs: number;
  stopMs: number;
  sickAfterMs: number;
}

const crashAfterMs = 1000;
/** In-place restarts before the policy is spent. */
const restartsMax = 3;

export class ModelAgents {
  /** Since when each task is as it is. */
  readonly #since = new Map<string, { as: string; atMs: number }>();

  /** The task after its agent looked at it. */
  act(task: Task, kind: Behaviour, { startMs, stopMs, sickAfterMs }: Pace, now: number): Task | undefined {
    if (hasEnded(task)) return undefined;
    const { state, container } = task.status;
    const stopping = task.desiredState >= TaskState.SHUTDOWN;
    const as = `${state} ${stopping} ${container?.attempt} ${container?.ready}`;
    const seen = this.#since.get(task.meta.id);
    if (seen?.as !== as) this.#since.set(task.meta.id, { as, atMs: now });
    const elapsedMs = seen?.as === as ? now - seen.atMs : 0;
    const attempt = container?.attempt ?? 1;
    if (stopping)
      return state < TaskState.STARTING || elapsedMs >= stopMs ? report(task, TaskState.SHUTDOWN, now, {}) : undefined;
    if (state < TaskState.PREPARING) return report(task, TaskState.PREPARING, now, {});
    if (state === TaskState.PREPARING)
      return kind === "rejects"
        ? report(task, TaskState.REJECTED, now, { error: "no such image" })
        : report(task, TaskState.READY, now, {});
    if (state === TaskState.READY)
      return task.desiredState === TaskState.RUNNING
        ? report(task, TaskState.STARTING, now, { attempt: 1 })
        : undefined;
    if (state === TaskState.STARTING) {
      if (elapsedMs < startMs || kind === "hangs") return undefined;
      return kind === "exits"
        ? report(task, TaskState.FAILED, now, { attempt: 1, exitCode: 1 })
        : report(task, TaskState.RUNNING, now, { attempt: 1, ready: true });
    }
    if (kind === "completes" && elapsedMs >= crashAfterMs)
      return report(task, TaskState.COMPLETE, now, { attempt, exitCode: 0 });
    if (kind === "flaps" && elapsedMs >= crashAfterMs)
      return report(task, TaskState.RUNNING, now, { attempt, ready: container?.ready !== true });
    if (kind !== "crash-loops" && kind !== "sickens") return undefined;
    if (container?.ready !== true)
      return elapsedMs >= startMs
        ? report(task, TaskState.RUNNING, now, { attempt, ready: true, exitCode: 1 })
        : undefined;
    if (elapsedMs < (kind === "sickens" ? sickAfterMs : crashAfterMs)) return undefined;
    return attempt > restartsMax
      ? report(task, TaskState.FAILED, now, { attempt, exitCode: 1 })
      : report(task, TaskState.RUNNING, now, { attempt: attempt + 1, exitCode: 1 });
  }
}

function report(
  task: Task,
  state: TaskState,
  now: number,
  {
    attempt,
    ready = false,
    exitCode,
    error = "",
  }: Partial<Record<"attempt" | "exitCode", number>> & {
    ready?: boolean;
    error?: string;
  },
): Task | undefined {
  const status: TaskStatus = { state, sinceMs: now, message: "", error, container: task.status.container };
  if (attempt !== undefined)
    status.container = {
      id: task.meta.id,
      attempt,
      phase: phaseOf(state, exitCode !== undefined && !ready),
      nextAttemptAtMs: 0,
      health: ContainerHealth.NONE,
      ready,
      address: "10.128.1.2",
      hostPorts: [],
      exitCode,
      oomKilled: false,
      startedAtMs: task.status.container?.attempt === attempt ? task.status.container.startedAtMs : now,
    };
  return applyStatus(task, status, now);
}

function phaseOf(state: TaskState, crashed: boolean): ContainerPhase {
  if (state >= TaskState.COMPLETE) return ContainerPhase.STOPPED;
  return crashed ? ContainerPhase.BACKING_OFF : ContainerPhase.RUNNING;
}
