// The loop around planService: keeps which services to look at, plans each inside a transaction on the newest view,
// and writes. All state is in the store; a new leader starts with every service to look at.

import { type Clock, ClusterError, type Logger, messageOf, ReconcileLoop, type Rng } from "../../lib/mod.js";
import { isGlobal, settingsOf } from "../../deploy/spec/mod.js";
import { stateName } from "../../deploy/strategy/mod.js";
import { type Node, NodeState, type Rollout, RolloutState, type Service } from "../../proto/mod.js";
import { applySteps, rolloutStateName, type Step } from "../rollout/mod.js";
import type { Change, Commit, Store, Transaction, View } from "../store/mod.js";
import { whyUnready } from "./depends.js";
import { planService, type ServicePlan } from "./plan.js";

/** Writes per transaction; below the store's limit, so that commits can be grouped. */
const writesPerUpdate = 90;
/** Services that are planned and written at the same time. */
const servicesAtOnce = 16;
/** A service whose plan breaks a rule is tried again so often: its objects may be put right. */
const brokenRetryMs = 10_000;
/** Long enough to gather the statuses of one batch, short beside the time a container takes to start. */
const debounceMsDefault = 5;

export interface OrchestratorOptions {
  store: Store;
  clock: Clock;
  rng: Rng;
  log: Logger;
  debounceMs?: number;
}

export class Orchestrator implements AsyncDisposable {
  readonly #options: OrchestratorOptions;
  readonly #loop: ReconcileLoop;
  readonly #dirty = new Set<string>();
  readonly #wakes = new Map<string, number>();
  /** The store has no index of a service's rollouts. */
  readonly #rollouts = new Map<string, Set<string>>();
  /** Services with a slot per node: any node that comes or goes concerns them. */
  readonly #globals = new Set<string>();
  /** Services that have not begun, by the names of those that they depend on. */
  readonly #waiting = new Map<string, Set<string>>();
  #unsubscribe: (() => void) | undefined;

