// DNS rules, one by one, on raw packets. dns-packet is the witness: it knows nothing of our own codec.

import { decode, encode } from "dns-packet";
import type { Answer, DecodedPacket, Packet, RecordType } from "dns-packet";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Clock, seededRng } from "../../lib/mod.js";
import { sampleEndpoint, sampleHost, sampleRoute } from "../routes/samples.js";
import { RouteTable } from "../routes/mod.js";
import { Gate } from "./admission.js";
import { Resolver } from "./resolver.js";
import { parseQuery } from "./wire.js";

const clock: Clock = { now: () => 0, monotonic: () => 0, after: () => () => undefined };
const endpoints = [
  sampleEndpoint(1),
  sampleEndpoint(2, { nodeId: "n2", address: "10.128.2.5", hostAddress: "192.168.0.2" }),
];

function setUp(options: { synced?: boolean; many?: number } = {}) {
  const table = new RouteTable(clock, () => undefined);
  const many = Array.from({ length: options.many ?? 0 }, (_, i) =>
    sampleEndpoint(i + 1, { taskId: `m${i}`, address: `10.128.${1 + Math.floor(i / 250)}.${1 + (i % 250)}` }),
  );
  const routes = [
    sampleRoute({ endpoints }),
    sampleRoute({ id: "s2", serviceName: "idle", vip: "10.127.0.8" }),
    sampleRoute({
      id: "s3",
      serviceName: "db.shop",
      vip: "10.127.0.9",
      endpoints: [sampleEndpoint(7, { draining: true })],
    }),
    sampleRoute({ id: "s4", serviceName: "many", vip: "10.127.0.10", endpoints: many }),
  ];
  if (options.synced !== false) table.apply({ complete: true, host: sampleHost(), routes, removedRouteIds: [] });
  const gate = new Gate();
  gate.allow(["192.168.0.1"], []);
  const forwarded: string[] = [];
  const codes: number[] = [];
  const resolver = new Resolver({
    clock,
    rng: seededRng(1),
    directory: table,
    gate,
    recheck: () => Promise.resolve(),
    count: (rcode) => codes.push(rcode),
    forwarder: {
      forward: (query) => {
        forwarded.push(query.labels.join("."));
        return Promise.resolve(Buffer.alloc(12));
      },
    },
  });
  const raw = (message: Buffer, overTcp = false) => {
    const result = resolver.resolve(message, "192.168.0.1", overTcp);
    if (result instanceof Promise) return undefined;
    return result;
  };
  const ask = (name: string, type: RecordType = "A", more: Partial<Packet> = {}, overTcp = false): DecodedPacket => {
    const reply = raw(encode({ type: "query", id: 7, flags: 0x100, questions: [{ name, type }], ...more }), overTcp);
    return reply === undefined ? expect.fail(`${name} was forwarded or dropped`) : decode(reply);
  };
  return { ask, raw, forwarded, codes, resolver, gate };
}

const rcodeOf = (packet: DecodedPacket): string => (packet as unknown as { rcode: string }).rcode;
/** Their data as text, sorted. */
const sortedData = (answers: readonly Answer[] | undefined) =>
  dataOf(answers)
    .map((data) => JSON.stringify(data))
    .sort();
const json = (values: readonly unknown[]) => values.map((value) => JSON.stringify(value)).sort();
const dataOf = (answers: readonly Answer[] | undefined) =>
  (answers ?? []).map((a) => ("data" in a ? a.data : undefined));

