// One simulated process: the driver, the log and the protocol as they are, on a disk that forgets and a network that
// loses. What node/ does with files and promises is done here with the timeline.

import { type ConfChange, type ConfState, type Entry, type Message, type NodeId, RawNode } from "../core/mod.js";
import type { Outcome, ReadState, SnapshotMeta, Status } from "../core/mod.js";
import { Driver } from "../driver/driver.js";
import type { Batch, Host, Leadership } from "../driver/host.js";
import type { DiskOp } from "../wal/disk.js";
import { isBackup, isLogFile, Wal } from "../wal/mod.js";
import { Broken, confText } from "./checker.js";
import { SimDisk } from "./disk.js";
import { decodeRequest, digestOf, Machine } from "./machine.js";
import type { Delivery, Network } from "./network.js";
import { Rng } from "./rng.js";
import { unitsPerTick } from "./timeline.js";
import { eventKind, messageText, type World } from "./world.js";

export type NodeState =
  /** Its disk is read and repaired. */
  | "starting"
  | "running"
  /** Stands still, as by SIGSTOP: its disk goes on. */
  | "paused"
  | "down"
  /** Its disk is damaged: it never runs again. */
  | "refused"
  /** Switched off for good, after it was removed. */
  | "gone";

/** Messages that wait for a process that stands still; what comes later is lost, as with any full buffer. */
const mailboxMax = 300;

interface Job {
  ops: readonly DiskOp[];
  done: () => void;
}

/** Everything that a process forgets when it ends. */
interface Life {
  wal: Wal;
  driver: Driver;
  machine: Machine;
  /** As of what the state machine has: the core is ahead of it at times. */
  confState: ConfState;
  jobs: Job[];
  working: boolean;
  snapshotting: boolean;
  /** Snapshots whose contents are being written, not to be cleared away. */
  receiving: Set<string>;
  /** The core took in a snapshot of this index; what is applied before it says little of the configuration. */
  installing: number;
  flushPlanned: boolean;
  mailbox: (() => void)[];
  /** By client. */
  waiting: Map<number, { number: number; done: () => void }>;
  reads: Map<number, { commitThen: number; done: (machine: Machine) => void }>;
  nextRead: number;
}

export interface NodeHooks {
  configured(node: SimNode, entry: Entry, confState: ConfState, before: ConfState): void;
}

export class SimNode {
  readonly id: NodeId;
  readonly disk = new SimDisk();
  state: NodeState = "down";
  /** The reason of a refusal. */
  refusal = "";
  slowDisk = 1;
  /** Whether bits of its disk were flipped: then, and only then, it may refuse to start. */
  damaged = false;
  readonly #world: World;
  readonly #network: Network;
  readonly #bootstrap: ConfState;
  readonly #hooks: NodeHooks;
  readonly #rng: Rng;
  readonly #tickUnits: number;
  #life: Life | undefined;
  /** Counts lives: what was planned for an earlier one is void. */
  #lives = 0;

  constructor(world: World, network: Network, id: NodeId, bootstrap: ConfState, hooks: NodeHooks) {
    this.id = id;
    this.#world = world;
    this.#network = network;
    this.#bootstrap = bootstrap;
    this.#hooks = hooks;
    this.#rng = new Rng(world.plan.seed, 100 + id);
    const { skewUnits } = world.plan;
    this.#tickUnits = unitsPerTick + this.#rng.between(-skewUnits, skewUnits);
  }

  get running(): boolean {
    return this.state === "running";
  }

  /** Undefined unless the process lives. */
  status(): Status | undefined {
    return this.#life?.driver.raw.status();
  }

  get appliedIndex(): number {
    return this.#life?.driver.appliedIndex ?? 0;
  }

  get confState(): ConfState | undefined {
    return this.#life?.confState;
  }

  get machine(): Machine | undefined {
    return this.#life?.machine;
  }

  // ---- beginning and end

