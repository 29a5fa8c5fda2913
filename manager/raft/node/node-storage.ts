// The log and the snapshots of one node on its disk, as one thing: opened together, written in one order.

import type { HardState, SnapshotMeta } from "../core/mod.js";
import type { Batch } from "../driver/mod.js";
import { type DiskOp, type Refused, Wal } from "../wal/mod.js";
import { RaftError } from "./api.js";
import { NodeDisk } from "./disk.js";
import type { FileSystem } from "./file-system.js";
import type { Settings } from "./settings.js";
import { SnapshotFiles } from "./snapshots.js";

/** Entries that stay in the log below a snapshot, for who is a little behind; never more than half of a snapshot's. */
const keepEntriesMax = 5_000;

/** Between two looks at a full disk. */
const fullRetryMs = 5_000;

/** A log that can't be used as it is: the message says why and what to do. */
export class LogRefusedError extends Error {
  override name = "LogRefusedError";
  /** What is wrong, without the advice that the message ends with. */
  readonly problem: string;
  /** What to do. */
  readonly fix: string;
  /** Whether this copy is lost for good: the node has to join anew, under a new id. */
  readonly lost: boolean;

  constructor(directory: string, { reason, fix, lost }: Refused) {
    const problem = `the log in ${directory} is refused: ${reason}`;
    super(`${problem}. ${fix}`);
    this.problem = problem;
    this.fix = fix;
    this.lost = lost;
  }
}

/** Of a segment: kept on a full disk for votes, commits and snapshots' markers. */
const reserveBytesMax = 1024 * 1024;
const reserveParts = 4;

const rejoin =
  "A node that goes on without what it has voted for can elect a second leader: remove this node from the cluster, wipe " +
  "its directory, and let it join again, empty, under a new id. If it was the only member, restore a backup.";

export class NodeStorage {
  readonly wal: Wal;
  readonly snapshots: SnapshotFiles;
  readonly #disk: NodeDisk;
  readonly #settings: Settings;
  #spareTriedAt = 0;
  #spare: Promise<void> | undefined;
  /** Lists of ops under way. */
  #running = 0;
  #closed = false;
  /** The disk failed where nobody waits for an answer. */
  onFailure: (error: unknown) => void = () => {};

  static async open(settings: Settings, files: FileSystem): Promise<NodeStorage> {
    const { directory, clock, log, snapshotEntries, snapshotBytes, segmentBytes, bootstrap, begun } = settings;
    const disk = NodeDisk.open(directory, { now: () => clock.monotonic(), fs: files });
    try {
      const snapshots = SnapshotFiles.open(directory, files);
      const options = {
        keepEntries: Math.min(keepEntriesMax, Math.floor(snapshotEntries / 2)),
        keepBytes: snapshotBytes,
        segmentBytes,
      };
      const image = disk.readImage();
      if (Wal.isEmpty(image)) {
        const [left] = snapshots.list();
        if (left !== undefined || begun === true) {
          const reason =
            left === undefined
              ? "it is gone, and this node has taken part before"
              : `there are snapshots, as that of index ${left.index}, and no file wal-…: they were removed`;
          throw new LogRefusedError(directory, { reason, fix: rejoin, lost: true });
        }
        const { wal, ops } = Wal.create({ ...options, ...(bootstrap === undefined ? {} : { bootstrap }) });
        await disk.run(ops);
        return new NodeStorage(settings, disk, wal, snapshots);
      }
      const found = Wal.recover(image, { ...options, snapshotExists: (meta) => snapshots.has(meta) });
      if ("refusal" in found) {
        throw new LogRefusedError(directory, found.refusal);
      }
      await disk.run(found.repairs);
      for (const note of found.notes) {
        log.warn({ directory }, note);
      }
      snapshots.keep(found.wal.snapshot(), { removeNewer: true });
      return new NodeStorage(settings, disk, found.wal, snapshots);
    } catch (error) {
      await disk.close();
      throw error;
    }
  }

  private constructor(settings: Settings, disk: NodeDisk, wal: Wal, snapshots: SnapshotFiles) {
    this.#settings = settings;
    this.#disk = disk;
    this.wal = wal;
    this.snapshots = snapshots;
  }

  /** In words, why nothing can be proposed. */
  get problem(): string | undefined {
    const { diskFull } = this.wal;
    return diskFull === undefined
      ? undefined
      : `the disk of ${this.#settings.directory} is full (${diskFull}); free space there, writes then go on by themselves`;
  }

  refusal(): RaftError | undefined {
    const { problem } = this;
    return problem === undefined ? undefined : new RaftError("disk-full", `not made: ${problem}`);
  }

  /** Whether so many bytes of entries may be taken in: not from what a full disk has left for votes and snapshots. */
  hasRoomFor(bytes: number): boolean {
    const reserve = Math.min(reserveBytesMax, this.#settings.segmentBytes / reserveParts);
    return this.wal.diskFull === undefined || this.wal.reserveBytes - bytes >= reserve;
  }

  /** Resolves when the batch is durable; rejects when the disk fails, after which nothing more can be written. */
  append(batch: Batch): Promise<void> {
    return this.#run(this.wal.append(batch));
  }

  async #run(ops: readonly DiskOp[]): Promise<void> {
    this.#running++;
    await this.#disk.run(ops);
    this.#running--;
    // Not while ops wait their turn: they may take the spare that there is, which is of the same name.
    if (this.#running === 0) {
      this.#makeSpare();
    }
  }

  /** The snapshot's contents are durable: from now on the log stands on them, and what they cover may go. */
  async mark(meta: SnapshotMeta, commit: HardState | undefined): Promise<void> {
    const before = commit === undefined ? [] : this.wal.append({ entries: [], hardState: commit, mustSync: false });
    const { ops } = this.wal.createSnapshot(meta.index, meta.confState);
    await this.#run([...before, ...ops]);
    this.snapshots.keep(meta);
    this.#spareTriedAt = Number.NEGATIVE_INFINITY;
    await this.#run(this.wal.compact());
  }

  /** The log stands on a snapshot that was received: what it replaces may go. */
  async installed(meta: SnapshotMeta): Promise<void> {
    this.snapshots.keep(meta);
    await this.#run(this.wal.compact());
  }

  /** Looks at a full disk again, now and then. */
  tick(): void {
    if (this.wal.diskFull !== undefined && this.#running === 0) {
      this.#makeSpare();
    }
  }

  /** Waits for what is being written. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#spare;
    await this.#disk.close();
  }

  #makeSpare(): void {
    const now = this.#settings.clock.monotonic();
    if (this.#closed || (this.wal.diskFull !== undefined && now - this.#spareTriedAt < fullRetryMs)) {
      return;
    }
    const ops = this.wal.spareWanted();
    if (ops === undefined) {
      return;
    }
    this.#spareTriedAt = now;
    this.#spare = this.#disk.prepare(ops).then(
      ({ full }) => {
        if (full === undefined) {
          this.wal.spareMade();
        } else {
          this.wal.spareFailed(full);
          this.#settings.log.warn({ problem: full }, "the disk is full: proposals are refused until there is room");
        }
      },
      (error: unknown) => this.onFailure(error),
    );
  }
}
