// One node of a scenario: the protocol, its disk, and the state machine that it feeds. Every step between a Ready and
// its end is a call of its own, so that a scenario can crash a node between any two of them.

import {
  type ConfState,
  decodeConfChange,
  type Entry,
  type HardState,
  type Logger,
  MemoryStorage,
  type Message,
  type NodeId,
  type RaftConfig,
  RawNode,
  type ReadState,
  type Ready,
  type SnapshotMeta,
} from "../core/mod.js";
import { ScenarioError } from "./format.js";
import { entryText, hardText, messageText } from "./text.js";
import type { Watch } from "./watch.js";

export type MemberSettings = Omit<RaftConfig, "id" | "storage" | "applied" | "random" | "log">;

/** What the state machine took in, in order: texts of normal entries with data. */
export type State = readonly string[];

/** What a node stands on before anything happened: the first snapshot of its cluster, or an empty log (index 0). */
export interface Base {
  index: number;
  term: number;
  confState: ConfState;
}

/** What a member needs of what is around it. */
export interface Surroundings {
  watch: Watch;
  random(id: NodeId, n: number): number;
  send(messages: readonly Message[]): void;
  /** The contents of snapshots, which never pass through the core. */
  snapshots: Map<number, { term: number; state: State }>;
  log(id: NodeId): Logger;
}

interface Taken {
  ready: Ready;
  /** What may only be said once everything of this Ready is durable. */
  later: readonly Message[];
  persisted: boolean;
}

const decoder = new TextDecoder();

export class Member {
  readonly id: NodeId;
  readonly storage: MemoryStorage;
  readonly settings: MemberSettings;
  /** Undefined while the node is down. */
  raw: RawNode | undefined;
  /** A Ready that was taken and has not come to its end. */
  taken: Taken | undefined;
  /** Of the running state machine. */
  state: string[] = [];
  applied = 0;
  /** Committed entries that the application has yet to apply; only filled where applying is held back. */
  toApply: Entry[] = [];
  holdsApply = false;
  /** Answers to readIndex since the start of the node. */
  reads: ReadState[] = [];
  readonly #around: Surroundings;
  /** What survives a power cut: a hard state that was written without a sync may be gone. */
  #synced: HardState;
  /** The newest snapshot on disk: where the state machine begins after a restart. */
  #snapshotIndex: number;

  constructor(id: NodeId, base: Base, settings: MemberSettings, around: Surroundings) {
    this.id = id;
    this.settings = settings;
    this.#around = around;
    this.storage = new MemoryStorage(base.index === 0 ? base.confState : undefined);
    if (base.index > 0) {
      this.storage.applySnapshot(base);
      this.storage.setHardState({ term: base.term, vote: 0, commit: base.index });
    }
    this.#synced = this.storage.initialState().hardState;
    this.#snapshotIndex = base.index;
  }

  get running(): RawNode {
    if (this.raw === undefined) throw new ScenarioError(`node ${this.id} is down`);
    return this.raw;
  }

