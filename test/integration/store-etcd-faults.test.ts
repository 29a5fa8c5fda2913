// The etcd store against real etcd servers that are killed, stopped, cut off, compacted, swapped and set back.

import { cp, rm } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { silentLogger, systemClock, systemRng } from "../../lib/mod.js";
import { applyTo, codeOf, contentOf, errorOf, present, take } from "../../manager/store/contract.js";
import { type Commit, type Store, openEtcdStore } from "../../manager/store/mod.js";
import { sampleService, sampleTask } from "../../manager/store/samples.js";
import { startEtcd } from "../kit/etcd.js";
import { startTcpProxy } from "../kit/tcp-proxy.js";

function openAt(endpoints: readonly string[], cluster = "faults"): Store {
  return openEtcdStore({ endpoints, cluster, clock: systemClock, rng: systemRng, log: silentLogger });
}

async function open(endpoints: readonly string[], cluster = "faults"): Promise<Store> {
  const store = openAt(endpoints, cluster);
  await store.ready(AbortSignal.timeout(20_000));
  return store;
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let tries = 0; tries < 1_200; tries += 1) {
    if (holds()) return;
    await delay(25);
  }
  throw new Error(`this did not come to hold: ${what}`);
}

const address = (endpoint: string) => endpoint.replace("http://", "");
const create = (store: Store, id: string) => store.update((tx) => tx.create("tasks", sampleTask(id, "s1")));
const increment = (store: Store, id: string) =>
  store.update((tx) => {
    const task = present(tx.tasks.get(id));
    tx.put("tasks", { ...task, slot: task.slot + 1 });
  });

/** Writes to a counter, several at a time, until stopped; the answer is how many writes were acknowledged. */
function keepWriting(store: Store): { stop(): Promise<{ acknowledged: number; errors: string[] }> } {
  const stopping = new AbortController();
  let acknowledged = 0;
  const errors: string[] = [];
  const writers = Array.from({ length: 4 }, async () => {
    while (!stopping.signal.aborted) {
      try {
        await increment(store, "counter");
        acknowledged += 1;
      } catch (error) {
        errors.push(String(error));
      }
    }
  });
  return {
    async stop() {
      stopping.abort();
      await Promise.all(writers);
      return { acknowledged, errors };
    },
  };
}

describe("one member of three", () => {
  test("each killed in turn while writes go on: every write is done exactly once and none is refused", async () => {
    await using etcd = await startEtcd({ members: 3 });
    await using store = await open(etcd.endpoints);
    await store.update((tx) => tx.create("tasks", { ...sampleTask("counter", "s1"), slot: 0 }));
    const writing = keepWriting(store);
    for (let i = 0; i < 3; i += 1) {
      await delay(500);
      await etcd.member(i).kill();
      await delay(2_500);
      await etcd.member(i).restart();
    }
    await delay(500);
    const { acknowledged, errors } = await writing.stop();
    expect(errors).toEqual([]);
    expect(acknowledged).toBeGreaterThan(0);
    expect(store.view().tasks.get("counter")?.slot).toBe(acknowledged);
    await using fresh = await open(etcd.endpoints);
    expect(contentOf(fresh.view())).toEqual(contentOf(store.view()));
  });

  test("each stopped in turn: writes go on, and news written elsewhere still comes", async () => {
    await using etcd = await startEtcd({ members: 3 });
    await using store = await open(etcd.endpoints);
    await using other = await open([...etcd.endpoints].reverse());
    await store.update((tx) => tx.create("tasks", { ...sampleTask("counter", "s1"), slot: 0 }));
    const writing = keepWriting(store);
    for (let i = 0; i < 3; i += 1) {
      etcd.member(i).pause();
      await delay(3_000);
      await create(other, `while-${i}`);
      await until("the write of the other store is seen", () => store.view().tasks.get(`while-${i}`) !== undefined);
      etcd.member(i).resume();
      await delay(1_500);
    }
    const { acknowledged, errors } = await writing.stop();
    expect(errors).toEqual([]);
    expect(store.view().tasks.get("counter")?.slot).toBe(acknowledged);
    await until("both views are the same", () => other.view().revision === store.view().revision);
    expect(contentOf(other.view())).toEqual(contentOf(store.view()));
  });
});

