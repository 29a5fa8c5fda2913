// The order in which a node's work is done, whatever disk and network are around it.
//
// Inputs only step the protocol. flush() then takes one Ready of all that was stepped:
//   1. a leader's MsgApps and heartbeats leave at once: followers write while the leader does;
//   2. the rest of what others may rely on (acknowledgements, votes, refusals) waits for persisted();
//   3. what is committed is applied in the log's order as soon as it is durable here, also while later entries are
//      being written; membership changes come into force in between, at their place;
//   4. reads wait until what they must see is applied;
//   5. while a write is under way, heartbeats and their answers still go out, so that a slow disk costs no leader its
//      place; a disk that hangs does, after `stallTicks`.
// One write and one application are under way at most. What arrives during a write forms the next Ready, so batches
// grow with the load and need no timer.

import { decodeConfChange, nobody, RaftInvariantError } from "../core/mod.js";
import type {
  ConfChange,
  Entry,
  HardState,
  Message,
  NodeId,
  Outcome,
  Proposal,
  RawNode,
  ReadState,
  Ready,
  SnapshotMeta,
  SoftState,
} from "../core/mod.js";
import type { Batch, Host } from "./host.js";

export interface DriverLimits {
  /**
   * Bytes of committed entries that wait for the state machine, also those that the core has not handed out: beyond it
   * new ones are not taken in. What came at a start is not among them.
   */
  backlogBytes: number;
  /** Confirmed reads that wait for the state machine; beyond it they are dropped, and their askers ask again. */
  heldReads: number;
  /** Ticks of one write after which this node falls silent: others then lead, or count it as gone. */
  stallTicks: number;
}

const defaultLimits: DriverLimits = { backlogBytes: 64 << 20, heldReads: 10_000, stallTicks: 40 };

/** What is to be applied, in order. */
type Work = { snapshot: SnapshotMeta } | { entries: readonly Entry[] };

interface Written {
  batch: Batch;
  /** The term or the vote changes with it: until it is durable nobody may know. */
  votes: boolean;
  /** Absent for a commit alone, which is of no Ready. */
  ready: Ready | undefined;
  /** Sent once it is durable. */
  messages: readonly Message[];
  /** Applied once it is durable. */
  committed: readonly Entry[];
}

export class Driver {
  readonly raw: RawNode;
  readonly #host: Host;
  readonly #limits: DriverLimits;
  /** The Ready that is being made durable. */
  #writing: Written | undefined;
  /** For how long it is. */
  #writingTicks = 0;
  #work: Work[] = [];
  /** What was taken in and is not applied, oldest first; of the first `#waitingCommitted` it is known to be committed. */
  #waiting: { last: number; bytes: number }[] = [];
  #waitingCommitted = 0;
  /** Of the committed. Others must not count: what commits them may come only with new entries. */
  #backlogBytes = 0;
  /** The state machine is at work: up to which entry it was told, and which one counts as applied then. */
  #applying: { last: number; upTo: number } | undefined;
  #applied: number;
  /** As the core knows it; behind while a Ready is under way. */
  #appliedInCore: number;
  #reads: ReadState[] = [];
  #soft: SoftState = { lead: 0, role: "follower" };
  #term: number;
  #vote: NodeId;
  /** A commit that is not written yet: it goes with the next batch, or with the next tick. Losing it loses nothing. */
  #unwritten: HardState | undefined;
  /** The newest of all, written or not. */
  #hard: HardState;
  /** The commit that is on disk as far as batches brought it there, and the part of it that survives a power cut. */
  #commitWritten: number;
  #commitDurable: number;
  /** Whether the loop of #run is on the stack. */
  #running = false;

  constructor(raw: RawNode, host: Host, limits: Partial<DriverLimits> = {}) {
    this.raw = raw;
    this.#host = host;
    this.#limits = { ...defaultLimits, ...limits };
    const { applied, term, vote, commit } = raw.status();
    this.#vote = vote;
    this.#hard = { term, vote, commit };
    this.#commitWritten = commit;
    this.#commitDurable = commit;
    this.#applied = applied;
    this.#appliedInCore = applied;
    this.#term = term;
  }

