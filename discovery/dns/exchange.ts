// One question to one upstream: a fresh socket with a port that the kernel draws, a random id, and an answer that is
// believed only from that server, with that id and that question (RFC 5452).

import { createSocket } from "node:dgram";
import { connect } from "node:net";
import { type Clock, ClusterError, type Rng } from "../../lib/mod.js";
import { Type, classIn, encodeName, headerBytes, readName, writeOpt } from "./wire.js";

export interface Question {
  /** Name, type and class as bytes. */
  readonly bytes: Buffer;
  readonly checkingDisabled: boolean;
  readonly dnssecOk: boolean;
}

export interface Upstream {
  readonly host: string;
  readonly port: number;
}

export function encodeUpstreamQuery(question: Question, id: number, edns: boolean): Buffer {
  const { bytes } = question;
  const out = Buffer.alloc(headerBytes + bytes.length + (edns ? 11 : 0));
  out.writeUInt16BE(id, 0);
  out.writeUInt16BE(0x0100 | (question.checkingDisabled ? 0x0010 : 0), 2);
  out.writeUInt16BE(1, 4);
  out.writeUInt16BE(edns ? 1 : 0, 10);
  bytes.copy(out, headerBytes);
  if (edns) writeOpt(out, headerBytes + bytes.length, 0, question.dnssecOk);
  return out;
}

/** Whether `message` answers the question that was asked with `id`. */
export function matches(message: Buffer, id: number, question: Buffer): boolean {
  if (message.length < headerBytes || message.readUInt16BE(0) !== id) return false;
  if ((message.readUInt16BE(2) & 0xf800) !== 0x8000 || message.readUInt16BE(4) !== 1) return false;
  const asked = readName(question, 0, false);
  const echoed = readName(message, headerBytes, false);
  if (asked === undefined || echoed === undefined || echoed.end + 4 > message.length) return false;
  if (asked.labels.length !== echoed.labels.length || !asked.labels.every((label, i) => label === echoed.labels[i]))
    return false;
  return message.subarray(echoed.end, echoed.end + 4).equals(question.subarray(asked.end, asked.end + 4));
}

export async function exchange(
  question: Question,
  upstream: Upstream,
  edns: boolean,
  timeoutMs: number,
  clock: Clock,
  rng: Rng,
): Promise<Buffer> {
  const udp = await overUdp(question, upstream, edns, timeoutMs, clock, rng);
  const truncated = (udp.readUInt16BE(2) & 0x0200) !== 0;
  return truncated ? await overTcp(question, upstream, edns, timeoutMs, clock, rng) : udp;
}

function overUdp(
  question: Question,
  upstream: Upstream,
  edns: boolean,
  timeoutMs: number,
  clock: Clock,
  rng: Rng,
): Promise<Buffer> {
  const id = rng.below(65_536);
  return new Promise((resolve, reject) => {
    const socket = createSocket("udp4");
    const settle = (then: () => void) => {
      cancel();
      socket.removeAllListeners();
      socket.on("error", () => undefined);
      socket.close();
      then();
    };
    const cancel = clock.after(timeoutMs, () =>
      settle(() =>
        reject(new ClusterError("deadline_exceeded", `name server ${upstream.host}: no answer within ${timeoutMs} ms`)),
      ),
    );
    socket.on("error", (error) =>
      settle(() =>
        reject(new ClusterError("unavailable", `name server ${upstream.host}: ${error.message}`, { cause: error })),
      ),
    );
    socket.on("message", (message) => {
      if (matches(message, id, question.bytes)) settle(() => resolve(message));
    });
    // A connected socket takes datagrams from this server only, and hears that its port is closed.
    // No callback: with one, Node hands it a failure (no route) in place of the "error" event.
    socket.once("connect", () => socket.send(encodeUpstreamQuery(question, id, edns)));
    socket.connect(upstream.port, upstream.host);
  });
}

function overTcp(
  question: Question,
  upstream: Upstream,
  edns: boolean,
  timeoutMs: number,
  clock: Clock,
  rng: Rng,
): Promise<Buffer> {
  const id = rng.below(65_536);
  return new Promise((resolve, reject) => {
    const query = encodeUpstreamQuery(question, id, edns);
    const socket = connect({ host: upstream.host, port: upstream.port, noDelay: true });
    const chunks: Buffer[] = [];
    let bytes = 0;
    const settle = (then: () => void) => {
      cancel();
      socket.destroy();
      then();
    };
    const fail = (why: string) =>
      settle(() => reject(new ClusterError("unavailable", `name server ${upstream.host} over TCP: ${why}`)));
    const cancel = clock.after(timeoutMs, () => fail(`no answer within ${timeoutMs} ms`));
    socket.on("error", (error) => fail(error.message));
    socket.on("end", () => fail("closed before it answered"));
    socket.on("connect", () => socket.write(Buffer.concat([Buffer.of(query.length >> 8, query.length & 255), query])));
    socket.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes < 2) return;
      const all = Buffer.concat(chunks);
      const length = all.readUInt16BE(0);
      if (all.length < 2 + length) return;
      const message = all.subarray(2, 2 + length);
      if (matches(message, id, question.bytes)) settle(() => resolve(message));
      else fail("answered something else");
    });
  });
}

/** For tests and tools: the question's bytes. */
export function questionOf(name: string, type: number = Type.A): Buffer {
  return Buffer.concat([encodeName(name), Buffer.of(type >> 8, type & 255, 0, classIn)]);
}
