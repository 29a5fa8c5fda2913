// What comes back after crashes and damage, on a disk that forgets: everything that was not synced may be lost, sector
// by sector, and every change of a name that was not.

import * as fc from "fast-check";
import { expect, test } from "vitest";
import { type ConfState, type Entry, RaftInvariantError, type SnapshotMeta } from "../core/mod.js";
import type { DiskImage, DiskOp } from "./disk.js";
import { Wal, type WalOptions } from "./wal.js";

const sector = 512;
const conf: ConfState = { voters: [1, 2, 3], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
const options: WalOptions = { segmentBytes: 1024, keepEntries: 3 };

interface Inode {
  now: Uint8Array;
  synced: Uint8Array;
  /** Sectors that the system takes for written, although they are not: a sync of them failed. */
  given: Set<number>;
}

class CrashDisk {
  #names = new Map<string, Inode>();
  #syncedNames = new Map<string, Inode>();
  #pending: ((names: Map<string, Inode>) => void)[] = [];
  /** Writes to segments that were carried out. */
  writes = 0;

  #inode(file: string): Inode {
    const inode = this.#names.get(file);
    if (inode === undefined) throw new Error(`no file ${file}`);
    return inode;
  }

  #rename(change: (names: Map<string, Inode>) => void): void {
    change(this.#names);
    this.#pending.push(change);
  }

  run(op: DiskOp): void {
    switch (op.op) {
      case "create": {
        const inode = { now: new Uint8Array(op.bytes), synced: new Uint8Array(), given: new Set<number>() };
        this.#rename((names) => names.set(op.file, inode));
        break;
      }
      case "write": {
        this.writes++;
        const inode = this.#inode(op.file);
        const length = op.parts.reduce((sum, part) => sum + part.length, 0);
        const now = new Uint8Array(Math.max(inode.now.length, op.at + length));
        now.set(inode.now);
        let at = op.at;
        for (const part of op.parts) {
          now.set(part, at);
          at += part.length;
        }
        inode.now = now;
        for (let n = Math.floor(op.at / sector); n * sector < op.at + length; n++) inode.given.delete(n);
        break;
      }
      case "sync": {
        const inode = this.#inode(op.file);
        const synced = inode.now.slice();
        for (const n of inode.given) {
          synced.fill(0, n * sector, (n + 1) * sector);
          synced.set(inode.synced.subarray(n * sector, (n + 1) * sector), n * sector);
        }
        inode.synced = synced;
        break;
      }
      case "rename": {
        const inode = this.#inode(op.from);
        this.#rename((names) => {
          names.delete(op.from);
          names.set(op.to, inode);
        });
        break;
      }
      case "remove":
        this.#inode(op.file);
        this.#rename((names) => names.delete(op.file));
        break;
      case "sync-directory":
        this.#syncedNames = new Map(this.#names);
        this.#pending = [];
    }
  }

  runAll(ops: readonly DiskOp[]): void {
    for (const op of ops) this.run(op);
  }

  failSync(file: string): void {
    const inode = this.#inode(file);
    for (let n = 0; n * sector < inode.now.length; n++) inode.given.add(n);
  }

  /** `lost` decides for each thing that was not synced. */
  crash(lost: () => boolean): void {
    const names = new Map(this.#syncedNames);
    for (const change of this.#pending) {
      if (!lost()) change(names);
    }
    for (const inode of new Set(names.values())) {
      const length = inode.now.length !== inode.synced.length && lost() ? inode.synced.length : inode.now.length;
      const after = new Uint8Array(length);
      for (let at = 0; at < length; at += sector) {
        const now = inode.now.subarray(at, Math.min(at + sector, length));
        const synced = inode.synced.subarray(at, Math.min(at + sector, length));
        const same = now.every((byte, n) => byte === (synced[n] ?? 0));
        after.set(!same && lost() ? synced : now, at);
      }
      inode.now = after;
      inode.synced = after;
    }
    this.#names = new Map(names);
    this.#syncedNames = new Map(names);
    this.#pending = [];
  }

  image(): Map<string, Uint8Array> {
    return new Map([...this.#names].map(([name, inode]) => [name, inode.now.slice()]));
  }
}

function coin(seed: number): () => boolean {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) & 1) === 1;
  };
}

