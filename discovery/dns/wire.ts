// The DNS message format, RFC 1035 section 4 and RFC 6891: reading queries, writing answers. Pure.
// An own codec, since answers must echo the question's bytes and compress owners, and since every byte read here comes
// from strangers: names are followed strictly backwards, with caps on labels (63) and names (255).

export const Type = {
  A: 1,
  NS: 2,
  SOA: 6,
  PTR: 12,
  HINFO: 13,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  IXFR: 251,
  AXFR: 252,
  ANY: 255,
} as const;
export const Rcode = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5, BADVERS: 16 } as const;
export const classIn = 1;

export const headerBytes = 12;
const nameBytesMax = 255;

/** What an OPT record says. */
export interface Edns {
  readonly udpBytes: number;
  readonly version: number;
  readonly dnssecOk: boolean;
}

export interface Query {
  readonly id: number;
  readonly recursionDesired: boolean;
  readonly checkingDisabled: boolean;
  /** The question as it was sent: name, type, class. */
  readonly question: Buffer;
  /** The name's labels, ASCII letters in lower case; one character per byte. */
  readonly labels: readonly string[];
  readonly type: number;
  readonly class: number;
  readonly edns: Edns | undefined;
}

export type Parsed =
  | { readonly kind: "query"; readonly query: Query }
  /** To be refused with this code; the question is empty when it could not be read. */
  | {
      readonly kind: "fault";
      readonly id: number;
      readonly opcode: number;
      readonly recursionDesired: boolean;
      readonly rcode: number;
      readonly question: Buffer;
    }
  /** Not a query at all: any answer would only feed a loop. */
  | { readonly kind: "drop" };

/** Reads a name at `at`, following pointers only when allowed; undefined when malformed. `end` is where it ends in place. */
export function readName(
  message: Buffer,
  at: number,
  pointers: boolean,
): { labels: string[]; end: number } | undefined {
  const labels: string[] = [];
  let position = at;
  let end = -1;
  let bytes = 1;
  // Strictly backwards: each jump goes before everything read so far, so the walk must end.
  let lowest = at;
  for (;;) {
    const length = message[position];
    if (length === undefined) return undefined;
    if (length === 0) return { labels, end: end < 0 ? position + 1 : end };
    if ((length & 0xc0) === 0xc0) {
      const low = message[position + 1];
      if (!pointers || low === undefined) return undefined;
      const target = ((length & 0x3f) << 8) | low;
      if (target >= lowest || target < headerBytes) return undefined;
      if (end < 0) end = position + 2;
      lowest = target;
      position = target;
      continue;
    }
    if (length > 63) return undefined;
    bytes += length + 1;
    if (bytes > nameBytesMax || position + 1 + length > message.length) return undefined;
    labels.push(lowerAscii(message, position + 1, position + 1 + length));
    position += 1 + length;
  }
}

function lowerAscii(message: Buffer, from: number, to: number): string {
  let text = "";
  for (let i = from; i < to; i += 1) {
    const byte = message[i] ?? 0;
    text += String.fromCharCode(byte >= 65 && byte <= 90 ? byte + 32 : byte);
  }
  return text;
}

/** One record's place in a message. */
export interface RecordAt {
  readonly start: number;
  readonly nameEnd: number;
  readonly type: number;
  readonly class: number;
  readonly ttl: number;
  readonly data: number;
  readonly end: number;
}

/** The record that begins at `start`; undefined when malformed. */
export function readRecord(message: Buffer, start: number): RecordAt | undefined {
  const name = readName(message, start, true);
  if (name === undefined || name.end + 10 > message.length) return undefined;
  const at = name.end;
  const data = at + 10;
  const end = data + message.readUInt16BE(at + 8);
  if (end > message.length) return undefined;
  return {
    start,
    nameEnd: at,
    type: message.readUInt16BE(at),
    class: message.readUInt16BE(at + 2),
    ttl: message.readUInt32BE(at + 4),
    data,
    end,
  };
}

/** Whatever came as a query. */
export function parseQuery(message: Buffer): Parsed {
  if (message.length < headerBytes) return { kind: "drop" };
  const id = message.readUInt16BE(0);
  const flags = message.readUInt16BE(2);
  if ((flags & 0x8000) !== 0) return { kind: "drop" };
  const opcode = (flags >> 11) & 15;
  const recursionDesired = (flags & 0x0100) !== 0;
  const fault = (rcode: number, question: Buffer = Buffer.alloc(0)): Parsed => ({
    kind: "fault",
    id,
    opcode,
    recursionDesired,
    rcode,
    question,
  });
  if (opcode !== 0) return fault(Rcode.NOTIMP);
  if (message.readUInt16BE(4) !== 1) return fault(Rcode.FORMERR);
  const name = readName(message, headerBytes, false);
  if (name === undefined || name.end + 4 > message.length) return fault(Rcode.FORMERR);
  const question = message.subarray(headerBytes, name.end + 4);
  const type = message.readUInt16BE(name.end);
  const queryClass = message.readUInt16BE(name.end + 2);
  const before = message.readUInt16BE(6) + message.readUInt16BE(8);
  const all = before + message.readUInt16BE(10);
  let at = name.end + 4;
  let edns: Edns | undefined;
  for (let i = 0; i < all; i += 1) {
    const record = readRecord(message, at);
    if (record === undefined) return fault(Rcode.FORMERR, question);
    if (record.type === Type.OPT) {
      // One, at the root, in the additional section.
      if (edns !== undefined || i < before || record.nameEnd !== record.start + 1)
        return fault(Rcode.FORMERR, question);
      edns = { udpBytes: record.class, version: (record.ttl >>> 16) & 255, dnssecOk: (record.ttl & 0x8000) !== 0 };
    }
    at = record.end;
  }
  if (at !== message.length) return fault(Rcode.FORMERR, question);
  if (type === Type.OPT) return fault(Rcode.FORMERR, question);
  const checkingDisabled = (flags & 0x0010) !== 0;
  return {
    kind: "query",
    query: { id, recursionDesired, checkingDisabled, question, labels: name.labels, type, class: queryClass, edns },
  };
}