describe("names that are there", () => {
  it.each([
    ["web", ["10.127.0.7"], 30],
    ["web.flotilla.internal", ["10.127.0.7"], 30],
    ["idle", ["10.127.0.8"], 30],
    ["db.shop", ["10.127.0.9"], 30],
    ["db.shop.flotilla.internal", ["10.127.0.9"], 30],
    ["tasks.web", ["10.128.1.11", "10.128.2.5"], 5],
    ["tasks.web.flotilla.internal", ["10.128.1.11", "10.128.2.5"], 5],
    ["2.web", ["10.128.2.5"], 5],
    ["1.web.flotilla.internal", ["10.128.1.11"], 5],
    ["h2.node", ["192.168.0.2"], 30],
    ["h1.node.flotilla.internal", ["192.168.0.1"], 30],
    ["ns.flotilla.internal", ["10.127.0.53"], 30],
    ["localhost", ["127.0.0.1"], 30],
  ])("%s has its addresses, with one TTL", (name, addresses, ttl) => {
    const { answers, flag_aa: authoritative } = setUp().ask(name);
    expect(sortedData(answers)).toEqual(json(addresses));
    expect(new Set(answers?.map((a) => ("ttl" in a ? a.ttl : -1)))).toEqual(new Set([ttl]));
    expect(authoritative).toBe(true);
  });

  it("SRV gives slots, the container's port, and their addresses beside", () => {
    const { answers, additionals } = setUp().ask("_http._tcp.web", "SRV");
    const srv = dataOf(answers) as { target: string; port: number }[];
    expect(srv.map(({ target, port }) => `${target}:${port}`).sort()).toEqual([
      "1.web.flotilla.internal:80",
      "2.web.flotilla.internal:80",
    ]);
    expect(sortedData(additionals)).toEqual(json(["10.128.1.11", "10.128.2.5"]));
  });

  it.each([
    ["7.0.127.10.in-addr.arpa", "web.flotilla.internal"],
    ["5.2.128.10.in-addr.arpa", "2.web.flotilla.internal"],
    ["53.0.127.10.in-addr.arpa", "ns.flotilla.internal"],
  ])("PTR of %s", (name, target) => {
    expect(dataOf(setUp().ask(name, "PTR").answers)).toEqual([target]);
  });

  it("are found in any case, and the question comes back as it was spelled", () => {
    const query = encode({
      type: "query",
      id: 1,
      flags: 0x100,
      questions: [{ name: "wEb.FLOTILLA.internal", type: "A" }],
    });
    const reply = setUp().raw(query) ?? expect.fail("no answer");
    expect(reply.subarray(12, query.length)).toEqual(query.subarray(12));
    expect(dataOf(decode(reply).answers)).toEqual(["10.127.0.7"]);
  });

  it("are shuffled from answer to answer", () => {
    const { ask } = setUp();
    expect(new Set(Array.from({ length: 40 }, () => JSON.stringify(dataOf(ask("tasks.web").answers)))).size).toBe(2);
  });
});

describe("what is not there", () => {
  it.each([
    ["AAAA of an IPv4 service", "web", "AAAA"],
    ["a service without ready tasks", "tasks.idle", "A"],
    ["a slot that is draining", "7.db.shop", "A"],
    ["SRV without ready tasks", "_http._tcp.idle", "SRV"],
    ["a name with names below it", "shop.flotilla.internal", "A"],
    ["the parent of ports", "_tcp.web.flotilla.internal", "A"],
    ["the parent of nodes", "node.flotilla.internal", "A"],
    ["the zone's own address", "flotilla.internal", "A"],
    ["the parent of reverse names", "0.127.10.in-addr.arpa", "PTR"],
  ] as const)("%s is NODATA with SOA", (_, name, type) => {
    const packet = setUp().ask(name, type);
    expect([rcodeOf(packet), packet.answers]).toEqual(["NOERROR", []]);
    expect(packet.authorities?.map((a) => a.type)).toEqual(["SOA"]);
  });

  it.each([
    "nope",
    "nope.flotilla.internal",
    "9.web.flotilla.internal",
    "_x._tcp.web.flotilla.internal",
    "tasks.nope.flotilla.internal",
    "9.9.127.10.in-addr.arpa",
    "1.7.0.127.10.in-addr.arpa",
  ])("%s is NXDOMAIN with a SOA that allows at most 5 s", (name) => {
    const packet = setUp().ask(name);
    expect(rcodeOf(packet)).toBe("NXDOMAIN");
    const soa = packet.authorities?.[0] as { type: string; ttl: number; data: { minimum: number } };
    expect([soa.type, soa.ttl, soa.data.minimum]).toEqual(["SOA", 5, 5]);
  });

  it("is SERVFAIL, never NXDOMAIN, before the first routes", () => {
    const { ask } = setUp({ synced: false });
    for (const name of ["web", "nope", "web.flotilla.internal", "www.example.com"])
      expect(rcodeOf(ask(name))).toBe("SERVFAIL");
  });

  it("is forwarded only when it can be somebody else's", () => {
    const { raw, forwarded } = setUp();
    const names = [
      "www.example.com",
      "green.web",
      "example",
      "x.flotilla.internal",
      "1.1.127.10.in-addr.arpa",
      "8.8.8.8.in-addr.arpa",
    ];
    for (const name of names) raw(encode({ type: "query", id: 1, questions: [{ name, type: "A" }] }));
    expect(forwarded).toEqual(["www.example.com", "green.web", "8.8.8.8.in-addr.arpa"]);
  });

  it("a dot inside a label is no separator", () => {
    // One label "web.flotilla" and then "internal": not our service.
    const query = Buffer.concat([
      Buffer.from("000101000001000000000000", "hex"),
      Buffer.of(12),
      Buffer.from("web.flotilla"),
      Buffer.of(8),
      Buffer.from("internal"),
      Buffer.of(0, 0, 1, 0, 1),
    ]);
    const { raw, forwarded } = setUp();
    expect([raw(query), forwarded]).toEqual([undefined, ["web.flotilla.internal"]]);
  });
});

