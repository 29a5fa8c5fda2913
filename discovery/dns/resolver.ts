// From a query's bytes to an answer's bytes: who may ask, what is ours, what is forwarded. Sockets stay outside.

import type { Clock, Rng } from "../../lib/mod.js";
import type { Gate } from "./admission.js";
import { answer } from "./answer.js";
import { type Query, Rcode, encodeFault, encodeResponse, parseQuery, udpLimit } from "./wire.js";
import type { Directory } from "./zone.js";

const tcpLimit = 65_535;

export interface ResolverOptions {
  clock: Clock;
  rng: Rng;
  directory: Directory;
  gate: Gate;
  /** Looks again who this host's containers are; cheap to call often. */
  recheck: () => Promise<void>;
  forwarder: { forward(query: Query, limit: number): Promise<Buffer> };
  /** Called with each answer's code; -1 for a query that got none. */
  count: (rcode: number) => void;
}

export class Resolver {
  readonly #options: ResolverOptions;

  constructor(options: ResolverOptions) {
    this.#options = options;
  }

  /** Undefined: no answer at all. Own names are answered at once, without a promise. */
  resolve(message: Buffer, source: string, overTcp: boolean): Buffer | Promise<Buffer> | undefined {
    const { clock, gate, recheck, count } = this.#options;
    const parsed = parseQuery(message);
    const admission = gate.admit(source, clock.monotonic());
    if (parsed.kind === "drop" || admission === "too_fast") {
      count(-1);
      return undefined;
    }
    if (parsed.kind === "fault") {
      count(parsed.rcode);
      return encodeFault(parsed);
    }
    const { query } = parsed;
    if (admission === "ok") return this.#decide(query, overTcp);
    return recheck().then(() => {
      if (gate.admit(source, clock.monotonic()) === "ok") return this.#decide(query, overTcp);
      count(Rcode.REFUSED);
      const refused = { rcode: Rcode.REFUSED, authoritative: false, answers: [], authority: [], additionals: [] };
      return encodeResponse(query, refused, limitOf(query, overTcp), overTcp);
    });
  }

  #decide(query: Query, overTcp: boolean): Buffer | Promise<Buffer> {
    const { rng, directory, forwarder, count } = this.#options;
    const limit = limitOf(query, overTcp);
    const decided = answer(query, directory, rng);
    if (decided.kind === "response") {
      count(decided.response.rcode);
      return encodeResponse(query, decided.response, limit, overTcp);
    }
    return forwarder.forward(query, limit).then((bytes) => {
      count(bytes.readUInt16BE(2) & 15);
      return bytes;
    });
  }
}

function limitOf(query: Query, overTcp: boolean): number {
  return overTcp ? tcpLimit : udpLimit(query);
}
