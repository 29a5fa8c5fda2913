// The loop around `decide`: looks at every service that is scaled automatically, and scales as a user would, by a new
// revision with its cause. What it remembers of earlier looks is in memory: a new leader shrinks nothing before it has
// looked for a whole cool-down.

import { type Clock, type Logger, ReconcileLoop, type Rng } from "../../lib/mod.js";
import type { AutoscaleStatus, Service } from "../../proto/mod.js";
import { scaleService } from "../orchestrator/mod.js";
import { applySteps } from "../rollout/mod.js";
import type { Store, View } from "../store/mod.js";
import { type Decision, decide, type Outcome, remember, type Use, type Wanted } from "./decide.js";

/** As often as agents report. */
const everyMs = 15_000;

/** Who knows what tasks use. */
export interface UsageSource {
  usage(): ReadonlyMap<string, Use>;
}

export interface AutoscalerOptions {
  store: Store;
  dispatcher: UsageSource;
  clock: Clock;
  rng: Rng;
  log: Logger;
}

/** What is remembered of one service. */
interface Memory {
  history: Wanted[];
  /** Of the message that is stored. */
  outcome: Outcome | undefined;
}

export class Autoscaler implements AsyncDisposable {
  readonly #options: AutoscalerOptions;
  readonly #loop: ReconcileLoop;
  /** By service; those that are scaled no more are forgotten. */
  readonly #memories = new Map<string, Memory>();

  constructor(options: AutoscalerOptions) {
    const { clock, rng, log } = options;
    this.#options = options;
    this.#loop = new ReconcileLoop({ name: "autoscaler", clock, rng, log, run: (signal) => this.#run(signal) });
  }

  /** The store must be ready. */
  start(): void {
    this.#loop.wake();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#loop[Symbol.asyncDispose]();
  }

  async #run(signal: AbortSignal): Promise<{ wakeAtMs: number }> {
    const { store, dispatcher, clock } = this.#options;
    const wakeAtMs = clock.now() + everyMs;
    const services = [...store.view().services.values()].filter(isScaled);
    const ids = new Set(services.map(({ meta }) => meta.id));
    for (const id of this.#memories.keys()) if (!ids.has(id)) this.#memories.delete(id);
    if (ids.size === 0) return { wakeAtMs };
    const usage = dispatcher.usage();
    for (const id of ids) {
      if (signal.aborted) break;
      await this.#look(id, usage);
    }
    return { wakeAtMs };
  }

  async #look(id: string, usage: ReadonlyMap<string, Use>): Promise<void> {
    const { store, log } = this.#options;
    let memory = this.#memories.get(id);
    if (memory === undefined) this.#memories.set(id, (memory = { history: [], outcome: undefined }));
    const seen = this.#decide(store.view(), id, usage, memory);
    if (seen === undefined) return;
    const { wanted, outcome } = seen.decision;
    if (wanted !== undefined)
      memory.history = remember(memory.history, { atMs: seen.nowMs, replicas: wanted }, seen.spec);
    // Figures change with every look: only what they mean is worth a write.
    if (outcome !== "scaled" && outcome === memory.outcome) return;
    const written = await store.update((tx) => {
      // On what is there by now: somebody may have scaled it meanwhile.
      const now = this.#decide(tx, id, usage, memory);
      const service = tx.services.get(id);
      if (now === undefined || service === undefined) return undefined;
      const { decision, nowMs } = now;
      const autoscale = statusAfter(service, decision, nowMs);
      if (decision.outcome !== "scaled") {
        if (service.autoscale?.message !== autoscale.message)
          tx.put("services", { ...service, meta: { ...service.meta, updatedAtMs: nowMs }, autoscale });
        return decision;
      }
      const parts = { service, revisions: tx.revisionsOfService(id), rollout: tx.rollouts.get(service.rolloutId) };
      const request = { replicas: decision.replicas, requestId: "", cause: decision.message };
      const { steps } = scaleService(parts, request, { now: nowMs, id: () => this.#options.rng.id() });
      applySteps(
        tx,
        steps.map((step) =>
          step.do === "put" && step.table === "services" ? { ...step, object: { ...step.object, autoscale } } : step,
        ),
      );
      return decision;
    });
    if (written === undefined) return;
    memory.outcome = written.outcome;
    if (written.outcome === "scaled") log.info({ service: id, replicas: written.replicas }, written.message);
  }

  #decide(view: View, id: string, usage: ReadonlyMap<string, Use>, { history }: Memory) {
    const service = view.services.get(id);
    if (service === undefined || !isScaled(service)) return undefined;
    const { autoscale: spec, mode, task } = service.spec;
    if (spec === undefined || mode.$case !== "replicated") return undefined;
    const nowMs = this.#options.clock.now();
    const decision = decide({
      spec,
      replicas: mode.value.replicas,
      reservations: task.reservations,
      limits: task.limits,
      tasks: [...view.tasksOfService(id)],
      usage,
      status: service.autoscale,
      history,
      nowMs,
    });
    return { decision, spec, nowMs };
  }
}

function isScaled({ spec, removing }: Service): boolean {
  return !removing && spec.autoscale !== undefined && spec.mode.$case === "replicated";
}

function statusAfter(service: Service, { outcome, replicas, message }: Decision, nowMs: number): AutoscaleStatus {
  const before = service.autoscale ?? { scaledUpAtMs: 0, scaledDownAtMs: 0, message: "" };
  if (outcome !== "scaled" || service.spec.mode.$case !== "replicated") return { ...before, message };
  const isUp = replicas > service.spec.mode.value.replicas;
  return { ...before, message, ...(isUp ? { scaledUpAtMs: nowMs } : { scaledDownAtMs: nowMs }) };
}