describe("sizes and EDNS", () => {
  const opt = (udpPayloadSize: number, more: object = {}) =>
    ({
      additionals: [{ type: "OPT", name: ".", udpPayloadSize, flags: 0, options: [], ...more }],
    }) as unknown as Partial<Packet>;

  it.each([
    [undefined, 512],
    [100, 512],
    [900, 900],
    [4096, 1232],
  ])("a client that says %s gets at most %d bytes, and TC", (size, limit) => {
    const query = encode({
      type: "query",
      id: 1,
      questions: [{ name: "tasks.many", type: "A" }],
      ...(size === undefined ? {} : opt(size)),
    });
    const reply = setUp({ many: 200 }).raw(query) ?? expect.fail("no answer");
    expect(reply.length).toBeLessThanOrEqual(limit);
    expect(reply.length).toBeGreaterThan(limit - 16);
    expect(decode(reply).flag_tc).toBe(true);
  });

  it("over TCP all come, without TC", () => {
    const packet = setUp({ many: 200 }).ask("tasks.many", "A", {}, true);
    expect([packet.answers?.length, packet.flag_tc]).toEqual([200, false]);
  });

  it("over TCP what exceeds 64 KB is left out without TC, others each time", () => {
    const { ask } = setUp({ many: 6_000 });
    const [a, b] = [ask("tasks.many", "A", {}, true), ask("tasks.many", "A", {}, true)];
    expect(a.answers?.length).toBeGreaterThan(4_000);
    expect(a.flag_tc).toBe(false);
    expect(new Set(dataOf(a.answers))).not.toEqual(new Set(dataOf(b.answers)));
  });

  it("additionals that do not fit are dropped without TC", () => {
    const packet = setUp({ many: 10 }).ask("_http._tcp.many", "SRV");
    expect(packet.answers).toHaveLength(10);
    expect([(packet.additionals ?? []).length < 10, packet.flag_tc]).toEqual([true, false]);
  });

  it("OPT is answered only when asked, without options, Z clear", () => {
    const { ask } = setUp();
    expect(ask("web").additionals).toEqual([]);
    const cookie = opt(1232, { flags: 0xffff, options: [{ code: 10, data: Buffer.alloc(8, 1) }] });
    const [answered] = ask("web", "A", cookie).additionals as unknown as {
      type: string;
      options: unknown[];
      flags: number;
    }[];
    expect([answered?.type, answered?.options, answered?.flags]).toEqual(["OPT", [], 0x8000]);
  });

  it("two OPTs are FORMERR, a newer version is BADVERS", () => {
    const { ask, raw } = setUp();
    const one = opt(1232).additionals ?? [];
    expect(rcodeOf(ask("web", "A", { additionals: [...one, ...one] }))).toBe("FORMERR");
    const reply = raw(
      encode({ type: "query", id: 1, questions: [{ name: "web", type: "A" }], ...opt(1232, { ednsVersion: 1 }) }),
    );
    const [answered] = decode(reply ?? Buffer.alloc(0)).additionals as unknown as { extendedRcode: number }[];
    expect(answered?.extendedRcode).toBe(1);
  });
});

