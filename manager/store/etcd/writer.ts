// Commits groups of writes as etcd transactions, each exactly once.
//
// Every transaction compares the mod_revision of this store's marker key with the one it last saw, and puts its own
// random id there. When no answer comes, a second transaction looks: if the marker holds that id, it was made; if
// not, the marker is overwritten, and with that the first one, wherever it may still be on its way, can never be
// made. So the outcome is always known once a quorum answers, and a repetition cannot double anything.

import { type Clock, ClusterError, type Logger, type Rng, messageOf } from "../../../lib/mod.js";
import type { ICompare, IRequestOp, ITxnRequest, ITxnResponse } from "etcd3";
import type { Tenure } from "../leadership.js";
import type { Fence } from "./fence.js";
import type { EncodedWrite } from "../committer.js";
import { tablesOf } from "../view.js";
import { CallFailure, type EtcdClient } from "./client.js";
import type { Keys } from "./keys.js";
import type { Replica } from "./replica.js";

/** The longest that a commit may take, with everything that it takes to learn its outcome. */
const commitBudgetMs = 5_000;
/** How long a committed write may take to come by the watch. */
const deliveryBudgetMs = 5_000;
/** Markers of other stores, most of which have ended; the oldest beyond these are swept away, never the newest. */
const markersMax = 32;
/** Deletions in one sweep. */
const sweepMax = 50;

/** A key that must still have the revision at which it was last seen; 0 is that it is not there. */
export interface Guard {
  key: Buffer;
  modRevision: number;
}

interface Attempt {
  id: string;
  guards: Guard[];
  request: ITxnRequest;
}

export interface WriterOptions {
  client: EtcdClient;
  replica: Replica;
  keys: Keys;
  clock: Clock;
  rng: Rng;
  log: Logger;
  /** Ends what is under way. */
  signal: AbortSignal;
  /** Without one anybody may write: for tests of the store alone. */
  fence: Fence | undefined;
  /** Whether to take over own commits before the watch brings them. */
  applyOwn: boolean;
}