describe("quorum", () => {
  test("lost: writes are refused with a clear error, the view stays; back: all is well without a restart", async () => {
    await using etcd = await startEtcd({ members: 3 });
    await using store = await open(etcd.endpoints);
    await create(store, "before");
    await Promise.all([etcd.member(0).kill(), etcd.member(1).kill()]);
    // The first may have been on its way when the quorum was lost.
    const first = await errorOf(create(store, "first"));
    expect(["unavailable", "unknown_outcome"]).toContain(first.code);
    await until("the store says that it is not ready", () => !store.health().ready);
    expect(store.health().message).toMatch(/^etcd: no quorum: .*127\.0\.0\.1/);
    const second = await errorOf(create(store, "second"));
    expect(second.code).toBe("unavailable");
    expect(second.message).toMatch(/^etcd: no quorum: /);
    expect(store.view().tasks.get("before")).toBeDefined();
    await Promise.all([etcd.member(0).restart(), etcd.member(1).restart()]);
    await store.ready(AbortSignal.timeout(30_000));
    await create(store, "after");
    expect(store.health().ready).toBe(true);
    expect(store.view().tasks.get("after")).toBeDefined();
    expect(store.view().tasks.get("second")).toBeUndefined();
    if (first.code === "unavailable") expect(store.view().tasks.get("first")).toBeUndefined();
  });

  test("never there: opening returns at once, says why it waits, and comes up with etcd", async () => {
    await using etcd = await startEtcd({ members: 3, start: false });
    await using store = openAt(etcd.endpoints);
    expect(store.health().ready).toBe(false);
    expect(await codeOf(create(store, "early"))).toBe("unavailable");
    expect(store.health().message).toMatch(/^etcd: no quorum: .*127\.0\.0\.1/);
    await expect(store.ready(AbortSignal.timeout(100))).rejects.toThrow();
    await Promise.all([0, 1, 2].map((i) => etcd.member(i).restart()));
    await store.ready(AbortSignal.timeout(30_000));
    expect(store.view().revision).toBe(0);
    await create(store, "late");
    expect([...contentOf(store.view()).keys()]).toEqual(["tasks/late"]);
  });
});

describe("answers that do not come", () => {
  test("a write that was made, but whose answer was lost, is done once and acknowledged", async () => {
    await using etcd = await startEtcd({ members: 1 });
    await using proxy = await startTcpProxy(address(present(etcd.endpoints[0])));
    await using store = await open([proxy.address]);
    await using direct = await open(etcd.endpoints);
    await store.update((tx) => tx.create("tasks", { ...sampleTask("counter", "s1"), slot: 0 }));
    for (let round = 1; round <= 3; round += 1) {
      await until("both are level", () => direct.view().tasks.get("counter")?.slot === round - 1);
      proxy.dropAnswers();
      const written = increment(store, "counter");
      await until("the write has been made", () => direct.view().tasks.get("counter")?.slot === round);
      proxy.cut();
      proxy.heal();
      await written;
      expect(store.view().tasks.get("counter")?.slot).toBe(round);
    }
  });

  test("a write that is held up on its way is made void before it is repeated, and never made later", async () => {
    await using etcd = await startEtcd({ members: 3 });
    const [a, b] = etcd.endpoints.map(address);
    await using proxy = await startTcpProxy(present(a));
    await using store = await open([proxy.address, present(b)]);
    await create(store, "first");
    proxy.holdRequests();
    // It goes the long way round, by the other endpoint; then it is undone. Nothing of the object itself would now
    // stop the one that is still on its way.
    await create(store, "late");
    await store.update((tx) => tx.remove("tasks", "late"));
    proxy.heal();
    await proxy.release();
    await create(store, "last");
    await using fresh = await open(etcd.endpoints);
    for (const view of [fresh.view(), store.view()])
      expect([...contentOf(view).keys()].sort()).toEqual(["tasks/first", "tasks/last"]);
  });
});

