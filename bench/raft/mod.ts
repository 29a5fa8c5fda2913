// Our consensus beside etcd's: three members each, on one disk, synced writes, one generator that asks the leader.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Benchmark, type Figure, median } from "../figure.js";
import { startEtcd, startOurs } from "./clusters.js";
import { Generator, type Measured } from "./generator.js";

const clientCounts = [1, 8, 64, 256];
const measureMs = 3_000;
const warmUpClients = 16;
const warmUpMs = 4_000;

interface Round {
  writes: Measured;
  reads: Measured;
}

async function measure(leader: string, clients: number): Promise<Round> {
  using generator = new Generator(leader, clients);
  return { writes: await generator.writes(clients, measureMs), reads: await generator.reads(clients, measureMs) };
}

export const raft: Benchmark = {
  name: "raft",
  help: "writes and consistent reads of 256 B by 1, 8, 64 and 256 clients, three members, beside real etcd",
  run: async ({ progress, rounds = 3 }) => {
    const directory = await mkdtemp(join(tmpdir(), "flotilla-bench-raft-"));
    try {
      await using ours = await startOurs(directory);
      await using etcd = await startEtcd(directory);
      // Both have run for a while when it counts: caches, and the compiler that works while a program runs.
      for (const { leader } of [ours, etcd]) {
        using generator = new Generator(leader, warmUpClients);
        await generator.writes(warmUpClients, warmUpMs);
        await generator.reads(warmUpClients, warmUpMs);
      }
      const figures: Figure[] = [];
      for (const clients of clientCounts) {
        const own: Round[] = [];
        const peer: Round[] = [];
        // In turns, so that what else the machine does hits both alike.
        for (let round = 0; round < rounds; round += 1) {
          own.push(await measure(ours.leader, clients));
          peer.push(await measure(etcd.leader, clients));
        }
        const figure = (name: string, goal: string, pick: (round: Round) => number): Figure => ({
          name: `${clients} ${clients === 1 ? "client" : "clients"}: ${name}`,
          ours: median(own.map(pick)),
          peerName: "etcd",
          peer: median(peer.map(pick)),
          goal,
        });
        figures.push(
          figure("writes/s", ">= 1.00", ({ writes }) => writes.perSecond),
          figure("write p99, ms", "<= 1.00", ({ writes }) => writes.p99Ms),
          figure("reads/s", ">= 1.00", ({ reads }) => reads.perSecond),
          figure("read p99, ms", "", ({ reads }) => reads.p99Ms),
        );
        for (const { name, ours: value, peer: other } of figures.slice(-4))
          progress(`${name}: ${value.toFixed(2)}, etcd ${other.toFixed(2)}`);
      }
      return figures;
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  },
};
