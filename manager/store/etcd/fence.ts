// The fence: a key that says which leader may write. A new leader puts its epoch and term there if they are greater
// than what is found, and every transaction of its tenure compares the mod_revision that the key got by that. From the
// moment that a newer leader's put is made, nothing of an older one can be written, not even what is on its way.

import { type Clock, ClusterError, type Logger, messageOf } from "../../../lib/mod.js";
import type { Leadership, Tenure } from "../leadership.js";
import { notLeader } from "../leadership.js";
import { CallFailure, type EtcdClient } from "./client.js";
import type { Guard } from "./writer.js";

export interface FenceOptions {
  leadership: Leadership;
  /** Told when a newer leader holds the fence: this manager must give up its leadership. */
  readonly onFenced: (tenure: Tenure, reason: string) => void;
}

export interface FenceParts extends FenceOptions {
  client: EtcdClient;
  key: Buffer;
  clock: Clock;
  log: Logger;
  /** Ends what is under way. */
  signal: AbortSignal;
}

interface Held {
  tenure: Tenure;
  modRevision: number;
}

export class Fence {
  readonly #parts: FenceParts;
  #held: Held | undefined;
  /** The tenure that a newer leader has ended, whatever its manager still believes. */
  #lost: Tenure | undefined;

  constructor(parts: FenceParts) {
    this.#parts = parts;
  }

  /** What a transaction of the tenure must compare. Throws when there is no tenure, or another than the fence's. */
  guard(): Guard {
    const { leadership, key } = this.#parts;
    const tenure = leadership.tenure();
    if (tenure === undefined || this.#held === undefined || !sameTenure(this.#held.tenure, tenure))
      throw notLeader(leadership);
    return { key, modRevision: this.#held.modRevision };
  }

  /**
   * Takes the fence for a tenure if it is not held for it. Resolves with the revision at which it was taken: the view
   * must have come that far before the tenure's first update.
   */
  async take(tenure: Tenure, deadline: number): Promise<number> {
    if (this.#held !== undefined && sameTenure(this.#held.tenure, tenure)) return this.#held.modRevision;
    if (this.#lost !== undefined && sameTenure(this.#lost, tenure)) throw this.#refusal("a newer leader holds it");
    this.#held = undefined;
    const { client, clock, key, leadership, log, signal } = this.#parts;
    const ours = fenceValue(tenure);
    for (let tries = 1; ; tries += 1) {
      if (tenure.signal.aborted) throw notLeader(leadership);
      const { kvs } = await this.#read(Math.max(1, deadline - clock.monotonic()));
      const found = kvs[0];
      const value = found?.value.toString() ?? "";
      if (found !== undefined && !/^[0-9a-f]{32}$/.test(value))
        throw new ClusterError(
          "failed_precondition",
          `etcd: refused: ${key.toString()} is not a fence that Flotilla wrote; repair or delete that key`,
        );
      // Ours already: put before, by a transaction whose answer was lost.
      if (value === ours) return this.#hold(tenure, Number(found?.mod_revision));
      if (value > ours)
        throw this.lost(
          tenure,
          `${key.toString()} was taken by a leader of ${spoken(value)}, and this one is of ${spoken(ours)}; ` +
            "if that was another cluster's, whose managers are gone for good, delete that key with etcdctl del and start this manager again",
        );
      try {
        const answer = await client.txn(
          {
            compare: [{ key, result: "Equal", target: "Mod", mod_revision: Number(found?.mod_revision ?? 0) }],
            success: [{ request_put: { key, value: Buffer.from(ours) } }],
          },
          deadline,
          signal,
        );
        if (answer.succeeded) return this.#hold(tenure, Number(answer.header.revision));
      } catch (failure) {
        // Whether it was made is seen by reading again; a second one after the first cannot be.
        if (!(failure instanceof CallFailure)) throw failure;
        if (failure.neverMade && !failure.retryable)
          throw new ClusterError("unavailable", `etcd: ${failure.message}`, { cause: failure });
        log.info({ error: messageOf(failure) }, "taking the fence got no answer: reading it");
      }
      await client.pause(tries, deadline, signal);
    }
  }

  /** For a transaction that was refused because the fence is another's now. */
  lost(tenure: Tenure, reason: string): ClusterError {
    const { log, onFenced } = this.#parts;
    this.#held = undefined;
    this.#lost = tenure;
    log.warn({ term: tenure.term, reason }, "fenced: a newer leader writes");
    onFenced(tenure, reason);
    return this.#refusal(reason);
  }

  /** As `lost`, for the tenure that the fence was last held for. */
  lostHeld(): ClusterError {
    const { leadership } = this.#parts;
    return this.#held === undefined
      ? notLeader(leadership)
      : this.lost(this.#held.tenure, "a newer leader has taken the fence");
  }

  async #read(budgetMs: number) {
    const { client, key, signal } = this.#parts;
    try {
      return await client.range({ key }, budgetMs, signal);
    } catch (failure) {
      if (!(failure instanceof CallFailure)) throw failure;
      throw new ClusterError("unavailable", `etcd: ${failure.message}`, { cause: failure });
    }
  }

  #hold(tenure: Tenure, modRevision: number): number {
    this.#parts.log.info({ term: tenure.term, epoch: tenure.epoch, revision: modRevision }, "took the fence");
    this.#held = { tenure, modRevision };
    return modRevision;
  }

  #refusal(reason: string): ClusterError {
    const leader = this.#parts.leadership.leader();
    const others = leader !== undefined && leader.id !== this.#parts.leadership.self.id ? leader.address : undefined;
    return new ClusterError(
      "not_leader",
      `etcd: this manager's leadership has ended: ${reason}`,
      others === undefined ? {} : { details: { leader: others } },
    );
  }
}

/** Fixed width, so that the order of texts is that of numbers. */
function fenceValue({ epoch, term }: Tenure): string {
  return [epoch, term].map((part) => part.toString(16).padStart(16, "0")).join("");
}

/** "epoch 0 and term 57". */
function spoken(value: string): string {
  return `epoch ${Number.parseInt(value.slice(0, 16), 16)} and term ${Number.parseInt(value.slice(16), 16)}`;
}

function sameTenure(a: Tenure, b: Tenure): boolean {
  return a.epoch === b.epoch && a.term === b.term;
}
