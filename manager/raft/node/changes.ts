// Who waits for a membership change or a handover of leadership.

import type { ConfState, Entry, NodeId, Refusal } from "../core/mod.js";
import type { Leadership } from "../driver/mod.js";
import { RaftError } from "./api.js";

interface Waiting {
  resolve: () => void;
  reject: (error: unknown) => void;
}

/** One change is under way at most: the core refuses a second. */
export class Changes {
  #pending: (Waiting & { index: number; term: number; explicit: boolean; entered: boolean }) | undefined;

  proposed(index: number, term: number, explicit: boolean, waiting: Waiting): void {
    this.lost(0);
    this.#pending = { ...waiting, index, term, explicit, entered: false };
  }

  /** A joint change that is left by itself is complete when it is left. */
  configured(entry: Entry, confState: ConfState): void {
    const pending = this.#pending;
    if (pending === undefined || entry.index < pending.index) {
      return;
    }
    if (!pending.entered && (entry.index !== pending.index || entry.term !== pending.term)) {
      this.#pending = undefined;
      pending.reject(new RaftError("not-leader", "not made: another leader's entry took its place in the log"));
      return;
    }
    pending.entered = true;
    if (pending.explicit || confState.votersOutgoing.length === 0) {
      this.#pending = undefined;
      pending.resolve();
    }
  }

  lost(lead: NodeId): void {
    this.#end(
      new RaftError("unknown", "leadership was lost while the change was under way: it may or may not be made", lead),
    );
  }

  close(cause?: Error): void {
    const options = cause === undefined ? {} : { cause };
    this.#end(
      new RaftError("unknown", "the node closed while the change was under way: it may or may not be made", 0, options),
    );
  }

  #end(error: RaftError): void {
    const pending = this.#pending;
    this.#pending = undefined;
    pending?.reject(error);
  }
}

/** Handovers that wait until another leads. */
export class Handovers {
  #waiting = new Set<Waiting & { from: NodeId; to: NodeId; ticksLeft: number; release: () => void }>();

  wait(from: NodeId, to: NodeId, ticks: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const aborted = (): void => {
        this.#waiting.delete(waiting);
        reject(signal?.reason);
      };
      const waiting = {
        from,
        to,
        ticksLeft: ticks,
        resolve,
        reject,
        release: () => signal?.removeEventListener("abort", aborted),
      };
      signal?.addEventListener("abort", aborted, { once: true });
      this.#waiting.add(waiting);
    });
  }

  leadership(now: Leadership): void {
    for (const waiting of this.#waiting) {
      if (now.lead !== 0 && now.lead !== waiting.from) {
        this.#waiting.delete(waiting);
        waiting.release();
        waiting.resolve();
      }
    }
  }

  tick(lead: NodeId): void {
    for (const waiting of this.#waiting) {
      if (--waiting.ticksLeft <= 0) {
        this.#waiting.delete(waiting);
        waiting.release();
        waiting.reject(
          new RaftError(
            "busy",
            `node ${waiting.to} did not take over within two election timeouts: it may be behind or out of reach`,
            lead,
          ),
        );
      }
    }
  }

  close(error: () => RaftError): void {
    for (const { release, reject } of this.#waiting) {
      release();
      reject(error());
    }
    this.#waiting.clear();
  }
}

/** What the core refused, as an error: nothing of it was made. */
export function refused(refusal: Refusal, lead: NodeId): RaftError {
  switch (refusal) {
    case "no-leader":
      return new RaftError("not-leader", "not made: no leader is known", lead);
    case "not-leader":
      return new RaftError(
        "not-leader",
        `not made: this node does not lead${lead === 0 ? "" : `, node ${lead} does`}`,
        lead,
      );
    case "not-member":
      return new RaftError("not-leader", "not made: this node is not in the configuration", lead);
    case "too-much-pending":
      return new RaftError("busy", "not made: too much is proposed and not committed yet; try again later", lead);
    case "transferring":
      return new RaftError("busy", "not made: leadership is being handed over; try again", lead);
    case "change-pending":
      return new RaftError(
        "busy",
        "not made: another membership change is under way, or this leader has not committed an entry yet; try again",
        lead,
      );
    case "change-invalid":
      return new RaftError(
        "refused",
        "not made: the change makes no sense here; it may not remove the last voter, nor enter a joint configuration twice",
        lead,
      );
    case "lease-held":
      return new RaftError("refused", "not made: the leader may be reading by its lease", lead);
    case "not-promotable":
      return new RaftError("refused", "not made: that node is no voter of the configuration, or leads already", lead);
  }
}
