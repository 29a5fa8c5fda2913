// Carries out, for one task, what decide.ts answers: looks, decides, writes down, acts, and looks again. An engine that
// is away changes nothing: the runner waits for it, and reports nothing as dead.

import {
  type Clock,
  ClusterError,
  type Logger,
  ReconcileLoop,
  type Rng,
  backoffMs,
  messageOf,
  pause,
} from "../../lib/mod.js";
import { PullPolicy } from "../../proto/mod.js";
import type { ContainerState, Engine } from "../engine/mod.js";
import { type HostSettings, containerRequest, foreignName, isOf } from "./container.js";
import {
  type Action,
  type Context,
  cutOff,
  decide,
  letGo,
  prepareFailed,
  prepared,
  startFailed,
  starting,
} from "./decide.js";
import { type Assignment, type TaskRecord, mustStop, reassigned, statusOf } from "./record.js";

/** What a runner needs of its node. */
export interface Surroundings {
  engine: Engine;
  clock: Clock;
  rng: Rng;
  log: Logger;
  /** Undefined before the first session. */
  host: () => HostSettings | undefined;
  networkId: () => Promise<string>;
  /** The network is gone: the next networkId makes it again. */
  networkLost: () => void;
  /** The engine's life as last seen. */
  epoch: () => Promise<string>;
  /** Asked anew: whoever saw a container dead wants to know whether it died with the engine. */
  freshEpoch: () => Promise<string>;
  lostHoldUntilMs: () => number;
  /** The record changed: keep it, and tell the managers if its status did. */
  changed: (record: TaskRecord, statusChanged: boolean) => void;
  /** A container was started again. */
  restarted: () => void;
  /** Resolves once what was `changed` is on the disk. */
  kept: () => Promise<void>;
  forget: (taskId: string) => void;
}

/** An engine that is away is looked for so often by each task; its event stream usually tells sooner. */
const awayMs = 2_000;
/** Something that is done step by step and does not get on would otherwise keep the loop busy. */
const stepsMax = 50;
const prepareTriesMax = 3;
const prepareRetry = { firstMs: 500, maxMs: 5_000, jitter: 0.3 };
const pullPolicies = {
  [PullPolicy.UNSPECIFIED]: "missing",
  [PullPolicy.MISSING]: "missing",
  [PullPolicy.ALWAYS]: "always",
  [PullPolicy.NEVER]: "never",
} as const;

export class TaskRunner implements AsyncDisposable {
  readonly #around: Surroundings;
  readonly #log: Logger;
  readonly #loop: ReconcileLoop;
  #record: TaskRecord;
  /** Ends a pull that is no longer wanted. */
  #preparing: AbortController | undefined;
  #changeListeners = new Set<() => void>();

