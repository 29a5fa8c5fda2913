// What Prometheus can read of a manager: names and units as its conventions want them.

import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import { NodeState, TaskState } from "../../proto/mod.js";
import type { CallObserver } from "../rpc/mod.js";
import type { Store } from "../store/mod.js";

function lower(name: string): string {
  return name.toLowerCase();
}

export class ManagerMetrics implements Disposable {
  readonly registry = new Registry();
  readonly observeCall: CallObserver;
  readonly #unsubscribe: () => void;

  constructor(store: Store, sessions: () => number) {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    const calls = new Counter({
      name: "flotilla_manager_calls_total",
      help: "gRPC calls that ended, by method and outcome.",
      labelNames: ["method", "code"],
      registers,
    });
    this.observeCall = (method, code) => calls.inc({ method, code });
    const commits = new Counter({ name: "flotilla_store_commits_total", help: "Commits seen.", registers });
    const writes = new Counter({
      name: "flotilla_store_writes_total",
      help: "Objects written or removed, by table.",
      labelNames: ["table"],
      registers,
    });
    this.#unsubscribe = store.subscribe(({ changes }) => {
      commits.inc();
      for (const { table } of changes) writes.inc({ table });
    });
    new Gauge({
      name: "flotilla_store_ready",
      help: "1 when reads are current and writes can be made.",
      registers,
      collect() {
        this.set(store.health().ready ? 1 : 0);
      },
    });
    new Gauge({
      name: "flotilla_store_revision",
      help: "Revision of the newest commit in the view.",
      registers,
      collect() {
        this.set(store.view().revision);
      },
    });
    new Gauge({
      name: "flotilla_sessions",
      help: "Agents connected to this manager.",
      registers,
      collect() {
        this.set(sessions());
      },
    });
    new Gauge({
      name: "flotilla_services",
      help: "Services in the store.",
      registers,
      collect() {
        this.set(store.view().services.size);
      },
    });
    new Gauge({
      name: "flotilla_tasks",
      help: "Tasks in the store, by observed state.",
      labelNames: ["state"],
      registers,
      collect() {
        const counts = new Map<number, number>();
        for (const { status } of store.view().tasks.values())
          counts.set(status.state, (counts.get(status.state) ?? 0) + 1);
        for (const [name, state] of Object.entries(TaskState))
          if (state >= TaskState.NEW && state < TaskState.REMOVE)
            this.set({ state: lower(name) }, counts.get(state) ?? 0);
      },
    });
    new Gauge({
      name: "flotilla_nodes",
      help: "Nodes in the store, by state.",
      labelNames: ["state"],
      registers,
      collect() {
        const counts = new Map<number, number>();
        for (const { status } of store.view().nodes.values())
          counts.set(status.state, (counts.get(status.state) ?? 0) + 1);
        for (const [name, state] of Object.entries(NodeState))
          if (state > NodeState.UNSPECIFIED) this.set({ state: lower(name) }, counts.get(state) ?? 0);
      },
    });
  }

  [Symbol.dispose](): void {
    this.#unsubscribe();
    this.registry.clear();
  }
}
