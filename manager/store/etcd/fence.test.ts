import { expect, test } from "vitest";
import { silentLogger } from "../../../lib/mod.js";
import { FakeClock } from "../../../test/kit/clock.js";
import type { Tenure } from "../leadership.js";
import type { EtcdClient } from "./client.js";
import { Fence } from "./fence.js";

test("a new cluster on an etcd that an older one has used is told whose fence is there, and what to do", async () => {
  const key = Buffer.from("/flotilla/main/fence");
  const value = Buffer.from("00000000000000000000000000000039");
  const tenure: Tenure = { epoch: 0, term: 2, signal: new AbortController().signal };
  const self = { id: 1, address: "192.0.2.1:7400" };
  const fenced: string[] = [];
  const fence = new Fence({
    // It reads, and must write nothing.
    client: { range: () => Promise.resolve({ kvs: [{ key, value, mod_revision: "9" }] }) } as unknown as EtcdClient,
    key,
    leadership: {
      self,
      leader: () => self,
      tenure: () => tenure,
      onChange: () => () => undefined,
      health: () => ({ ready: true, message: "" }),
    },
    onFenced: ({ term }, reason) => fenced.push(`${term}: ${reason}`),
    clock: new FakeClock(),
    log: silentLogger,
    signal: new AbortController().signal,
  });
  await expect(fence.take(tenure, 5_000)).rejects.toMatchObject({ code: "not_leader" });
  expect(fenced).toEqual([
    "2: /flotilla/main/fence was taken by a leader of epoch 0 and term 57, and this one is of epoch 0 and term 2; " +
      "if that was another cluster's, whose managers are gone for good, delete that key with etcdctl del and start this manager again",
  ]);
});
