// Three managers as processes; the one that leads creates tasks and then schedules them, and says what that took.

import { on } from "node:events";
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { startOurs } from "./raft/clusters.js";

export interface Durable {
  perSecond: number;
  createdPerSecond: number;
  rssMB: number;
}

const measureMsMax = 300_000;

export async function measureDurable(directory: string, tasks: number): Promise<Durable> {
  await mkdir(directory, { recursive: true });
  await using cluster = await startOurs(directory, fileURLToPath(new URL("scheduler-member.js", import.meta.url)));
  // Its own address comes before the one that it joined by: of those that name the leader's the first is the leader.
  const leader = cluster.processes.find(({ spawnargs }) => spawnargs.includes(cluster.leader));
  if (leader === undefined) throw new Error(`no process of ours is the manager at ${cluster.leader}`);
  const answers = on(leader, "message", { signal: AbortSignal.timeout(measureMsMax) });
  leader.send({ tasks });
  for await (const [message] of answers as AsyncIterable<[Partial<Durable> & { error?: string }]>) {
    if (message.error !== undefined) throw new Error(message.error);
    // A late answer to what was asked before is none to this.
    if (message.perSecond !== undefined) return message as Durable;
  }
  throw new Error("the manager gave no answer");
}