  constructor(options: OrchestratorOptions) {
    const { clock, rng, log, debounceMs = debounceMsDefault } = options;
    this.#options = options;
    this.#loop = new ReconcileLoop({
      name: "orchestrator",
      clock,
      rng,
      log,
      debounceMs,
      run: (signal) => this.#run(signal),
    });
  }

  /** The store must be ready. */
  start(): void {
    if (this.#unsubscribe !== undefined) throw new Error("the orchestrator was started twice");
    const { store } = this.#options;
    this.#unsubscribe = store.subscribe((commit) => this.#onCommit(commit));
    for (const rollout of store.view().rollouts.values()) this.#index(rollout);
    for (const service of store.view().services.values()) this.#lookAtService(undefined, service);
    this.#loop.wake();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unsubscribe?.();
    await this.#loop[Symbol.asyncDispose]();
  }

  #index({ serviceId, meta }: Rollout): void {
    const there = this.#rollouts.get(serviceId);
    if (there === undefined) this.#rollouts.set(serviceId, new Set([meta.id]));
    else there.add(meta.id);
  }

  #onCommit({ changes }: Commit): void {
    for (const change of changes) this.#look(change);
    if (this.#dirty.size > 0) this.#loop.wake();
  }

  #look({ table, before, after }: Change): void {
    switch (table) {
      case "services":
        this.#lookAtService(before, after);
        return;
      case "rollouts":
        if (after !== undefined) this.#index(after);
        else if (before !== undefined) this.#rollouts.get(before.serviceId)?.delete(before.meta.id);
        this.#dirty.add((after ?? before)?.serviceId ?? "");
        return;
      case "tasks": {
        const task = after ?? before;
        if (task === undefined) return;
        this.#dirty.add(task.serviceId);
        this.#lookAtWaiting(task.serviceName);
        return;
      }
      case "nodes":
        if (!isSamePlace(before, after))
          for (const { serviceId } of this.#options.store.view().tasksOfNode((after ?? before)?.meta.id ?? ""))
            this.#dirty.add(serviceId);
        if (!isSameGround(before, after)) for (const id of this.#globals) this.#dirty.add(id);
        return;
      case "clusters":
        // A shorter task history takes effect at once.
        if (settingsOf(before).taskHistory !== settingsOf(after).taskHistory)
          for (const { meta } of this.#options.store.view().services.values()) this.#dirty.add(meta.id);
        return;
      case "revisions":
        return;
    }
  }

  #lookAtService(before: Service | undefined, after: Service | undefined): void {
    const service = after ?? before;
    if (service === undefined) return;
    const { id } = service.meta;
    this.#dirty.add(id);
    if (after !== undefined && isGlobal(after.spec)) this.#globals.add(id);
    else this.#globals.delete(id);
    if (before !== undefined && before.waitingFor !== "")
      for (const name of before.spec.dependsOn) {
        this.#waiting.get(name)?.delete(id);
        if (this.#waiting.get(name)?.size === 0) this.#waiting.delete(name);
      }
    if (after !== undefined && after.waitingFor !== "")
      for (const name of after.spec.dependsOn) this.#waiting.set(name, (this.#waiting.get(name) ?? new Set()).add(id));
    this.#lookAtWaiting(service.spec.name);
  }

  /** Looks again at the services that have not begun for the sake of this one. */
  #lookAtWaiting(name: string): void {
    for (const id of this.#waiting.get(name) ?? []) this.#dirty.add(id);
  }

  async #run(signal: AbortSignal): Promise<{ wakeAtMs: number | undefined }> {
    const { clock, log } = this.#options;
    const now = clock.now();
    for (const [id, atMs] of this.#wakes) if (atMs <= now) this.#dirty.add(id);
    const todo = [...this.#dirty];
    this.#dirty.clear();
    let failure: unknown;
    const worker = async () => {
      for (let id = todo.pop(); id !== undefined; id = todo.pop()) {
        if (signal.aborted) return;
        try {
          await this.#reconcile(id, signal);
        } catch (thrown) {
          if (thrown instanceof ClusterError) {
            // The store's trouble: looked at again with the loop's next run, which waits longer each time.
            this.#dirty.add(id);
            failure = thrown;
            log.debug({ service: id, error: messageOf(thrown) }, "service not reconciled");
          } else {
            // This service's own trouble: the others must not wait for it.
            this.#wakes.set(id, clock.now() + brokenRetryMs);
            log.error({ service: id, err: thrown }, "service cannot be planned");
          }
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(servicesAtOnce, todo.length) }, worker));
    if (failure !== undefined) throw failure;
    let wakeAtMs = Number.POSITIVE_INFINITY;
    for (const atMs of this.#wakes.values()) wakeAtMs = Math.min(wakeAtMs, atMs);
    return { wakeAtMs: Number.isFinite(wakeAtMs) ? wakeAtMs : undefined };
  }

  /** Plans and writes until a plan fits into one transaction. Each part is planned anew, on what is there by then. */
  async #reconcile(id: string, signal: AbortSignal): Promise<void> {
    const { store, log } = this.#options;
    for (let left = true; left && !signal.aborted; ) {
      const done = await store.update((tx) => this.#step(tx, id));
      if (done === undefined) {
        this.#wakes.delete(id);
        this.#rollouts.delete(id);
        return;
      }
      left = done.left;
      if (done.wakeAtMs === undefined) this.#wakes.delete(id);
      else this.#wakes.set(id, done.wakeAtMs);
      for (const step of done.steps) logStep(log, id, step);
    }
  }

  #step(tx: Transaction, id: string): (ServicePlan & { left: boolean }) | undefined {
    const { clock, rng } = this.#options;
    const service = tx.services.get(id);
    if (service === undefined) return undefined;
    const [cluster] = tx.clusters.values();
    const rollouts: Rollout[] = [];
    for (const rolloutId of this.#rollouts.get(id) ?? []) {
      const rollout = tx.rollouts.get(rolloutId);
      if (rollout !== undefined) rollouts.push(rollout);
    }
    const plan = planService(
      {
        service,
        revisions: tx.revisionsOfService(id),
        tasks: [...tx.tasksOfService(id)],
        rollout: tx.rollouts.get(service.rolloutId),
        rollouts,
        node: (nodeId) => tx.nodes.get(nodeId),
        nodes: () => tx.nodes.values(),
        settings: settingsOf(cluster),
        unreadyBecause: (name) => whyUnready(name, partsOf(tx, name)),
      },
      { now: clock.now(), id: () => rng.id() },
    );
    const steps = plan.steps.slice(0, writesPerUpdate);
    applySteps(tx, steps);
    return { steps, wakeAtMs: plan.wakeAtMs, left: steps.length < plan.steps.length };
  }
}

function partsOf(view: View, name: string): Parameters<typeof whyUnready>[1] {
  const service = view.serviceByName(name);
  if (service === undefined) return undefined;
  return {
    service,
    revisions: view.revisionsOfService(service.meta.id),
    tasks: view.tasksOfService(service.meta.id),
    rollout: view.rollouts.get(service.rolloutId),
    nodes: view.nodes.values(),
  };
}

/** Whether nothing about the node changed that tells where tasks may be. */
function isSamePlace(before: Node | undefined, after: Node | undefined): boolean {
  return (
    before?.status.state === after?.status.state &&
    before?.spec.availability === after?.spec.availability &&
    before?.spec.drainDeadlineMs === after?.spec.drainDeadlineMs
  );
}

/**
 * Whether the node is as good a place for services with a slot per node as it was. All 5,000 of a cluster report their
 * state now and then: between READY and UNKNOWN nothing changes here.
 */
function isSameGround(before: Node | undefined, after: Node | undefined): boolean {
  if (before === undefined || after === undefined) return before === after;
  return (
    (before.status.state === NodeState.DOWN) === (after.status.state === NodeState.DOWN) &&
    before.spec.availability === after.spec.availability &&
    before.spec.role === after.spec.role &&
    equalLabels(before.spec.labels, after.spec.labels) &&
    equalDescriptions(before.description, after.description)
  );
}

/** What constraints look at. */
function equalDescriptions(a: Node["description"], b: Node["description"]): boolean {
  return (
    a === b ||
    (a.hostname === b.hostname &&
      a.os === b.os &&
      a.architecture === b.architecture &&
      a.advertiseAddress === b.advertiseAddress &&
      equalLabels(a.labels, b.labels) &&
      equalLabels(a.engineLabels, b.engineLabels))
  );
}

function equalLabels(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return a === b || (keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]));
}

function logStep(log: Logger, service: string, step: Step): void {
  if (step.do === "remove") log.debug({ service, table: step.table, id: step.id }, "removed");
  else if (step.table === "rollouts") {
    const { meta, state, message } = step.object;
    const fields = { service, rollout: meta.id, state: rolloutStateName(state), message };
    // Each slot's progress is a write, too; only beginnings and ends are worth a line by default.
    if (step.do === "put" && state === RolloutState.RUNNING) log.debug(fields, "rollout goes on");
    else log.info(fields, "rollout changed");
  } else if (step.table === "tasks") {
    const { meta, slot, desiredState, cause } = step.object;
    log.debug({ service, task: meta.id, slot, desired: stateName(desiredState), cause, made: step.do }, "task written");
  } else log.debug({ service, table: step.table, id: step.object.meta.id, made: step.do }, "written");
}