/** All that matters of a log, to compare. Entries below the snapshot may or may not be there. */
function state(wal: Wal): string {
  const snapshot = wal.snapshot();
  const from = Math.max(wal.firstIndex(), (snapshot?.index ?? 0) + 1);
  const entries = wal.entries(from, wal.lastIndex() + 1, Number.MAX_SAFE_INTEGER);
  if (typeof entries === "string") throw new Error(entries);
  const { hardState } = wal.initialState();
  return JSON.stringify([
    snapshot,
    wal.initialState(),
    wal.term(from - 1),
    entries.map((entry) => [entry.index, entry.term, entry.type, entry.data.length, entry.data[0] ?? null]),
    hardState.commit,
  ]);
}

type Action =
  | { do: "append"; sizes: number[]; back: number; commit: number; sync: boolean }
  | { do: "vote" }
  | { do: "snapshot" }
  | { do: "compact" }
  | { do: "install"; ahead: number }
  | { do: "spare" }
  | { do: "crash"; after: number; seed: number; power: boolean };

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant("append" as const),
      sizes: fc.array(fc.oneof(fc.nat(60), fc.integer({ min: 300, max: 1500 })), { maxLength: 4 }),
      back: fc.nat(3),
      commit: fc.nat(4),
      sync: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ do: "vote" as const }) },
  { weight: 2, arbitrary: fc.constant({ do: "snapshot" as const }) },
  { weight: 2, arbitrary: fc.constant({ do: "compact" as const }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("install" as const), ahead: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 1, arbitrary: fc.constant({ do: "spare" as const }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("crash" as const),
      after: fc.nat(8),
      seed: fc.integer(),
      power: fc.boolean(),
    }),
  },
);

/** A log in use, with every state it was in, and which of them must survive. */
class Run {
  disk = new CrashDisk();
  wal: Wal;
  states: string[] = [];
  /** The state that the last completed sync made durable. */
  durable = 0;
  /** The state that was durable when the last frame was written: what no single damage may take away unnoticed. */
  proven = 0;
  snapshots = new Set<string>();
  #crash: { after: number; seed: number; power: boolean } | undefined;

  constructor() {
    const { wal, ops } = Wal.create({ ...options, bootstrap: conf });
    this.wal = wal;
    this.disk.runAll(ops);
    this.states.push(state(wal));
  }

  has = (snapshot: { index: number; term: number }) => this.snapshots.has(`${snapshot.index}-${snapshot.term}`);

  #give(ops: readonly DiskOp[], sync: boolean): void {
    const durableBefore = this.durable;
    const writesBefore = this.disk.writes;
    this.states.push(state(this.wal));
    const crash = this.#crash;
    this.#crash = undefined;
    if (crash !== undefined) {
      this.disk.runAll(ops.slice(0, crash.after));
      // A list that was carried out to its end was acknowledged.
      if (crash.after >= ops.length && sync) this.durable = this.states.length - 1;
      this.#restart(crash);
      return;
    }
    this.disk.runAll(ops);
    if (sync) this.durable = this.states.length - 1;
    if (this.disk.writes > writesBefore) this.proven = durableBefore;
  }

  #restart({ seed, power }: { seed: number; power: boolean }): void {
    const flip = coin(seed);
    // Else only the process was killed: what it wrote is there, but still not durable.
    if (power) this.disk.crash(flip);
    // Crashes during the repair, too; it must find the same each time.
    let found: string | undefined;
    for (let round = 0; ; round++) {
      const recovery = Wal.recover(this.disk.image(), { ...options, snapshotExists: this.has });
      if ("refusal" in recovery) throw new Error(`refused after a crash: ${recovery.refusal.reason}`);
      const now = state(recovery.wal);
      expect(now).toBe(found ?? now);
      found = now;
      if (round < 3 && flip()) {
        this.disk.runAll(recovery.repairs.filter((_, n) => n < recovery.repairs.length * 0.7));
        this.disk.crash(flip);
        continue;
      }
      this.disk.runAll(recovery.repairs);
      this.wal = recovery.wal;
      break;
    }
    const at = this.states.lastIndexOf(found);
    expect(at).toBeGreaterThanOrEqual(this.durable);
    this.states.length = at + 1;
    this.durable = at;
    this.proven = Math.min(this.proven, at);
  }

  perform(act: Action): void {
    const { hardState } = this.wal.initialState();
    const last = this.wal.lastIndex();
    switch (act.do) {
      case "append": {
        const first = Math.max(hardState.commit + 1, last + 1 - act.back);
        const term = Math.max(1, hardState.term + (first <= last ? 1 : 0));
        const entries: Entry[] = act.sizes.map((size, n) => ({
          term,
          index: first + n,
          type: n % 2 === 0 ? "normal" : "conf-change",
          data: new Uint8Array(size).fill((first + n + term) & 0xff),
        }));
        const end = entries.length === 0 ? last : first + entries.length - 1;
        const commit = Math.min(end, hardState.commit + act.commit);
        const sync = act.sync || term !== hardState.term;
        this.#give(this.wal.append({ entries, hardState: { ...hardState, term, commit }, mustSync: sync }), sync);
        break;
      }
      case "vote":
        this.#give(
          this.wal.append({
            entries: [],
            hardState: { term: hardState.term + 1, vote: 2, commit: hardState.commit },
            mustSync: true,
          }),
          true,
        );
        break;
      case "snapshot":
        if (hardState.commit > (this.wal.snapshot()?.index ?? 0)) {
          const { snapshot, ops } = this.wal.createSnapshot(hardState.commit, conf);
          this.snapshots.add(`${snapshot.index}-${snapshot.term}`);
          this.#give(ops, true);
        }
        break;
      case "compact":
        this.#give(this.wal.compact(), false);
        break;
      case "install": {
        const snapshot: SnapshotMeta = {
          index: last + act.ahead,
          term: Math.max(1, hardState.term),
          confState: { ...conf, learners: [7] },
        };
        this.snapshots.add(`${snapshot.index}-${snapshot.term}`);
        this.#give(
          this.wal.append({
            snapshot,
            entries: [],
            hardState: { term: snapshot.term, vote: 0, commit: snapshot.index },
            mustSync: true,
          }),
          true,
        );
        break;
      }
      case "spare": {
        const ops = this.wal.spareWanted();
        if (ops !== undefined) {
          this.disk.runAll(ops);
          this.wal.spareMade();
        }
        break;
      }
      case "crash":
        this.#crash = act;
    }
  }
}

