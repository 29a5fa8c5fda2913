import { afterAll, beforeAll } from "vitest";
import { silentLogger, systemClock, systemRng } from "../../lib/mod.js";
import { storeContract } from "../../manager/store/contract.js";
import { openEtcdStore } from "../../manager/store/mod.js";
import { type Etcd, startEtcd } from "../kit/etcd.js";

let shared: Etcd;

beforeAll(async () => {
  shared = await startEtcd({ members: 3 });
});

afterAll(async () => {
  await shared[Symbol.asyncDispose]();
});

let opened = 0;

storeContract("etcd", async (options) => {
  opened += 1;
  const store = openEtcdStore({
    endpoints: shared.endpoints,
    cluster: `contract-${opened}`,
    clock: systemClock,
    rng: systemRng,
    log: silentLogger,
    ...options,
  });
  await store.ready(AbortSignal.timeout(20_000));
  return store;
});
