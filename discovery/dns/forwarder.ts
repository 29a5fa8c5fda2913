// Names that are not ours: asked of the host's name servers, once for all who ask the same, and kept for a while.

import { type Clock, type Logger, type Rng, messageOf } from "../../lib/mod.js";
import { AnswerCache, type Upstreamed, readUpstreamed, servfail } from "./cache.js";
import { type Question, type Upstream, exchange } from "./exchange.js";
import { type Query, Rcode, headerBytes, writeOpt } from "./wire.js";

const attemptTimeoutMs = 1_000;
const totalTimeoutMs = 5_000;
/** Different questions on their way at once; more get SERVFAIL. */
const inFlightMax = 512;

export interface ForwarderOptions {
  clock: Clock;
  rng: Rng;
  log: Logger;
  upstreams: { list(): Promise<readonly Upstream[]> };
  /** How long a question took at the upstreams. */
  observe: (ms: number) => void;
}

export class Forwarder {
  readonly #options: ForwarderOptions;
  readonly #cache = new AnswerCache();
  readonly #inFlight = new Map<string, Promise<Upstreamed | undefined>>();

  constructor(options: ForwarderOptions) {
    this.#options = options;
  }

  get cached(): number {
    return this.#cache.size;
  }

  /** The answer's bytes, at most `limit`; never rejects. */
  async forward(query: Query, limit: number): Promise<Buffer> {
    const key = keyOf(query);
    const kept = this.#cache.fresh(key, this.#options.clock.monotonic());
    const got = kept ?? (await this.#ask(key, query));
    return encode(query, got, limit);
  }

  async #ask(key: string, query: Query): Promise<Upstreamed | undefined> {
    const joined = this.#inFlight.get(key);
    if (joined !== undefined) return await joined;
    if (this.#inFlight.size >= inFlightMax) return this.#cache.stale(key, this.#options.clock.monotonic());
    const asking = this.#askAll(key, query).finally(() => this.#inFlight.delete(key));
    this.#inFlight.set(key, asking);
    return await asking;
  }

  /** Servers in turn, until one gives an answer that is final or 5 s are over. */
  async #askAll(key: string, query: Query): Promise<Upstreamed | undefined> {
    const { clock, log, upstreams, observe } = this.#options;
    const startedMs = clock.monotonic();
    const question: Question = {
      bytes: Buffer.from(query.question),
      checkingDisabled: query.checkingDisabled,
      dnssecOk: query.edns?.dnssecOk ?? false,
    };
    let refusal: Upstreamed | undefined;
    const servers = await upstreams.list();
    // Twice round: a lost datagram must not cost the answer when there is but one server.
    const answered = new Set<Upstream>();
    for (const upstream of [...servers, ...servers]) {
      if (answered.has(upstream)) continue;
      const leftMs = startedMs + totalTimeoutMs - clock.monotonic();
      if (leftMs <= 0) break;
      try {
        const got = await this.#askOne(question, upstream, Math.min(leftMs, attemptTimeoutMs));
        if (got.rcode === Rcode.NOERROR || got.rcode === Rcode.NXDOMAIN) {
          observe(clock.monotonic() - startedMs);
          this.#cache.put(key, got, clock.monotonic());
          return got;
        }
        answered.add(upstream);
        refusal ??= got;
      } catch (failure) {
        log.debug({ error: messageOf(failure) }, "name server did not answer");
      }
    }
    observe(clock.monotonic() - startedMs);
    const stale = this.#cache.stale(key, clock.monotonic());
    if (stale !== undefined) return stale;
    // Without anybody to ask the answer costs nothing, and may be another one in the next moment.
    if (refusal !== undefined || servers.length > 0)
      this.#cache.put(key, refusal ?? servfail(question.bytes), clock.monotonic());
    return refusal;
  }

  async #askOne(question: Question, upstream: Upstream, timeoutMs: number): Promise<Upstreamed> {
    const { clock, rng } = this.#options;
    const read = (message: Buffer): Upstreamed => {
      const got = readUpstreamed(message, question.bytes.length);
      if (got === undefined) throw new Error(`name server ${upstream.host}: malformed answer`);
      return got;
    };
    const got = read(await exchange(question, upstream, true, timeoutMs, clock, rng));
    // An old server that knows no EDNS says FORMERR or NOTIMP to it.
    if (got.rcode !== Rcode.FORMERR && got.rcode !== Rcode.NOTIMP) return got;
    return read(await exchange(question, upstream, false, timeoutMs, clock, rng));
  }
}

/** Case-folded name with everything that changes the answer. */
function keyOf(query: Query): string {
  const dnssecOk = query.edns?.dnssecOk === true ? 1 : 0;
  // Labels may hold any byte: their lengths keep the boundaries.
  const name = query.labels.map((label) => `${label.length}:${label}`).join("");
  return `${query.type} ${query.class} ${dnssecOk}${query.checkingDisabled ? 1 : 0} ${name}`;
}

/** The kept answer for this asker: its id, its spelling of the name, its limits. SERVFAIL when there is none. */
function encode(query: Query, got: Upstreamed | undefined, limit: number): Buffer {
  const optBytes = query.edns === undefined ? 0 : 11;
  const questionEnd = headerBytes + query.question.length;
  const fits = got !== undefined && got.message.length + optBytes <= limit;
  const body = fits ? got.message : Buffer.alloc(questionEnd);
  const out = Buffer.alloc(body.length + optBytes);
  body.copy(out);
  const rcode = got?.rcode ?? Rcode.SERVFAIL;
  const tooBig = got !== undefined && !fits;
  out.writeUInt16BE(query.id, 0);
  out.writeUInt16BE(
    0x8080 |
      (tooBig ? 0x0200 : 0) |
      (query.recursionDesired ? 0x0100 : 0) |
      (query.checkingDisabled ? 0x0010 : 0) |
      (rcode & 15),
    2,
  );
  out.writeUInt16BE(1, 4);
  query.question.copy(out, headerBytes);
  if (query.edns !== undefined) {
    out.writeUInt16BE(out.readUInt16BE(10) + 1, 10);
    writeOpt(out, body.length, rcode, query.edns.dnssecOk);
  }
  return out;
}