test("a crash at any op, with any unsynced sectors lost, gives back all that was synced and nothing else", () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
      const run = new Run();
      for (const act of actions) run.perform(act);
    }),
    { numRuns: 1500 },
  );
});

test("any flipped byte or truncation gives back a part from the front, short of the last write at most, or is refused", () => {
  let recovered = 0;
  let refused = 0;
  fc.assert(
    fc.property(
      fc.array(
        action.filter((act) => act.do !== "crash"),
        { minLength: 1, maxLength: 20 },
      ),
      fc.array(fc.record({ file: fc.nat(), at: fc.nat(), bits: fc.integer({ min: 1, max: 255 }), cut: fc.boolean() }), {
        minLength: 1,
        maxLength: 12,
      }),
      (actions, damages) => {
        const run = new Run();
        for (const act of actions) run.perform(act);
        for (const damage of damages) {
          const image = run.disk.image();
          const names = [...image.keys()];
          const name = names[damage.file % names.length] ?? "";
          const bytes = image.get(name) ?? new Uint8Array();
          const at = damage.at % Math.max(1, bytes.length);
          if (damage.cut) image.set(name, bytes.slice(0, at));
          else bytes[at] = (bytes[at] ?? 0) ^ damage.bits;
          const recovery = Wal.recover(image, { ...options, snapshotExists: run.has });
          if ("refusal" in recovery) {
            refused++;
            expect(recovery.refusal.reason).toContain(name);
            expect(recovery.refusal.fix).toContain("under a new id");
          } else {
            recovered++;
            const found = run.states.lastIndexOf(state(recovery.wal));
            expect(found).toBeGreaterThanOrEqual(run.proven);
          }
        }
      },
    ),
    { numRuns: 600 },
  );
  expect(recovered).toBeGreaterThan(100);
  expect(refused).toBeGreaterThan(100);
});

function entry(index: number, term: number, size = 40): Entry {
  return { index, term, type: "normal", data: new Uint8Array(size).fill(index & 0xff) };
}

function begin(walOptions: WalOptions = options) {
  const disk = new CrashDisk();
  const { wal, ops } = Wal.create({ ...walOptions, bootstrap: conf });
  disk.runAll(ops);
  return { disk, wal };
}

function recover(image: DiskImage, walOptions: WalOptions = options) {
  return Wal.recover(image, { ...walOptions, snapshotExists: () => true });
}

function recovered(image: DiskImage, walOptions: WalOptions = options) {
  const recovery = recover(image, walOptions);
  if ("refusal" in recovery) throw new Error(recovery.refusal.reason);
  return recovery;
}

function refusal(image: DiskImage): string {
  const recovery = recover(image);
  return "refusal" in recovery ? recovery.refusal.reason : "taken";
}