  constructor(record: TaskRecord, around: Surroundings) {
    this.#around = around;
    this.#record = record;
    const { task } = record.assignment;
    this.#log = around.log.child({ task: task.meta.id, service: task.serviceName });
    const { clock, rng } = around;
    this.#loop = new ReconcileLoop({
      name: `task ${task.meta.id}`,
      clock,
      rng,
      log: this.#log,
      run: (signal) => this.#run(signal),
    });
  }

  get record(): TaskRecord {
    return this.#record;
  }

  get #taskId(): string {
    return this.#record.assignment.task.meta.id;
  }

  wake(): void {
    this.#loop.wake();
  }

  assign(assignment: Assignment): void {
    this.#become(reassigned(this.#record, assignment));
    this.#reconsider();
  }

  /** The managers no longer list it. */
  unassign(): void {
    this.#become({ ...this.#record, assigned: false });
    this.#reconsider();
  }

  /** No manager was reached for `afterMs`: it stops, until `letGo`. */
  cutOff(afterMs: number): void {
    if (this.#record.cutOff) return;
    this.#become(cutOff(this.#record, afterMs));
    this.#reconsider();
  }

  letGo(): void {
    if (!this.#record.cutOff) return;
    this.#become(letGo(this.#record));
    this.#reconsider();
  }

  /** A container of this task was found. */
  found(containerId: string): void {
    if (this.#record.containerId === "") this.#become({ ...this.#record, containerId });
    this.wake();
  }

  /** Called after every change of the record; the answer ends it. */
  onChange(listener: () => void): () => void {
    this.#changeListeners.add(listener);
    return () => this.#changeListeners.delete(listener);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#preparing?.abort(new ClusterError("cancelled", "the agent ends"));
    await this.#loop[Symbol.asyncDispose]();
  }

  #reconsider(): void {
    if (mustStop(this.#record) || this.#record.cutOff)
      this.#preparing?.abort(new ClusterError("cancelled", "the task is to stop"));
    this.wake();
  }

  #become(record: TaskRecord): void {
    if (same(record, this.#record)) return;
    const statusChanged = !same(statusOf(record), statusOf(this.#record));
    if (record.state !== this.#record.state)
      this.#log.info({ from: this.#record.state, to: record.state, error: record.error }, record.message);
    if (record.attempt > Math.max(1, this.#record.attempt)) this.#around.restarted();
    this.#record = record;
    this.#around.changed(record, statusChanged);
    for (const listener of this.#changeListeners) listener();
  }

  async #run(signal: AbortSignal): Promise<{ wakeAtMs?: number | undefined }> {
    const { clock } = this.#around;
    try {
      for (let steps = 0; steps < stepsMax; steps += 1) {
        signal.throwIfAborted();
        const seen = await this.#look();
        const context = await this.#context(seen);
        const { record, action } = decide(this.#record, seen, context);
        this.#become(record);
        if (action.do === "wait") return { wakeAtMs: action.untilMs };
        const decidedOn = this.#record;
        await this.#around.kept();
        signal.throwIfAborted();
        // Assigned anew while it was written: what was decided may no longer be wanted.
        if (this.#record !== decidedOn) continue;
        if (await this.#act(action, context, signal)) return {};
      }
    } catch (failure) {
      signal.throwIfAborted();
      if (!isEngineAway(failure)) throw failure;
      this.#log.debug({ error: messageOf(failure) }, "the engine is away: waiting");
      return { wakeAtMs: clock.now() + awayMs };
    }
    throw new Error(`task ${this.#taskId}: no end after ${stepsMax} steps`);
  }

  async #look(): Promise<ContainerState | undefined> {
    const { containerId } = this.#record;
    if (containerId === "") return undefined;
    try {
      return await this.#around.engine.inspect(containerId);
    } catch (failure) {
      if (isCode(failure, "not_found")) return undefined;
      throw failure;
    }
  }

  async #context(seen: ContainerState | undefined): Promise<Context> {
    const { clock, rng } = this.#around;
    const ended = seen !== undefined && (seen.status === "exited" || seen.status === "dead");
    const isNews = ended && seen.startedAtMs !== this.#record.endedRunMs;
    const epoch = isNews ? await this.#around.freshEpoch() : await this.#around.epoch();
    return { nowMs: clock.now(), epoch, lostHoldUntilMs: this.#around.lostHoldUntilMs(), rng };
  }

  /** Returns true when there is nothing left to do, ever. */
  async #act(action: Action, context: Context, signal: AbortSignal): Promise<boolean> {
    const { engine } = this.#around;
    const { containerId } = this.#record;
    switch (action.do) {
      case "prepare":
        await this.#prepare(signal);
        return false;
      case "start":
        await this.#start(containerId, context);
        return false;
      case "stop":
        await engine.stop(containerId, action.graceMs);
        return false;
      case "remove":
        await engine.remove(containerId);
        return false;
      case "forget":
        this.#around.forget(this.#taskId);
        return true;
      case "wait":
        return false;
    }
  }

  async #start(containerId: string, context: Context): Promise<void> {
    this.#become(starting(this.#record, context));
    await this.#around.kept();
    try {
      await this.#around.engine.start(containerId);
    } catch (failure) {
      // Removed meanwhile, or nobody there: looking again tells.
      if (isEngineAway(failure)) throw failure;
      if (isCode(failure, "not_found")) {
        if ((await this.#look()) === undefined) return;
        // The container is there, so its network may be what is not: the next container must not get it, too.
        this.#around.networkLost();
      }
      const hopeless = ["invalid_argument", "failed_precondition", "not_found"].some((code) => isCode(failure, code));
      this.#become(startFailed(this.#record, messageOf(failure), hopeless, context));
    }
  }

  /** Network, image, container; ends with a container known, the task rejected, or an error that means: later. */
  async #prepare(signal: AbortSignal): Promise<void> {
    const { clock, rng, networkLost } = this.#around;
    // Told to stop since it was decided to prepare, when there was no pull to end yet.
    if (mustStop(this.#record) || this.#record.cutOff) return;
    const controller = new AbortController();
    const onAbort = () => controller.abort(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    this.#preparing = controller;
    try {
      for (let attempt = 1; ; attempt += 1) {
        try {
          // The record only after the wait: an assignment may have come meanwhile, and must not be undone.
          const containerId = await this.#make(controller.signal);
          this.#become(prepared(this.#record, containerId));
          return;
        } catch (failure) {
          signal.throwIfAborted();
          // To be stopped: the next decision sees why.
          if (controller.signal.aborted) return;
          if (isEngineAway(failure)) throw failure;
          // The image or the network vanished in between, or the registry has a bad moment.
          const mayPass = isCode(failure, "not_found") ? isCreateFailure(failure) : isCode(failure, "unavailable");
          if (isCode(failure, "not_found")) networkLost();
          if (!mayPass || attempt >= prepareTriesMax) {
            this.#become(
              prepareFailed(this.#record, messageOf(failure), {
                nowMs: clock.now(),
                epoch: this.#record.epoch,
                lostHoldUntilMs: 0,
                rng,
              }),
            );
            return;
          }
          this.#become({ ...this.#record, message: `trying again: ${messageOf(failure)}` });
          await pause(clock, backoffMs(prepareRetry, attempt, rng), controller.signal);
          if (controller.signal.aborted) return;
        }
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.#preparing = undefined;
    }
  }

  async #make(signal: AbortSignal): Promise<string> {
    const { engine, networkId, host } = this.#around;
    const { assignment } = this.#record;
    const { container } = assignment.spec;
    const settings = host();
    if (settings === undefined) throw new ClusterError("unavailable", "the node has no session yet");
    const network = await networkId();
    signal.throwIfAborted();
    await engine.ensureImage(container.image, pullPolicies[container.pullPolicy], signal, () => {
      if (this.#record.message !== pulling) this.#become({ ...this.#record, message: pulling });
    });
    signal.throwIfAborted();
    const request = containerRequest(assignment, settings, network);
    try {
      return (await engine.create(request)).id;
    } catch (failure) {
      if (isCode(failure, "not_found"))
        throw new ClusterError("not_found", messageOf(failure), { cause: failure, details: { step: "create" } });
      if (!isCode(failure, "already_exists")) throw failure;
      const holderId = (failure as ClusterError).details["id"] ?? "";
      if (holderId === "") throw new ClusterError("unavailable", messageOf(failure), { cause: failure });
      const holder = await engine.inspect(holderId);
      // An earlier create whose answer was lost, or that this agent's former self did not live to write down.
      if (isOf(holder, this.#taskId, settings.node.meta.id)) return holder.id;
      throw new ClusterError("already_exists", foreignName(request.name, holder), { cause: failure });
    }
  }
}

const pulling = "pulling the image";

function isCode(failure: unknown, code: string): boolean {
  return failure instanceof ClusterError && failure.code === code;
}

/** Away or hung: what was asked may be done later. The registry's absence is another matter. */
function isEngineAway(failure: unknown): boolean {
  if (!(failure instanceof ClusterError)) return false;
  if (failure.code === "deadline_exceeded") return true;
  return failure.code === "unavailable" && failure.details["source"] !== "registry";
}

function isCreateFailure(failure: unknown): boolean {
  return failure instanceof ClusterError && failure.details["step"] === "create";
}

/** Records and statuses are plain data, made field by field in one order. */
function same(a: object, b: object): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}
