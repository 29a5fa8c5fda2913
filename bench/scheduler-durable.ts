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
  // The first began the cluster, and leads it.
  const [leader] = cluster.processes;
  if (leader === undefined) throw new Error("there is no manager");
  const answers = on(leader, "message", { signal: AbortSignal.timeout(measureMsMax) });
  leader.send({ tasks });
  for await (const [message] of answers as AsyncIterable<[Partial<Durable> & { error?: string }]>) {
    if (message.error !== undefined) throw new Error(message.error);
    // A late answer to what was asked before is none to this.
    if (message.perSecond !== undefined) return message as Durable;
  }
  throw new Error("the manager gave no answer");
}