test("every subset of lost sectors of the last batch leaves all of it or nothing of it, never what was before", () => {
  const { disk, wal } = begin({ segmentBytes: 8192 });
  disk.runAll(wal.append({ entries: [entry(1, 1, 300)], hardState: { term: 1, vote: 1, commit: 0 }, mustSync: true }));
  const before = disk.image();
  disk.runAll(wal.append({ entries: [entry(2, 1, 900), entry(3, 1, 1900)], mustSync: false }));
  const after = disk.image();
  const [file] = [...after.keys()];
  const old = before.get(file ?? "") ?? new Uint8Array();
  const now = after.get(file ?? "") ?? new Uint8Array();
  const changed = [...Array(16).keys()].filter((n) =>
    now.subarray(n * sector, (n + 1) * sector).some((byte, at) => byte !== old[n * sector + at]),
  );
  expect(changed.length).toBeGreaterThan(5);
  for (let mask = 0; mask < 1 << changed.length; mask++) {
    const image = now.slice();
    changed.forEach((n, bit) => {
      if (mask & (1 << bit)) image.set(old.subarray(n * sector, (n + 1) * sector), n * sector);
    });
    const { wal: back, repairs, notes } = recovered(new Map([[file ?? "", image]]), { segmentBytes: 8192 });
    expect(back.lastIndex()).toBe(mask === 0 ? 3 : 1);
    expect(notes.length).toBe(mask === 0 || mask === (1 << changed.length) - 1 ? 0 : 1);
    expect(repairs.some((op) => op.op === "create" && op.file.startsWith("torn-"))).toBe(notes.length === 1);
  }
});

test("a flipped byte that synced frames follow is refused, with file, offset and the way back in", () => {
  const { disk, wal } = begin({ segmentBytes: 8192 });
  for (let n = 1; n <= 3; n++) disk.runAll(wal.append({ entries: [entry(n, 1, 300)], mustSync: true }));
  const image = disk.image();
  const [file, bytes] = [...image][0] ?? ["", new Uint8Array()];
  bytes[700] = (bytes[700] ?? 0) ^ 1;
  const recovery = recover(image);
  if (!("refusal" in recovery)) throw new Error("taken");
  expect(recovery.refusal.reason).toMatch(new RegExp(`^${file} is damaged at byte \\d+`));
  expect(recovery.refusal.fix).toContain("join again, empty, under a new id");
});

test("data that looks like frames is no proof of damage", () => {
  const { disk, wal } = begin({ segmentBytes: 8192 });
  disk.runAll(wal.append({ entries: [entry(1, 1)], mustSync: true }));
  // A frame of another log at the very place where it will stand as data: made by writing it there.
  const other = begin({ segmentBytes: 8192 });
  other.disk.runAll(other.wal.append({ entries: [entry(1, 1)], mustSync: true }));
  const place = [...other.disk.image().values()][0] ?? new Uint8Array();
  let end = place.length;
  while (place[end - 1] === 0) end--;
  const at = Math.ceil(end / 8) * 8;
  for (let size = 0; size < 8; size++) {
    const fake = begin({ segmentBytes: 8192 });
    fake.disk.runAll(fake.wal.append({ entries: [entry(1, 1)], mustSync: true }));
    fake.disk.runAll(fake.wal.append({ entries: [entry(2, 1, 8 + size)], mustSync: true }));
    fake.disk.runAll(fake.wal.append({ entries: [entry(3, 1)], mustSync: true }));
    const stolen = ([...fake.disk.image().values()][0] ?? new Uint8Array()).slice(at, at + 400);
    const torn = begin({ segmentBytes: 8192 });
    torn.disk.runAll(torn.wal.append({ entries: [entry(1, 1)], mustSync: true }));
    torn.disk.runAll(
      torn.wal.append({ entries: [{ index: 2, term: 1, type: "normal", data: stolen }], mustSync: false }),
    );
    const image = torn.disk.image();
    const bytes = [...image.values()][0] ?? new Uint8Array();
    bytes[at + 60] = (bytes[at + 60] ?? 0) ^ 1;
    expect(recovered(image, { segmentBytes: 8192 }).wal.lastIndex()).toBe(1);
  }
});

