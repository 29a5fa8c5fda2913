// Waits until a service is what was asked for, or it is clear that it will not be; shows the way there.

import { ClusterError, messageOf } from "../../lib/errors.js";
import { pause } from "../../lib/clock.js";
import { formatDurationMs } from "../../lib/units.js";
import type { ServiceState } from "../../proto/gen/flotilla/control/v1/control.js";
import { ContainerPhase, RolloutState, type Task, TaskState } from "../../proto/gen/flotilla/objects/v1/objects.js";
import type { ControlApi } from "../client/mod.js";
import { awayMsMax, isPassing } from "../client/passing.js";
import { Failure, exits } from "../exit.js";
import type { Io } from "../io.js";
import { stateOf, taskName } from "../screen/task.js";
import { plain } from "../screen/text.js";
import { logTail, whatFailed } from "./failure.js";
import type { ProgressScreen } from "./screens.js";
import {
  type Aim,
  type Ending,
  type ProgressView,
  endingOf,
  failures,
  progressOf,
  sameTasks,
  stuckSlots,
} from "./view.js";

export interface WatchOptions {
  api: Pick<ControlApi, "watchService" | "logs" | "addresses">;
  io: Io;
  screen: ProgressScreen;
  /** Id or name. */
  service: string;
  name: string;
  /** What was asked for; absent: what the first state says is under way, or was when `revision` was the newest. */
  aim?: Aim;
  revision?: number;
  /** All tasks are new, even those that are ready in the first state. */
  created?: boolean;
  /** The longest wait; absent: only waiting without progress ends, after `idleMs`. */
  timeoutMs?: number;
  limits?: Partial<WatchLimits>;
}

export interface WatchLimits {
  /** No more tasks became ready for so long, and no rollout with its own deadline is running. */
  idleMs: number;
  /** Slots wait for a node, and nothing else goes on, for so long. */
  stuckMs: number;
  /** No manager answered for so long. */
  awayMs: number;
  /** For the log lines of a failing task. */
  logsMs: number;
}
const usualLimits: WatchLimits = { idleMs: 600_000, stuckMs: 5000, awayMs: awayMsMax, logsMs: 5000 };

/** Failing tasks beyond this many are not shown one by one. */
const failuresShownMax = 5;
const tickMs = 250;

type Outcome =
  | Ending
  | { outcome: "unplaceable"; reason: string; slots: { slot: number; reason: string }[] }
  | { outcome: "timeout"; reason: string }
  | { outcome: "detached"; reason: string };
export type Result = Outcome & { revision: number };

export async function watchService(options: WatchOptions): Promise<Result> {
  const watch = new Watch(options);
  const off = options.io.onStop(() => watch.detach());
  try {
    return await watch.run();
  } finally {
    off();
  }
}