  start(): void {
    const { plan, events, coverage } = this.#world;
    const options = { segmentBytes: plan.segmentBytes, keepEntries: plan.keepEntries };
    const image = this.disk.image();
    this.#lives += 1;
    const life = this.#lives;
    let wal: Wal;
    let ops: DiskOp[];
    if (Wal.isEmpty(image)) {
      ({ wal, ops } = Wal.create({ ...options, bootstrap: this.#bootstrap }));
    } else {
      const found = Wal.recover(image, { ...options, snapshotExists: (s) => this.#contents(s) !== undefined });
      if ("refusal" in found) {
        this.#refuse(found.refusal.reason);
        return;
      }
      ({ wal, repairs: ops } = found);
      if (found.notes.length > 0) coverage.tornTailsRepaired += 1;
    }
    this.state = "starting";
    events.add(eventKind.start, this.id, wal.lastIndex(), ops.length, () => `node ${this.id} starts`);
    const stray = this.#strayFiles(wal.snapshot());
    this.#carryOut([...ops, ...stray], life, () => this.#run(wal));
  }

  #refuse(reason: string): void {
    const { events, coverage } = this.#world;
    if (!this.damaged) throw new Broken(`recovery: node ${this.id} refuses a disk that crashes alone made: ${reason}`);
    this.state = "refused";
    this.refusal = reason;
    coverage.disksRefused += 1;
    events.add(eventKind.refused, this.id, 0, 0, () => `node ${this.id} refuses to start: ${reason}`);
  }

  /** Snapshot files that are not the log's: of snapshots that were never finished, or are replaced. */
  #strayFiles(snapshot: SnapshotMeta | undefined): DiskOp[] {
    const keep = snapshot === undefined ? undefined : snapshotFile(snapshot);
    return this.disk
      .names()
      .filter((name) => !isLogFile(name) && name !== keep)
      .map((file) => ({ op: "remove", file }));
  }

  #run(wal: Wal): void {
    const { plan, checker, coverage } = this.#world;
    const snapshot = wal.snapshot();
    const { hardState, confState } = wal.initialState();
    const applied = snapshot?.index ?? 0;
    const machine = snapshot === undefined ? new Machine() : this.#restored(snapshot);
    const first = wal.firstIndex();
    const entries = wal.entries(first, wal.lastIndex() + 1, Infinity);
    const baseTerm = wal.term(first - 1);
    if (typeof entries === "string" || typeof baseTerm === "string")
      throw new Broken(`recovery: node ${this.id} cannot read its own log from ${first} on`);
    checker.started(this.id, { hardState, confState, first, baseTerm, entries, applied });
    const rng = this.#rng;
    const raw = new RawNode({
      id: this.id,
      storage: wal,
      applied,
      electionTick: plan.electionTick,
      heartbeatTick: plan.heartbeatTick,
      random: (n) => rng.below(n),
      disableForwarding: plan.disableForwarding,
      maxSizePerMsg: plan.maxSizePerMsg,
      maxCommittedSizePerReady: plan.maxCommittedSizePerReady,
      maxUncommittedSize: plan.maxUncommittedSize,
      maxInflightMsgs: plan.maxInflightMsgs,
      maxInflightBytes: plan.maxInflightBytes,
      maxPendingReads: plan.maxPendingReads,
    });
    const host = new SimHost(this);
    const driver = new Driver(raw, host);
    this.#life = {
      wal,
      driver,
      machine,
      confState,
      jobs: [],
      working: false,
      snapshotting: false,
      receiving: new Set(),
      installing: 0,
      flushPlanned: false,
      mailbox: [],
      waiting: new Map(),
      reads: new Map(),
      // Never a number of an earlier life: an answer to that may still be on its way.
      nextRead: this.#lives * 1_000_000,
    };
    this.state = "running";
    coverage.restarts += this.#lives > 1 ? 1 : 0;
    this.#planTick(this.#lives);
    const { voters, votersOutgoing } = raw.confState;
    const alone = voters.length === 1 && voters[0] === this.id && votersOutgoing.length === 0;
    // What is committed and not in the snapshot is applied at once; and who is alone waits for nobody, as in node/.
    this.turn(() => {
      if (alone) driver.campaign();
    });
  }

  /** The process ends here and now; `lossy` is a power cut, else the operating system writes on. */
  end(lossy: boolean): void {
    const { checker, coverage, events, plan } = this.#world;
    if (this.#life !== undefined) checker.crashed(this.id);
    this.#life = undefined;
    this.#lives += 1;
    this.state = "down";
    let lost = false;
    if (lossy) {
      coverage.powerCuts += 1;
      lost = this.disk.powerCut(this.#rng, { keep: plan.keepSectors, tear: plan.tearSectors });
      if (lost) coverage.powerCutsWithLoss += 1;
    } else coverage.processKills += 1;
    events.add(
      eventKind.down,
      this.id,
      lossy ? 1 : 0,
      lost ? 1 : 0,
      () => `node ${this.id} ${lossy ? `loses its power${lost ? " and unsynced writes" : ""}` : "is killed"}`,
    );
  }

  switchOff(): void {
    if (this.#life !== undefined) this.#world.checker.crashed(this.id);
    this.#life = undefined;
    this.#lives += 1;
    this.state = "gone";
    this.#world.coverage.switchedOff += 1;
    this.#world.events.add(eventKind.down, this.id, 2, 0, () => `node ${this.id} is switched off for good`);
  }

  /** One bit of the disk turns, in the log or in a snapshot. */
  flipBit(): string | undefined {
    const where = this.disk.flip(
      this.#rng,
      (name) => !isBackup(name) && (isLogFile(name) ? name.startsWith("wal-") : name.startsWith("snapshot-")),
      isLogFile,
    );
    if (where !== undefined) this.damaged = true;
    return where;
  }

  pause(): void {
    this.state = "paused";
  }

  resume(): void {
    this.state = "running";
    const mailbox = this.#life?.mailbox.splice(0) ?? [];
    // A process that was stopped finds everything at once.
    for (const one of mailbox) if (this.state === "running") one();
  }

  // ---- turns

  /** Does `work` as one turn of the event loop, then what it asks for; void unless the process lives. */
  turn(work: (life: Life) => void): void {
    const life = this.#life;
    if (life === undefined) return;
    if (this.state === "paused") {
      if (life.mailbox.length < mailboxMax) life.mailbox.push(() => this.turn(work));
      return;
    }
    work(life);
    const { plan, rng } = this.#world;
    const units = plan.flushUnitsMax === 0 ? 0 : rng.below(plan.flushUnitsMax + 1);
    if (units === 0) this.#flush(life);
    else if (!life.flushPlanned) {
      life.flushPlanned = true;
      this.#later(units, () => {
        life.flushPlanned = false;
        this.turn((now) => this.#flush(now));
      });
    }
    this.#observe(life);
  }

  #flush(life: Life): void {
    life.driver.flush();
    this.#maybeSnapshot(life);
    this.#makeSpare(life);
  }

  /** What the operating system tells a process waits while the process stands still. */
  #mustReach(tell: () => void): void {
    const life = this.#life;
    if (life === undefined) return;
    if (this.state === "paused") life.mailbox.push(tell);
    else tell();
  }

  #observe(life: Life): void {
    this.#world.checker.observed(life.driver.raw.status());
  }