  /** Up to here the state machine has everything. */
  get appliedIndex(): number {
    return this.#applied;
  }

  /** Whether a write is under way. */
  get writing(): boolean {
    return this.#writing !== undefined;
  }

  /** New entries are dropped, as a network may, while the state machine is too far behind: the leader sends them again. */
  receive(m: Message): Outcome {
    if (this.#backlogged && m.type === "MsgApp" && m.entries.length > 0) {
      return "too-much-pending";
    }
    return this.raw.step(m);
  }

  tick(): void {
    this.raw.tick();
    this.#writingTicks++;
    if (this.#unwritten !== undefined && this.#writing === undefined && !this.raw.hasReady()) {
      this.#writeCommit(false);
    }
  }

  campaign(): Outcome {
    return this.raw.campaign();
  }

  propose(data: Uint8Array): Outcome {
    return this.#backlogged ? "too-much-pending" : this.raw.propose(data);
  }

  proposeMany(proposals: readonly Proposal[]): Outcome {
    return this.#backlogged ? "too-much-pending" : this.raw.proposeMany(proposals);
  }

  proposeConfChange(cc: ConfChange): Outcome {
    return this.raw.proposeConfChange(cc);
  }

  readIndex(context: number): Outcome {
    return this.raw.readIndex(context);
  }

  transferLeader(to: NodeId): Outcome {
    return this.raw.transferLeader(to);
  }

  forgetLeader(): Outcome {
    return this.raw.forgetLeader();
  }

  reportUnreachable(id: NodeId): void {
    this.raw.reportUnreachable(id);
  }

  reportSnapshot(id: NodeId, ok: boolean): void {
    this.raw.reportSnapshot(id, ok);
  }

  /**
   * The newest commit where it is not written yet: it usually goes with the next batch. A host that writes more than
   * batches takes it first, and writes it: a snapshot's marker must not be ahead of the commit on disk.
   */
  takeUnwritten(): HardState | undefined {
    const unwritten = this.#unwritten;
    this.#unwritten = undefined;
    return unwritten;
  }

  /** The batch of the last `Host.persist` is durable. */
  persisted(): void {
    const writing = this.#writing;
    if (writing === undefined) {
      throw new RaftInvariantError("persisted() without a write under way");
    }
    this.#writing = undefined;
    const { hardState, mustSync } = writing.batch;
    this.#commitWritten = hardState?.commit ?? this.#commitWritten;
    if (mustSync) {
      this.#commitDurable = this.#commitWritten;
    }
    this.#finish(writing);
    this.#run();
  }

  /** The state machine has everything up to `index`: part or all of what it was given last. */
  applied(index: number): void {
    const applying = this.#applying;
    if (applying === undefined || index <= this.#applied || index > applying.last) {
      throw new RaftInvariantError(
        `applied(${index}) where ${this.#applied} is applied and ${applying?.last ?? "nothing"} was given`,
      );
    }
    if (index === applying.last) {
      this.#applying = undefined;
      this.#setApplied(applying.upTo);
    } else {
      this.#setApplied(index);
    }
    this.#run();
  }

  /** Does what the steps since the last call ask for; while a write is under way most of it follows that. */
  flush(): void {
    this.#run();
    if (this.#writing !== undefined) {
      this.#meanwhile(this.#writing);
    }
  }

