// The managers as one: tries them in turn, follows the leader, and repeats what got lost. A write carries an id of
// its own, so that repeating it after a lost answer does it exactly once.

import type { MethodDefinition } from "@grpc/grpc-js";
import type { Clock } from "../../lib/clock.js";
import { sleep } from "../../lib/clock.js";
import { ClusterError } from "../../lib/errors.js";
import type { Rng } from "../../lib/rng.js";
import { Failure, exits } from "../exit.js";
import { CallFailure, ManagerChannel } from "./connect.js";

export interface Managers {
  addresses: readonly string[];
  /** Where the addresses come from, for messages: "--host", "FLOTILLA_HOST", "context lab". */
  source: string;
}

export interface Limits {
  /** For one manager to take the connection. */
  connectMs: number;
  /** For one manager to answer. */
  answerMs: number;
  /** From the first lost answer, or the first word of an election, to giving up. */
  repeatMs: number;
}
const usualLimits: Limits = { connectMs: 3000, answerMs: 15_000, repeatMs: 10_000 };

export interface CallerOptions {
  managers: Managers;
  clock: Clock;
  rng: Rng;
  limits?: Partial<Limits>;
}

export class Caller implements Disposable {
  readonly #managers: Managers;
  readonly #clock: Clock;
  readonly #rng: Rng;
  readonly #limits: Limits;
  readonly #channels = new Map<string, ManagerChannel>();
  /** Asked first: the one that answered last, or the leader that another one named. */
  #preferred: string | undefined;

  constructor({ managers, clock, rng, limits }: CallerOptions) {
    this.#managers = managers;
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
    const { connectMs, answerMs, repeatMs } = this.#limits;
    let repeatUntil: number | undefined;
    let lost: CallFailure | undefined;
    for (let waitMs = 100; ; waitMs = Math.min(1000, waitMs * 2)) {
      const failures = new Map<string, CallFailure>();
      let electing = false;
      for (const address of this.#order()) {
        try {
          const response = await this.#channel(address).unary(method, request, connectMs, answerMs);
          this.#preferred = address;
          return response;
        } catch (thrown) {
          if (!(thrown instanceof CallFailure)) throw thrown;
          const { error, reached } = thrown;
          failures.set(address, thrown);
          if (reached === "unknown" || error.code === "unknown_outcome") lost ??= thrown;
          else if (error.code === "not_leader") electing = this.#follow(error) || electing;
          else if (reached === "manager" && error.code !== "unavailable")
            throw lost === undefined ? error : afterLoss(error);
        }
      }
      if (lost !== undefined || electing) repeatUntil ??= this.#clock.monotonic() + repeatMs;
      if (repeatUntil === undefined || this.#clock.monotonic() >= repeatUntil)
        throw this.#giveUp(failures, write ? lost : undefined);
      await sleep(this.#clock, waitMs);
    }
  }

  /** The first manager that lets the stream begin; what breaks later is the reader's to begin again. */
  async *stream<Req, Res>(
    method: MethodDefinition<Req, Res>,
    request: Req,
    signal: AbortSignal,
  ): AsyncGenerator<Res, void, undefined> {
    const repeatUntil = this.#clock.monotonic() + this.#limits.repeatMs;
    for (let waitMs = 100; ; waitMs = Math.min(1000, waitMs * 2)) {
      const failures = new Map<string, CallFailure>();
      let electing = false;
      for (const address of this.#order()) {
        let begun = false;
        try {
          for await (const message of this.#channel(address).stream(method, request, this.#limits.connectMs, signal)) {
            this.#preferred = address;
            begun = true;
            yield message;
          }
          return;
        } catch (thrown) {
          if (!(thrown instanceof CallFailure)) throw thrown;
          const { error, reached } = thrown;
          if (signal.aborted) return;
          if (error.code === "not_leader") electing = this.#follow(error) || electing;
          else if (begun || (reached === "manager" && error.code !== "unavailable")) throw error;
          failures.set(address, thrown);
        }
      }
      if (!electing || this.#clock.monotonic() >= repeatUntil) throw this.#giveUp(failures, undefined);
      await sleep(this.#clock, waitMs, signal);
    }
  }

  /** Asks the leader next, if this says who it is. True: worth another round. */
  #follow(error: ClusterError): boolean {
    const leader = error.details["leader"];
    if (leader !== undefined && leader !== "") this.#preferred = leader;
    return true;
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
