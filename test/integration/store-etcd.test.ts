import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll } from "vitest";
import { silentLogger, systemClock, systemRng } from "../../lib/mod.js";
import { type Managers, present, storeContract } from "../../manager/store/contract.js";
import { openEtcdStore, openRaftStore } from "../../manager/store/mod.js";
import { type Etcd, startEtcd } from "../kit/etcd.js";
import { FakeLog } from "../kit/fake-log.js";
import { startTcpProxy } from "../kit/tcp-proxy.js";

let shared: Etcd;

beforeAll(async () => {
  shared = await startEtcd({ members: 3 });
});

afterAll(async () => {
  await shared[Symbol.asyncDispose]();
});

let opened = 0;

function common(): { cluster: string; clock: typeof systemClock; rng: typeof systemRng; log: typeof silentLogger } {
  opened += 1;
  return { cluster: `contract-${opened}`, clock: systemClock, rng: systemRng, log: silentLogger };
}

/** Two managers whose leader reaches its first etcd member over a proxy; the log elects, as in a real cluster. */
async function openManagers(): Promise<Managers> {
  const options = common();
  const log = new FakeLog();
  const members = [1, 2].map(() => log.add(openRaftStore({ clock: systemClock }).machine));
  const [first, second, third] = shared.endpoints.map((endpoint) => endpoint.replace("http://", ""));
  const proxy = await startTcpProxy(present(first));
  const [leader, follower] = [
    [proxy.address, present(second)],
    [present(second), present(third)],
  ].map((endpoints, i) =>
    openEtcdStore({
      ...options,
      endpoints,
      fence: { leadership: present(members[i]), onFenced: () => undefined },
    }),
  );
  const stores = [present(leader), present(follower)];
  await Promise.all(stores.map((store) => store.ready(AbortSignal.timeout(20_000))));
  let lost: { made: boolean; revision: number } | undefined;
  return {
    leader: present(leader),
    follower: present(follower),
    leaderAddress: present(members[0]).self.address,
    async change() {
      if (lost?.made === true) {
        const { revision } = lost;
        while (present(follower).view().revision === revision) await delay(10);
      } else await delay(100);
      log.elect(present(members[1]));
      await present(follower).update(() => undefined);
    },
    loseAnswer(made) {
      lost = { made, revision: present(follower).view().revision };
      if (made) proxy.dropAnswers();
      else proxy.holdRequests();
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(stores.map((store) => store[Symbol.asyncDispose]()));
      await proxy[Symbol.asyncDispose]();
    },
  };
}

storeContract(
  "etcd",
  async (options) => {
    const store = openEtcdStore({ ...common(), endpoints: shared.endpoints, ...options });
    await store.ready(AbortSignal.timeout(20_000));
    return store;
  },
  { managers: openManagers },
);
