// The embedded store on real nodes of the log.

import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { ClusterError } from "../../lib/mod.js";
import { type Managers, codeOf, contentOf, present, storeContract, take } from "../../manager/store/contract.js";
import type { Store } from "../../manager/store/mod.js";
import { sampleTask } from "../../manager/store/samples.js";
import { RaftStores } from "../kit/raft-stores.js";

async function openManagers(): Promise<Managers> {
  const stores = await RaftStores.start(3);
  const leader = await stores.leader();
  const follower = present([...stores.managers.values()].find((manager) => manager !== leader));
  const { id } = leader.self;
  let lost: "made" | "not made" | undefined;
  return {
    leader: leader.store,
    follower: follower.store,
    leaderAddress: leader.self.address,
    async change() {
      if (lost !== undefined) {
        // Time for the entry to reach the others, if it may, before they elect.
        await delay(200);
        stores.mute.add(id);
        stores.deaf.add(id);
      }
      await stores.lead(follower.self.id);
      stores.mute.delete(id);
      stores.deaf.delete(id);
    },
    loseAnswer(made) {
      lost = made ? "made" : "not made";
      // The others' words do not come, or its own do not go either.
      stores.deaf.add(id);
      if (!made) stores.mute.add(id);
    },
    [Symbol.asyncDispose]: () => stores[Symbol.asyncDispose](),
  };
}

/** The store of a manager that is alone, and with it all that is under it. */
function alone(stores: RaftStores): Store {
  const { store } = stores.get(1);
  return {
    engine: store.engine,
    health: () => store.health(),
    view: () => store.view(),
    update: (fn) => store.update(fn),
    subscribe: (listener) => store.subscribe(listener),
    watch: (afterRevision) => store.watch(afterRevision),
    barrier: (signal) => store.barrier(signal),
    ready: (signal) => store.ready(signal),
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await stores[Symbol.asyncDispose]();
    },
  };
}

storeContract(
  "raft",
  async (options) => {
    const store = alone(await RaftStores.start(1, options));
    await store.ready(AbortSignal.timeout(20_000));
    return store;
  },
  { writesMax: 1_024, managers: openManagers },
);

const create = (store: Store, id: string) => store.update((tx) => tx.create("tasks", sampleTask(id, "s1")));

test("a manager that was away longer than the log remembers becomes what the others are by a snapshot", async () => {
  await using stores = await RaftStores.start(3, { raft: { snapshotEntries: 40 } });
  const leader = await stores.leader();
  const away = present([...stores.managers.values()].find((manager) => manager !== leader));
  for (let i = 0; i < 10; i += 1) await create(leader.store, `before-${i}`);
  await away.store.barrier();
  const revisions: number[] = [];
  away.store.subscribe(({ revision }) => revisions.push(revision));
  const { revision } = away.store.view();
  const watching = codeOf(take(away.store.watch(revision), 1_000));
  stores.mute.add(away.self.id);
  stores.deaf.add(away.self.id);
  for (let i = 0; i < 300; i += 1) await create(leader.store, `meanwhile-${i}`);
  stores.mute.clear();
  stores.deaf.clear();
  expect(await watching).toBe("resync_required");
  await away.store.barrier();
  const now = await stores.leader();
  await now.store.barrier();
  expect(contentOf(away.store.view())).toEqual(contentOf(now.store.view()));
  expect(away.store.view().tasks.size).toBe(310);
  // Not one by one: the first it heard of jumped.
  expect(revisions.length).toBeLessThan(300);
  expect(revisions).toEqual([...revisions].sort((a, b) => a - b));
});

test("managers that are killed amid writes and start again on their disks have every acknowledged write, once", async () => {
  await using stores = await RaftStores.start(3, { raft: { snapshotEntries: 100 } });
  await (await stores.leader()).store.update((tx) => tx.create("tasks", { ...sampleTask("counter", "s1"), slot: 0 }));
  let acknowledged = 0;
  let unknown = 0;
  const stopping = new AbortController();
  const writer = async () => {
    while (!stopping.signal.aborted) {
      const leader = [...stores.managers.values()].find((manager) => manager.tenure() !== undefined);
      try {
        if (leader === undefined) await delay(10);
        else {
          await leader.store.update((tx) => {
            const counter = present(tx.tasks.get("counter"));
            tx.put("tasks", { ...counter, slot: counter.slot + 1 });
          });
          acknowledged += 1;
        }
      } catch (error) {
        expect(error).toBeInstanceOf(ClusterError);
        if ((error as ClusterError).code === "unknown_outcome") unknown += 1;
        await delay(5);
      }
    }
  };
  const writers = [writer(), writer(), writer(), writer()];
  for (let round = 0; round < 3; round += 1) {
    await delay(300);
    const { self } = await stores.leader();
    await stores.get(self.id).close();
    stores.managers.delete(self.id);
    await stores.leader();
    await delay(200);
    await stores.open(self.id);
  }
  await delay(300);
  stopping.abort();
  await Promise.all(writers);
  const contents = [];
  for (const { store } of stores.managers.values()) {
    await store.barrier(AbortSignal.timeout(20_000));
    contents.push(contentOf(store.view()));
    const counter = present(store.view().tasks.get("counter")).slot;
    expect(counter).toBeGreaterThanOrEqual(acknowledged);
    expect(counter).toBeLessThanOrEqual(acknowledged + unknown);
  }
  expect(acknowledged).toBeGreaterThan(0);
  expect(contents[1]).toEqual(contents[0]);
  expect(contents[2]).toEqual(contents[0]);
});
