// Snapshots of a node: taken while writes go on, sent to who is too far behind, received and installed. The core knows
// only where they stand in the log.

import type { MessageOf, NodeId, SnapshotMeta } from "../core/mod.js";
import type { Driver } from "../driver/mod.js";
import { RaftError } from "./api.js";
import type { NodeStorage } from "./node-storage.js";
import { DiskError } from "./file-system.js";
import type { Settings } from "./settings.js";
import { inSlices, type Turn, untilAborted } from "./slices.js";

/** A peer that has not taken a snapshot by then gets it again from the beginning. */
export const sendTimeoutMs = 600_000;

export interface SnapshottingOptions {
  options: Settings;
  storage: NodeStorage;
  driver: Driver;
  turn: Turn;
  /** For calls into the driver; does nothing once the node has ended. */
  guard: (step: () => void) => void;
  flush: () => void;
  fail: (error: unknown) => void;
}

export class Snapshotting {
  readonly #with: SnapshottingOptions;
  /** Bytes applied since the newest snapshot that was taken or installed. */
  #bytes = 0;
  /** Where the next is due; later than a snapshot's place where the last attempt failed. */
  #dueAt: number;
  #taking: Promise<void> | undefined;
  #restoring = false;
  /** A MsgSnap was stepped: from then on the core's configuration may be ahead of the state machine's. */
  #installing = false;
  #receiving: Promise<void> | undefined;
  readonly #sending = new Map<NodeId, { abort: AbortController; done: Promise<void> }>();
  readonly #end = new AbortController();

  constructor(options: SnapshottingOptions) {
    this.#with = options;
    this.#dueAt = (options.storage.wal.snapshot()?.index ?? 0) + options.options.snapshotEntries;
  }

  /** An entry of so many bytes was applied. */
  grown(bytes: number): void {
    this.#bytes += bytes;
  }

  /** Between two entries only: the state machine must stand exactly at the driver's applied index. */
  takeIfDue(): void {
    const { driver, options, storage } = this.#with;
    const due = driver.appliedIndex >= this.#dueAt || this.#bytes >= options.snapshotBytes;
    if (!due || this.#taking !== undefined || this.#restoring || this.#end.signal.aborted) {
      return;
    }
    if (this.#installing) {
      // Once nothing is being written it is in the log, or was not taken in.
      if (driver.writing) {
        return;
      }
      this.#installing = false;
    }
    const index = driver.appliedIndex;
    const term = storage.wal.term(index);
    if (typeof term !== "number" || index <= (storage.wal.snapshot()?.index ?? 0)) {
      return;
    }
    const chunks = options.machine.snapshot();
    this.#reset(index);
    this.#taking = this.#take({ index, term, confState: driver.raw.confState }, chunks)
      .catch((error: unknown) => this.#with.fail(error))
      .finally(() => {
        this.#taking = undefined;
      });
  }

  async #take(meta: SnapshotMeta, chunks: Iterable<Uint8Array>): Promise<void> {
    const { storage, options, turn, guard, driver } = this.#with;
    try {
      const { full } = await storage.snapshots.write(meta, inSlices(chunks, turn), this.#end.signal);
      if (full !== undefined) {
        options.log.warn(
          { index: meta.index, problem: full },
          "no room for a snapshot: tried again when the log has grown",
        );
        return;
      }
    } catch (error) {
      if (this.#end.signal.aborted) {
        return;
      }
      throw error;
    }
    let marked: Promise<void> | undefined;
    guard(() => {
      // Meanwhile a leader may have sent a newer one.
      if (meta.index > (storage.wal.snapshot()?.index ?? 0)) {
        marked = storage.mark(meta, driver.takeUnwritten());
      }
    });
    await marked;
    options.log.info({ index: meta.index, term: meta.term }, "snapshot taken");
  }

  /** From a MsgSnap of the core: the contents follow it, on a stream of their own. One at a time to each. */
  send(message: MessageOf<"MsgSnap">): void {
    const { to } = message;
    if (this.#end.signal.aborted || this.#sending.has(to)) {
      return;
    }
    const abort = new AbortController();
    const done = this.#send(message, abort);
    this.#sending.set(to, { abort, done });
  }

  async #send(message: MessageOf<"MsgSnap">, abort: AbortController): Promise<void> {
    const { storage, options, driver, guard, flush } = this.#with;
    const { to, snapshot } = message;
    const late = options.clock.after(sendTimeoutMs, () =>
      abort.abort(new Error(`node ${to} did not take the snapshot within ${sendTimeoutMs / 60_000} minutes`)),
    );
    let ok = true;
    try {
      await options.transport.sendSnapshot(message, storage.snapshots.read(snapshot), abort.signal);
      options.log.info({ to, index: snapshot.index }, "snapshot sent");
    } catch (error) {
      ok = false;
      options.log.warn(
        { to, index: snapshot.index, err: error },
        "snapshot not sent: tried again when the node answers",
      );
    }
    late();
    this.#sending.delete(to);
    guard(() => driver.reportSnapshot(to, ok));
    flush();
  }

  receive(message: MessageOf<"MsgSnap">, chunks: AsyncIterable<Uint8Array>): Promise<void> {
    if (this.#receiving !== undefined) {
      return Promise.reject(new RaftError("busy", "another snapshot is being received"));
    }
    const receiving = this.#receive(message, chunks).finally(() => {
      this.#receiving = undefined;
    });
    this.#receiving = receiving.catch(() => {
      // Told to the caller by `receiving`; whoever waits here only waits for the end.
    });
    return receiving;
  }

  async #receive(message: MessageOf<"MsgSnap">, chunks: AsyncIterable<Uint8Array>): Promise<void> {
    const { storage, driver, guard, options, fail } = this.#with;
    const { snapshot } = message;
    // What is not news is answered by the core; the contents need not be there for that.
    if (snapshot.index > driver.raw.status().commit) {
      let full: string | undefined;
      try {
        ({ full } = await storage.snapshots.write(snapshot, untilAborted(chunks, this.#end.signal), this.#end.signal));
      } catch (error) {
        if (error instanceof DiskError) {
          fail(error);
        }
        throw error;
      }
      if (full !== undefined) {
        throw new RaftError("disk-full", full);
      }
      options.log.info({ from: message.from, index: snapshot.index }, "snapshot received");
    }
    if (this.#end.signal.aborted) {
      throw new RaftError("closed", "the node is closed");
    }
    guard(() => {
      this.#installing = true;
      driver.receive(message);
      driver.flush();
    });
  }

  restoring(): void {
    this.#restoring = true;
  }

  restored(meta: SnapshotMeta): void {
    const { storage, fail } = this.#with;
    this.#restoring = false;
    this.#reset(meta.index);
    storage.installed(storage.wal.snapshot() ?? meta).catch(fail);
  }

  /** Nothing new begins, and what is being sent ends. */
  stop(): void {
    this.#end.abort(new RaftError("closed", "the node is closed"));
    for (const { abort } of this.#sending.values()) {
      abort.abort(new RaftError("closed", "the node is closed"));
    }
  }

  async close(): Promise<void> {
    this.stop();
    const sending = [...this.#sending.values()].map(({ done }) => done);
    await Promise.all([this.#taking, this.#receiving, ...sending]);
  }

  #reset(index: number): void {
    this.#bytes = 0;
    this.#dueAt = index + this.#with.options.snapshotEntries;
  }
}