export class Writer {
  readonly #options: WriterOptions;
  readonly #writer: string;
  readonly #markerKey: Buffer;
  /** The marker's mod_revision; undefined until it is known to be there. */
  #marker: number | undefined;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#writer = options.rng.id();
    this.#markerKey = options.keys.marker(this.#writer);
  }

  /** Takes the fence for a tenure; then the view shows everything that earlier leaders wrote, and will ever have written. */
  async begin(fence: Fence, tenure: Tenure): Promise<void> {
    const { clock, replica } = this.#options;
    const revision = await fence.take(tenure, clock.monotonic() + commitBudgetMs);
    if (await this.#within(deliveryBudgetMs, () => replica.applied >= revision)) return;
    throw new ClusterError(
      "unavailable",
      `etcd: what earlier leaders wrote has not come by the watch within ${deliveryBudgetMs} ms`,
    );
  }

  /** See Backend.commit. */
  async commit(writes: readonly EncodedWrite[]): Promise<boolean> {
    const { clock, fence, replica } = this.#options;
    const deadline = clock.monotonic() + commitBudgetMs;
    // Of the tenure that the updates ran in, to the end: under a later one they would have to run again.
    const fencing = fence === undefined ? [] : [fence.guard()];
    // The versions of the moment of the call: what the updates saw.
    const seen = this.#guardsOf(writes);
    const names = seen.some(({ key }) => key.equals(this.#options.keys.names));
    for (;;) {
      const marker = await this.#establishMarker(fencing, deadline);
      const guards = [...fencing, { key: this.#markerKey, modRevision: marker }, ...seen];
      const outcome = await this.#make(this.#attempt(writes, guards, names), fencing, deadline);
      if (outcome.kind === "committed") {
        this.#marker = outcome.revision;
        if (this.#options.applyOwn) replica.applyOwn(outcome.revision, writes, { writer: this.#writer, names });
        await this.#delivered(outcome.revision);
        return true;
      }
      if (outcome.kind === "refused") {
        this.#requireFence(fencing, outcome.found);
        const found = outcome.found.get(this.#markerKey.toString()) ?? 0;
        if (found !== marker) this.#marker = found === 0 ? undefined : found;
        const stale = seen.filter(({ key, modRevision }) => (outcome.found.get(key.toString()) ?? 0) !== modRevision);
        if (stale.length > 0) {
          await this.#caughtUp(stale);
          return false;
        }
      }
      if (clock.monotonic() >= deadline)
        throw new ClusterError("unavailable", `etcd: the write was not made: ${this.#options.client.describe()}`);
    }
  }

  /**
   * The revision of the newest transaction of any store, by a linearizable read. Each leaves its revision on its
   * store's marker, and the newest marker is never taken away.
   */
  async newestTransaction(budgetMs: number, signal: AbortSignal): Promise<number> {
    const { client, keys } = this.#options;
    const { kvs } = await client.range(
      {
        key: keys.markers.first,
        range_end: keys.markers.end,
        sort_order: "Descend",
        sort_target: "Mod",
        limit: 1,
        keys_only: true,
      },
      budgetMs,
      signal,
    );
    return Number(kvs[0]?.mod_revision ?? 0);
  }

  /** What must not have changed for the writes to be right. */
  #guardsOf(writes: readonly EncodedWrite[]): Guard[] {
    const { keys, replica } = this.#options;
    const guards: Guard[] = writes.map(({ table, id }) => ({
      key: keys.object(table, id),
      modRevision: tablesOf(replica.view)[table].get(id)?.meta.version ?? 0,
    }));
    if (writes.some((write) => givesName(write, replica)))
      guards.push({ key: keys.names, modRevision: replica.namesRevision });
    return guards;
  }

  #attempt(writes: readonly EncodedWrite[], guards: Guard[], names: boolean): Attempt {
    const { keys, rng } = this.#options;
    const id = rng.id();
    const success: IRequestOp[] = writes.map(({ table, id: objectId, bytes }) => {
      const key = keys.object(table, objectId);
      return bytes === undefined
        ? { request_delete_range: { key } }
        : { request_put: { key, value: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength) } };
    });
    success.push({ request_put: { key: this.#markerKey, value: Buffer.from(id) } });
    if (names) success.push({ request_put: { key: keys.names, value: Buffer.from(id) } });
    return {
      id,
      guards,
      request: {
        compare: guards.map(modEquals),
        success,
        failure: guards.map(({ key }) => rangeOf(key)),
      },
    };
  }

  /** Sends one attempt and finds out what became of it. */
  async #make(
    attempt: Attempt,
    fencing: readonly Guard[],
    deadline: number,
  ): Promise<
    | { kind: "committed"; revision: number }
    | { kind: "refused"; found: Map<string, number> }
    /** Not made, and never will be. */
    | { kind: "void" }
  > {
    const { client, signal, log } = this.#options;
    for (let tries = 1; ; tries += 1) {
      try {
        return readAnswer(await client.txn(attempt.request, deadline, signal));
      } catch (failure) {
        // Anything else was thrown before it was sent: certain not to have been made.
        if (!(failure instanceof CallFailure)) throw this.#orClosing(failure);
        if (failure.neverMade && !failure.retryable)
          throw new ClusterError("unavailable", `etcd: ${failure.message}`, { cause: failure });
        if (!failure.neverMade) {
          log.info({ error: failure.message }, "a write got no answer: reading back");
          return await this.#readBack(attempt, fencing, deadline, failure);
        }
        await client.pause(tries, deadline, signal);
      }
    }
  }

  async #readBack(
    attempt: Attempt,
    fencing: readonly Guard[],
    deadline: number,
    cause: CallFailure,
  ): Promise<{ kind: "committed"; revision: number } | { kind: "void" }> {
    const { client, signal, log } = this.#options;
    const id = Buffer.from(attempt.id);
    const request: ITxnRequest = {
      // Repeated, this finds its own mark and not the id: still not made.
      compare: [{ key: this.#markerKey, result: "NotEqual", target: "Value", value: id }, ...fencing.map(modEquals)],
      success: [{ request_put: { key: this.#markerKey, value: Buffer.from(`void ${attempt.id}`) } }],
      failure: [{ request_range: { key: this.#markerKey } }, ...fencing.map(({ key }) => rangeOf(key))],
    };
    try {
      for (let tries = 1; ; tries += 1) {
        try {
          const answer = await client.txn(request, deadline, signal);
          const marker = answer.succeeded ? undefined : answer.responses[0]?.response_range.kvs[0];
          if (marker?.value.equals(id) === true) {
            const revision = Number(marker.mod_revision);
            log.info({ revision }, "the write had been made");
            return { kind: "committed", revision };
          }
          log.info("the write had not been made");
          // Void by its marker, which is another's now; one that is gone was swept away, and is made anew.
          this.#marker = answer.succeeded ? Number(answer.header.revision) : undefined;
          // Or by the fence, which never again has the revision that it compares.
          if (!answer.succeeded) this.#requireFence(fencing, foundIn(answer));
          return { kind: "void" };
        } catch (failure) {
          if (!(failure instanceof CallFailure) || (failure.neverMade && !failure.retryable)) throw failure;
          await client.pause(tries, deadline, signal);
        }
      }
    } catch (failure) {
      if (failure instanceof ClusterError && failure.code === "not_leader") throw failure;
      // What the marker holds is open too: look before the next transaction.
      this.#marker = undefined;
      throw new ClusterError(
        "unknown_outcome",
        `etcd: no answer to a write, and it could not be read back: ${cause.message}; then ${messageOf(failure)}`,
        { cause: failure },
      );
    }
  }

  /** The marker's mod_revision, made if it is not there. Made apart, so that every write compares with a key of its own. */
  async #establishMarker(fencing: readonly Guard[], deadline: number): Promise<number> {
    if (this.#marker !== undefined) return this.#marker;
    const { client, clock, signal } = this.#options;
    const request: ITxnRequest = {
      compare: [modEquals({ key: this.#markerKey, modRevision: 0 }), ...fencing.map(modEquals)],
      success: [{ request_put: { key: this.#markerKey, value: Buffer.from("open") } }],
      failure: [this.#markerKey, ...fencing.map(({ key }) => key)].map(rangeOf),
    };
    for (let tries = 1; ; tries += 1) {
      try {
        const answer = await client.txn(request, deadline, signal);
        if (answer.succeeded) {
          this.#marker = Number(answer.header.revision);
          this.#options.replica.applyOwn(this.#marker, [], { writer: this.#writer, names: false });
          await this.#sweep(fencing, clock.monotonic() + 1_000);
          return this.#marker;
        }
        const found = foundIn(answer);
        this.#requireFence(fencing, found);
        // Made before, without an answer; or, seldom, swept away in between, and then it is made again.
        this.#marker = found.get(this.#markerKey.toString());
        if (this.#marker !== undefined) return this.#marker;
        await client.pause(tries, deadline, signal);
      } catch (failure) {
        // Whether or not it was made: nothing of the caller's was, and it can be repeated.
        if (!(failure instanceof CallFailure)) throw this.#orClosing(failure);
        if (!failure.retryable) throw new ClusterError("unavailable", `etcd: ${failure.message}`, { cause: failure });
        await client.pause(tries, deadline, signal);
      }
    }
  }

  /** Takes away the oldest markers of stores that are likely gone. One that is not will make its marker again. */
  async #sweep(fencing: readonly Guard[], deadline: number): Promise<void> {
    const { client, keys, log, replica, signal } = this.#options;
    const others = [...replica.markers].filter(([writer]) => writer !== this.#writer);
    const old = others.sort(([, a], [, b]) => a - b).slice(0, Math.max(0, others.length - markersMax));
    if (old.length === 0) return;
    const guards = old.slice(0, sweepMax).map(([writer, modRevision]) => ({ key: keys.marker(writer), modRevision }));
    try {
      await client.txn(
        {
          compare: [...fencing, ...guards].map(modEquals),
          success: guards.map(({ key }) => ({ request_delete_range: { key } })),
        },
        deadline,
        signal,
      );
    } catch (error) {
      log.debug({ error: messageOf(error) }, "old transaction markers stay for the next time");
    }
  }

  /** Throws when a transaction was refused because another leader has taken the fence. */
  #requireFence(fencing: readonly Guard[], found: ReadonlyMap<string, number>): void {
    const { fence } = this.#options;
    const taken = fencing.some(({ key, modRevision }) => found.get(key.toString()) !== modRevision);
    if (taken && fence !== undefined) throw fence.lostHeld();
  }

  async #delivered(revision: number): Promise<void> {
    const { replica } = this.#options;
    if (await this.#within(deliveryBudgetMs, () => replica.applied >= revision)) return;
    throw new ClusterError(
      "unknown_outcome",
      `etcd: the write was made at revision ${revision}, but has not come back by the watch within ${deliveryBudgetMs} ms`,
    );
  }

  /** Until the view shows the other writes that stood in the way; a rerun before that would meet them again. */
  async #caughtUp(stale: readonly Guard[]): Promise<void> {
    const { keys, replica } = this.#options;
    const shows = ({ key, modRevision }: Guard) => {
      const meaning = keys.meaning(key);
      if (meaning.kind === "names") return replica.namesRevision !== modRevision;
      if (meaning.kind !== "object") return true;
      return (tablesOf(replica.view)[meaning.table].get(meaning.id)?.meta.version ?? 0) !== modRevision;
    };
    if (await this.#within(deliveryBudgetMs, () => stale.every(shows))) return;
    throw new ClusterError(
      "unavailable",
      `etcd: somebody else wrote in between, and that has not come by the watch within ${deliveryBudgetMs} ms`,
    );
  }

  async #within(ms: number, holds: () => boolean): Promise<boolean> {
    if (holds()) return true;
    const { clock, replica, signal } = this.#options;
    const controller = new AbortController();
    const abort = () => controller.abort();
    const cancel = clock.after(ms, abort);
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
    try {
      return await replica.until(holds, controller.signal);
    } finally {
      cancel();
      signal.removeEventListener("abort", abort);
    }
  }

  #orClosing(failure: unknown): unknown {
    return this.#options.signal.aborted ? new ClusterError("unavailable", "the store is closed") : failure;
  }
}

function readAnswer(
  answer: ITxnResponse,
): { kind: "committed"; revision: number } | { kind: "refused"; found: Map<string, number> } {
  if (answer.succeeded) return { kind: "committed", revision: Number(answer.header.revision) };
  return { kind: "refused", found: foundIn(answer) };
}

/** The mod_revision of each key that a refused transaction looked at and found. */
function foundIn(answer: ITxnResponse): Map<string, number> {
  const found = new Map<string, number>();
  for (const { response_range: range } of answer.responses)
    for (const { key, mod_revision: modRevision } of range.kvs) found.set(key.toString(), Number(modRevision));
  return found;
}

function rangeOf(key: Buffer): IRequestOp {
  return { request_range: { key, keys_only: true } };
}

function modEquals({ key, modRevision }: Guard): ICompare {
  return { key, result: "Equal", target: "Mod", mod_revision: modRevision };
}

function givesName(write: EncodedWrite, replica: Replica): boolean {
  if (write.table !== "services" || write.after === undefined) return false;
  return replica.view.services.get(write.id)?.spec.name !== write.after.spec.name;
}
