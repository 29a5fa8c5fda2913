// Answers of the upstreams, kept as they came and patched on the way out: id, case of the name, remaining TTLs.

import { Rcode, Type, headerBytes, readRecord } from "./wire.js";

const entriesMax = 10_000;
const bytesMax = 16 * 1024 * 1024;
/** Seconds. */
const positiveTtlMax = 3_600;
const negativeTtlMax = 300;
const servfailTtl = 5;
/** RFC 8767: how long an answer may be served past its time when nobody answers, and with which TTL. */
const staleForMs = 3_600_000;
const staleTtl = 30;

export interface Upstreamed {
  /** The whole message, OPT removed. */
  readonly message: Buffer;
  /** Offsets of the TTL fields. */
  readonly ttls: readonly number[];
  /** Seconds that it may be kept; 0 is not at all. */
  readonly ttl: number;
  readonly rcode: number;
}

/** Reads an upstream's message; undefined when malformed. */
export function readUpstreamed(message: Buffer, questionBytes: number): Upstreamed | undefined {
  const counts = [6, 8, 10].map((at) => message.readUInt16BE(at));
  const ttls: number[] = [];
  let at = headerBytes + questionBytes;
  let least = positiveTtlMax;
  let negative: number | undefined;
  let end = message.length;
  let additionals = counts[2] ?? 0;
  let extended = 0;
  for (const [section, count] of counts.entries())
    for (let i = 0; i < count; i += 1) {
      const record = readRecord(message, at);
      if (record === undefined) return undefined;
      if (record.type === Type.OPT) {
        // What follows could point behind the hole that it leaves: additionals are worth less than being right.
        if (end === message.length) {
          end = record.start;
          additionals = i;
          extended = record.ttl >>> 24;
        }
      } else if (end === message.length) {
        ttls.push(record.nameEnd + 4);
        if (section < 2) least = Math.min(least, record.ttl);
        if (section === 1 && record.type === Type.SOA && record.end >= 4)
          negative = Math.min(record.ttl, message.readUInt32BE(record.end - 4));
      }
      at = record.end;
    }
  const rcode = (message.readUInt16BE(2) & 15) | (extended << 4);
  const kept = Buffer.from(message.subarray(0, end === message.length ? at : end));
  kept.writeUInt16BE(additionals, 10);
  const positive = rcode === Rcode.NOERROR && (counts[0] ?? 0) > 0;
  // RFC 2308, section 5: a denial without SOA is not kept.
  const denialTtl = negative === undefined ? 0 : Math.min(negative, negativeTtlMax);
  const ttl = positive
    ? least
    : rcode === Rcode.NXDOMAIN || rcode === Rcode.NOERROR
      ? denialTtl
      : rcode === Rcode.SERVFAIL
        ? servfailTtl
        : 0;
  return { message: kept, ttls, ttl, rcode };
}

/** What is remembered of a question that nobody answered. */
export function servfail(question: Buffer): Upstreamed {
  const message = Buffer.concat([Buffer.alloc(headerBytes), question]);
  return { message, ttls: [], ttl: servfailTtl, rcode: Rcode.SERVFAIL };
}

interface Entry {
  readonly of: Upstreamed;
  readonly storedMs: number;
}

/** Least recently used goes first, when there are 10,000 entries or 16 MiB. */
export class AnswerCache {
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  get size(): number {
    return this.#entries.size;
  }

  put(key: string, of: Upstreamed, nowMs: number): void {
    if (of.ttl === 0) return;
    this.#drop(key);
    this.#entries.set(key, { of, storedMs: nowMs });
    this.#bytes += of.message.length;
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= entriesMax && this.#bytes <= bytesMax) break;
      this.#drop(oldest);
    }
  }

  /** A copy with TTLs as they are now; undefined when there is none that still holds. */
  fresh(key: string, nowMs: number): Upstreamed | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    const ageS = Math.floor((nowMs - entry.storedMs) / 1_000);
    if (ageS >= entry.of.ttl) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return withTtls(entry.of, (ttl) => Math.max(0, ttl - ageS));
  }

  /** One whose time is over, for when nobody answers. */
  stale(key: string, nowMs: number): Upstreamed | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined || entry.of.rcode === Rcode.SERVFAIL) return undefined;
    if (nowMs >= entry.storedMs + entry.of.ttl * 1_000 + staleForMs) return undefined;
    return withTtls(entry.of, () => staleTtl);
  }

  #drop(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= entry.of.message.length;
  }
}

function withTtls(of: Upstreamed, change: (ttl: number) => number): Upstreamed {
  const message = Buffer.from(of.message);
  for (const at of of.ttls) message.writeUInt32BE(change(message.readUInt32BE(at)), at);
  return { ...of, message };
}
