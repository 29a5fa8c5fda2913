// Invariant 1 on real etcd servers: at most one leader writes, and what a deposed one still writes the store refuses.

import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { silentLogger, systemClock, systemRng } from "../../lib/mod.js";
import { codeOf, contentOf, errorOf, present } from "../../manager/store/contract.js";
import { type Leadership, type Store, type Tenure, openEtcdStore } from "../../manager/store/mod.js";
import { sampleTask } from "../../manager/store/samples.js";
import { type Etcd, startEtcd } from "../kit/etcd.js";
import { startTcpProxy } from "../kit/tcp-proxy.js";

let etcd: Etcd;

beforeAll(async () => {
  etcd = await startEtcd({ members: 3 });
});

afterAll(async () => {
  await etcd[Symbol.asyncDispose]();
});

/** A manager that believes what the test has it believe; two of them may believe that they lead. */
class Believer implements Leadership {
  readonly self: { id: number; address: string };
  #tenure: Tenure | undefined;
  readonly fenced: number[] = [];

  constructor(id: number) {
    this.self = { id, address: `192.0.2.${id}:7400` };
  }

  believe(epoch: number, term: number): this {
    this.#tenure = { epoch, term, signal: new AbortController().signal };
    return this;
  }

  leader() {
    return this.#tenure === undefined ? undefined : this.self;
  }

  tenure() {
    return this.#tenure;
  }

  onChange() {
    return () => undefined;
  }

  health() {
    return { ready: true, message: "it believes" };
  }
}

async function open(leadership: Believer, cluster: string, endpoints = etcd.endpoints): Promise<Store> {
  const store = openEtcdStore({
    endpoints,
    cluster,
    clock: systemClock,
    rng: systemRng,
    log: silentLogger,
    fence: { leadership, onFenced: ({ term }) => leadership.fenced.push(term) },
  });
  await store.ready(AbortSignal.timeout(20_000));
  return store;
}

const create = (store: Store, id: string) => store.update((tx) => tx.create("tasks", sampleTask(id, "s1")));

async function gateway(path: string, body: object): Promise<{ kvs?: { value: string }[] }> {
  const response = await fetch(`${present(etcd.endpoints[0])}/v3/${path}`, {
    method: "POST",
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`etcd ${path}: ${response.status} ${await response.text()}`);
  return (await response.json()) as { kvs?: { value: string }[] };
}

const base64 = (text: string) => Buffer.from(text).toString("base64");

test("of two that believe that they lead, only the one of the later term writes", async () => {
  const [one, two] = [new Believer(1).believe(1, 9), new Believer(2).believe(1, 10)];
  await using deposed = await open(one, "fence-two");
  await using leader = await open(two, "fence-two");
  await create(deposed, "before");
  await create(leader, "t1");
  // It saw everything that the one before it had written.
  expect([...leader.view().tasks.values()].map(({ meta }) => meta.id).sort()).toEqual(["before", "t1"]);
  expect(await codeOf(create(deposed, "t2"))).toBe("not_leader");
  expect(one.fenced).toEqual([9]);
  // And it takes nothing back, however often it tries.
  expect(await codeOf(create(deposed, "t3"))).toBe("not_leader");
  expect(deposed.health().ready).toBe(true);
  await create(leader, "t4");
  expect(two.fenced).toEqual([]);
  await deposed.barrier();
  expect([...deposed.view().tasks.values()].map(({ meta }) => meta.id).sort()).toEqual(["before", "t1", "t4"]);
  // Elected again, in a term of its own, it writes, and the other does not.
  one.believe(1, 11);
  await create(deposed, "t5");
  expect(await codeOf(create(leader, "t6"))).toBe("not_leader");
});

test("the fence holds fixed-width hexadecimal digits of epoch and term, and the epoch counts first", async () => {
  const [one, two] = [new Believer(1).believe(2, 1), new Believer(2).believe(1, 4_096)];
  await using first = await open(one, "fence-value");
  await using second = await open(two, "fence-value");
  await create(first, "t1");
  const { kvs } = await gateway("kv/range", { key: base64("/flotilla/fence-value/fence") });
  expect(Buffer.from(present(kvs?.[0]).value, "base64").toString()).toBe("00000000000000020000000000000001");
  expect(await codeOf(create(second, "t2"))).toBe("not_leader");
  expect(two.fenced).toEqual([4_096]);
});

test("a write of the deposed leader that is still on its way when the fence is taken is never made", async () => {
  const [one, two] = [new Believer(1).believe(1, 5), new Believer(2).believe(1, 6)];
  const [a, b] = etcd.endpoints.map((endpoint) => endpoint.replace("http://", ""));
  await using proxy = await startTcpProxy(present(a));
  await using deposed = await open(one, "fence-late", [proxy.address, present(b)]);
  await using leader = await open(two, "fence-late", [present(b)]);
  await create(deposed, "before");
  proxy.holdRequests();
  const late = codeOf(create(deposed, "late"));
  await delay(100);
  await create(leader, "now");
  expect(await late).toBe("not_leader");
  proxy.heal();
  await proxy.release();
  await create(leader, "after");
  for (const store of [deposed, leader]) {
    await store.barrier();
    expect([...store.view().tasks.values()].map(({ meta }) => meta.id).sort()).toEqual(["after", "before", "now"]);
  }
  expect(contentOf(deposed.view())).toEqual(contentOf(leader.view()));
});

test("a manager that takes the fence again, its answer lost, goes on; a fence that nobody of us wrote is refused", async () => {
  const one = new Believer(1).believe(1, 3);
  await using store = await open(one, "fence-again");
  await create(store, "t1");
  // Opened anew in the same tenure: what it finds is its own.
  await using again = await open(one, "fence-again");
  await create(again, "t2");
  await gateway("kv/put", { key: base64("/flotilla/fence-again/fence"), value: base64("mine") });
  one.believe(1, 4);
  const error = await errorOf(create(again, "t3"));
  expect([error.code, error.message.includes("/flotilla/fence-again/fence")]).toEqual(["failed_precondition", true]);
});

test("without a tenure nothing is written, and the fence is left alone", async () => {
  const nobody = new Believer(1);
  await using store = await open(nobody, "fence-none");
  expect(await codeOf(create(store, "t1"))).toBe("unavailable");
  expect(await gateway("kv/range", { key: base64("/flotilla/fence-none/fence") })).not.toHaveProperty("kvs");
});
