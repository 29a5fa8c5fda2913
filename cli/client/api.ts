// The managers as one: tries them in turn, follows the leader, and repeats what got lost. A write carries an id of
// its own, so that repeating it after a lost answer does it exactly once.

import type { MethodDefinition } from "@grpc/grpc-js";
import type { Clock } from "../../lib/clock.js";
import { sleep } from "../../lib/clock.js";
import { ClusterError } from "../../lib/errors.js";
import type { Rng } from "../../lib/rng.js";
import { Failure, exits } from "../exit.js";
import { CallFailure, ManagerChannel, type Reached } from "./connect.js";

export interface Managers {
  addresses: readonly string[];
  /** Where the addresses come from, for messages: "--host", "FLOTILLA_HOST", "context lab". */
  source: string;
}

export interface Limits {
  /** For one manager to take the connection. */
  connectMs: number;
  /** For one manager to answer, when there is no other to ask. */
  answerMs: number;
  /** For one manager to answer, when there is another: one that hangs must not cost the whole wait. */
  answerFirstMs: number;
  /** From the first lost answer, or the first word of an election, to giving up. */
  repeatMs: number;
  /** A command that waits longer says why. */
  quietMs: number;
}
const usualLimits: Limits = {
  connectMs: 3000,
  answerMs: 15_000,
  answerFirstMs: 5000,
  repeatMs: 10_000,
  quietMs: 1000,
};

/** A leader that names another one as the leader, and so on: followed this often in one round. */
const leadersFollowedMax = 5;

export interface CallerOptions {
  managers: Managers;
  clock: Clock;
  rng: Rng;
  limits?: Partial<Limits>;
  /** Told in plain words why a call takes long; once until one is answered. */
  notice?: (text: string) => void;
}

/** What one round over all managers came to. */
interface Round {
  failures: Map<string, CallFailure>;
  /** A manager said that there is no leader now, or none that it knows. */
  electing: boolean;
  /** A manager said that it cannot do it now. */
  away: CallFailure | undefined;
}

export class Caller implements Disposable {
  readonly #managers: Managers;
  readonly #clock: Clock;
  readonly #rng: Rng;
  readonly #limits: Limits;
  readonly #notice: (text: string) => void;
  #noticed = false;
  readonly #channels = new Map<string, ManagerChannel>();
  /** Asked first: the one that answered last, or the leader that another one named. */
  #preferred: string | undefined;

  constructor({ managers, clock, rng, limits, notice }: CallerOptions) {
    this.#managers = managers;
    this.#notice = notice ?? (() => undefined);
    this.#clock = clock;
    this.#rng = rng;
    this.#limits = { ...usualLimits, ...limits };
  }

  get addresses(): readonly string[] {
    return this.#managers.addresses;
  }

