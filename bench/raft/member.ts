// One of our members for the benchmark: the managers' consensus, transport and log as a manager has them, and on them
// the few keys of etcd's API that the generator asks for.
//   node member.js DATA_DIR ADDRESS [JOIN]

import { Server, ServerCredentials } from "@grpc/grpc-js";
import { createLogger, messageOf, systemClock, systemRng } from "../../lib/mod.js";
import { RaftConsensus, initCluster, joinCluster, raftService, readIdentity } from "../../manager/consensus/mod.js";
import { Handlers } from "../../manager/rpc/mod.js";
import { type Put, type Range, put, range } from "./kv.js";

const [dataDir = "", address = "", join] = process.argv.slice(2);
const log = createLogger("bench-member", "error");
const parts = { clock: systemClock, rng: systemRng, log };

/** The machine's keys; a put is an entry, as the generator's request has it. */
const values = new Map<string, Uint8Array>();

async function main(): Promise<void> {
  const place = { dataDir, name: address.replace(/[.:]/g, "-"), address, httpAddress: address };
  if (join === undefined) await initCluster({ ...place, ...parts, cluster: "bench", store: "raft", etcd: [] });
  else await joinCluster({ ...place, ...parts, managers: [join] }, new AbortController().signal);
  const identity = await readIdentity(dataDir);
  if (identity === undefined) throw new Error(`${dataDir} has no identity`);
  const consensus = await RaftConsensus.open({
    identity,
    dataDir,
    ...parts,
    machine: {
      apply: ({ data }) => {
        const { key, value } = put.requestDeserialize(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
        values.set(Buffer.from(key).toString("latin1"), value);
        return undefined;
      },
      *snapshot() {
        for (const [key, value] of values) yield put.requestSerialize({ key: Buffer.from(key, "latin1"), value });
      },
      restore: async (chunks) => {
        values.clear();
        for await (const chunk of chunks) {
          const { key, value } = put.requestDeserialize(Buffer.from(chunk));
          values.set(Buffer.from(key).toString("latin1"), value);
        }
      },
    },
    onFatal: (error) => {
      throw error;
    },
    onRemoved: (message) => {
      throw new Error(message);
    },
  });
  const handlers = new Handlers(log, () => undefined);
  const server = new Server();
  server.addService(raftService, consensus.handlers(handlers));
  server.addService(
    { put, range },
    {
      put: handlers.unary("Put", async (request: Put) => {
        await consensus.propose(put.requestSerialize(request));
        return {};
      }),
      range: handlers.unary("Range", async ({ key }: Range) => {
        await consensus.barrier();
        return { value: values.get(Buffer.from(key).toString("latin1")) };
      }),
    },
  );
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error) => {
      if (error === null) resolve();
      else reject(error);
    });
  });
  // The parent reads what each member knows of the cluster.
  process.on("message", () => process.send?.(consensus.status()));
  process.on("disconnect", () => process.exit(0));
}

try {
  await main();
} catch (failure) {
  console.error(messageOf(failure));
  process.exit(1);
}
