// One manager for the benchmark: its consensus and its store as a manager has them.
//   node scheduler-member.js DATA_DIR ADDRESS [JOIN]

import { Server, ServerCredentials } from "@grpc/grpc-js";
import { createLogger, messageOf, seededRng, systemClock, systemRng } from "../lib/mod.js";
import { initCluster, joinCluster, RaftConsensus, raftService, readIdentity } from "../manager/consensus/mod.js";
import { Handlers } from "../manager/rpc/mod.js";
import { Scheduler } from "../manager/scheduler/mod.js";
import { openRaftStore, type RaftStore } from "../manager/store/mod.js";
import { sampleRevision, sampleService } from "../manager/store/samples.js";
import { makeLoad, makeTasks, serviceName } from "./scheduler-load.js";

const [dataDir = "", address = "", join] = process.argv.slice(2);
const log = createLogger("bench-member", "error");
const parts = { clock: systemClock, rng: systemRng, log };
const perUpdate = 90;
const updatesAtOnce = 11;

async function inChunks<T>(items: readonly T[], size: number, write: (chunk: T[]) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    for (let from = next; from < items.length; from = next) {
      next += size;
      await write(items.slice(from, from + size));
    }
  };
  await Promise.all(Array.from({ length: updatesAtOnce }, worker));
}

/** Fills the store, schedules everything, and waits until the last task has its node. */
async function measure(store: RaftStore, leads: () => boolean, count: number): Promise<object> {
  const services = Math.max(1, Math.round(count / 1_000));
  const load = makeLoad({ nodes: 5_000, services, tasksPerService: 1_000, rich: false });
  await inChunks(load.nodes, perUpdate, (chunk) =>
    store.update((tx) => {
      for (const node of chunk) tx.create("nodes", node);
    }),
  );
  const rng = seededRng(5);
  await inChunks([...load.specs.entries()], perUpdate / 2, (chunk) =>
    store.update((tx) => {
      for (const [i, task] of chunk) {
        const name = serviceName(i);
        const revision = sampleRevision(rng.id(), name, 1);
        tx.create("services", sampleService(name));
        tx.create("revisions", { ...revision, spec: { ...revision.spec, task } });
      }
    }),
  );
  const tasks = load.specs.flatMap((_, i) => makeTasks(i, 1_000)).slice(0, count);
  const createdFromMs = performance.now();
  await inChunks(tasks, perUpdate, (chunk) =>
    store.update((tx) => {
      for (const task of chunk) tx.create("tasks", task);
    }),
  );
  const fromMs = performance.now();
  let left = count;
  const placed = new Promise<void>((resolve) => {
    store.subscribe(({ changes }) => {
      for (const { table, before, after } of changes)
        if (table === "tasks" && before?.nodeId === "" && after !== undefined && after.nodeId !== "") left -= 1;
      if (left === 0) resolve();
    });
  });
  await using scheduler = new Scheduler({ store, ...parts });
  scheduler.start();
  // On a machine with too much to do another may come to lead; what was measured then is worth nothing.
  let watch: NodeJS.Timeout | undefined;
  const deposed = new Promise<never>((_, reject) => {
    watch = setInterval(() => {
      if (!leads()) reject(new Error("the manager lost its leadership while it was measured"));
    }, 500);
  });
  await Promise.race([placed, deposed]).finally(() => clearInterval(watch));
  const perSecond = (amount: number, ms: number) => (amount * 1_000) / ms;
  return {
    perSecond: perSecond(count, performance.now() - fromMs),
    createdPerSecond: perSecond(count, fromMs - createdFromMs),
    rssMB: process.memoryUsage().rss / 1e6,
  };
}

async function main(): Promise<void> {
  const place = { dataDir, name: address.replace(/[.:]/g, "-"), address, httpAddress: address };
  if (join === undefined) await initCluster({ ...place, ...parts, cluster: "bench", store: "raft", etcd: [] });
  else await joinCluster({ ...place, ...parts, managers: [join] }, new AbortController().signal);
  const identity = await readIdentity(dataDir);
  if (identity === undefined) throw new Error(`${dataDir} has no identity`);
  const store = openRaftStore({ clock: systemClock });
  const consensus = await RaftConsensus.open({
    identity,
    dataDir,
    ...parts,
    machine: store.machine,
    onFatal: (error) => {
      throw error;
    },
    onRemoved: (message) => {
      throw new Error(message);
    },
  });
  store.attach(consensus);
  const server = new Server();
  server.addService(raftService, consensus.handlers(new Handlers(log, () => undefined)));
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error) => {
      if (error === null) resolve();
      else reject(error);
    });
  });
  process.on("message", (asked: "status" | { tasks: number }) => {
    if (asked === "status") process.send?.(consensus.status());
    else
      measure(store, () => consensus.tenure() !== undefined, asked.tasks).then(
        (figures) => process.send?.(figures),
        (error: unknown) => process.send?.({ error: messageOf(error) }),
      );
  });
  process.on("disconnect", () => process.exit(0));
}

try {
  await main();
} catch (failure) {
  console.error(messageOf(failure));
  process.exit(1);
}