  [Symbol.dispose](): void {
    for (const channel of this.#channels.values()) channel.close();
    this.#channels.clear();
  }

  async read<Req, Res>(method: MethodDefinition<Req, Res>, request: Req): Promise<Res> {
    return await this.#call(method, request, false);
  }

  /** The request must be harmless when it is done twice, by its request id or by what it says. */
  async write<Req, Res>(method: MethodDefinition<Req, Res>, request: Req): Promise<Res> {
    return await this.#call(method, request, true);
  }

  requestId(): string {
    return this.#rng.id();
  }

  async #call<Req, Res>(method: MethodDefinition<Req, Res>, request: Req, write: boolean): Promise<Res> {
    const startedAtMs = this.#clock.monotonic();
    let repeatUntil: number | undefined;
    let lost: CallFailure | undefined;
    for (let waitMs = 100; ; waitMs = Math.min(1000, waitMs * 2)) {
      const round: Round = { failures: new Map(), electing: false, away: undefined };
      const queue = this.#order();
      for (let address = queue.shift(); address !== undefined; address = queue.shift()) {
        try {
          const { connectMs, answerMs, answerFirstMs } = this.#limits;
          const withinMs = queue.length === 0 ? answerMs : Math.min(answerMs, answerFirstMs);
          const response = await this.#channel(address).unary(method, request, connectMs, withinMs);
          this.#preferred = address;
          this.#noticed = false;
          return response;
        } catch (thrown) {
          if (!(thrown instanceof CallFailure)) throw thrown;
          const { error, reached } = thrown;
          round.failures.set(address, thrown);
          this.#forget(address, reached);
          if (reached === "unknown" || error.code === "unknown_outcome") lost ??= thrown;
          else if (error.code === "not_leader") this.#follow(error, queue, round);
          else if (reached === "manager" && error.code === "unavailable") round.away ??= thrown;
          else if (reached === "manager") throw lost === undefined ? error : afterLoss(error);
        }
      }
      const now = this.#clock.monotonic();
      if (lost !== undefined || round.electing || round.away !== undefined) repeatUntil ??= now + this.#limits.repeatMs;
      if (repeatUntil === undefined || now >= repeatUntil) throw this.#giveUp(round.failures, write ? lost : undefined);
      if (now - startedAtMs >= this.#limits.quietMs) this.#say(round, lost);
      await sleep(this.#clock, waitMs);
    }
  }

  /** The first manager that lets the stream begin; what breaks later is the reader's to begin again. */
  async *stream<Req, Res>(
    method: MethodDefinition<Req, Res>,
    request: Req,
    signal: AbortSignal,
  ): AsyncGenerator<Res, void, undefined> {
    const startedAtMs = this.#clock.monotonic();
    for (let waitMs = 100; ; waitMs = Math.min(1000, waitMs * 2)) {
      const round: Round = { failures: new Map(), electing: false, away: undefined };
      const queue = this.#order();
      for (let address = queue.shift(); address !== undefined; address = queue.shift()) {
        let begun = false;
        try {
          for await (const message of this.#channel(address).stream(method, request, this.#limits.connectMs, signal)) {
            this.#preferred = address;
            this.#noticed = false;
            begun = true;
            yield message;
          }
          return;
        } catch (thrown) {
          if (!(thrown instanceof CallFailure)) throw thrown;
          const { error, reached } = thrown;
          if (signal.aborted) return;
          round.failures.set(address, thrown);
          this.#forget(address, reached);
          if (begun) throw this.#moved(error, address);
          if (error.code === "not_leader") this.#follow(error, queue, round);
          else if (reached === "manager" && error.code === "unavailable") round.away ??= thrown;
          else if (reached === "manager") throw error;
        }
      }
      const waitedMs = this.#clock.monotonic() - startedAtMs;
      if (!(round.electing || round.away !== undefined) || waitedMs >= this.#limits.repeatMs)
        throw this.#giveUp(round.failures, undefined);
      if (waitedMs >= this.#limits.quietMs) this.#say(round, undefined);
      await sleep(this.#clock, waitMs, signal);
    }
  }

  /** Asks the leader next, if this says who it is; the list need not have it. */
  #follow(error: ClusterError, queue: string[], round: Round): void {
    // Who is named may not be there, and whoever named it will learn so and name another: worth a round more.
    round.electing = true;
    const leader = error.details["leader"] ?? "";
    const followedMax = this.#managers.addresses.length + leadersFollowedMax;
    if (leader === "" || round.failures.has(leader) || round.failures.size > followedMax) return;
    this.#preferred = leader;
    const at = queue.indexOf(leader);
    if (at >= 0) queue.splice(at, 1);
    queue.unshift(leader);
  }

  /** One that is not there, or hangs, is not asked first again. */
  #forget(address: string, reached: Reached): void {
    if (reached !== "manager" && this.#preferred === address) this.#preferred = undefined;
  }

  /** The stream that broke was not answered to its end; the next one is better begun elsewhere. */
  #moved(error: ClusterError, address: string): ClusterError {
    const leader = error.details["leader"] ?? "";
    if (leader !== "") this.#preferred = leader;
    else if (this.#preferred === address) this.#preferred = undefined;
    return error;
  }

  #say(round: Round, lost: CallFailure | undefined): void {
    if (this.#noticed) return;
    this.#noticed = true;
    if (round.electing) this.#notice("waiting for the managers to elect a leader");
    else if (round.away !== undefined) this.#notice(`waiting: ${round.away.message}`);
    else if (lost !== undefined) this.#notice("no answer came; asking the managers again");
  }

  #order(): string[] {
    const preferred = this.#preferred;
    return preferred === undefined
      ? [...this.#managers.addresses]
      : [preferred, ...this.#managers.addresses.filter((address) => address !== preferred)];
  }

  #channel(address: string): ManagerChannel {
    let channel = this.#channels.get(address);
    if (channel === undefined) {
      channel = new ManagerChannel(address, this.#clock);
      this.#channels.set(address, channel);
    }
    return channel;
  }

  #giveUp(failures: ReadonlyMap<string, CallFailure>, lost: CallFailure | undefined): Error {
    const why = [...failures].map(([address, { message }]) => `${address}: ${message}`);
    const list = this.#managers.addresses.join(", ");
    if (lost !== undefined)
      return new Failure(
        exits.error,
        `the managers at ${list} did not say whether it was done: it may or may not have been`,
        {
          cause: lost.error,
          why,
          next: ["flotilla service ls    # look before you try again"],
        },
      );
    const said = [...failures.values()].find(({ reached }) => reached === "manager");
    if (said !== undefined) return said.error;
    return new Failure(
      exits.error,
      `cannot reach a manager at ${list} (from ${this.#managers.source}); is it running?`,
      {
        cause: [...failures.values()][0]?.error,
        why,
        next: [
          "flotilla lab status                  # if this is the lab",
          "systemctl status flotilla-manager    # on a manager's host",
          "flotilla --host ADDRESS:7400 …       # to ask another one",
        ],
      },
    );
  }
}

/** A refusal that may only be the echo of the first try, whose answer was lost. */
function afterLoss(error: ClusterError): ClusterError {
  return new ClusterError(error.code, error.message, {
    cause: error,
    details: { ...error.details, afterLoss: "true" },
    violations: error.violations,
  });
}

/** Whether an earlier try of the same request may have been done. */
export function isAfterLoss(error: unknown): boolean {
  return error instanceof ClusterError && error.details["afterLoss"] === "true";
}
