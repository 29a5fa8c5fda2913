// The node monitor: a node whose session is gone is UNKNOWN, and after the cluster's `lost_after` without a sign of
// life DOWN: then its tasks are ORPHANED, and the orchestrator replaces them elsewhere. judge.ts decides.

import { settingsOf } from "../../deploy/spec/mod.js";
import { type Clock, type Logger, ReconcileLoop, type Rng } from "../../lib/mod.js";
import { NodeState } from "../../proto/mod.js";
import { isTerminal, orphan } from "../dispatcher/mod.js";
import type { Store } from "../store/mod.js";
import { type Judgement, judgeNodes, type NodeSighting, type Verdict } from "./judge.js";

/** How often the monitor looks at the clock, to know when the process stood still. */
const tickMs = 5_000;
/** After a pause of this process as long as this, nobody's silence counts. */
const stoodStillMs = 10_000;
/** Objects that are written in one transaction. */
const writesPerTransaction = 80;

/** What the monitor needs to know of the agents' sessions. */
export interface Sightings {
  onSessionChange(listener: () => void): void;
  hasSession(nodeId: string): boolean;
  isRegistering(nodeId: string): boolean;
  lastSeenMs(nodeId: string): number;
  wasSeen(nodeId: string): boolean;
  expireSessions(): number | undefined;
  pardon(): void;
}

export interface NodeMonitorOptions {
  store: Store;
  dispatcher: Sightings;
  clock: Clock;
  rng: Rng;
  log: Logger;
  /** Names of the managers' cluster's members, which are those of their hosts. */
  managerNames: () => readonly string[];
}

export class NodeMonitor implements AsyncDisposable {
  readonly #options: NodeMonitorOptions;
  readonly #loop: ReconcileLoop;
  readonly #unsubscribe: () => void;
  #tickedMs: number;
  #cancelTick: () => void;
  #releasedMs: number | undefined;

