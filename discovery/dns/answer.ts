// One query to one answer, by the routes in force. Pure: sockets, limits and upstreams are others' business.

import type { Rng } from "../../lib/mod.js";
import { type Directory, type NameData, type Srv, find, ttlTask } from "./zone.js";
import { type Query, Rcode, type Record, type Response, Type, classIn, encodeName } from "./wire.js";

/** Seconds that a "there is none" may be kept. */
const negativeTtl = 5;

export type Answer =
  | { readonly kind: "response"; readonly response: Response }
  /** Not our name: ask the upstreams. */
  | { readonly kind: "forward" };

export function answer(query: Query, directory: Directory, rng: Rng): Answer {
  if (query.edns !== undefined && query.edns.version > 0) return plain(Rcode.BADVERS);
  if (query.class !== classIn || query.type === Type.AXFR || query.type === Type.IXFR) return plain(Rcode.REFUSED);
  const found = find(directory, query.labels);
  const domain = directory.host?.domain ?? "";
  switch (found.kind) {
    case "unsynced":
      return plain(Rcode.SERVFAIL);
    case "foreign":
      return { kind: "forward" };
    case "nxdomain":
      return reply({ rcode: Rcode.NXDOMAIN, authority: [soa(found.zone, domain)] });
    case "data": {
      const answers = answersOf(found, query.type, domain, rng);
      if (answers.length === 0) return reply({ authority: [soa(found.zone, domain)] });
      return reply({ answers, additionals: query.type === Type.SRV ? addressesOf(found.srv ?? []) : [] });
    }
    default:
      return found satisfies never;
  }
}

function answersOf(found: NameData, type: number, domain: string, rng: Rng): Record[] {
  const { ttl } = found;
  const own = (type: number, data: Buffer): Record => ({ owner: undefined, type, ttl, data });
  switch (type) {
    case Type.A:
      return shuffle(found.a ?? [], rng).map((address) => own(Type.A, addressData(address)));
    case Type.SRV:
      return shuffle(found.srv ?? [], rng).map((srv) => own(Type.SRV, srvData(srv)));
    case Type.PTR:
      return found.ptr === undefined ? [] : [own(Type.PTR, encodeName(found.ptr))];
    case Type.SOA:
      return found.apex === true ? [{ ...soa(found.zone, domain), owner: undefined }] : [];
    case Type.NS:
      return found.apex === true ? [own(Type.NS, encodeName(`ns.${domain}`))] : [];
    case Type.ANY:
      // RFC 8482: one record that says that ANY is not answered.
      return [own(Type.HINFO, Buffer.from("\x07RFC8482\x00", "latin1"))];
    default:
      return [];
  }
}

/** Each target once: two ports of one service have the same targets. */
function addressesOf(srvs: readonly Srv[]): Record[] {
  const byTarget = new Map(srvs.map((srv) => [srv.target, srv.addresses]));
  return [...byTarget].flatMap(([target, addresses]) => {
    const owner = encodeName(target);
    return addresses.map((address) => ({ owner, type: Type.A, ttl: ttlTask, data: addressData(address) }));
  });
}

function addressData(address: number): Buffer {
  const data = Buffer.allocUnsafe(4);
  data.writeUInt32BE(address, 0);
  return data;
}

/** RFC 2782: the target is never compressed. */
function srvData(srv: Srv): Buffer {
  const target = encodeName(srv.target);
  const data = Buffer.allocUnsafe(6 + target.length);
  data.writeUInt16BE(0, 0);
  data.writeUInt16BE(1, 2);
  data.writeUInt16BE(srv.port, 4);
  target.copy(data, 6);
  return data;
}

/** RFC 2308: its TTL and its MINIMUM both say how long a negative answer may be kept. */
function soa(zone: string, domain: string): Record {
  const numbers = Buffer.alloc(20);
  // A serial has no meaning without zone transfers.
  for (const [i, value] of [1, 60, 60, 3_600, negativeTtl].entries()) numbers.writeUInt32BE(value, i * 4);
  const data = Buffer.concat([encodeName(`ns.${domain}`), encodeName(`hostmaster.${domain}`), numbers]);
  return { owner: encodeName(zone), type: Type.SOA, ttl: negativeTtl, data };
}

function shuffle<T>(items: readonly T[], rng: Rng): readonly T[] {
  if (items.length < 2) return items;
  const out = [...items];
  for (let i = out.length - 1; i > 0; i -= 1) {
    const j = rng.below(i + 1);
    const a = out[i] as T;
    out[i] = out[j] as T;
    out[j] = a;
  }
  return out;
}

function plain(rcode: number): Answer {
  return { kind: "response", response: { rcode, authoritative: false, answers: [], authority: [], additionals: [] } };
}

function reply(of: Partial<Response>): Answer {
  return {
    kind: "response",
    response: { rcode: Rcode.NOERROR, authoritative: true, answers: [], authority: [], additionals: [], ...of },
  };
}
