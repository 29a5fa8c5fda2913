// The store at the size of a large cluster: 100,000 tasks in one manager's memory, its start from a snapshot, and
// writes while 5,000 readers follow every commit. Beside it an etcd server and the etcd engine with the same objects.

import { spawnSync } from "node:child_process";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Rng, seededRng, silentLogger, systemClock, systemRng } from "../../lib/mod.js";
import {
  type RaftStore,
  type Store,
  exportChunks,
  importChunks,
  openEtcdStore,
  openRaftStore,
} from "../../manager/store/mod.js";
import { type Benchmark, type Figure, median } from "../figure.js";
import { startEtcd } from "./etcd.js";
import { fill } from "./load.js";
import { attachSingleLog } from "./single-log.js";

const tasks = 100_000;
const readers = 5_000;
const writers = 64;
const measuredMs = 2_000;
const manager = fileURLToPath(new URL("./manager.js", import.meta.url));

interface ManagerFigures {
  tasks: number;
  restoreS: number;
  encodeS: number;
  longestTurnMs: number;
  longestChunkMs: number;
  snapshotMB: number;
  rssMB: number;
  heapMB: number;
}

async function* both(chunks: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) {
    await Promise.resolve();
    yield chunk;
  }
}

async function writeChunks(store: Store, path: string): Promise<void> {
  await using file = await open(path, "w");
  for (const chunk of exportChunks(store.view())) {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(chunk.length);
    await file.write(length);
    await file.write(chunk);
  }
}

function measureManager(path: string): ManagerFigures {
  const { status, stdout, stderr } = spawnSync(process.execPath, [manager, path], { encoding: "utf8" });
  if (status !== 0) throw new Error(`the manager's process exited with ${status}: ${stderr}`);
  const figures = JSON.parse(stdout) as ManagerFigures;
  if (figures.tasks !== tasks) throw new Error(`it restored ${figures.tasks} tasks of ${tasks}`);
  return figures;
}

async function measureEtcd(store: Store, directory: string): Promise<{ rssMB: number; loadS: number }> {
  await using etcd = await startEtcd(directory);
  const options = {
    endpoints: [etcd.endpoint],
    cluster: "scale",
    clock: systemClock,
    rng: systemRng,
    log: silentLogger,
  };
  {
    await using filling = openEtcdStore(options);
    await filling.ready(AbortSignal.timeout(20_000));
    await importChunks(filling, both(exportChunks(store.view())), systemClock);
  }
  const startMs = performance.now();
  await using loading = openEtcdStore(options);
  await loading.ready(AbortSignal.timeout(60_000));
  const loadS = (performance.now() - startMs) / 1_000;
  return { rssMB: await etcd.rssMB(), loadS };
}

/** Updates of single tasks by many callers, as agents' reports are; per second. */
async function writesPerSecond(store: Store, ids: readonly string[], rng: Rng): Promise<number> {
  const startMs = performance.now();
  let written = 0;
  await Promise.all(
    Array.from({ length: writers }, async () => {
      while (performance.now() - startMs < measuredMs) {
        const id = ids[rng.below(ids.length)] ?? "";
        await store.update((tx) => {
          const task = tx.tasks.get(id);
          if (task === undefined) throw new Error(`task ${id} is gone`);
          tx.put("tasks", { ...task, status: { ...task.status, sinceMs: task.status.sinceMs + 1 } });
        });
        written += 1;
      }
    }),
  );
  return written / ((performance.now() - startMs) / 1_000);
}

async function withReaders<R>(store: Store, count: number, work: () => Promise<R>): Promise<R> {
  const from = store.view().revision;
  const iterators = Array.from({ length: count }, () => store.watch(from)[Symbol.asyncIterator]());
  const seen = iterators.map(() => from);
  const reading = iterators.map(async (iterator, i) => {
    for (;;) {
      const { done, value } = await iterator.next();
      if (done === true) return;
      seen[i] = value.revision;
    }
  });
  const result = await work();
  // Everything has to come to every one of them: a figure for readers that miss something would be worth nothing.
  const to = store.view().revision;
  const startMs = performance.now();
  while (seen.some((revision) => revision < to)) {
    if (performance.now() - startMs > 10_000) throw new Error("readers have not seen the last write within 10 s");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  for (const iterator of iterators) await iterator.return?.();
  await Promise.all(reading);
  return result;
}

async function measureWrites(
  store: RaftStore,
  rounds: number,
  progress: (line: string) => void,
): Promise<{ alone: number; watched: number }> {
  const ids = [...store.view().tasks.values()].map((task) => task.meta.id);
  const rng = seededRng(2);
  const [alone, watched]: [number[], number[]] = [[], []];
  await writesPerSecond(store, ids, rng);
  for (let round = 0; round < 2 * rounds; round += 1) {
    alone.push(await writesPerSecond(store, ids, rng));
    watched.push(await withReaders(store, readers, () => writesPerSecond(store, ids, rng)));
    progress(`writes/s: ${alone.at(-1)?.toFixed(0)} alone, ${watched.at(-1)?.toFixed(0)} with ${readers} readers`);
  }
  return { alone: median(alone), watched: median(watched) };
}

export const storeScale: Benchmark = {
  name: "scale-store",
  help: `the store with ${tasks} tasks: memory, start from a snapshot, writes with ${readers} readers; beside etcd`,
  run: async ({ progress, rounds = 3 }) => {
    const directory = await mkdtemp(join(tmpdir(), "flotilla-scale-"));
    try {
      await using store = openRaftStore({ clock: systemClock });
      await using _log = await attachSingleLog(store, join(directory, "log"));
      await fill(store, tasks);
      progress(`${tasks} tasks written`);
      const snapshot = join(directory, "snapshot");
      await writeChunks(store, snapshot);
      const own = Array.from({ length: rounds }, () => measureManager(snapshot));
      progress(JSON.stringify(own[0]));
      const etcd = await measureEtcd(store, join(directory, "etcd"));
      const writes = await measureWrites(store, rounds, progress);
      const of = (name: keyof ManagerFigures) => median(own.map((figures) => figures[name]));
      const figures: Figure[] = [
        {
          name: "memory of a manager, MB",
          ours: of("rssMB"),
          peerName: "etcd server",
          peer: etcd.rssMB,
          goal: "ours <= 600",
        },
        {
          name: "start from a snapshot, s",
          ours: of("restoreS"),
          peerName: "loading from etcd",
          peer: etcd.loadS,
          goal: "ours <= 5",
        },
        { name: "snapshot encoded, s", ours: of("encodeS"), peerName: "its restore", peer: of("restoreS"), goal: "" },
        { name: "loop held by a restore, ms", ours: of("longestTurnMs"), peerName: "one tick", peer: 50, goal: "<= 1" },
        {
          name: `writes/s with ${readers} readers`,
          ours: writes.watched,
          peerName: "without",
          peer: writes.alone,
          goal: ">= 0.80",
        },
      ];
      return figures;
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  },
};