  start(): void {
    if (this.raw !== undefined) throw new ScenarioError(`node ${this.id} runs already`);
    this.state = [...(this.#around.snapshots.get(this.#snapshotIndex)?.state ?? [])];
    this.applied = this.#snapshotIndex;
    this.toApply = [];
    this.reads = [];
    this.raw = new RawNode({
      ...this.settings,
      id: this.id,
      storage: this.storage,
      applied: this.applied,
      random: (n) => this.#around.random(this.id, n),
      log: this.#around.log(this.id),
    });
  }

  /** Everything that is not on disk is gone; what was written without a sync as well, as in a power cut. */
  crash(): void {
    if (this.raw === undefined) throw new ScenarioError(`node ${this.id} is down already`);
    this.raw = undefined;
    this.taken = undefined;
    this.storage.setHardState(this.#synced);
    this.#around.watch.stopped(this.id);
  }

  /** For logs that would take long to bring about: written to the disk of a node that is down. */
  write(entries: readonly Entry[], hardState: HardState): void {
    if (this.raw !== undefined) throw new ScenarioError(`node ${this.id} runs: a log is set on nodes that are down`);
    this.storage.append(entries);
    this.storage.setHardState(hardState);
    this.#synced = hardState;
  }

  /** The first step of a Ready: what a leader may say before anything is durable is sent. */
  take(): string[] {
    if (this.taken !== undefined) throw new ScenarioError(`node ${this.id} has not finished its Ready`);
    const raw = this.running;
    if (!raw.hasReady()) return [];
    const leads = raw.status().role === "leader";
    const ready = raw.ready();
    const early = ready.messages.filter((m) => leads && (m.type === "MsgApp" || m.type === "MsgHeartbeat"));
    const later = ready.messages.filter((m) => !early.includes(m));
    this.taken = { ready, later, persisted: false };
    this.#around.watch.ready(this, ready);
    const lines: string[] = [];
    if (ready.softState !== undefined) lines.push(`${ready.softState.role} lead=${ready.softState.lead}`);
    return [...lines, ...this.#say(early)];
  }

  /** Entries, then the hard state, one sync; of a torn write only the entries reach the disk. */
  persist(torn = false): string[] {
    const taken = this.#taken();
    if (taken.persisted) throw new ScenarioError(`node ${this.id} has persisted this Ready`);
    const { snapshot, entries, hardState, mustSync } = taken.ready;
    const lines: string[] = [];
    if (snapshot !== undefined) {
      this.storage.applySnapshot(snapshot);
      this.#snapshotIndex = Math.max(this.#snapshotIndex, snapshot.index);
      this.#synced = { ...this.#synced, commit: Math.max(this.#synced.commit, snapshot.index) };
      lines.push(`save snapshot ${snapshot.term}/${snapshot.index}`);
    }
    this.storage.append(entries);
    for (const entry of entries) lines.push(`append ${entryText(entry)}`);
    if (torn) return lines;
    if (hardState !== undefined) {
      this.storage.setHardState(hardState);
      lines.push(`save ${hardText(hardState)}`);
    }
    if (mustSync) {
      this.#synced = this.storage.initialState().hardState;
      lines.push("sync");
    }
    taken.persisted = true;
    this.#around.watch.persisted(this, this.#synced);
    return lines;
  }

  /** The end of a Ready: the other messages, the committed entries, and the core is told. */
  finish(): string[] {
    const taken = this.#taken();
    if (!taken.persisted) throw new ScenarioError(`node ${this.id} has not persisted its Ready`);
    const { ready, later } = taken;
    this.taken = undefined;
    const lines = this.#say(later);
    if (ready.snapshot !== undefined) this.#restore(ready.snapshot);
    this.toApply.push(...ready.committedEntries);
    if (!this.holdsApply) lines.push(...this.apply(this.toApply.length));
    for (const read of ready.readStates) {
      this.reads.push(read);
      this.#around.watch.read(this.id, read);
      lines.push(`read ${read.context} at ${read.index}`);
    }
    this.running.advance();
    if (!this.holdsApply) this.running.appliedTo(this.applied);
    return lines;
  }

  /** Applies up to `count` of the entries that wait. */
  apply(count: number): string[] {
    const lines: string[] = [];
    for (const entry of this.toApply.splice(0, count)) {
      this.#around.watch.entryApplied(this, entry);
      this.applied = entry.index;
      lines.push(`apply ${entryText(entry)}`);
      if (entry.type === "conf-change") this.running.applyConfChange(decodeConfChange(entry.data), entry.index);
      else if (entry.data.length > 0) this.state.push(decoder.decode(entry.data));
    }
    return lines;
  }

  /** The application says how far it is; after `apply` of entries that were held back. */
  reportApplied(): void {
    this.running.appliedTo(this.applied);
  }

  /** A snapshot of what is applied, for followers whose entries are compacted. */
  snapshot(): SnapshotMeta {
    const meta = this.storage.createSnapshot(this.applied, this.running.confState);
    const known = this.#around.snapshots.get(meta.index);
    if (known !== undefined && known.state.join("\n") !== this.state.join("\n")) {
      throw new ScenarioError(`two snapshots at ${meta.index} hold different states`);
    }
    this.#around.snapshots.set(meta.index, { term: meta.term, state: [...this.state] });
    this.#snapshotIndex = meta.index;
    // Its marker is synced, and with it all that was written before.
    this.#synced = this.storage.initialState().hardState;
    return meta;
  }

  #restore(snapshot: SnapshotMeta): void {
    const contents = this.#around.snapshots.get(snapshot.index);
    if (contents === undefined) throw new ScenarioError(`no contents of a snapshot at ${snapshot.index}`);
    this.state = [...contents.state];
    this.applied = snapshot.index;
    this.toApply = [];
  }

  #taken(): Taken {
    if (this.taken === undefined) throw new ScenarioError(`node ${this.id} has no Ready under way`);
    return this.taken;
  }

  #say(messages: readonly Message[]): string[] {
    for (const message of messages) this.#around.watch.sent(this, message);
    this.#around.send(messages);
    return messages.map((message) => `send ${messageText(message)}`);
  }
}