describe("what is no plain question", () => {
  const query = encode({ type: "query", id: 9, questions: [{ name: "web", type: "A" }] });
  const patched = (change: (message: Buffer) => void) => {
    const message = Buffer.from(query);
    change(message);
    return message;
  };
  const rcode = (message: Buffer) => (setUp().raw(message) ?? expect.fail("no answer")).readUInt16BE(2) & 15;

  it.each([
    ["an answer", patched((m) => m.writeUInt8(0x80, 2))],
    ["less than a header", query.subarray(0, 11)],
    ["nothing", Buffer.alloc(0)],
  ])("%s is dropped", (_, message) => {
    expect(setUp().raw(message)).toBeUndefined();
  });

  it.each([
    ["no question", 1, patched((m) => m.writeUInt16BE(0, 4))],
    ["two questions", 1, patched((m) => m.writeUInt16BE(2, 4))],
    ["bytes too few", 1, query.subarray(0, query.length - 2)],
    ["bytes too many", 1, Buffer.concat([query, Buffer.of(0)])],
    ["a pointer to itself", 1, patched((m) => m.writeUInt16BE(0xc00c, 12))],
    ["a label of 64", 1, patched((m) => m.writeUInt8(64, 12))],
    ["another opcode", 4, patched((m) => m.writeUInt8(0x28, 2))],
    ["another class", 5, patched((m) => m.writeUInt16BE(3, m.length - 2))],
    ["AXFR", 5, patched((m) => m.writeUInt16BE(252, m.length - 4))],
    ["IXFR", 5, patched((m) => m.writeUInt16BE(251, m.length - 4))],
  ])("%s gets code %d", (_, code, message) => {
    expect(rcode(message)).toBe(code);
  });

  it("ANY gets one record that says no more", () => {
    const { answers } = setUp().ask("web", "ANY" as RecordType);
    expect(answers?.map((a) => a.type)).toEqual(["HINFO"]);
  });

  it("names of 255 bytes are read, of 256 not", () => {
    const named = (last: number) => {
      const labels = [63, 63, 63, last].map((length) => Buffer.concat([Buffer.of(length), Buffer.alloc(length, 97)]));
      return parseQuery(Buffer.concat([query.subarray(0, 12), ...labels, Buffer.of(0, 0, 1, 0, 1)])).kind;
    };
    expect([named(61), named(62)]).toEqual(["query", "fault"]);
  });
});

describe("who may ask", () => {
  it("strangers are refused, after one more look at who is here", async () => {
    const { resolver } = setUp();
    const query = encode({ type: "query", id: 1, questions: [{ name: "web", type: "A" }] });
    const reply = await resolver.resolve(query, "8.8.8.8", false);
    expect((reply ?? Buffer.alloc(4)).readUInt16BE(2) & 15).toBe(5);
  });

  it("a source that floods is not answered, others are", () => {
    const { resolver, gate } = setUp();
    gate.allow([], [{ base: 0x0a80_0100, prefix: 24 }]);
    const query = encode({ type: "query", id: 1, questions: [{ name: "web", type: "A" }] });
    const got = Array.from({ length: 10_010 }, () => resolver.resolve(query, "10.128.1.9", false));
    expect(got.filter((reply) => reply === undefined)).toHaveLength(10);
    expect(resolver.resolve(query, "10.128.1.10", false)).toBeDefined();
  });
});

describe("garbage", () => {
  const { raw } = setUp({ many: 3 });
  const check = (message: Buffer) => {
    const reply = raw(message);
    if (reply === undefined) return;
    expect(message.length).toBeGreaterThanOrEqual(12);
    // An answer, to this very query, that any other codec can read.
    expect(reply.readUInt16BE(0)).toBe(message.readUInt16BE(0));
    expect(reply.readUInt8(2) & 0x80).toBe(0x80);
    expect(reply.length).toBeLessThanOrEqual(1_232);
    const parsed = parseQuery(message);
    expect(parsed.kind).not.toBe("drop");
    if (parsed.kind === "fault") expect([1, 4]).toContain(reply.readUInt8(3) & 15);
    else decode(reply);
  };

  it("of random bytes never throws and is never believed", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => check(Buffer.from(bytes))),
      { numRuns: 5_000 },
    );
  });

  it("made from good queries never throws and is never believed", () => {
    const base = encode({
      type: "query",
      id: 1,
      questions: [{ name: "_http._tcp.many.flotilla.internal", type: "SRV" }],
      additionals: [{ type: "OPT", name: ".", udpPayloadSize: 1232, flags: 0, options: [] } as unknown as Answer],
    });
    const edit = fc.record({ at: fc.nat(base.length - 1), byte: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 6 }), fc.nat(base.length), (edits, cut) => {
        const message = Buffer.from(base);
        for (const { at, byte } of edits) message[at] = byte;
        check(message);
        check(message.subarray(0, cut));
      }),
      { numRuns: 5_000 },
    );
  });
});
