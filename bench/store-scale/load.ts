// A large cluster's objects, as much like real ones as the store can tell: 100 services on 1,000 nodes, every task
// running with a container, an address and a published port.

import { type Rng, seededRng } from "../../lib/mod.js";
import type { Task } from "../../proto/mod.js";
import { sampleNode, sampleRevision, sampleService, sampleTask } from "../../manager/store/samples.js";
import type { Store } from "../../manager/store/mod.js";

const services = 100;
const nodes = 1_000;
const perUpdate = 100;

function task(rng: Rng, serviceId: string, nodeId: string, slot: number): Task {
  const nowMs = 1_700_000_000_000;
  return {
    ...sampleTask(rng.id(), serviceId, nodeId, slot),
    serviceName: `service-${serviceId.slice(0, 6)}`,
    desiredSinceMs: nowMs,
    readySinceMs: nowMs + 3_000,
    status: {
      state: 8,
      sinceMs: nowMs + 2_000,
      message: "started",
      error: "",
      container: {
        id: [rng.id(), rng.id(), rng.id()].join("").slice(0, 64),
        attempt: 1,
        phase: 2,
        nextAttemptAtMs: 0,
        health: 3,
        ready: true,
        address: `172.18.${slot % 250}.${(slot * 7) % 250}`,
        hostPorts: [{ protocol: 1, targetPort: 8_080, hostPort: 30_000 + (slot % 2_000) }],
        exitCode: undefined,
        oomKilled: false,
        startedAtMs: nowMs + 2_000,
      },
    },
  };
}

/** Puts `count` tasks and what they belong to into an empty store. */
export async function fill(store: Store, count: number): Promise<void> {
  const rng = seededRng(1);
  const serviceIds = Array.from({ length: services }, () => rng.id());
  const nodeIds = Array.from({ length: nodes }, () => rng.id());
  await store.update((tx) => {
    for (const id of serviceIds.slice(0, perUpdate / 2)) tx.create("services", sampleService(id));
  });
  await store.update((tx) => {
    for (const id of serviceIds.slice(perUpdate / 2)) tx.create("services", sampleService(id));
  });
  await store.update((tx) => {
    for (const id of serviceIds) tx.create("revisions", sampleRevision(rng.id(), id, 1));
  });
  for (let i = 0; i < nodes; i += perUpdate)
    await store.update((tx) => {
      for (const id of nodeIds.slice(i, i + perUpdate)) tx.create("nodes", sampleNode(id));
    });
  for (let i = 0; i < count; i += perUpdate) {
    const tasks = Array.from({ length: Math.min(perUpdate, count - i) }, (_, k) => {
      const number = i + k;
      const slot = Math.floor(number / services) + 1;
      return task(rng, serviceIds[number % services] ?? "", nodeIds[(number * 31) % nodes] ?? "", slot);
    });
    await store.update((tx) => {
      for (const one of tasks) tx.create("tasks", one);
    });
  }
}
