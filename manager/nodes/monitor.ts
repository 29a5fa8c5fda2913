// The node monitor: a node whose session is gone is UNKNOWN, and after `lostAfterMs` without a sign of life DOWN:
// then its tasks are ORPHANED, and the orchestrator replaces them elsewhere.

import { type Clock, type Logger, ReconcileLoop, type Rng } from "../../lib/mod.js";
import { type Node, NodeState } from "../../proto/mod.js";
import { type Dispatcher, heartbeatPeriodMs, heartbeatsMissedMax, isTerminal, orphan } from "../dispatcher/mod.js";
import type { Store } from "../store/mod.js";

/** From the last sign of life to DOWN. */
export const lostAfterMsDefault = 15_000;
/**
 * A manager that has just come to lead gives agents this much longer to find it: their longest pause between two tries.
 * With the election before and the replacements after it, what ran on the old leader's own host still runs elsewhere
 * within half a minute.
 */
const startGraceMs = 5_000;
/** How often the monitor looks at the clock, to know when the process stood still. */
const tickMs = 5_000;
/** After a pause of this process as long as this, nobody's silence counts. */
const stoodStillMs = 10_000;
/** Tasks that are orphaned in one transaction. */
const orphansPerTransaction = 80;

export interface NodeMonitorOptions {
  store: Store;
  dispatcher: Dispatcher;
  clock: Clock;
  rng: Rng;
  log: Logger;
  lostAfterMs?: number;
}

export class NodeMonitor implements AsyncDisposable {
  readonly #options: NodeMonitorOptions;
  readonly #loop: ReconcileLoop;
  readonly #unsubscribe: () => void;
  #tickedMs: number;
  #cancelTick: () => void;

  constructor(options: NodeMonitorOptions) {
    const { store, dispatcher, clock, rng, log } = options;
    this.#options = options;
    this.#tickedMs = clock.monotonic();
    this.#cancelTick = clock.after(tickMs, () => this.#tick());
    this.#loop = new ReconcileLoop({ name: "node monitor", clock, rng, log, run: () => this.#run() });
    dispatcher.onSessionChange(() => this.#loop.wake());
    this.#unsubscribe = store.subscribe(({ changes }) => {
      if (changes.some(({ table }) => table === "nodes")) this.#loop.wake();
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
    let nextMs = dispatcher.expireSessions();
    for (const node of [...store.view().nodes.values()]) {
      this.#noticeStandstill();
      const { wanted, againAtMs } = this.#judge(node);
      if (againAtMs !== undefined) nextMs = Math.min(nextMs ?? againAtMs, againAtMs);
      if (wanted !== undefined && wanted.state !== node.status.state) await this.#set(node.meta.id, wanted);
      if ((wanted?.state ?? node.status.state) === NodeState.DOWN) await this.#orphanTasks(node.meta.id);
    }
    // The loop's timer is on the wall clock's scale.
    return { wakeAtMs: nextMs === undefined ? undefined : clock.now() + (nextMs - clock.monotonic()) };
  }

  #judge(node: Node): { wanted?: { state: NodeState; message: string }; againAtMs?: number } {
    const { dispatcher, clock, lostAfterMs = lostAfterMsDefault } = this.#options;
    const { id } = node.meta;
    if (dispatcher.hasSession(id)) return { wanted: { state: NodeState.READY, message: "connected" } };
    // Stored as READY before its session is open: the monitor is woken when it is, or will not be.
    if (node.status.state === NodeState.DOWN || dispatcher.isRegistering(id)) return {};
    const seenMs = dispatcher.lastSeenMs(id);
    const unknownAtMs = dispatcher.wasSeen(id) ? seenMs : seenMs + heartbeatPeriodMs * heartbeatsMissedMax;
    const lostAtMs = seenMs + lostAfterMs + (dispatcher.wasSeen(id) ? 0 : startGraceMs);
    const nowMs = clock.monotonic();
    if (nowMs >= lostAtMs)
      return {
        wanted: { state: NodeState.DOWN, message: `no sign of life for ${Math.round((nowMs - seenMs) / 1000)} s` },
      };
    if (nowMs >= unknownAtMs)
      return { wanted: { state: NodeState.UNKNOWN, message: "not connected" }, againAtMs: lostAtMs };
    return { againAtMs: unknownAtMs };
  }

  async #set(nodeId: string, { state, message }: { state: NodeState; message: string }): Promise<void> {
    const { store, clock, log } = this.#options;
    await store.update((tx) => {
      const node = tx.nodes.get(nodeId);
      if (node === undefined || node.status.state === state) return;
      const nowMs = clock.now();
      tx.put("nodes", {
        ...node,
        meta: { ...node.meta, updatedAtMs: nowMs },
        status: { ...node.status, state, message, sinceMs: nowMs },
      });
    });
    log.info({ node: nodeId, state, message }, "node state changed");
  }

  async #orphanTasks(nodeId: string): Promise<void> {
    const { store, clock, log, dispatcher } = this.#options;
    const lost = () => [...store.view().tasksOfNode(nodeId)].filter(({ status }) => !isTerminal(status.state));
    for (let tasks = lost(); tasks.length > 0; tasks = lost()) {
      const ids = tasks.slice(0, orphansPerTransaction).map(({ meta }) => meta.id);
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