test("a conflict replaces entries across segments, also after the older ones are gone", () => {
  const { disk, wal } = begin({ segmentBytes: 512, keepEntries: 0 });
  for (let n = 1; n <= 10; n++) {
    disk.runAll(
      wal.append({
        entries: [entry(n, 1, 100)],
        hardState: { term: 1, vote: 0, commit: 3 > n ? n : 3 },
        mustSync: true,
      }),
    );
  }
  disk.runAll(
    wal.append({
      entries: [entry(5, 2, 100), entry(6, 2, 100)],
      hardState: { term: 2, vote: 0, commit: 3 },
      mustSync: true,
    }),
  );
  const back = recovered(disk.image(), { segmentBytes: 512, keepEntries: 0 }).wal;
  expect([back.lastIndex(), back.term(4), back.term(5), back.term(6), back.term(7)]).toEqual([
    6,
    1,
    2,
    2,
    "unavailable",
  ]);
  disk.runAll(wal.append({ entries: [], hardState: { term: 2, vote: 0, commit: 6 }, mustSync: true }));
  disk.runAll(wal.createSnapshot(6, conf).ops);
  for (let n = 7; n <= 30; n++) disk.runAll(wal.append({ entries: [entry(n, 2, 100)], mustSync: true }));
  const files = disk.image().size;
  disk.runAll(wal.compact());
  expect(disk.image().size).toBeLessThan(files);
  expect(wal.firstIndex()).toBe(7);
  const later = recovered(disk.image(), { segmentBytes: 512, keepEntries: 0 }).wal;
  expect([later.firstIndex(), later.lastIndex(), later.term(6)]).toEqual([7, 30, 2]);
});

function longLog() {
  const { disk, wal } = begin({ segmentBytes: 512 });
  for (let n = 1; n <= 12; n++) disk.runAll(wal.append({ entries: [entry(n, 1, 100)], mustSync: true }));
  return { wal, image: disk.image() };
}

test("a missing or renamed segment and one of a foreign version are refused by name", () => {
  const middle = longLog().image;
  const gone = [...middle.keys()].sort()[1] ?? "";
  middle.delete(gone);
  expect(refusal(middle)).toMatch(/^segment 2 of the log is missing: wal-0+1-\d+\.log is followed by wal-0+3-/);

  const front = longLog().image;
  front.delete([...front.keys()].sort()[0] ?? "");
  expect(refusal(front)).toMatch(/begins at entry \d+, but its newest snapshot ends at 0/);

  const renamed = longLog().image;
  const name = [...renamed.keys()].sort()[0] ?? "";
  renamed.set("wal-0000000000000001-0000000000000009.log", renamed.get(name) ?? new Uint8Array());
  renamed.delete(name);
  expect(refusal(renamed)).toMatch(/the file was renamed/);

  const foreign = longLog().image;
  for (const bytes of foreign.values()) bytes.fill(0);
  expect(refusal(foreign)).toMatch(/the header at byte 0 is damaged, or this is not a segment/);
  expect(refusal(new Map())).toBe("there is no segment of a log");
});

test("a log whose snapshot is missing is refused", () => {
  const { disk, wal } = begin();
  disk.runAll(wal.append({ entries: [entry(1, 1)], hardState: { term: 1, vote: 0, commit: 1 }, mustSync: true }));
  disk.runAll(wal.createSnapshot(1, conf).ops);
  const recovery = Wal.recover(disk.image(), { ...options, snapshotExists: () => false });
  expect("refusal" in recovery && recovery.refusal.reason).toBe(
    "the log stands on the snapshot of index 1, term 1, and that one is missing or not whole",
  );
});

test("backups of torn tails are kept up to a number, and none is written over", () => {
  const { disk, wal } = begin({ segmentBytes: 8192 });
  disk.runAll(wal.append({ entries: [entry(1, 1)], mustSync: true }));
  for (let n = 0; n < 12; n++) {
    const image = disk.image();
    const file = [...image.keys()].find((name) => name.startsWith("wal-")) ?? "";
    disk.run({ op: "write", file, at: 4000, parts: [Uint8Array.of(n + 1)] });
    disk.runAll(recovered(disk.image(), { segmentBytes: 8192 }).repairs);
  }
  const backups = [...disk.image()].filter(([name]) => name.startsWith("torn-"));
  expect(backups.length).toBe(8);
  expect(backups.map(([, bytes]) => bytes.at(-1))).toEqual([5, 6, 7, 8, 9, 10, 11, 12]);
  expect(recovered(disk.image(), { segmentBytes: 8192 }).notes).toEqual([]);
});