  /** Later in this life. */
  #later(units: number, run: () => void): void {
    const life = this.#lives;
    this.#world.time.after(units, () => {
      if (life === this.#lives) run();
    });
  }

  #planTick(life: number): void {
    this.#world.time.after(this.#tickUnits, () => {
      if (life !== this.#lives) return;
      if (this.state === "running") this.turn(({ driver }) => driver.tick());
      this.#planTick(life);
    });
  }

  receive({ message, contents }: Delivery): void {
    const { events } = this.#world;
    if (this.#life === undefined) {
      events.add(eventKind.drop, message.from, this.id, 0, () => `nobody there for ${messageText(message)}`);
      return;
    }
    events.add(eventKind.deliver, message.from, this.id, message.term, () => `recv ${messageText(message)}`);
    if (message.type !== "MsgSnap" || contents === undefined) {
      this.turn(({ driver }) => void driver.receive(message));
      return;
    }
    // The contents are durable before the protocol hears of them.
    const file = snapshotFile(message.snapshot);
    this.turn((life) => {
      life.receiving.add(file);
      this.#job(life, this.disk.read(file) === undefined ? snapshotOps(file, contents) : [], () => {
        life.receiving.delete(file);
        this.turn(({ driver }) => {
          const before = driver.raw.status().commit;
          driver.receive(message);
          if (driver.raw.status().commit > before) life.installing = message.snapshot.index;
        });
      });
    });
  }

  // ---- what clients and administrators do

  write(client: number, number: number, data: Uint8Array, done: () => void): Outcome | "gone" {
    let outcome: Outcome | "gone" = "gone";
    const life = this.#life;
    if (life === undefined) return outcome;
    if (this.running && life.machine.has(client, number)) {
      done();
      return undefined;
    }
    this.#request(({ driver, waiting }) => {
      waiting.set(client, { number, done });
      outcome = driver.propose(data);
      if (outcome !== undefined) waiting.delete(client);
    });
    return outcome;
  }

  read(done: (machine: Machine) => void): Outcome | "gone" {
    let outcome: Outcome | "gone" = "gone";
    this.#request((life) => {
      const context = life.nextRead;
      life.nextRead += 1;
      life.reads.set(context, { commitThen: this.#world.checker.commitMax, done });
      outcome = life.driver.readIndex(context);
      if (outcome !== undefined) life.reads.delete(context);
    });
    return outcome;
  }

  /** What clients ask comes by connections of its own, and may be found before what other nodes said earlier. */
  #request(work: (life: Life) => void): void {
    const life = this.#life;
    if (life !== undefined && this.state === "paused" && life.mailbox.length < mailboxMax && this.#rng.chance(0.5))
      life.mailbox.unshift(() => this.turn(work));
    else this.turn(work);
  }

  change(change: ConfChange): Outcome | "gone" {
    let outcome: Outcome | "gone" = "gone";
    if (this.running)
      this.turn(({ driver }) => {
        outcome = driver.proposeConfChange(change);
      });
    return outcome;
  }

  transfer(to: NodeId): Outcome | "gone" {
    let outcome: Outcome | "gone" = "gone";
    if (this.running)
      this.turn(({ driver }) => {
        outcome = driver.transferLeader(to);
      });
    return outcome;
  }

  campaign(): void {
    this.turn(({ driver }) => void driver.campaign());
  }

  reportSnapshot(to: NodeId, ok: boolean): void {
    this.turn(({ driver }) => driver.reportSnapshot(to, ok));
  }

  reportUnreachable(to: NodeId): void {
    this.turn(({ driver }) => driver.reportUnreachable(to));
  }

  // ---- what the driver asks for: see SimHost

  persist(batch: Batch): void {
    const life = this.#living();
    const { checker } = this.#world;
    this.#observe(life);
    checker.persisting(this.id, batch, () => life.driver.raw.status());
    const ops = life.wal.append(batch);
    this.#job(life, ops, () => {
      checker.persisted(this.id);
      this.turn(({ driver }) => driver.persisted());
    });
  }

  send(messages: readonly Message[]): void {
    const life = this.#living();
    const { checker, coverage, rng } = this.#world;
    this.#observe(life);
    checker.sending(this.id, messages);
    for (const message of messages) {
      if (message.type === "MsgSnap") {
        const contents = this.#contents(message.snapshot);
        coverage.snapshotsSent += 1;
        if (contents === undefined) this.#later(1, () => this.reportSnapshot(message.to, false));
        else this.#network.send({ message, contents });
      } else this.#network.send({ message });
      if (this.#network.isCut(this.id, message.to) && rng.chance(0.2))
        this.#later(1, () => this.reportUnreachable(message.to));
    }
  }

  apply(entries: readonly Entry[]): void {
    const life = this.#living();
    this.#observe(life);
    const units = this.#applyUnits();
    if (units === 0) {
      this.#applySlice(life, entries, 0, entries.length);
      return;
    }
    this.#later(units, () =>
      this.turn((now) => {
        // In two slices, at times.
        const cut = this.#rng.chance(0.3) ? this.#rng.below(entries.length) : 0;
        if (cut === 0) this.#applySlice(now, entries, 0, entries.length);
        else {
          this.#applySlice(now, entries, 0, cut);
          this.#later(1, () => this.turn((last) => this.#applySlice(last, entries, cut, entries.length)));
        }
      }),
    );
  }

  #applyUnits(): number {
    const { plan, healing } = this.#world;
    return healing || plan.applyUnitsMax === 0 ? 0 : this.#rng.below(plan.applyUnitsMax + 1);
  }

  #applySlice(life: Life, entries: readonly Entry[], from: number, to: number): void {
    const { checker, coverage, events } = this.#world;
    const done: (() => void)[] = [];
    let last = 0;
    for (const entry of entries.slice(from, to)) {
      checker.applying(this.id, entry);
      const request = decodeRequest(entry.data);
      const before = life.machine.repeated;
      life.machine.apply(request);
      coverage.requestsRepeated += life.machine.repeated - before;
      last = entry.index;
      events.add(
        eventKind.apply,
        this.id,
        entry.index,
        entry.term,
        () => `node ${this.id} applies ${entry.index}@${entry.term}`,
      );
      const waiting = life.waiting.get(request.client);
      if (waiting !== undefined && waiting.number <= request.number) {
        life.waiting.delete(request.client);
        done.push(waiting.done);
      }
    }
    life.driver.applied(last);
    for (const one of done) one();
  }

  configured(entry: Entry, confState: ConfState): void {
    const life = this.#living();
    const { checker, events } = this.#world;
    checker.goesBy(this.id, confState);
    this.#observe(life);
    checker.configured(this.id, entry, confState, entry.index <= life.installing);
    const before = life.confState;
    life.confState = confState;
    events.add(
      eventKind.change,
      this.id,
      entry.index,
      entry.term,
      () => `node ${this.id} is in ${confText(confState)} by ${entry.index}`,
    );
    this.#hooks.configured(this, entry, confState, before);
  }

  restore(snapshot: SnapshotMeta): void {
    const { coverage, events } = this.#world;
    this.#later(this.#applyUnits(), () =>
      this.turn((life) => {
        life.machine = this.#restored(snapshot);
        life.confState = snapshot.confState;
        this.#world.checker.restored(this.id, snapshot);
        this.#world.checker.state(this.id, snapshot.index, digestOf(life.machine.snapshot()));
        coverage.snapshotsInstalled += 1;
        events.add(
          eventKind.snapshot,
          this.id,
          snapshot.index,
          snapshot.term,
          () => `node ${this.id} installs ${snapshot.index}@${snapshot.term}`,
        );
        life.driver.applied(snapshot.index);
      }),
    );
  }

  readable(reads: readonly ReadState[]): void {
    const life = this.#living();
    for (const { context, index } of reads) {
      const read = life.reads.get(context);
      if (read === undefined) continue;
      life.reads.delete(context);
      this.#world.checker.read(this.id, index, read.commitThen);
      read.done(life.machine);
    }
  }

  leadership({ term, lead, role }: Leadership): void {
    this.#world.events.add(
      eventKind.start,
      this.id,
      term,
      lead,
      () => `node ${this.id} is ${role} in term ${term}, leader ${lead}`,
    );
  }

  #living(): Life {
    if (this.#life === undefined) throw new Error(`node ${this.id} works and is not running`);
    return this.#life;
  }

  // ---- snapshots

  #contents(snapshot: { index: number; term: number }): Uint8Array | undefined {
    const bytes = this.disk.read(snapshotFile(snapshot));
    return bytes !== undefined && Machine.restore(bytes) !== undefined ? bytes : undefined;
  }

  #restored(snapshot: SnapshotMeta): Machine {
    const bytes = this.disk.read(snapshotFile(snapshot));
    const machine = bytes === undefined ? undefined : Machine.restore(bytes);
    if (machine === undefined)
      throw new Broken(`snapshots: node ${this.id} stands on snapshot ${snapshot.index} without its contents`);
    return machine;
  }

  /** Contents first, synced under their name; then the log's marker, synced; then what both replace. */
  #maybeSnapshot(life: Life): void {
    const { plan, coverage, events, checker } = this.#world;
    const index = life.driver.appliedIndex;
    const newest = life.wal.snapshot()?.index ?? 0;
    if (life.snapshotting || index < life.installing || index - newest < plan.snapshotEntries) return;
    const term = life.wal.term(index);
    // The log takes no marker beyond the commit that it has been given.
    if (typeof term === "string" || life.wal.initialState().hardState.commit < index) return;
    life.snapshotting = true;
    const { confState } = life;
    const contents = life.machine.snapshot();
    checker.state(this.id, index, digestOf(contents));
    const file = snapshotFile({ index, term });
    life.receiving.add(file);
    events.add(eventKind.snapshot, this.id, index, term, () => `node ${this.id} takes a snapshot of ${index}@${term}`);
    this.#job(life, snapshotOps(file, contents), () => {
      life.receiving.delete(file);
      if (index <= (life.wal.snapshot()?.index ?? 0)) {
        // One that a leader sent is newer.
        life.snapshotting = false;
        return;
      }
      const { ops } = life.wal.createSnapshot(index, confState);
      this.#job(life, ops, () => {
        const freed = life.wal.compact();
        coverage.segmentsRemoved += freed.filter(({ op }) => op === "remove").length;
        const stray = this.#strayFiles(life.wal.snapshot()).filter(
          (op) => op.op === "remove" && !life.receiving.has(op.file) && isOlder(op.file, index),
        );
        this.#job(life, [...freed, ...stray], () => {
          coverage.snapshotsTaken += 1;
          life.snapshotting = false;
        });
      });
    });
  }

  // ---- the disk

  #syncUnits(): number {
    const { plan, healing } = this.#world;
    return this.#rng.between(plan.syncUnitsMin, plan.syncUnitsMax) * (healing ? 1 : this.slowDisk);
  }

  #job(life: Life, ops: readonly DiskOp[], done: () => void): void {
    life.jobs.push({ ops, done });
    if (!life.working) this.#work(life);
  }

  #work(life: Life): void {
    const job = life.jobs.shift();
    life.working = job !== undefined;
    if (job === undefined) return;
    this.#carryOut(job.ops, this.#lives, () =>
      this.#mustReach(() => {
        if (this.#life !== life) return;
        job.done();
        if (this.#life === life) this.#work(life);
      }),
    );
  }

  /** Beside everything else, as the log allows. */
  #makeSpare(life: Life): void {
    const spare = life.wal.spareWanted();
    if (spare === undefined) return;
    this.#later(this.#syncUnits(), () => {
      for (const op of spare) this.disk.apply(op);
      this.#mustReach(() => life.wal.spareMade());
    });
  }

  /** One operation after another; syncs take time, and the power may fail before any of them. */
  #carryOut(ops: readonly DiskOp[], life: number, done: () => void): void {
    const { time } = this.#world;
    const from = (start: number): void => {
      if (life !== this.#lives) return;
      for (let i = start; i < ops.length; i += 1) {
        const op = ops[i];
        if (op === undefined) break;
        if (op.op === "sync" || op.op === "sync-directory") {
          time.after(this.#syncUnits(), () => {
            if (life !== this.#lives) return;
            this.disk.apply(op);
            from(i + 1);
          });
          return;
        }
        this.disk.apply(op);
      }
      time.after(start === 0 ? 1 : 0, () => {
        if (life === this.#lives) done();
      });
    };
    from(0);
  }
}

