// For tests only: nodes with logs in memory and a network between them that can be cut. Everything is delivered in order,
// and by hand or until nothing is left.

import { decodeConfChange } from "./conf-change.js";
import type { RaftConfig } from "./config.js";
import { MemoryStorage } from "./memory-storage.js";
import { RawNode } from "./raw-node.js";
import type { ConfState, Entry, Message, NodeId, ReadState, Ready } from "./types.js";

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (data: Uint8Array): string => new TextDecoder().decode(data);

export const confOf = (voters: NodeId[], learners: NodeId[] = []): ConfState => ({
  voters,
  votersOutgoing: [],
  learners,
  learnersNext: [],
  autoLeave: false,
});

export interface Member {
  raw: RawNode;
  storage: MemoryStorage;
  /** Data of the normal entries that were applied and not empty. */
  applied: string[];
  reads: ReadState[];
  confState: ConfState;
}

export class Network {
  readonly members = new Map<NodeId, Member>();
  /** Under way, oldest first. */
  queue: Message[] = [];
  /** Everything that was ever sent. */
  sent: Message[] = [];
  #cut: (m: Message) => boolean = () => false;
  readonly #settings: Partial<RaftConfig>;

  constructor(ids: readonly NodeId[], settings: Partial<RaftConfig> = {}, conf: ConfState = confOf([...ids])) {
    this.#settings = settings;
    for (const id of ids) this.add(id, new MemoryStorage(conf));
  }

  add(id: NodeId, storage: MemoryStorage): Member {
    const applied = storage.firstIndex() - 1;
    const { confState } = storage.initialState();
    // Node n waits 10 + n ticks, so that the lowest id wins where all wait.
    const config: RaftConfig = {
      id,
      storage,
      applied,
      electionTick: 10,
      heartbeatTick: 1,
      random: (n) => id % n,
      ...this.#settings,
    };
    const member: Member = { raw: new RawNode(config), storage, applied: [], reads: [], confState };
    this.members.set(id, member);
    return member;
  }

  of(id: NodeId): Member {
    const member = this.members.get(id);
    if (member === undefined) throw new Error(`there is no member ${id}`);
    return member;
  }

  raw(id: NodeId): RawNode {
    return this.of(id).raw;
  }

  /** Messages that `cut` says true for are lost. */
  cut(cut: (m: Message) => boolean): void {
    this.#cut = cut;
  }

  isolate(...ids: NodeId[]): void {
    this.cut((m) => ids.includes(m.from) || ids.includes(m.to));
  }

  heal(): void {
    this.cut(() => false);
  }

  /** One Ready of one node, done as the driver would. */
  work(id: NodeId): Ready {
    const member = this.of(id);
    const { raw, storage } = member;
    const ready = raw.ready();
    if (ready.snapshot !== undefined) storage.applySnapshot(ready.snapshot);
    storage.append(ready.entries);
    if (ready.hardState !== undefined) storage.setHardState(ready.hardState);
    for (const m of ready.messages) {
      this.sent.push(m);
      if (!this.#cut(m)) this.queue.push(m);
    }
    raw.advance();
    if (ready.snapshot !== undefined) {
      member.applied = [`snapshot ${ready.snapshot.index}`];
      member.confState = ready.snapshot.confState;
      raw.appliedTo(ready.snapshot.index);
    }
    for (const entry of ready.committedEntries) this.#apply(member, entry);
    member.reads.push(...ready.readStates);
    return ready;
  }

  #apply(member: Member, entry: Entry): void {
    if (entry.type === "conf-change") {
      member.confState = member.raw.applyConfChange(decodeConfChange(entry.data), entry.index);
    } else if (entry.data.length > 0) member.applied.push(text(entry.data));
    member.raw.appliedTo(entry.index);
  }

  /** Until nobody has anything to do. */
  settle(): void {
    for (let rounds = 0; ; rounds++) {
      if (rounds > 10_000) throw new Error("the network does not come to rest");
      let busy = false;
      for (const id of this.members.keys()) {
        while (this.raw(id).hasReady()) {
          this.work(id);
          busy = true;
        }
      }
      const queue = this.queue;
      this.queue = [];
      for (const m of queue) {
        busy = true;
        this.members.get(m.to)?.raw.step(m);
      }
      if (!busy) return;
    }
  }

  tick(id: NodeId, count = 1): void {
    for (let i = 0; i < count; i++) {
      this.raw(id).tick();
      this.settle();
    }
  }

  tickAll(count: number): void {
    for (let i = 0; i < count; i++) {
      for (const { raw } of this.members.values()) raw.tick();
      this.settle();
    }
  }

  /** `id` leads, and everybody knows. */
  elect(id: NodeId): void {
    this.raw(id).campaign();
    this.settle();
    if (this.raw(id).status().role !== "leader") throw new Error(`${id} was not elected`);
  }

  propose(id: NodeId, data: string): void {
    const refusal = this.raw(id).propose(bytes(data));
    if (refusal !== undefined) throw new Error(`the proposal was refused: ${refusal}`);
    this.settle();
  }

  /** Terms of the entries of a member's log, from its first index on. */
  terms(id: NodeId): number[] {
    const { storage } = this.of(id);
    const entries = storage.entries(storage.firstIndex(), storage.lastIndex() + 1, Infinity);
    return typeof entries === "string" ? [] : entries.map((e) => e.term);
  }
}