describe("following", () => {
  test("two stores see each other's writes in the same order, lose none, and never name two services alike", async () => {
    await using etcd = await startEtcd({ members: 3 });
    await using one = await open(etcd.endpoints);
    await using two = await open([...etcd.endpoints].reverse());
    const histories: Commit[][] = [[], []];
    const replicas = [new Map<string, unknown>(), new Map<string, unknown>()];
    for (const [i, store] of [one, two].entries())
      store.subscribe((commit) => {
        present(histories[i]).push(commit);
        applyTo(present(replicas[i]), commit);
      });
    await one.update((tx) => tx.create("tasks", { ...sampleTask("counter", "s1"), slot: 0 }));
    await until("the counter is seen", () => two.view().tasks.get("counter") !== undefined);
    const named = await Promise.allSettled(
      [one, two].flatMap((store, s) =>
        Array.from({ length: 20 }, (_, i) =>
          store.update((tx) => tx.create("services", sampleService(`id-${s}-${i}`, `name-${i}`))),
        ),
      ),
    );
    await Promise.all(
      [one, two].flatMap((store, s) =>
        Array.from({ length: 40 }, async (_, i) => {
          await create(store, `t-${s}-${i}`);
          await increment(store, "counter");
        }),
      ),
    );
    expect(named.filter((result) => result.status === "fulfilled")).toHaveLength(20);
    await until("both are level", () => one.view().revision === two.view().revision);
    expect(one.view().tasks.get("counter")?.slot).toBe(80);
    expect(one.view().services.size).toBe(20);
    expect(histories[0]).toEqual(histories[1]);
    expect(replicas[0]).toEqual(contentOf(one.view()));
    expect(contentOf(one.view())).toEqual(contentOf(two.view()));
  });

  test("cut off while etcd compacts what was missed: the difference comes as one commit, and watches start again", async () => {
    await using etcd = await startEtcd({ members: 1 });
    const endpoint = present(etcd.endpoints[0]);
    await using proxy = await startTcpProxy(address(endpoint));
    await using store = await open([proxy.address]);
    await using direct = await open(etcd.endpoints);
    for (const id of ["stays", "changes", "goes"]) await create(direct, id);
    await until("both are level", () => store.view().revision === direct.view().revision);
    const stays = store.view().tasks.get("stays");
    const commits: Commit[] = [];
    store.subscribe((commit) => commits.push(commit));
    const reading = codeOf(take(store.watch(store.view().revision), 1));
    proxy.cut();
    for (let i = 0; i < 5; i += 1) await increment(direct, "changes");
    await direct.update((tx) => tx.remove("tasks", "goes"));
    await create(direct, "comes");
    await create(direct, "comes-and-goes");
    await direct.update((tx) => tx.remove("tasks", "comes-and-goes"));
    await compact(endpoint, direct.view().revision);
    proxy.heal();
    await until("both are level", () => store.view().revision === direct.view().revision);
    expect(contentOf(store.view())).toEqual(contentOf(direct.view()));
    expect(commits).toHaveLength(1);
    expect(new Set(commits[0]?.changes.map(({ before, after }) => `${before?.meta.id}>${after?.meta.id}`))).toEqual(
      new Set(["changes>changes", "goes>undefined", "undefined>comes"]),
    );
    expect(store.view().tasks.get("stays")).toBe(stays);
    expect(await reading).toBe("resync_required");
    await create(store, "after");
    expect(commits).toHaveLength(2);
  });

  test("objects too large for one page, and more news than one message takes, arrive whole", async () => {
    await using etcd = await startEtcd({ members: 1 });
    await using proxy = await startTcpProxy(address(present(etcd.endpoints[0])));
    await using store = await open(etcd.endpoints);
    await using cut = await open([proxy.address]);
    proxy.cut();
    for (let i = 0; i < 40; i += 1)
      await store.update((tx) => tx.create("tasks", { ...sampleTask(`big${i}`, "s1"), cause: "x".repeat(950_000) }));
    proxy.heal();
    await using loaded = await open(etcd.endpoints);
    expect(contentOf(loaded.view())).toEqual(contentOf(store.view()));
    await until("what was missed has come", () => cut.view().revision === store.view().revision);
    expect(contentOf(cut.view())).toEqual(contentOf(store.view()));
  });
});