/** What the driver sees of the process around it. */
class SimHost implements Host {
  readonly #node: SimNode;

  constructor(node: SimNode) {
    this.#node = node;
  }

  persist(batch: Batch): void {
    this.#node.persist(batch);
  }
  send(messages: readonly Message[]): void {
    this.#node.send(messages);
  }
  apply(entries: readonly Entry[]): void {
    this.#node.apply(entries);
  }
  configured(entry: Entry, confState: ConfState): void {
    this.#node.configured(entry, confState);
  }
  restore(snapshot: SnapshotMeta): void {
    this.#node.restore(snapshot);
  }
  readable(reads: readonly ReadState[]): void {
    this.#node.readable(reads);
  }
  leadership(now: Leadership): void {
    this.#node.leadership(now);
  }
}

function snapshotFile({ index, term }: { index: number; term: number }): string {
  return `snapshot-${index}-${term}`;
}

function isOlder(file: string, index: number): boolean {
  const [, at = ""] = file.split("-");
  return Number(at) < index;
}

function snapshotOps(file: string, contents: Uint8Array): DiskOp[] {
  const written = `new-${file.slice("snapshot-".length)}`;
  return [
    { op: "create", file: written, bytes: 0 },
    { op: "write", file: written, at: 0, parts: [contents] },
    { op: "sync", file: written },
    { op: "rename", from: written, to: file },
    { op: "sync-directory" },
  ];
}
