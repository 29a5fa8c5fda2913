// The resolver's sockets and its forwarding, with real upstreams on loopback.

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DecodedPacket, type RecordType, decode, encode } from "dns-packet";
import { afterEach, describe, expect, it } from "vitest";
import { FakeClock } from "../../test/kit/clock.js";
import { silentLogger, systemClock, systemRng } from "../../lib/mod.js";
import { Forwarder } from "./forwarder.js";
import { DnsServer } from "./server.js";
import { Upstreams, readNameservers } from "./upstreams.js";
import { type Query, parseQuery } from "./wire.js";

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

type Reply = (query: DecodedPacket, message: Buffer) => Buffer | undefined;

/** A name server; `calls` are the names it was asked for. */
async function upstream(reply: Reply, overTcp?: Reply) {
  const calls: string[] = [];
  const socket = createSocket("udp4");
  socket.on("message", (message, from) => {
    const query = decode(message);
    calls.push(query.questions?.[0]?.name ?? "");
    const answer = reply(query, message);
    if (answer !== undefined) socket.send(answer, from.port, from.address);
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  const { port } = socket.address();
  ends.push(() => void socket.close());
  if (overTcp !== undefined) {
    const server = createServer((connection) => {
      connection.on("error", () => undefined);
      connection.once("data", (data) => {
        const answer = overTcp(decode(data.subarray(2)), data.subarray(2)) ?? Buffer.alloc(0);
        connection.end(Buffer.concat([Buffer.of(answer.length >> 8, answer.length & 255), answer]));
      });
    });
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    ends.push(() => void server.close());
  }
  return { host: "127.0.0.1", port, calls };
}

const a =
  (address: string, ttl = 60): Reply =>
  (query) =>
    encode({
      type: "response",
      id: query.id ?? 0,
      questions: query.questions ?? [],
      answers: [{ type: "A", name: query.questions?.[0]?.name ?? "", ttl, data: address }],
    });
const code =
  (rcode: number): Reply =>
  (_, message) => {
    const out = Buffer.from(message);
    out.writeUInt16BE(0x8180 | rcode, 2);
    return out;
  };

const ttlOf = (packet: DecodedPacket): number | undefined => (packet.answers?.[0] as { ttl: number } | undefined)?.ttl;

function query(name: string, type: RecordType = "A", id = 1): Query {
  const parsed = parseQuery(encode({ type: "query", id, flags: 0x100, questions: [{ name, type }] }));
  return parsed.kind === "query" ? parsed.query : expect.fail("not a query");
}

function forwarder(upstreams: { host: string; port: number }[], clock = systemClock) {
  const made = new Forwarder({
    clock,
    rng: systemRng,
    log: silentLogger,
    observe: () => undefined,
    upstreams: { list: () => Promise.resolve(upstreams) },
  });
  const ask = async (of: Query, limit = 512) => {
    const bytes = await made.forward(of, limit);
    const packet = decode(bytes);
    const [first] = packet.answers ?? [];
    return {
      packet,
      bytes,
      rcode: bytes.readUInt16BE(2) & 15,
      data: first !== undefined && "data" in first ? first.data : undefined,
    };
  };
  return { made, ask };
}

describe("forwarding", () => {
  it("answers with the asker's id and spelling, and asks once while the answer holds", async () => {
    const server = await upstream(a("1.2.3.4"));
    const { ask } = forwarder([server]);
    expect((await ask(query("www.example.com"))).data).toBe("1.2.3.4");
    const again = await ask(query("WWW.example.COM", "A", 99));
    expect([again.packet.id, again.packet.questions?.[0]?.name, again.data]).toEqual([
      99,
      "WWW.example.COM",
      "1.2.3.4",
    ]);
    expect(server.calls).toHaveLength(1);
  });

  it("asks once for all who ask the same meanwhile", async () => {
    const server = await upstream(a("1.2.3.4"));
    const { ask } = forwarder([server]);
    const all = await Promise.all(Array.from({ length: 50 }, (_, i) => ask(query("x.example.com", "A", i))));
    expect(all.map((one) => one.data)).toEqual(Array.from({ length: 50 }, () => "1.2.3.4"));
    expect(server.calls).toHaveLength(1);
  });

  it("counts kept TTLs down, then asks again", async () => {
    const clock = new FakeClock();
    const server = await upstream(a("1.2.3.4", 60));
    const { ask } = forwarder([server], clock);
    const ttl = async () => ttlOf((await ask(query("www.example.com"))).packet);
    expect(await ttl()).toBe(60);
    await clock.advance(25_000);
    expect(await ttl()).toBe(35);
    await clock.advance(35_000);
    expect(await ttl()).toBe(60);
    expect(server.calls).toHaveLength(2);
  });

  it.each([2, 5])("goes on to the next server after code %d", async (rcode) => {
    const [bad, good] = [await upstream(code(rcode)), await upstream(a("5.6.7.8"))];
    expect((await forwarder([bad, good]).ask(query("www.example.com"))).data).toBe("5.6.7.8");
  });

  it("takes NXDOMAIN as final", async () => {
    const [first, second] = [await upstream(code(3)), await upstream(a("5.6.7.8"))];
    expect((await forwarder([first, second]).ask(query("www.example.com"))).rcode).toBe(3);
    expect(second.calls).toEqual([]);
  });

  it("goes on after a server that is silent, and one whose port is closed", async () => {
    const [silent, good] = [await upstream(() => undefined), await upstream(a("5.6.7.8"))];
    const closed = createSocket("udp4").bind(0, "127.0.0.1");
    await once(closed, "listening");
    const { port } = closed.address();
    closed.close();
    const servers = [{ host: "127.0.0.1", port }, silent, good];
    expect((await forwarder(servers).ask(query("www.example.com"))).data).toBe("5.6.7.8");
  });

  it("goes on after a server to which there is no way", async () => {
    // The kernel refuses to connect to the broadcast address, as it does where no route leads.
    const good = await upstream(a("5.6.7.8"));
    const servers = [{ host: "255.255.255.255", port: 53 }, good];
    expect((await forwarder(servers).ask(query("www.example.com"))).data).toBe("5.6.7.8");
  });

  it("believes no answer with another id or another question", async () => {
    const forged: Reply = (packet, message) => {
      const answer = a("6.6.6.6")(packet, message) ?? Buffer.alloc(0);
      answer.writeUInt16BE(answer.readUInt16BE(0) ^ 1, 0);
      return answer;
    };
    const otherName: Reply = (packet, message) =>
      a("6.6.6.6")({ ...packet, questions: [{ name: "evil.example", type: "A" }] }, message);
    const servers = [await upstream(forged), await upstream(otherName), await upstream(a("5.6.7.8"))];
    expect((await forwarder(servers).ask(query("www.example.com"))).data).toBe("5.6.7.8");
  });

  it("asks over TCP what was truncated, and tells its own client so when it does not fit", async () => {
    const truncated: Reply = (_, message) => {
      const out = Buffer.from(message);
      out.writeUInt16BE(0x8380, 2);
      return out;
    };
    const long: Reply = (packet) =>
      encode({
        type: "response",
        id: packet.id ?? 0,
        questions: packet.questions ?? [],
        answers: Array.from({ length: 100 }, (_, i) => ({
          type: "A" as const,
          name: "www.example.com",
          ttl: 60,
          data: `9.9.9.${i}`,
        })),
      });
    const { ask } = forwarder([await upstream(truncated, long)]);
    const small = await ask(query("www.example.com"));
    expect([small.packet.flag_tc, small.packet.answers, small.bytes.length <= 512]).toEqual([true, [], true]);
    expect((await ask(query("www.example.com"), 65_535)).packet.answers).toHaveLength(100);
  });

  it("asks without EDNS a server that knows none", async () => {
    const old: Reply = (packet, message) =>
      (packet.additionals ?? []).length > 0 ? code(1)(packet, message) : a("1.2.3.4")(packet, message);
    expect((await forwarder([await upstream(old)]).ask(query("www.example.com"))).data).toBe("1.2.3.4");
  });

  it("is SERVFAIL at once without servers, and is remembered when servers fail", async () => {
    expect((await forwarder([]).ask(query("www.example.com"))).rcode).toBe(2);
    const bad = await upstream(code(2));
    const { ask } = forwarder([bad]);
    expect([(await ask(query("www.example.com"))).rcode, (await ask(query("www.example.com"))).rcode]).toEqual([2, 2]);
    expect(bad.calls).toHaveLength(1);
  });

  it("serves what is over when nobody answers any more", async () => {
    const clock = new FakeClock();
    let broken = false;
    const server = await upstream((packet, message) => (broken ? code(2) : a("1.2.3.4", 60))(packet, message));
    const { ask } = forwarder([server], clock);
    await ask(query("www.example.com"));
    broken = true;
    await clock.advance(120_000);
    const { data, packet } = await ask(query("www.example.com"));
    expect([data, ttlOf(packet)]).toEqual(["1.2.3.4", 30]);
  });
});

describe("the host's name servers", () => {
  it("are read from resolv.conf", () => {
    expect(
      readNameservers(
        "# x\nsearch a\nnameserver 1.1.1.1\n nameserver 2.2.2.2\nnameserver ::1\nnameserver\t8.8.8.8 # y\n",
      ),
    ).toEqual(["1.1.1.1", "8.8.8.8"]);
  });

  it("are never ourselves", async () => {
    const folder = await mkdtemp(join(tmpdir(), "resolv-"));
    ends.push(() => rm(folder, { recursive: true }));
    const path = join(folder, "resolv.conf");
    await writeFile(path, "nameserver 10.127.0.53\nnameserver 127.0.0.53\nnameserver 192.0.2.9\n");
    const upstreams = new Upstreams({ clock: systemClock, log: silentLogger, path });
    upstreams.setOwn(["10.127.0.53"]);
    expect(await upstreams.list()).toEqual(["192.0.2.9"]);
  });
});

describe("the server", () => {
  async function freePort(): Promise<number> {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, "close");
    return port;
  }
  async function serve(resolve: (message: Buffer) => Buffer | Promise<Buffer> | undefined, address = "127.0.0.1") {
    const port = await freePort();
    const server = new DnsServer({
      clock: systemClock,
      rng: systemRng,
      log: silentLogger,
      port,
      resolve,
      onProblems: () => undefined,
    });
    ends.push(() => server.close());
    server.setAddresses([address]);
    await server.settled();
    return { server, port };
  }
  const framed = (...messages: Buffer[]) =>
    Buffer.concat(messages.flatMap((m) => [Buffer.of(m.length >> 8, m.length & 255), m]));
  const numbered = (id: number) => {
    const message = Buffer.alloc(12);
    message.writeUInt16BE(id, 0);
    return message;
  };

  it("keeps nothing of sockets that could not be opened", async () => {
    const holder = createSocket("udp4").bind(0, "127.0.0.1");
    await once(holder, "listening");
    ends.push(() => void holder.close());
    const server = new DnsServer({
      clock: new FakeClock(),
      rng: systemRng,
      log: silentLogger,
      port: holder.address().port,
      resolve: () => undefined,
      onProblems: () => undefined,
    });
    ends.push(() => server.close());
    server.setAddresses(["127.0.0.1"]);
    await server.settled();
    const before = (await readdir("/proc/self/fd")).length;
    for (let i = 0; i < 50; i += 1) {
      server.retryNow();
      await server.settled();
    }
    expect(server.problems()).toHaveLength(1);
    expect((await readdir("/proc/self/fd")).length).toBeLessThan(before + 25);
  });

  it("answers many queries on one connection, each when it is ready, byte by byte if need be", async () => {
    let release: (() => void) | undefined;
    const { port } = await serve((message) => {
      if (message.readUInt16BE(0) !== 1) return message;
      return new Promise((resolve) => (release = () => resolve(message)));
    });
    const client = connect(port, "127.0.0.1");
    ends.push(() => void client.destroy());
    const all = framed(numbered(1), numbered(2), numbered(3));
    for (const byte of all) {
      client.write(Buffer.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    const ids: number[] = [];
    let got = Buffer.alloc(0);
    for await (const chunk of client) {
      got = Buffer.concat([got, chunk as Buffer]);
      while (got.length >= 14) {
        ids.push(got.readUInt16BE(2));
        got = got.subarray(14);
      }
      if (ids.length === 2) release?.();
      if (ids.length === 3) break;
    }
    expect(ids).toEqual([2, 3, 1]);
  });

  it("answers what was asked before the client closed its half", async () => {
    const { port } = await serve((message) => new Promise((resolve) => setTimeout(() => resolve(message), 20)));
    const client = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    client.end(framed(numbered(5)));
    const chunks: Buffer[] = [];
    for await (const chunk of client) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks)).toEqual(framed(numbered(5)));
  });

  it("reads no further while 64 queries are unanswered, and loses none", async () => {
    const waiting: (() => void)[] = [];
    const { port } = await serve((message) => new Promise((resolve) => waiting.push(() => resolve(message))));
    const client = connect(port, "127.0.0.1");
    ends.push(() => void client.destroy());
    let bytes = 0;
    client.on("data", (chunk) => (bytes += chunk.length));
    client.write(framed(...Array.from({ length: 200 }, (_, i) => numbered(i))));
    for (let i = 0; i < 100 && waiting.length < 64; i += 1) await new Promise((resolve) => setTimeout(resolve, 10));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(waiting).toHaveLength(64);
    for (let i = 0; i < 1_000; i += 1) {
      if (bytes >= 200 * 14) break;
      waiting.splice(0).forEach((answer) => answer());
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    expect(bytes).toBe(200 * 14);
  });

  it("reports an address that is not there or is taken, and opens it later", async () => {
    const { server, port } = await serve((message) => message, "203.0.113.7");
    expect(server.problems()).toEqual([`the resolver on 203.0.113.7:${port} is not an address of this host yet`]);
    const holder = createSocket("udp4").bind(port, "127.0.0.9");
    await once(holder, "listening");
    server.setAddresses(["127.0.0.9"]);
    await server.settled();
    expect(server.problems()).toEqual([
      `the resolver on 127.0.0.9:${port} is in use by another process on this host; stop that name server there`,
    ]);
    holder.close();
    await once(holder, "close");
    server.retryNow();
    await server.settled();
    expect(server.problems()).toEqual([]);
  });
});
