// Closed-loop clients: each has one request under way, and sends the next when it is answered.

import { Client, credentials, type MethodDefinition } from "@grpc/grpc-js";
import { type Put, type Range, put, range } from "./kv.js";

const valueBytes = 256;
const keys = 1_000;
/** More connections than this win neither side anything. */
const connectionsMax = 8;

export interface Measured {
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
}

export class Generator implements Disposable {
  readonly #channels: Client[];

  constructor(endpoint: string, clients: number) {
    this.#channels = Array.from(
      { length: Math.min(clients, connectionsMax) },
      () => new Client(endpoint, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 }),
    );
  }

  [Symbol.dispose](): void {
    for (const channel of this.#channels) channel.close();
  }

  writes(clients: number, ms: number): Promise<Measured> {
    const value = Buffer.alloc(valueBytes, "v");
    return this.#run(clients, ms, put, (n): Put => ({ key: Buffer.from(`bench/${n % keys}`), value }));
  }

  reads(clients: number, ms: number): Promise<Measured> {
    return this.#run(clients, ms, range, (n): Range => ({ key: Buffer.from(`bench/${n % keys}`) }));
  }

  async #run<Req, Res>(
    clients: number,
    ms: number,
    method: MethodDefinition<Req, Res>,
    request: (n: number) => Req,
  ): Promise<Measured> {
    const warmMs = ms / 4;
    const startMs = performance.now() + warmMs;
    const endMs = startMs + ms;
    const tookMs: number[] = [];
    let n = 0;
    const client = async (i: number): Promise<void> => {
      const channel = this.#channels[i % this.#channels.length];
      if (channel === undefined) throw new Error("no channel");
      for (let nowMs = performance.now(); nowMs < endMs; ) {
        const fromMs = nowMs;
        await call(channel, method, request((n += 1)));
        nowMs = performance.now();
        if (fromMs >= startMs && nowMs <= endMs) tookMs.push(nowMs - fromMs);
      }
    };
    await Promise.all(Array.from({ length: clients }, (_, i) => client(i)));
    tookMs.sort((a, b) => a - b);
    const at = (share: number) => tookMs[Math.min(tookMs.length - 1, Math.floor(tookMs.length * share))] ?? Number.NaN;
    return { perSecond: (tookMs.length * 1000) / ms, p50Ms: at(0.5), p99Ms: at(0.99) };
  }
}

function call<Req, Res>(channel: Client, method: MethodDefinition<Req, Res>, request: Req): Promise<void> {
  return new Promise((resolve, reject) => {
    channel.makeUnaryRequest(method.path, method.requestSerialize, method.responseDeserialize, request, (error) => {
      if (error === null) resolve();
      else reject(error);
    });
  });
}
