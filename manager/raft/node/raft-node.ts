// One node of a cluster in a Node.js process: the driver with real files, the state machine, and promises for those who
// propose, read and change the membership. Messages are carried by a Transport of the application.
//
// One flush per turn of the event loop: setImmediate comes after all that has arrived in the turn, without waiting for
// more. While a write is under way what comes is only stepped, and forms the next batch.

import { decodeConfChange, type ConfChange, type Message, type MessageOf, type NodeId, RawNode } from "../core/mod.js";
import type { Entry, RaftConfig, ReadState, SnapshotMeta } from "../core/mod.js";
import { type Batch, Driver, type Host, type Leadership } from "../driver/mod.js";
import { type NodeStatus, type PeerStatus, RaftError, type RaftNodeOptions } from "./api.js";
import { Changes, Handovers, refused } from "./changes.js";
import { type FileSystem, realFileSystem } from "./file-system.js";
import { checked, type Settings } from "./settings.js";
import { Proposals } from "./proposals.js";
import { Reads } from "./reads.js";
import { Turn } from "./slices.js";
import { Snapshotting } from "./snapshotting.js";
import { NodeStorage } from "./node-storage.js";

/** Of proposals that become entries together; then the next are asked for. */
const proposeBytes = 1 << 20;

/** Told after every change; `leading` is true from when the first entry of the node's own term is applied here. */
export type LeadershipListener = (now: Leadership & { leading: boolean }) => void;

export class RaftNode implements AsyncDisposable {
  readonly id: NodeId;
  readonly #options: Settings;
  readonly #storage: NodeStorage;
  readonly #driver: Driver;
  readonly #turn: Turn;
  readonly #proposals = new Proposals();
  readonly #reads: Reads;
  readonly #changes = new Changes();
  readonly #handovers = new Handovers();
  readonly #snapshots: Snapshotting;
  readonly #listeners = new Set<LeadershipListener>();
  #now: Leadership;
  #leading = false;
  #flushDue = false;
  /** Of entries that were stepped since the last write began. */
  #unwrittenBytes = 0;
  #cancelTick: () => void = () => {};
  #tickDue: number;
  /** Why nothing more is done; the failure where there was one. */
  #ended: { failure?: Error } | undefined;
  #closing: Promise<void> | undefined;
  #restoring: Promise<void> | undefined;

  /**
   * Reads the directory, or begins it; the state machine is restored from the newest snapshot before this resolves.
   * `files` are the functions of node:fs, for tests of disks that fail.
   */
  static async open(options: RaftNodeOptions, files: FileSystem = realFileSystem): Promise<RaftNode> {
    const settings = settingsIn(options, files);
    const storage = await NodeStorage.open(settings, files);
    try {
      const snapshot = storage.wal.snapshot();
      if (snapshot !== undefined) {
        await settings.machine.restore(storage.snapshots.read(snapshot), snapshot);
      }
      return new RaftNode(settings, storage);
    } catch (error) {
      await storage.close();
      throw error;
    }
  }

  /**
   * Makes an empty log in the directory, where there is none, and takes no part. For who writes down that the node has
   * begun: between this and the first `open` with `begun`.
   */
  static async begin(options: RaftNodeOptions, files: FileSystem = realFileSystem): Promise<void> {
    const storage = await NodeStorage.open(settingsIn(options, files), files);
    await storage.close();
  }

