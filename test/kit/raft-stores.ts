// Three embedded stores on three real nodes of the log, in one process: real directories, and a network with cuts.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Message, RaftNode, type RaftNodeOptions, decodeMessage, encodeMessage } from "raft-ts/node";
import { ClusterError, silentLogger, systemClock, systemRng } from "../../lib/mod.js";
import { fromRaftError } from "../../manager/consensus/errors.js";
import {
  type HistoryLimits,
  type RaftStore,
  type StoreLog,
  type Tenure,
  openRaftStore,
} from "../../manager/store/mod.js";

export interface RaftStoresOptions {
  /** Of every node, besides what must differ. */
  raft?: Partial<RaftNodeOptions>;
  history?: HistoryLimits;
}

export interface Manager extends StoreLog {
  readonly self: { id: number; address: string };
  readonly store: RaftStore;
  readonly node: RaftNode;
  /** Ends the node first, as a crash would, then the store. */
  close(): Promise<void>;
}

export class RaftStores implements AsyncDisposable {
  readonly managers = new Map<number, Manager>();
  /** Nothing comes to these, or goes from them. */
  readonly deaf = new Set<number>();
  readonly mute = new Set<number>();
  readonly #root: string;
  readonly #ids: readonly number[];
  readonly #options: RaftStoresOptions;
  #ended: Promise<void> | undefined;

  private constructor(root: string, ids: readonly number[], options: RaftStoresOptions) {
    this.#root = root;
    this.#ids = ids;
    this.#options = options;
  }

  static async start(count: number, options: RaftStoresOptions = {}): Promise<RaftStores> {
    const ids = Array.from({ length: count }, (_, i) => i + 1);
    const stores = new RaftStores(await mkdtemp(join(tmpdir(), "flotilla-raft-")), ids, options);
    await Promise.all(ids.map((id) => stores.open(id)));
    return stores;
  }

  async open(id: number): Promise<Manager> {
    const { raft, history } = this.#options;
    const store = openRaftStore({ clock: systemClock, ...(history === undefined ? {} : { history }) });
    const node = await RaftNode.open({
      id,
      directory: join(this.#root, String(id)),
      machine: {
        apply: (entry) => store.machine.apply(entry),
        configured: () => undefined,
        snapshot: () => store.machine.snapshot(),
        restore: (chunks) => store.machine.restore(chunks),
      },
      transport: {
        send: (to, messages) => this.#send(id, to, messages),
        sendSnapshot: async (message, chunks) => {
          const peer = this.managers.get(message.to);
          if (peer === undefined || !this.#passes(id, message.to)) throw new Error("it cannot be reached");
          await peer.node.receiveSnapshot(message, chunks);
        },
      },
      clock: systemClock,
      random: (n) => systemRng.below(n),
      bootstrap: { voters: [...this.#ids], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false },
      onFatal: (error) => {
        throw error;
      },
      log: silentLogger,
      ...raft,
    });
    const manager = this.#manager(id, store, node);
    store.attach(manager);
    this.managers.set(id, manager);
    return manager;
  }

  get(id: number): Manager {
    const manager = this.managers.get(id);
    if (manager === undefined) throw new Error(`manager ${id} is not open`);
    return manager;
  }

  /** The one that leads, once it does and all that can be reached know it. */
  async leader(): Promise<Manager> {
    return await this.#until("one leads", () => {
      const reachable = [...this.managers.values()].filter(({ self }) => !this.mute.has(self.id));
      const leading = reachable.filter((manager) => manager.tenure() !== undefined);
      const [leader] = leading;
      return leading.length === 1 && reachable.every((manager) => manager.leader()?.id === leader?.self.id)
        ? leader
        : undefined;
    });
  }

  /** Makes that one the leader, whoever is it now. */
  async lead(id: number): Promise<void> {
    for (let tries = 0; tries < 30; tries += 1) {
      const leader = await this.leader();
      if (leader.self.id === id) return;
      // Refused while the other lags behind, for instance; then again.
      await leader.node.transferLeadership(id).catch(() => delay(50));
    }
    throw new Error(`manager ${id} could not be made the leader`);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#ended ??= this.#end();
    return this.#ended;
  }

  async #end(): Promise<void> {
    await Promise.all([...this.managers.values()].map((manager) => manager.close()));
    await rm(this.#root, { recursive: true });
  }

  async #until<T>(what: string, found: () => T | undefined): Promise<T> {
    for (let tries = 0; tries < 3_000; tries += 1) {
      const value = found();
      if (value !== undefined) return value;
      await delay(10);
    }
    throw new Error(`this did not come to hold: ${what}`);
  }

  #passes(from: number, to: number): boolean {
    return !this.mute.has(from) && !this.deaf.has(to);
  }

  #send(from: number, to: number, messages: readonly Message[]): void {
    // By their bytes, so that nodes share nothing.
    const copies = messages.map((message) => decodeMessage(Buffer.concat(encodeMessage(message))));
    setImmediate(() => {
      if (this.#passes(from, to)) this.managers.get(to)?.node.receive(copies);
    });
  }

  #manager(id: number, store: RaftStore, node: RaftNode): Manager {
    const addressOf = (of: number) => `192.0.2.${of}:7400`;
    const listeners = new Set<() => void>();
    let lead = 0;
    let tenure: { tenure: Tenure; ending: AbortController } | undefined;
    node.onLeadership((now) => {
      lead = now.lead;
      const leads = now.leading ? now.term : undefined;
      if (leads !== tenure?.tenure.term) {
        tenure?.ending.abort(new ClusterError("not_leader", "leadership was lost"));
        const ending = new AbortController();
        tenure = leads === undefined ? undefined : { tenure: { epoch: 1, term: leads, signal: ending.signal }, ending };
      }
      for (const listener of Array.from(listeners)) listener();
    });
    const inWords = (error: unknown): never => {
      throw fromRaftError(error, addressOf);
    };
    return {
      store,
      node,
      self: { id, address: addressOf(id) },
      leader: () => (lead === 0 ? undefined : { id: lead, address: addressOf(lead) }),
      tenure: () => tenure?.tenure,
      status: () => node.status(),
      onChange(listener) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
      health: () => (lead === 0 ? { ready: false, message: "no leader" } : { ready: true, message: "in consensus" }),
      propose: (data) => node.propose(data).catch(inWords),
      barrier: (signal) => node.readBarrier(signal).catch(inWords),
      async close() {
        await node[Symbol.asyncDispose]();
        await store[Symbol.asyncDispose]();
      },
    };
  }
}