test("what a failed sync left in memory is durable after the next start", () => {
  const { disk, wal } = begin({ segmentBytes: 8192 });
  disk.runAll(wal.append({ entries: [entry(1, 1, 700)], mustSync: true }));
  const ops = wal.append({ entries: [entry(2, 1, 700)], mustSync: true });
  disk.runAll(ops.slice(0, -1));
  const sync = ops.at(-1);
  if (sync?.op !== "sync") throw new Error("a batch ends with a sync");
  disk.failSync(sync.file);
  const again = recovered(disk.image(), { segmentBytes: 8192 });
  expect(again.wal.lastIndex()).toBe(2);
  disk.runAll(again.repairs);
  disk.crash(() => true);
  expect(recovered(disk.image(), { segmentBytes: 8192 }).wal.lastIndex()).toBe(2);
});

test("good frames of another log are not taken, though they stand in the right places", () => {
  const write = (fill: number) => {
    const { disk, wal } = begin({ segmentBytes: 8192 });
    for (let n = 1; n <= 3; n++) {
      const data = new Uint8Array(100).fill(fill);
      disk.runAll(wal.append({ entries: [{ index: n, term: 1, type: "normal", data }], mustSync: true }));
    }
    return disk.image();
  };
  const mine = write(1);
  const [file, bytes] = [...mine][0] ?? ["", new Uint8Array()];
  const other = [...write(2).values()][0] ?? new Uint8Array();
  const frames: number[] = [];
  for (let at = Buffer.from(bytes).indexOf("RWAL"); at >= 0; at = Buffer.from(bytes).indexOf("RWAL", at + 1))
    frames.push(at);
  expect(frames.length).toBe(4);
  bytes.set(other.subarray(frames[2]), frames[2]);
  expect(refusal(mine)).toMatch(new RegExp(`^${file} is damaged at byte`));
});

test("a spare that is not empty, or not of the right size, is made anew", () => {
  const { disk, wal } = begin();
  disk.runAll(wal.spareWanted() ?? []);
  const spare = "spare-0000000000000002.wal";
  for (const bytes of [new Uint8Array(1024).fill(1, 1000, 1001), new Uint8Array(1000)]) {
    const { wal: back, repairs } = recovered(new Map([...disk.image(), [spare, bytes]]));
    expect(repairs).toContainEqual({ op: "remove", file: spare });
    expect(back.spareWanted()).toBeDefined();
  }
  expect(recovered(disk.image()).wal.spareWanted()).toBeUndefined();
});

test("what breaks a rule of the log is thrown before anything changes", () => {
  const { wal } = begin();
  wal.append({ entries: [entry(1, 1), entry(2, 1)], hardState: { term: 1, vote: 0, commit: 1 }, mustSync: true });
  const before = state(wal);
  const bad = [
    { entries: [entry(4, 1)] },
    { entries: [entry(1, 2)] },
    { entries: [entry(3, 1), entry(5, 1)] },
    { entries: [], hardState: { term: 0, vote: 0, commit: 1 } },
    { entries: [], hardState: { term: 1, vote: 0, commit: 0 } },
  ];
  for (const batch of bad) {
    expect(() => wal.append({ ...batch, mustSync: true })).toThrow(RaftInvariantError);
  }
  expect(() => wal.createSnapshot(2, conf)).toThrow(RaftInvariantError);
  expect(() => wal.compact(1)).toThrow(RaftInvariantError);
  expect(state(wal)).toBe(before);
});

test("without room for a spare segment the log says so, goes on in what it has, and is normal once there is room", () => {
  const { disk, wal } = begin({ segmentBytes: 1024 });
  expect(wal.spareWanted()).toHaveLength(3);
  expect(wal.spareWanted()).toBeUndefined();
  wal.spareFailed("no space left");
  expect(wal.diskFull).toBe("no space left");
  expect(wal.reserveBytes).toBeGreaterThan(500);
  for (let term = 1; term < 30; term++) {
    disk.runAll(wal.append({ entries: [], hardState: { term, vote: 1, commit: 0 }, mustSync: true }));
  }
  expect(recovered(disk.image()).wal.initialState().hardState.term).toBe(29);
  disk.runAll(wal.spareWanted() ?? []);
  wal.spareMade();
  expect(wal.diskFull).toBeUndefined();
  const again = recovered(disk.image());
  expect(again.wal.spareWanted()).toBeUndefined();
});

test("a batch is written without a copy of its entries, and they are encoded once", () => {
  const { wal } = begin({ segmentBytes: 8192 });
  const one = entry(1, 1, 100);
  const [write] = wal.append({ entries: [one], mustSync: true });
  expect(write?.op === "write" && write.parts.some((part) => part === one.encoded)).toBe(true);
});
