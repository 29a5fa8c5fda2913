// What Prometheus can read of a manager: names and units as its conventions want them.

import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import { NodeState, TaskState } from "../../proto/mod.js";
import type { Consensus } from "../consensus/mod.js";
import type { CallObserver } from "../rpc/mod.js";
import type { Store } from "../store/mod.js";

function lower(name: string): string {
  return name.toLowerCase();
}

export class ManagerMetrics implements Disposable {
  readonly registry = new Registry();
  readonly observeCall: CallObserver;
  readonly #unsubscribe: () => void;

  constructor(store: Store, consensus: Consensus, sessions: () => number) {
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
    consensusGauges(consensus, this.registry);
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

/** Raft's own words; of one manager, as it knows them. */
function consensusGauges(consensus: Consensus, registry: Registry): void {
  const gauge = (name: string, help: string, value: () => number) =>
    new Gauge({
      name: `flotilla_consensus_${name}`,
      help,
      registers: [registry],
      collect() {
        this.set(value());
      },
    });
  gauge("is_leader", "1 while this manager leads and may steer the cluster.", () =>
    consensus.tenure() === undefined ? 0 : 1,
  );
  gauge("has_leader", "1 while this manager knows a leader.", () => (consensus.leader() === undefined ? 0 : 1));
  gauge("term", "Raft term that this manager is in.", () => consensus.status().term);
  gauge(
    "commit_index",
    "Newest entry of the log that this manager knows to be committed.",
    () => consensus.status().commitIndex,
  );
  gauge(
    "applied_index",
    "Newest entry of the log that this manager has applied.",
    () => consensus.status().appliedIndex,
  );
  gauge("members", "Managers of the cluster.", () => consensus.members().length);
  new Gauge({
    name: "flotilla_consensus_lag_entries",
    help: "Entries of the log that a manager lacks; known to the leader, which is the only one to have it.",
    labelNames: ["member"],
    registers: [registry],
    collect() {
      this.reset();
      if (consensus.tenure() === undefined) return;
      for (const { name, lag } of consensus.status().managers) this.set({ member: name }, lag);
    },
  });
}