/** Wire form of a dotted name; the caller knows that its labels fit. */
export function encodeName(name: string): Buffer {
  const parts = name === "" ? [] : name.split(".");
  return Buffer.concat([
    ...parts.map((part) => Buffer.from([part.length, ...Buffer.from(part, "latin1")])),
    Buffer.of(0),
  ]);
}

/** A record to be written. `owner` undefined is the question's name. */
export interface Record {
  readonly owner: Buffer | undefined;
  readonly type: number;
  readonly ttl: number;
  readonly data: Buffer;
}

export interface Response {
  readonly rcode: number;
  readonly authoritative: boolean;
  readonly answers: readonly Record[];
  readonly authority: readonly Record[];
  readonly additionals: readonly Record[];
}

/** What a server tells of itself in OPT: RFC 9715's size that crosses any path unfragmented. */
export const ednsUdpBytes = 1_232;

/** How many bytes an answer to this query over UDP may have. */
export function udpLimit(query: Query): number {
  return query.edns === undefined ? 512 : Math.max(512, Math.min(query.edns.udpBytes, ednsUdpBytes));
}

/**
 * The answer's bytes, at most `limit`. Answers that do not fit are left out and TC is set over UDP; additionals that
 * do not fit are left out silently. Over TCP (`limit` 65,535) what does not fit is left out without TC: the caller
 * shuffles, so that over time all are seen.
 */
export function encodeResponse(query: Query, response: Response, limit: number, overTcp: boolean): Buffer {
  const { question, edns } = query;
  const opt = edns === undefined ? 0 : 11;
  const room = limit - opt;
  let length = headerBytes + question.length;
  let truncated = false;
  const take = (records: readonly Record[]): readonly Record[] => {
    let count = 0;
    for (const record of records) {
      const bytes = (record.owner?.length ?? 2) + 10 + record.data.length;
      if (length + bytes > room) break;
      length += bytes;
      count += 1;
    }
    return count === records.length ? records : records.slice(0, count);
  };
  const answers = take(response.answers);
  if (answers.length < response.answers.length && !overTcp) truncated = true;
  const authority = truncated ? [] : take(response.authority);
  if (authority.length < response.authority.length && !overTcp) truncated = true;
  const additionals = truncated ? [] : take(response.additionals);

  const out = Buffer.allocUnsafe(length + opt);
  out.writeUInt16BE(query.id, 0);
  out.writeUInt16BE(
    0x8080 |
      (response.authoritative ? 0x0400 : 0) |
      (truncated ? 0x0200 : 0) |
      (query.recursionDesired ? 0x0100 : 0) |
      (query.checkingDisabled ? 0x0010 : 0) |
      (response.rcode & 15),
    2,
  );
  out.writeUInt16BE(1, 4);
  out.writeUInt16BE(answers.length, 6);
  out.writeUInt16BE(authority.length, 8);
  out.writeUInt16BE(additionals.length + (opt > 0 ? 1 : 0), 10);
  question.copy(out, headerBytes);
  let at = headerBytes + question.length;
  for (const section of [answers, authority, additionals])
    for (const record of section) {
      if (record.owner === undefined) at = out.writeUInt16BE(0xc000 | headerBytes, at);
      else at += record.owner.copy(out, at);
      at = out.writeUInt16BE(record.type, at);
      at = out.writeUInt16BE(classIn, at);
      at = out.writeUInt32BE(record.ttl, at);
      at = out.writeUInt16BE(record.data.length, at);
      at += record.data.copy(out, at);
    }
  if (edns !== undefined) writeOpt(out, at, response.rcode, edns.dnssecOk);
  return out;
}

/** Writes the 11 bytes of an OPT record. */
export function writeOpt(out: Buffer, at: number, rcode: number, dnssecOk: boolean): void {
  out.writeUInt8(0, at);
  out.writeUInt16BE(Type.OPT, at + 1);
  out.writeUInt16BE(ednsUdpBytes, at + 3);
  out.writeUInt32BE((((rcode >> 4) << 24) | (dnssecOk ? 0x8000 : 0)) >>> 0, at + 5);
  out.writeUInt16BE(0, at + 9);
}

/** A short refusal for what could not be read as a query. */
export function encodeFault(fault: Extract<Parsed, { kind: "fault" }>): Buffer {
  const out = Buffer.alloc(headerBytes + fault.question.length);
  out.writeUInt16BE(fault.id, 0);
  out.writeUInt16BE(0x8080 | (fault.opcode << 11) | (fault.recursionDesired ? 0x0100 : 0) | (fault.rcode & 15), 2);
  out.writeUInt16BE(fault.question.length > 0 ? 1 : 0, 4);
  fault.question.copy(out, headerBytes);
  return out;
}