  get #backlogged(): boolean {
    return this.#backlogBytes > this.#limits.backlogBytes;
  }

  #run(): void {
    // A host may answer persist() or apply() before they return: the loop below then finds more to do.
    if (this.#running) {
      return;
    }
    this.#running = true;
    try {
      do {
        // The write first: the state machine then works while the disk does.
        while (this.#writing === undefined && this.raw.hasReady()) {
          this.#take(this.raw.ready());
        }
      } while (this.#applyNext());
    } finally {
      this.#running = false;
    }
  }

  /** What a slow disk must not hold up: that a leader is there, that others hear it, that it leads no more. */
  #meanwhile({ votes }: Written): void {
    if (this.#soft.role === "leader" && !this.raw.leads) {
      // The next Ready tells whom it follows, and in which term.
      this.#soft = { lead: nobody, role: "follower" };
      this.#host.leadership({ term: this.#term, ...this.#soft });
    }
    if (votes || this.#writingTicks > this.#limits.stallTicks) {
      return;
    }
    const messages = this.raw.takeHeartbeats();
    if (messages.length > 0) {
      this.#host.send(messages);
    }
  }

  #take(ready: Ready): void {
    const { softState, hardState, entries, snapshot, committedEntries, messages, readStates, mustSync } = ready;
    // A leader's term and vote are durable since before it became one. Where they change, nothing may precede them.
    const votes = hardState !== undefined && (hardState.term !== this.#term || hardState.vote !== this.#vote);
    this.#vote = hardState?.vote ?? this.#vote;
    this.#hard = hardState ?? this.#hard;
    this.#lead(softState, hardState?.term ?? this.#term);
    this.#hold(readStates);
    this.#takeIn(snapshot, entries);
    if (entries.length === 0 && snapshot === undefined && !mustSync) {
      this.#unwritten = hardState ?? this.#unwritten;
      this.#finish({ ready, messages, committed: committedEntries });
      return;
    }
    const early = votes ? [] : messages.filter(mayPrecedeWrite);
    if (early.length > 0) {
      this.#host.send(early);
    }
    const late = early.length === 0 ? messages : messages.filter((m) => !mayPrecedeWrite(m));
    // What is committed and was durable before this Ready need not wait for it.
    const durable = snapshot === undefined ? durableCount(committedEntries, entries[0]) : 0;
    this.#queue(committedEntries.slice(0, durable));
    const state = hardState ?? this.#unwritten;
    const batch: Batch = { entries, mustSync };
    if (snapshot !== undefined) {
      batch.snapshot = snapshot;
    }
    if (state !== undefined) {
      batch.hardState = state;
    }
    this.#unwritten = undefined;
    this.#writing = { batch, votes, ready, messages: late, committed: committedEntries.slice(durable) };
    this.#writingTicks = 0;
    this.#host.persist(batch);
  }

  /** What may be done once the Ready is durable. */
  #finish({ ready, messages, committed }: Omit<Written, "batch" | "votes">): void {
    if (messages.length > 0) {
      this.#host.send(messages);
    }
    if (ready === undefined) {
      this.#tellCore();
      return;
    }
    if (ready.snapshot !== undefined) {
      // It has all that still waits here; a snapshot that waits may even be gone from the disk when its turn comes.
      this.#work = [{ snapshot: ready.snapshot }];
    }
    this.#queue(committed);
    this.raw.advance();
    this.#tellCore();
  }

  #writeCommit(mustSync: boolean): void {
    this.#unwritten = undefined;
    const batch: Batch = { entries: [], hardState: this.#hard, mustSync };
    this.#writing = { batch, votes: false, ready: undefined, messages: [], committed: [] };
    this.#writingTicks = 0;
    this.#host.persist(batch);
  }

  #queue(entries: readonly Entry[]): void {
    if (entries.length > 0) {
      this.#work.push({ entries });
    }
  }

  #takeIn(snapshot: SnapshotMeta | undefined, entries: readonly Entry[]): void {
    if (snapshot !== undefined) {
      this.#waiting = [];
      this.#waitingCommitted = 0;
      this.#backlogBytes = 0;
    }
    const first = entries[0];
    const last = entries.at(-1);
    if (first !== undefined && last !== undefined) {
      // They may replace what is not committed.
      while (this.#waiting.length > this.#waitingCommitted && (this.#waiting.at(-1)?.last ?? 0) >= first.index) {
        this.#waiting.pop();
      }
      this.#waiting.push({ last: last.index, bytes: dataBytes(entries) });
    }
    for (;;) {
      const next = this.#waiting[this.#waitingCommitted];
      if (next === undefined || next.last > this.#hard.commit) {
        return;
      }
      this.#backlogBytes += next.bytes;
      this.#waitingCommitted++;
    }
  }

  /** Begins or does the next piece of the work, and says whether it did; one for the state machine ends it for now. */
  #applyNext(): boolean {
    const work = this.#work[0];
    if (work === undefined || this.#applying !== undefined) {
      return false;
    }
    if ("snapshot" in work) {
      this.#work.shift();
      const { index } = work.snapshot;
      this.#applying = { last: index, upTo: index };
      this.#host.restore(work.snapshot);
      return true;
    }
    const first = work.entries[0];
    if (first?.type === "conf-change") {
      if (first.index > this.#commitDurable) {
        // A change is in force from here on, on this node as on others. Were its commit lost, this node would start
        // again under the configuration before, and could elect itself with a quorum that is none any more.
        if (this.#writing === undefined) {
          this.#writeCommit(true);
        }
        // A host may have answered already.
        return this.#writing === undefined;
      }
      this.#drop(work.entries, 1);
      this.#configure(first);
      return true;
    }
    const end = work.entries.findIndex((entry) => entry.type === "conf-change");
    const run = end < 0 ? work.entries : work.entries.slice(0, end);
    this.#drop(work.entries, run.length);
    const upTo = run.at(-1)?.index ?? this.#applied;
    // The empty entries that leaders begin with are nothing to the state machine.
    const given = run.filter((entry) => entry.data.length > 0);
    const last = given.at(-1)?.index;
    if (last === undefined) {
      this.#setApplied(upTo);
    } else {
      this.#applying = { last, upTo };
      this.#host.apply(given);
    }
    return true;
  }

  #drop(entries: readonly Entry[], count: number): void {
    if (count === entries.length) {
      this.#work.shift();
    } else {
      this.#work[0] = { entries: entries.slice(count) };
    }
  }

  #configure(entry: Entry): void {
    const confState = this.raw.applyConfChange(decodeConfChange(entry.data), entry.index);
    this.#host.configured(entry, confState);
    this.#setApplied(entry.index);
  }

  #setApplied(index: number): void {
    this.#applied = index;
    const done = this.#waiting.findIndex(({ last }) => last > index);
    for (const { bytes } of this.#waiting.splice(0, done < 0 ? this.#waiting.length : done)) {
      this.#backlogBytes -= bytes;
      this.#waitingCommitted--;
    }
    this.#tellCore();
    this.#serveReads();
  }

  /** The core hears of it only when no Ready is under way: until then it has not handed all of it out. */
  #tellCore(): void {
    if (this.#appliedInCore < this.#applied && this.#writing === undefined) {
      this.#appliedInCore = this.#applied;
      this.raw.appliedTo(this.#applied);
    }
  }

  #hold(reads: readonly ReadState[]): void {
    if (reads.length > 0) {
      this.#reads.push(...reads.slice(0, this.#limits.heldReads - this.#reads.length));
      this.#serveReads();
    }
  }

  #serveReads(): void {
    if (this.#reads.length === 0) {
      return;
    }
    const ready = this.#reads.filter(({ index }) => index <= this.#applied);
    if (ready.length > 0) {
      this.#reads = this.#reads.filter(({ index }) => index > this.#applied);
      this.#host.readable(ready);
    }
  }

  #lead(softState: SoftState | undefined, term: number): void {
    if (softState !== undefined || term !== this.#term) {
      this.#soft = softState ?? this.#soft;
      this.#term = term;
      this.#host.leadership({ term, lead: this.#soft.lead, role: this.#soft.role });
    }
  }
}

/** Says nothing of what this node has on disk: followers may write while their leader does. */
function mayPrecedeWrite(m: Message): boolean {
  return m.type === "MsgApp" || m.type === "MsgHeartbeat";
}

/** How many of the committed entries lie before the first that is not durable yet. */
function durableCount(committed: readonly Entry[], firstNew: Entry | undefined): number {
  const last = committed.at(-1);
  if (firstNew === undefined || last === undefined || last.index < firstNew.index) {
    return committed.length;
  }
  return Math.max(0, firstNew.index - (committed[0]?.index ?? firstNew.index));
}

function dataBytes(entries: readonly Entry[]): number {
  let bytes = 0;
  for (const entry of entries) {
    bytes += entry.data.length;
  }
  return bytes;
}
