// A disk that forgets. What was written and not synced may survive a power cut or not, sector by sector; so may
// creations, renames and removals that no directory sync followed. Rules: file systems may reorder anything between
// syncs (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014), a sector may be torn, and a size may lag.

import type { DiskImage, DiskOp } from "../wal/disk.js";
import type { Rng } from "./rng.js";

const sectorBytes = 512;

interface UnsyncedWrite {
  at: number;
  bytes: Uint8Array;
}

class File {
  /** What programs read now; the capacity may exceed the size. */
  #now = new Uint8Array(0);
  #size = 0;
  /** What a power cut leaves at least. */
  #safe = new Uint8Array(0);
  #unsynced: UnsyncedWrite[] = [];
  #sizeUnsynced = false;
  #emptied = false;
  /** Where the writes of the newest group between two syncs begin, and those of the group before. */
  #group = 0;
  #groupBefore = 0;

  /** As a new file of zeros, in the place of an old one of the same name: that one's contents go with the next sync. */
  empty(size: number): void {
    this.#now = new Uint8Array(size);
    this.#size = size;
    this.#unsynced = [];
    this.#sizeUnsynced = true;
    this.#emptied = true;
    this.#group = 0;
    this.#groupBefore = 0;
  }

  grow(size: number): void {
    if (size <= this.#size) return;
    if (size > this.#now.length) {
      const larger = new Uint8Array(Math.max(size, this.#now.length * 2));
      larger.set(this.#now.subarray(0, this.#size));
      this.#now = larger;
    }
    this.#size = size;
    this.#sizeUnsynced = true;
  }

  /** `bytes` become the file's own: what is on its way to the disk is not the program's memory any more. */
  write(at: number, bytes: Uint8Array): void {
    this.grow(at + bytes.length);
    this.#now.set(bytes, at);
    if (this.#unsynced.length === 0) {
      this.#groupBefore = this.#group;
      this.#group = at;
    }
    this.#unsynced.push({ at, bytes });
  }

  sync(): void {
    if (this.#emptied || (this.#sizeUnsynced && this.#safe.length !== this.#size)) {
      this.#safe = this.#now.slice(0, this.#size);
    } else for (const { at, bytes } of this.#unsynced) this.#safe.set(bytes, at);
    this.#unsynced = [];
    this.#sizeUnsynced = false;
    this.#emptied = false;
  }

  contents(): Uint8Array {
    return this.#now.slice(0, this.#size);
  }

  /** Where the last writes that were synced begin. */
  get lastSyncedGroup(): number {
    return this.#unsynced.length > 0 ? Math.min(this.#group, this.#groupBefore) : this.#group;
  }

  /** What a power cut leaves: each unsynced sector new, old or torn, as `keep` and `tear` say. */
  cut(rng: Rng, keep: number, tear: number): { file: File; torn: boolean } {
    const left = new File();
    const old = this.#emptied && rng.chance(keep) ? new Uint8Array(0) : this.#safe;
    let size = old.length;
    let torn = false;
    if (this.#sizeUnsynced && rng.chance(keep)) size = rng.chance(0.8) ? this.#size : rng.between(size, this.#size);
    const bytes = new Uint8Array(size);
    bytes.set(old.subarray(0, size));
    for (const write of this.#unsynced) {
      for (let from = write.at; from < write.at + write.bytes.length; ) {
        const to = Math.min(write.at + write.bytes.length, (Math.floor(from / sectorBytes) + 1) * sectorBytes);
        let end = to;
        if (!rng.chance(keep)) {
          end = from;
          torn = true;
        } else if (rng.chance(tear)) {
          end = rng.between(from, to);
          torn = true;
        }
        end = Math.min(end, size);
        if (end > from) bytes.set(write.bytes.subarray(from - write.at, end - write.at), from);
        from = to;
      }
    }
    left.#now = bytes;
    left.#size = size;
    left.#safe = bytes.slice();
    left.#group = this.lastSyncedGroup;
    return { file: left, torn };
  }

  flip(at: number, bit: number): void {
    for (const bytes of [this.#now, this.#safe]) {
      const byte = bytes[at];
      if (byte !== undefined) bytes[at] = byte ^ (1 << bit);
    }
  }
}

type NameChange = { file: File; name: string } | { from: string; to: string } | { gone: string };

/** How much of what was not synced a power cut leaves. */
export interface PowerCut {
  /** The share of sectors and name changes that survive: 0 … 1. */
  keep: number;
  /** The share of surviving sectors that are written in part. */
  tear: number;
}

export class SimDisk {
  #names = new Map<string, File>();
  #safeNames = new Map<string, File>();
  #unsynced: NameChange[] = [];

  /** Applies one operation; throws on what a real disk refuses, for then the writer's idea of the disk is wrong. */
  apply(op: DiskOp): void {
    switch (op.op) {
      case "create": {
        const old = this.#names.get(op.file);
        const file = old ?? new File();
        file.empty(op.bytes);
        if (old !== undefined) return;
        this.#names.set(op.file, file);
        this.#unsynced.push({ file, name: op.file });
        return;
      }
      case "write": {
        this.#file(op.file, "write").write(op.at, Buffer.concat(op.parts));
        return;
      }
      case "sync":
        this.#file(op.file, "sync").sync();
        return;
      case "rename": {
        const file = this.#file(op.from, "rename");
        this.#names.delete(op.from);
        this.#names.set(op.to, file);
        this.#unsynced.push({ from: op.from, to: op.to });
        return;
      }
      case "remove":
        this.#file(op.file, "remove");
        this.#names.delete(op.file);
        this.#unsynced.push({ gone: op.file });
        return;
      case "sync-directory":
        this.#safeNames = new Map(this.#names);
        this.#unsynced = [];
        return;
    }
  }

  #file(name: string, what: string): File {
    const file = this.#names.get(name);
    if (file === undefined) throw new Error(`simulated disk: ${what} of ${name}, which is not there`);
    return file;
  }

  image(): DiskImage {
    const image = new Map<string, Uint8Array>();
    for (const [name, file] of [...this.#names].sort(([a], [b]) => (a < b ? -1 : 1))) image.set(name, file.contents());
    return image;
  }

  read(name: string): Uint8Array | undefined {
    return this.#names.get(name)?.contents();
  }

  names(): string[] {
    return [...this.#names.keys()].sort();
  }

  /** Everything not synced may be gone. Tells whether anything was lost or torn. */
  powerCut(rng: Rng, { keep, tear }: PowerCut): boolean {
    let lost = false;
    const names = new Map(this.#safeNames);
    for (const change of this.#unsynced) {
      if (!rng.chance(keep)) {
        lost = true;
        continue;
      }
      if ("file" in change) names.set(change.name, change.file);
      else if ("gone" in change) names.delete(change.gone);
      else {
        const file = names.get(change.from);
        if (file === undefined) continue;
        names.delete(change.from);
        names.set(change.to, file);
      }
    }
    this.#names = new Map();
    for (const [name, file] of names) {
      const cut = file.cut(rng, keep, tear);
      lost ||= cut.torn;
      this.#names.set(name, cut.file);
    }
    this.#safeNames = new Map(this.#names);
    this.#unsynced = [];
    return lost;
  }

  /**
   * One bit of what is durable turns. Of a log, what the last sync wrote is spared: no log can tell a flipped bit in its
   * very last records from records that were never wholly written, so what is asked of one does not include it.
   */
  flip(rng: Rng, among: (name: string) => boolean, isLog: (name: string) => boolean): string | undefined {
    const candidates: { name: string; file: File; end: number }[] = [];
    for (const [name, file] of this.#names) {
      if (!among(name)) continue;
      const bytes = file.contents();
      let end = bytes.length;
      while (end > 0 && bytes[end - 1] === 0) end -= 1;
      if (isLog(name)) end = Math.min(end, file.lastSyncedGroup);
      if (end > 0) candidates.push({ name, file, end });
    }
    if (candidates.length === 0) return undefined;
    const { name, file, end } = rng.pick(candidates);
    const at = rng.below(end);
    file.flip(at, rng.below(8));
    return `${name} byte ${at}`;
  }
}