class Watch {
  readonly #options: WatchOptions;
  readonly #limits: WatchLimits;
  readonly #controller = new AbortController();
  readonly #shown = new Set<string>();
  readonly #startedAtMs: number;
  #aim: Aim | undefined;
  #state: ServiceState | undefined;
  #result: Result | undefined;
  #error: unknown;
  #best = -1;
  #progressAtMs: number;
  #stuckSinceMs: number | undefined;
  #heardAtMs: number;
  #goingBack = false;
  /** Whether tasks came up that no rollout watches: of a new service, or more replicas. */
  #newTasks: boolean;
  /** Since when everything is as asked. */
  #settledAtMs: number | undefined;
  #lostSaid = false;
  /** What the service was last said to wait for. */
  #waitingFor = "";
  #failuresShown = 0;
  /** Log lines on their way, shown before the end. */
  readonly #pending = new Set<Promise<void>>();

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#limits = { ...usualLimits, ...options.limits };
    this.#aim = options.aim;
    this.#newTasks = options.created ?? false;
    this.#startedAtMs = options.io.clock.monotonic();
    this.#progressAtMs = this.#startedAtMs;
    this.#heardAtMs = this.#startedAtMs;
  }

  detach(): void {
    this.#finish({ outcome: "detached", reason: "you left; the cluster goes on" });
  }

  async run(): Promise<Result> {
    const { clock } = this.#options.io;
    let cancelTick = () => {};
    const tick = () => {
      this.#onTime();
      if (!this.#controller.signal.aborted) cancelTick = clock.after(tickMs, tick);
    };
    tick();
    try {
      // A manager that takes its time to refuse a connection does not hold up a Ctrl-C.
      await Promise.race([this.#read(), aborted(this.#controller.signal)]);
    } finally {
      cancelTick();
      this.#controller.abort();
    }
    // Each has a deadline of its own.
    await Promise.all(this.#pending);
    this.#options.screen.end();
    if (this.#result !== undefined) return this.#result;
    throw this.#error;
  }

  #finish(outcome: Outcome): void {
    if (this.#result !== undefined || this.#error !== undefined) return;
    this.#result = { ...outcome, revision: this.#state?.service?.revision ?? this.#aim?.revision ?? 0 };
    this.#controller.abort();
  }

  #fail(error: unknown): void {
    if (this.#result !== undefined) return;
    this.#error ??= error;
    this.#controller.abort();
  }

  /** Reads states until the end; a broken stream is begun again. */
  async #read(): Promise<void> {
    const { api, service, io, screen } = this.#options;
    const { signal } = this.#controller;
    for (let waitMs = 250; !signal.aborted; waitMs = Math.min(2000, waitMs * 2)) {
      try {
        for await (const state of api.watchService(service, signal)) {
          if (signal.aborted) return;
          waitMs = 250;
          this.#heardAtMs = io.clock.monotonic();
          if (this.#lostSaid) screen.say("a manager answers again");
          this.#lostSaid = false;
          this.#onState(state);
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ClusterError && error.code === "not_found" && this.#state !== undefined) {
          this.#finish({ outcome: "removed", reason: "the service was removed" });
          return;
        }
        if (!isPassing(error)) {
          this.#fail(error);
          return;
        }
        if (!this.#lostSaid) {
          screen.say(`lost the manager (${messageOf(error)}); the cluster goes on by itself, trying again`);
          this.#lostSaid = true;
        }
        if (io.clock.monotonic() - this.#heardAtMs > this.#limits.awayMs) {
          this.#fail(this.#away(error));
          return;
        }
      }
      await pause(io.clock, waitMs, signal);
    }
  }

  #away(cause: unknown): Failure {
    const { api, name } = this.#options;
    return new Failure(
      exits.error,
      `no manager at ${api.addresses.join(", ")} answered for ${formatDurationMs(this.#limits.awayMs)}; how ${name} ends is not known here`,
      { cause, why: [messageOf(cause)], next: [`flotilla rollout status -w ${name}    # once a manager is back`] },
    );
  }

  #onState(state: ServiceState): void {
    const { screen } = this.#options;
    const first = this.#state === undefined;
    this.#state = state;
    const aim = (this.#aim ??= aimOf(state, this.#options.revision));
    const view = progressOf(state, aim);
    const { ending: reached, goingBack } = endingOf(state, aim);
    const ending = this.#watched(state, view, aim, reached);
    if (goingBack !== undefined && !this.#goingBack) {
      this.#goingBack = true;
      screen.say(`going back: ${goingBack}`);
    }
    const { waitingFor = "" } = state.service ?? {};
    if (waitingFor !== "" && waitingFor !== this.#waitingFor) screen.say(`${this.#options.name}: ${plain(waitingFor)}`);
    this.#waitingFor = waitingFor;
    this.#measure(view);
    if (ending?.outcome !== "removed")
      screen.update({
        service: this.#options.name,
        revision: state.service?.revision ?? 0,
        view,
        verify: verifying(state, view, ending, this.#settledAtMs !== undefined),
      });
    this.#showFailures(state, view, aim, first);
    if (ending !== undefined) this.#finish(ending);
    else this.#onTime();
  }

  /** Rollouts watch their new tasks themselves. Others stay ready for the update's monitor time before all is well. */
  #watched(state: ServiceState, view: ProgressView, aim: Aim, ending: Ending | undefined): Ending | undefined {
    if (view.done < view.total) this.#newTasks = true;
    if (ending?.outcome !== "converged") {
      this.#settledAtMs = undefined;
      return ending;
    }
    const now = this.#options.io.clock.monotonic();
    this.#settledAtMs ??= now;
    const watchMs = this.#newTasks && aim.rolloutId === "" && view.job === undefined ? monitorOf(state) : 0;
    return now - this.#settledAtMs >= watchMs ? ending : undefined;
  }

  /** Notes when things last got better. */
  #measure(view: ProgressView): void {
    const score = view.done - view.leaving / 1_000_000 + (this.#goingBack ? 1_000_000 : 0);
    if (score <= this.#best) return;
    this.#best = score;
    this.#progressAtMs = this.#options.io.clock.monotonic();
  }

  #onTime(): void {
    const now = this.#options.io.clock.monotonic();
    const { timeoutMs } = this.#options;
    const state = this.#state;
    const view = state === undefined ? undefined : progressOf(state, this.#aim);
    const stuck = state === undefined || view === undefined || this.#goingBack ? [] : stuckSlots(state, view);
    if (stuck.length === 0) this.#stuckSinceMs = undefined;
    else this.#stuckSinceMs ??= now;
    const timedOut = timeoutMs !== undefined && now - this.#startedAtMs >= timeoutMs;
    if (this.#stuckSinceMs !== undefined && (timedOut || now - this.#stuckSinceMs >= this.#limits.stuckMs)) {
      const slots = stuck.map(({ slot, error }) => ({ slot, reason: error }));
      const reason = [...new Set(slots.map((slot) => slot.reason))].join("; ");
      this.#finish({ outcome: "unplaceable", reason, slots });
      return;
    }
    if (timedOut) {
      const watched = this.#settledAtMs === undefined ? "" : ", and not yet watched long enough";
      const progress = view === undefined ? "no state was seen" : `${counted(view)}${watched}${this.#waits()}`;
      this.#finish({ outcome: "timeout", reason: `not done within ${formatDurationMs(timeoutMs)}: ${progress}` });
      return;
    }
    const settledAtMs = this.#settledAtMs;
    // Without a manager nobody knows whether the tasks are still well.
    if (state !== undefined && settledAtMs !== undefined && !this.#lostSaid && now - settledAtMs >= monitorOf(state)) {
      this.#onState(state);
      return;
    }
    // A running rollout has deadlines of its own, and waits that are asked for.
    // And a job's tasks take as long as their work does.
    const working = view?.job !== undefined && state?.tasks.some(isWorking) === true;
    if (state?.rollout?.state === RolloutState.RUNNING || settledAtMs !== undefined || working)
      this.#progressAtMs = now;
    if (timeoutMs === undefined && now - this.#progressAtMs >= this.#limits.idleMs)
      this.#finish({
        outcome: "timeout",
        reason: `no more tasks ${view?.job === undefined ? "became ready" : "completed"} for ${formatDurationMs(this.#limits.idleMs)} (--timeout sets another limit)${this.#waits()}`,
      });
  }

  #waits(): string {
    return this.#waitingFor === "" ? "" : `; ${this.#waitingFor}`;
  }

  #showFailures(state: ServiceState, view: ProgressView, aim: Aim, first: boolean): void {
    const wanted = sameTasks(state, state.service?.revision ?? 0);
    for (const task of failures(state, view)) {
      const id = task.meta?.id ?? "";
      if (this.#shown.has(id)) continue;
      this.#shown.add(id);
      // What failed before this change is not its doing.
      const earlier = first && task.revision < aim.revision;
      if (earlier || !(wanted.has(task.revision) || task.revision >= aim.revision)) continue;
      this.#failuresShown += 1;
      if (this.#failuresShown <= failuresShownMax) this.#showFailure(state, task, id);
      else if (this.#failuresShown === failuresShownMax + 1)
        this.#options.screen.say(`more tasks fail; see flotilla service ps ${this.#options.name}`);
    }
  }

  #showFailure(state: ServiceState, task: Task, id: string): void {
    const { api, io, screen, service } = this.#options;
    const node = state.nodeNames[task.nodeId] ?? "";
    // What never had a container has no log.
    const tailed =
      task.status?.container === undefined
        ? Promise.resolve({ logs: [], noLogs: "" })
        : logTail(api, io.clock, service, id, this.#limits.logsMs);
    const shown = tailed.then((tail) => {
      screen.failed({ task: taskName(task), id, node, error: whatFailed(task), ...tail });
    });
    this.#pending.add(shown);
    void shown.finally(() => this.#pending.delete(shown));
  }
}

function counted({ done, total, job }: ProgressView): string {
  return `${done} out of ${total} tasks were ${job === undefined ? "ready" : "complete"}`;
}

/** Runs now, and is not waiting for its next attempt. */
function isWorking(task: Task): boolean {
  return stateOf(task) === TaskState.RUNNING && task.status?.container?.phase !== ContainerPhase.BACKING_OFF;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

function aimOf(state: ServiceState, asked: number | undefined): Aim {
  const { rollout } = state;
  const revision = asked ?? state.service?.revision ?? 0;
  const repeats = state.revisions.find(({ number }) => number === revision)?.rollbackOf ?? 0;
  return {
    revision,
    rolloutId: rollout?.toRevision === revision ? (rollout.meta?.id ?? "") : "",
    isRollback: repeats > 0,
  };
}

/** How long new tasks are watched. */
function monitorOf(state: ServiceState): number {
  return state.service?.spec?.update?.monitorMs ?? 0;
}

function verifying(state: ServiceState, view: ProgressView, ending: Ending | undefined, settled: boolean): string {
  if (view.job !== undefined) {
    const { run } = view.job;
    return ending?.outcome === "converged" && run !== undefined ? `run ${run.number} succeeded` : "";
  }
  if (ending !== undefined) return ending.outcome === "converged" ? "service converged" : "";
  if (view.done < view.total) return "";
  if (settled) return `watching the new tasks for ${formatDurationMs(monitorOf(state))}`;
  if (state.rollout?.state === RolloutState.RUNNING) return "watching the new tasks";
  return view.leaving > 0 ? "waiting for old tasks to stop" : "waiting for the service to settle";
}