  private constructor(options: Settings, storage: NodeStorage) {
    const { id, clock, electionTick, heartbeatTick, log } = options;
    this.id = id;
    this.#options = options;
    this.#storage = storage;
    storage.onFailure = (error) => this.#fail(error);
    this.#turn = new Turn(() => clock.monotonic());
    const raw = new RawNode({
      id,
      storage: storage.wal,
      applied: storage.wal.snapshot()?.index ?? 0,
      electionTick,
      heartbeatTick,
      random: (n) => options.random(n),
      ...batchLimits(options.segmentBytes),
      log,
    });
    const { term, lead, role } = raw.status();
    this.#now = { term, lead, role };
    this.#driver = new Driver(raw, this.#host(), { stallTicks: 4 * electionTick });
    this.#reads = new Reads({
      monotonic: () => clock.monotonic(),
      retryMs: 2 * heartbeatTick * options.tickMs,
      firstContext: options.random(2 ** 30) * 2 ** 22 + 1,
      readIndex: (context) => {
        // A refusal is tried again like a lost question: most often there is no leader for a moment.
        this.#driver.readIndex(context);
      },
      leader: () => this.#now.lead,
    });
    this.#snapshots = new Snapshotting({
      options,
      storage,
      driver: this.#driver,
      turn: this.#turn,
      guard: (step) => this.#guard(step),
      flush: () => this.#flushSoon(),
      fail: (error) => this.#fail(error),
    });
    this.#tickDue = clock.monotonic() + options.tickMs;
    this.#cancelTick = clock.after(options.tickMs, () => this.#tick());
    const { voters, votersOutgoing } = raw.confState;
    if (voters.length === 1 && voters[0] === id && votersOutgoing.length === 0) {
      // Nobody else could be the leader: no timeout to wait for.
      this.#guard(() => this.#driver.campaign());
    }
    this.#flushSoon();
  }

  /**
   * Adds one entry to the log; resolves with what the machine's `apply` returned for it here. Rejects with a RaftError:
   * only "unknown" leaves open whether it was made.
   */
  propose(data: Uint8Array): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const error = this.#refusal() ?? this.#storage.refusal();
      if (error !== undefined) {
        reject(error);
      } else if (this.#proposals.queue(data, { resolve, reject })) {
        this.#flushSoon();
      }
    });
  }

  /**
   * Resolves once everything that was committed anywhere before the call is applied here; on any node. Rejects
   * "no-quorum" after 5 seconds, or with the signal's reason.
   */
  readBarrier(signal?: AbortSignal): Promise<void> {
    if (this.#ended !== undefined) {
      return Promise.reject(this.#closedError());
    }
    const confirmed = this.#reads.join(signal);
    if (this.#reads.due) {
      this.#flushSoon();
    }
    return confirmed;
  }

  /** Resolves once the change is in force here, a joint one that leaves by itself once it has left. On the leader only. */
  changeMembers(change: ConfChange): Promise<void> {
    return new Promise((resolve, reject) => {
      const error = this.#refusal() ?? this.#storage.refusal();
      if (error !== undefined) {
        reject(error);
        return;
      }
      this.#guard(() => {
        const { raw } = this.#driver;
        const { role, lead, term } = raw.status();
        const outcome = role === "leader" ? this.#driver.proposeConfChange(change) : "not-leader";
        if (outcome === undefined) {
          const explicit = change.transition === "joint-explicit";
          this.#changes.proposed(raw.status().lastIndex, term, explicit, { resolve, reject });
          this.#flushSoon();
        } else {
          reject(refused(outcome, lead));
        }
      });
      this.#rejectIfEnded(reject);
    });
  }

  /** Resolves when another node leads; rejects after two election timeouts. On any node. */
  async transferLeadership(to: NodeId, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#ended !== undefined) {
      throw this.#closedError();
    }
    const { lead } = this.#now;
    if (lead === to) {
      return;
    }
    let error: RaftError | undefined;
    this.#guard(() => {
      const outcome = this.#driver.transferLeader(to);
      error = outcome === undefined ? undefined : refused(outcome, lead);
    });
    if (error !== undefined || this.#ended !== undefined) {
      throw error ?? this.#closedError();
    }
    this.#flushSoon();
    await this.#handovers.wait(lead, to, 2 * this.#options.electionTick, signal);
  }

  /** Messages that came for this node. A MsgSnap is not among them: see `receiveSnapshot`. */
  receive(messages: readonly Message[]): void {
    this.#guard(() => {
      for (const message of messages) {
        if (message.to === this.id && message.type !== "MsgSnap" && this.#takes(message)) {
          this.#driver.receive(message);
        }
      }
    });
    this.#flushSoon();
  }

  /** Entries for which a full disk has no room are dropped, as a network may: the leader sends them again. */
  #takes(message: Message): boolean {
    // Without a new leader's empty entry nobody could read; like changes of the members, it is rare and small.
    if (
      message.type !== "MsgApp" ||
      message.entries.every(({ type, data }) => type !== "normal" || data.length === 0)
    ) {
      return true;
    }
    for (const { data } of message.entries) {
      this.#unwrittenBytes += data.length;
    }
    return this.#storage.hasRoomFor(this.#unwrittenBytes);
  }

  /** Resolves when all of it is on disk and the node knows; rejects, "busy", while another comes in. */
  receiveSnapshot(message: MessageOf<"MsgSnap">, chunks: AsyncIterable<Uint8Array>): Promise<void> {
    return this.#ended === undefined ? this.#snapshots.receive(message, chunks) : Promise.reject(this.#closedError());
  }

  /** Messages to that node were dropped. */
  reportUnreachable(id: NodeId): void {
    this.#guard(() => this.#driver.reportUnreachable(id));
  }

  status(): NodeStatus {
    const { id, term, lead, role, commit, lastIndex, confState, progress } = this.#driver.raw.status();
    const voters = new Set([...confState.voters, ...confState.votersOutgoing]);
    const ids = [...new Set([...voters, ...confState.learners, ...confState.learnersNext])].sort((a, b) => a - b);
    const peers = ids.map((peer): PeerStatus => {
      const known = progress.get(peer);
      const base = { id: peer, voter: voters.has(peer) };
      return known === undefined
        ? base
        : { ...base, state: known.state, match: known.match, next: known.next, recentlyActive: known.recentActive };
    });
    const { problem } = this.#storage;
    return {
      id,
      term,
      lead,
      role,
      commit,
      applied: this.#driver.appliedIndex,
      lastIndex,
      snapshotIndex: this.#storage.wal.snapshot()?.index ?? 0,
      confState,
      peers,
      ...(problem === undefined ? {} : { diskProblem: problem }),
    };
  }

  /** Called with the state as it is, and after every change. Returns how to stop it. */
  onLeadership(listener: LeadershipListener): () => void {
    this.#listeners.add(listener);
    listener({ ...this.#now, leading: this.#leading });
    return () => this.#listeners.delete(listener);
  }

  /** Ends ticks and messages, rejects what waits, and waits for the write under way. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#end({});
    await this.#snapshots.close();
    await this.#restoring;
    await this.#storage.close();
  }

  #host(): Host {
    return {
      persist: (batch) => this.#persist(batch),
      send: (messages) => this.#send(messages),
      apply: (entries) => this.#apply(entries),
      configured: (entry, confState) => {
        this.#options.machine.configured(entry.index, confState, decodeConfChange(entry.data).context);
        this.#changes.configured(entry, confState);
      },
      restore: (snapshot) => {
        this.#restoring = this.#restore(snapshot);
      },
      readable: (reads: readonly ReadState[]) => this.#reads.readable(reads),
      leadership: (now) => this.#lead(now),
    };
  }

  #persist(batch: Batch): void {
    this.#unwrittenBytes = 0;
    // What a leader has just sent leaves the process at the end of this turn: its own sync, which may hold the turn up
    // (see disk.ts), comes after it, so that all disks work at the same time.
    if (this.#now.role === "leader" && this.#driver.raw.confState.voters.length > 1) {
      setImmediate(() => this.#write(batch));
    } else {
      this.#write(batch);
    }
  }

  #write(batch: Batch): void {
    if (this.#ended !== undefined) {
      return;
    }
    this.#storage.append(batch).then(
      () => this.#guard(() => this.#driver.persisted()),
      (error: unknown) => this.#fail(error),
    );
  }

  #send(messages: readonly Message[]): void {
    const byReceiver = new Map<NodeId, Message[]>();
    for (const message of messages) {
      if (message.type === "MsgSnap") {
        this.#snapshots.send(message);
        continue;
      }
      const queue = byReceiver.get(message.to);
      if (queue === undefined) {
        byReceiver.set(message.to, [message]);
      } else {
        queue.push(message);
      }
    }
    for (const [to, queue] of byReceiver) {
      this.#options.transport.send(to, queue);
    }
  }

  #apply(entries: readonly Entry[]): void {
    const { machine } = this.#options;
    let at = 0;
    const slice = (): void => {
      let last = 0;
      do {
        const entry = entries[at++];
        if (entry === undefined) {
          break;
        }
        const { index, term, data } = entry;
        this.#proposals.applied(entry, machine.apply({ index, term, data }));
        this.#snapshots.grown(data.length);
        last = index;
      } while (!this.#turn.over());
      if (at < entries.length) {
        setImmediate(() => this.#guard(slice));
      }
      this.#driver.applied(last);
    };
    if (this.#turn.over()) {
      setImmediate(() => this.#guard(slice));
    } else {
      slice();
    }
  }

  async #restore(snapshot: SnapshotMeta): Promise<void> {
    try {
      this.#snapshots.restoring();
      await this.#options.machine.restore(this.#storage.snapshots.read(snapshot), snapshot);
      this.#guard(() => {
        this.#snapshots.restored(snapshot);
        this.#driver.applied(snapshot.index);
      });
    } catch (error) {
      this.#fail(error);
    }
  }

  #lead(now: Leadership): void {
    const before = this.#now;
    this.#now = now;
    if (before.role === "leader" && (now.role !== "leader" || now.term !== before.term)) {
      this.#leading = false;
      this.#proposals.lost(now.lead);
      this.#changes.lost(now.lead);
    }
    this.#options.log.info({ ...now }, "leadership");
    this.#handovers.leadership(now);
    if (now.lead !== 0 && now.lead !== before.lead) {
      this.#reads.ask();
    }
    this.#tell();
  }

  #tell(): void {
    for (const listener of this.#listeners) {
      listener({ ...this.#now, leading: this.#leading });
    }
  }

  #flushSoon(): void {
    if (!this.#flushDue) {
      this.#flushDue = true;
      setImmediate(() => {
        this.#flushDue = false;
        this.#guard(() => this.#flush());
      });
    }
  }

  #flush(): void {
    this.#proposeQueued();
    this.#reads.begin();
    this.#driver.flush();
  }

  #proposeQueued(): void {
    if (this.#proposals.queued === 0) {
      return;
    }
    const { raw } = this.#driver;
    const { role, term, lead } = raw.status();
    if (role !== "leader") {
      this.#proposals.refuseQueued(() => refused("not-leader", lead));
      return;
    }
    const full = this.#storage.refusal();
    if (full !== undefined) {
      this.#proposals.refuseQueued(() => full);
      return;
    }
    while (this.#proposals.queued > 0) {
      const taken = this.#proposals.take(proposeBytes);
      const outcome = this.#driver.proposeMany(taken.map(({ data }) => ({ type: "normal", data })));
      if (outcome === undefined) {
        this.#proposals.proposed(taken, raw.status().lastIndex, term);
      } else {
        for (const { reject } of taken) {
          reject(refused(outcome, lead));
        }
      }
    }
  }

  #tick(): void {
    const { clock, tickMs } = this.#options;
    if (this.#ended !== undefined) {
      return;
    }
    // A late timer is one tick, however late: a node that slept must not think that its leader did.
    const now = clock.monotonic();
    this.#tickDue += tickMs;
    if (this.#tickDue <= now) {
      this.#tickDue = now + tickMs;
    }
    this.#cancelTick = clock.after(this.#tickDue - now, () => this.#tick());
    this.#guard(() => {
      this.#driver.tick();
      this.#reads.tick();
      this.#handovers.tick(this.#now.lead);
      this.#storage.tick();
      this.#flush();
    });
  }

  /** Every call into the driver: a broken invariant, or a state machine that throws, ends the node. */
  #guard(step: () => void): void {
    if (this.#ended !== undefined) {
      return;
    }
    try {
      step();
      this.#settle();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** What may have come true by the last step. */
  #settle(): void {
    const { role, term } = this.#now;
    if (role === "leader" && !this.#leading && this.#storage.wal.term(this.#driver.appliedIndex) === term) {
      this.#leading = true;
      this.#tell();
    }
    this.#snapshots.takeIfDue();
    if (this.#reads.due) {
      this.#flushSoon();
    }
  }

  /** Why nothing can be proposed now. */
  #refusal(): RaftError | undefined {
    if (this.#ended !== undefined) {
      return this.#closedError();
    }
    return this.#now.role === "leader" ? undefined : refused("not-leader", this.#now.lead);
  }

  #rejectIfEnded(reject: (error: RaftError) => void): void {
    if (this.#ended !== undefined) {
      reject(this.#closedError());
    }
  }

  #closedError(): RaftError {
    const failure = this.#ended?.failure;
    return failure === undefined
      ? new RaftError("closed", "the node is closed")
      : new RaftError("closed", `the node has failed: ${failure.message}`, 0, { cause: failure });
  }

  #fail(error: unknown): void {
    if (this.#ended === undefined) {
      const failure = error instanceof Error ? error : new Error("the node has failed", { cause: error });
      this.#end({ failure });
      this.#options.onFatal(failure);
    }
  }

  #end(ended: { failure?: Error }): void {
    if (this.#ended !== undefined) {
      return;
    }
    this.#ended = ended;
    this.#cancelTick();
    this.#leading = false;
    this.#now = { ...this.#now, lead: 0, role: "follower" };
    this.#proposals.close(ended.failure);
    this.#changes.close(ended.failure);
    this.#reads.close(() => this.#closedError());
    this.#handovers.close(() => this.#closedError());
    this.#snapshots.stop();
    this.#tell();
    this.#listeners.clear();
  }
}

/** What waits for the disk fits into the segment that is made in advance: on a small disk there may be no room for more. */
function batchLimits(
  segmentBytes: number,
): Pick<RaftConfig, "maxUncommittedSize" | "maxInflightBytes" | "maxSizePerMsg"> {
  const half = Math.max(256 * 1024, Math.floor(segmentBytes / 2));
  return {
    maxUncommittedSize: half,
    maxInflightBytes: Math.min(half, 16 << 20),
    maxSizePerMsg: Math.min(half, 1 << 20),
  };
}

function settingsIn(options: RaftNodeOptions, files: FileSystem): Settings {
  files.mkdirSync(options.directory, { recursive: true, mode: 0o700 });
  const { bsize, blocks } = files.statfsSync(options.directory);
  return checked(options, bsize * blocks);
}