  constructor(options: NodeMonitorOptions) {
    const { store, dispatcher, clock, rng, log } = options;
    this.#options = options;
    this.#tickedMs = clock.monotonic();
    this.#cancelTick = clock.after(tickMs, () => this.#tick());
    this.#loop = new ReconcileLoop({ name: "node monitor", clock, rng, log, run: () => this.#run() });
    dispatcher.onSessionChange(() => this.#loop.wake());
    this.#unsubscribe = store.subscribe(({ changes }) => {
      if (changes.some(({ table }) => table === "nodes" || table === "clusters")) this.#loop.wake();
    });
    this.#loop.wake();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unsubscribe();
    this.#cancelTick();
    await this.#loop[Symbol.asyncDispose]();
  }

  #tick(): void {
    this.#noticeStandstill();
    this.#tickedMs = this.#options.clock.monotonic();
    if (this.#misnamed().length > 0) this.#loop.wake();
    this.#cancelTick = this.#options.clock.after(tickMs, () => this.#tick());
  }

  /** Late timers run before what waits in the sockets is read: heartbeats may be there that nobody has seen. */
  #noticeStandstill(): void {
    const { dispatcher, clock, log } = this.#options;
    const silentMs = clock.monotonic() - this.#tickedMs;
    if (silentMs < stoodStillMs) return;
    this.#tickedMs = clock.monotonic();
    log.warn({ ms: Math.round(silentMs) }, "this manager stood still: nodes get time to be heard again");
    dispatcher.pardon();
  }

  async #run(): Promise<{ wakeAtMs: number | undefined }> {
    const { store, dispatcher, clock } = this.#options;
    this.#noticeStandstill();
    const expireMs = dispatcher.expireSessions();
    let { verdicts, brake, nextMs } = this.#judge();
    if (brake === undefined && [...store.view().clusters.values()][0]?.brake !== undefined) {
      // Released: who is still away gets time to follow, or half a cluster's tasks would be replaced as it returns.
      this.#releasedMs = clock.monotonic();
      ({ verdicts, brake, nextMs } = this.#judge());
    }
    // First: whoever reads that nodes are unknown may read why nothing is done about it.
    await this.#setBrake(brake);
    await this.#setStates([...verdicts]);
    await this.#setManagers();
    for (const { meta, status } of [...store.view().nodes.values()])
      if (status.state === NodeState.DOWN) await this.#orphanTasks(meta.id);
    // The loop's timer is on the wall clock's scale.
    const wakeMs = Math.min(expireMs ?? Number.POSITIVE_INFINITY, nextMs ?? Number.POSITIVE_INFINITY);
    return { wakeAtMs: Number.isFinite(wakeMs) ? clock.now() + (wakeMs - clock.monotonic()) : undefined };
  }

  #judge(): Judgement {
    const { store, dispatcher, clock } = this.#options;
    const view = store.view();
    const [cluster] = view.clusters.values();
    const nodes: NodeSighting[] = [];
    for (const { meta, status } of view.nodes.values())
      nodes.push({
        id: meta.id,
        status,
        connected: dispatcher.hasSession(meta.id),
        registering: dispatcher.isRegistering(meta.id),
        seenMs: dispatcher.lastSeenMs(meta.id),
        wasSeen: dispatcher.wasSeen(meta.id),
      });
    return judgeNodes({
      nodes,
      brake: cluster?.brake,
      lostAfterMs: settingsOf(cluster).lostAfterMs,
      releasedMs: this.#releasedMs,
      nowMs: clock.monotonic(),
      wallMs: clock.now(),
    });
  }

  async #setBrake(brake: Judgement["brake"]): Promise<void> {
    const { store, clock, log } = this.#options;
    const [stored] = store.view().clusters.values();
    const had = stored?.brake;
    if (had?.lostNodes === brake?.lostNodes && had?.nodes === brake?.nodes) return;
    await store.update((tx) => {
      const [cluster] = tx.clusters.values();
      if (cluster === undefined) return;
      const nowMs = clock.now();
      tx.put("clusters", {
        ...cluster,
        meta: { ...cluster.meta, updatedAtMs: nowMs },
        brake: brake === undefined ? undefined : { ...brake, sinceMs: cluster.brake?.sinceMs ?? nowMs },
      });
    });
    if (brake === undefined) log.info("no more than half of the nodes are lost: they are replaced again");
    else if (had === undefined) log.error(brake, "more than half of the nodes were lost at once: replacing nothing");
  }

  async #setStates(verdicts: readonly [string, Verdict][]): Promise<void> {
    const { store, clock, log, dispatcher } = this.#options;
    for (let i = 0; i < verdicts.length; i += writesPerTransaction) {
      // Waiting for the transactions before may have taken long: what has come back meanwhile is judged anew.
      const slice = verdicts
        .slice(i, i + writesPerTransaction)
        .filter(
          ([id, { state }]) =>
            state === NodeState.READY || !(dispatcher.hasSession(id) || dispatcher.isRegistering(id)),
        );
      if (slice.length === 0) continue;
      await store.update((tx) => {
        const nowMs = clock.now();
        for (const [id, { state, message, lastSeenAtMs }] of slice) {
          const node = tx.nodes.get(id);
          if (node === undefined || (node.status.state === state && node.status.message === message)) continue;
          const sinceMs = node.status.state === state ? node.status.sinceMs : nowMs;
          tx.put("nodes", {
            ...node,
            meta: { ...node.meta, updatedAtMs: nowMs },
            status: { ...node.status, state, message, sinceMs, lastSeenAtMs },
          });
        }
      });
      for (const [id, { state, message }] of slice) log.info({ node: id, state, message }, "node state changed");
    }
  }

  /** Nodes of which is stored what they are no more: managers come and go without a word to the store. */
  #misnamed(): string[] {
    const names = new Set(this.#options.managerNames());
    return [...this.#options.store.view().nodes.values()]
      .filter(({ manager, description }) => manager !== names.has(description.hostname))
      .map(({ meta }) => meta.id);
  }

  async #setManagers(): Promise<void> {
    const { store, clock, managerNames } = this.#options;
    const ids = this.#misnamed();
    for (let i = 0; i < ids.length; i += writesPerTransaction)
      await store.update((tx) => {
        const names = new Set(managerNames());
        for (const id of ids.slice(i, i + writesPerTransaction)) {
          const node = tx.nodes.get(id);
          if (node === undefined) continue;
          const manager = names.has(node.description.hostname);
          if (manager !== node.manager)
            tx.put("nodes", { ...node, meta: { ...node.meta, updatedAtMs: clock.now() }, manager });
        }
      });
  }

  async #orphanTasks(nodeId: string): Promise<void> {
    const { store, clock, log, dispatcher } = this.#options;
    const lost = () => [...store.view().tasksOfNode(nodeId)].filter(({ status }) => !isTerminal(status.state));
    for (let tasks = lost(); tasks.length > 0; tasks = lost()) {
      const ids = tasks.slice(0, writesPerTransaction).map(({ meta }) => meta.id);
      // The node may have come back between two transactions: what is left of its tasks is its own again.
      if (dispatcher.hasSession(nodeId)) return;
      const isLost = await store.update((tx) => {
        if (tx.nodes.get(nodeId)?.status.state !== NodeState.DOWN) return false;
        for (const id of ids) {
          const task = tx.tasks.get(id);
          if (task !== undefined && !isTerminal(task.status.state)) tx.put("tasks", orphan(task, clock.now()));
        }
        return true;
      });
      if (!isLost) return;
      log.info({ node: nodeId, tasks: ids.length }, "tasks of a lost node orphaned");
    }
  }
}