describe("an etcd that is not ours", () => {
  test("another cluster at the same address is refused and nothing is mixed; ours back is taken up again", async () => {
    await using ours = await startEtcd({ members: 1 });
    await using foreign = await startEtcd({ members: 1 });
    await using proxy = await startTcpProxy(address(present(ours.endpoints[0])));
    await using store = await open([proxy.address]);
    await create(store, "mine");
    const before = contentOf(store.view());
    {
      await using theirs = await open(foreign.endpoints);
      for (let i = 0; i < 10; i += 1) await create(theirs, `theirs${i}`);
    }
    proxy.cut();
    proxy.target(address(present(foreign.endpoints[0])));
    proxy.heal();
    const refused = await errorOf(create(store, "astray"));
    // The first may have met the end of the connection.
    expect(["failed_precondition", "unavailable", "unknown_outcome"]).toContain(refused.code);
    await until("it says so", () => store.health().message.includes("another etcd cluster"));
    expect(store.health().ready).toBe(false);
    const second = await errorOf(create(store, "astray"));
    expect([second.code, second.message.includes("another etcd cluster")]).toEqual(["failed_precondition", true]);
    expect(contentOf(store.view())).toEqual(before);
    await using theirs = await open(foreign.endpoints);
    expect(theirs.view().tasks.get("astray")).toBeUndefined();
    proxy.cut();
    proxy.target(address(present(ours.endpoints[0])));
    proxy.heal();
    await store.ready(AbortSignal.timeout(30_000));
    await create(store, "again");
    expect([...contentOf(store.view()).keys()].sort()).toEqual(["tasks/again", "tasks/mine"]);
  });

  test("an etcd that went back in time is refused, for good", async () => {
    await using etcd = await startEtcd({ members: 1 });
    const member = etcd.member(0);
    const backup = `${member.dataDirectory}-backup`;
    {
      await using store = await open(etcd.endpoints);
      await create(store, "old");
    }
    await member.kill();
    await cp(member.dataDirectory, backup, { recursive: true });
    await member.restart();
    await using store = await open(etcd.endpoints);
    for (let i = 0; i < 20; i += 1) await create(store, `new${i}`);
    await member.kill();
    await rm(member.dataDirectory, { recursive: true });
    await cp(backup, member.dataDirectory, { recursive: true });
    await member.restart();
    await until("it says so", () => store.health().message.includes("went back from revision"));
    expect(store.health().ready).toBe(false);
    expect(await codeOf(create(store, "late"))).toBe("failed_precondition");
    expect(store.view().tasks.size).toBe(21);
    await using fresh = await open(etcd.endpoints);
    expect([...contentOf(fresh.view()).keys()]).toEqual(["tasks/old"]);
  });

  test("a key that Flotilla did not write is refused by name, and taken up once it is gone", async () => {
    await using etcd = await startEtcd({ members: 1 });
    const endpoint = present(etcd.endpoints[0]);
    await using store = await open(etcd.endpoints);
    await create(store, "mine");
    const key = "/flotilla/faults/tasks/broken";
    await gateway(endpoint, "kv/put", { key: base64(key), value: base64("not a task") });
    await until("it says so", () => store.health().message.includes(key));
    expect(await codeOf(create(store, "meanwhile"))).toBe("failed_precondition");
    await gateway(endpoint, "kv/deleterange", { key: base64(key) });
    await store.ready(AbortSignal.timeout(30_000));
    await create(store, "after");
    expect([...contentOf(store.view()).keys()].sort()).toEqual(["tasks/after", "tasks/mine"]);
  });
});

describe("options", () => {
  test("a cluster name and endpoints that cannot be are all named at once", () => {
    const bad = () => openAt(["ftp://a:1", "http://b", "http://c:2379/x"], "Not A Name");
    expect(bad).toThrow(/cluster: "Not A Name".*\n.*ftp:\/\/a:1.*\n.*http:\/\/b.*\n.*http:\/\/c:2379\/x/);
    expect(() => openAt([])).toThrow(/at least one etcd endpoint/);
  });
});

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}

/** etcd's own JSON gateway: calls that the store does not make. */
async function gateway(endpoint: string, path: string, body: object): Promise<void> {
  const response = await fetch(`${endpoint}/v3/${path}`, { method: "POST", body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`etcd ${path}: ${response.status} ${await response.text()}`);
}

async function compact(endpoint: string, revision: number): Promise<void> {
  await gateway(endpoint, "kv/compaction", { revision: String(revision), physical: true });
}
