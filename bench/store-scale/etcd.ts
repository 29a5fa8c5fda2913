// One etcd server on this machine, to measure beside.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { messageOf } from "../../lib/mod.js";

const startMsMax = 20_000;

export interface EtcdServer extends AsyncDisposable {
  readonly endpoint: string;
  /** Resident memory. */
  rssMB(): Promise<number>;
}

export async function startEtcd(directory: string): Promise<EtcdServer> {
  const [client, peer] = await freeEndpoints();
  const etcd = spawn(
    "etcd",
    [
      ["--name", "m0", "--data-dir", directory, "--logger", "zap", "--log-level", "error"],
      ["--listen-client-urls", client, "--advertise-client-urls", client],
      ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", `m0=${peer}`],
    ].flat(),
    { stdio: ["ignore", "ignore", "inherit"] },
  );
  const gone = once(etcd, "exit");
  const server: EtcdServer = {
    endpoint: client,
    async rssMB() {
      const status = await readFile(`/proc/${etcd.pid}/status`, "utf8");
      const kB = /^VmRSS:\s+(\d+) kB/m.exec(status)?.[1];
      if (kB === undefined) throw new Error("the memory of the etcd server cannot be read");
      return (Number(kB) * 1_024) / 1e6;
    },
    async [Symbol.asyncDispose]() {
      etcd.kill("SIGKILL");
      await gone;
    },
  };
  const startMs = performance.now();
  for (;;) {
    try {
      if ((await fetch(`${client}/health`, { signal: AbortSignal.timeout(2_000) })).ok) return server;
    } catch (error) {
      if (performance.now() - startMs > startMsMax) {
        await server[Symbol.asyncDispose]();
        throw new Error(`etcd at ${client} does not answer: ${messageOf(error)}`, { cause: error });
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Two ports that were free a moment ago, held at once so that they differ. */
async function freeEndpoints(): Promise<[string, string]> {
  const servers = [createServer(), createServer()] as const;
  for (const server of servers) {
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
  }
  const [client, peer] = servers.map((server) => {
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("a TCP server has no port");
    server.close();
    return `http://127.0.0.1:${address.port}`;
  });
  if (client === undefined || peer === undefined) throw new Error("no free ports");
  return [client, peer];
}
