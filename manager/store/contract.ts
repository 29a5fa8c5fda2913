// What every engine of the store must hold; run for the memory engine and the embedded one beside them, and by
// test/integration for the embedded one on real logs and for etcd on real servers.

import { describe, expect, test } from "vitest";
import { ClusterError, messageOf } from "../../lib/mod.js";
import { type Table, tables } from "../../proto/mod.js";
import type { HistoryLimits } from "./history.js";
import { sampleCluster, sampleNode, sampleRevision, sampleRollout, sampleService, sampleTask } from "./samples.js";
import { type Change, type Commit, type Store, type View, writesPerTransactionMax } from "./store.js";
import { tablesOf } from "./view.js";

/** Opens an empty, ready store of its own. */
export type OpenStore = (options?: { history?: HistoryLimits }) => Promise<Store>;

/** Two managers of one new cluster. */
export interface Managers extends AsyncDisposable {
  readonly leader: Store;
  readonly follower: Store;
  /** Where the leader is reached: what the follower says. */
  readonly leaderAddress: string;
  /** Makes the follower the leader; resolves once it can write. */
  change(): Promise<void>;
  /** Has the leader lose the answer to its next write, made or not, and its leadership with it. */
  loseAnswer(made: boolean): void;
}

export interface EngineTraits {
  /** Most writes in one transaction, of all its updates together; default `writesPerTransactionMax`. */
  writesMax?: number;
  /** For engines that several managers share. */
  managers?: () => Promise<Managers>;
}

export function storeContract(name: string, open: OpenStore, traits: EngineTraits = {}): void {
  const { writesMax = writesPerTransactionMax, managers } = traits;
  describe(`store contract: ${name}`, () => {
    writing(open);
    transactions(open);
    groups(open, writesMax);
    following(open);
    ending(name, open);
    if (managers !== undefined) leading(managers);
  });
}

function writing(open: OpenStore): void {
  test("every table: what is created is there, can be put and removed, and versions grow", async () => {
    await using store = await open();
    const objects = {
      clusters: sampleCluster("c1"),
      services: sampleService("s1", "web"),
      revisions: sampleRevision("r1", "s1", 1),
      tasks: sampleTask("t1", "s1", "n1"),
      nodes: sampleNode("n1"),
      rollouts: sampleRollout("o1", "s1"),
    };
    await store.update((tx) => {
      tx.create("clusters", objects.clusters);
      tx.create("services", objects.services);
      tx.create("revisions", objects.revisions);
      tx.create("tasks", objects.tasks);
      tx.create("nodes", objects.nodes);
      tx.create("rollouts", objects.rollouts);
    });
    const view = store.view();
    const createdAt = view.revision;
    for (const table of tables) {
      const { id } = objects[table].meta;
      const stored = tablesOf(view)[table].get(id);
      expect(stored).toEqual({
        ...objects[table],
        _unknownFields: undefined,
        meta: { ...objects[table].meta, version: createdAt },
      });
      expect(tablesOf(view)[table].size).toBe(1);
    }
    await store.update((tx) => {
      const task = present(tx.tasks.get("t1"));
      tx.put("tasks", { ...task, nodeId: "n2" });
    });
    expect(store.view().tasks.get("t1")?.nodeId).toBe("n2");
    expect(present(store.view().tasks.get("t1")).meta.version).toBeGreaterThan(createdAt);
    expect(present(store.view().nodes.get("n1")).meta.version).toBe(createdAt);
    await store.update((tx) => {
      for (const table of tables) tx.remove(table, objects[table].meta.id);
    });
    for (const table of tables) {
      expect(tablesOf(store.view())[table].size).toBe(0);
      expect([...tablesOf(store.view())[table].values()]).toEqual([]);
    }
  });

  test("a version that the caller brings to create is ignored", async () => {
    await using store = await open();
    const service = sampleService("s1", "web");
    await store.update((tx) => tx.create("services", { ...service, meta: { ...service.meta, version: 77 } }));
    expect(store.view().services.get("s1")?.meta.version).toBe(store.view().revision);
  });

  test("create refuses an id that is taken, put and remove one that is not there, put a version that is old", async () => {
    await using store = await open();
    await store.update((tx) => tx.create("tasks", sampleTask("t1", "s1")));
    const old = present(store.view().tasks.get("t1"));
    await store.update((tx) => tx.put("tasks", { ...old, slot: 2 }));
    const { revision } = store.view();
    expect(await codeOf(store.update((tx) => tx.create("tasks", sampleTask("t1", "s1"))))).toBe("already_exists");
    expect(await codeOf(store.update((tx) => tx.put("tasks", { ...old, slot: 3 })))).toBe("conflict");
    expect(await codeOf(store.update((tx) => tx.put("tasks", sampleTask("t9", "s1"))))).toBe("conflict");
    expect(await codeOf(store.update((tx) => tx.remove("tasks", "t9")))).toBe("not_found");
    expect(store.view().tasks.get("t1")?.slot).toBe(2);
    expect(store.view().revision).toBe(revision);
  });

  test("ids that cannot be part of a key are refused by name", async () => {
    await using store = await open();
    for (const id of ["", "a/b", "x".repeat(129)])
      expect(await codeOf(store.update((tx) => tx.create("tasks", sampleTask(id, "s1"))))).toBe("invalid_argument");
  });

  test("two services never have one name, however they try, and a freed name is free", async () => {
    await using store = await open();
    await store.update((tx) => {
      tx.create("services", sampleService("s1", "web"));
      tx.create("services", sampleService("s2", "api"));
    });
    const taken = await errorOf(store.update((tx) => tx.create("services", sampleService("s3", "web"))));
    expect(taken.code).toBe("already_exists");
    expect(taken.violations.map((violation) => [violation.field, violation.value])).toEqual([["name", "web"]]);
    const renamed = present(store.view().services.get("s2"));
    expect(
      await codeOf(store.update((tx) => tx.put("services", { ...renamed, spec: { ...renamed.spec, name: "web" } }))),
    ).toBe("already_exists");
    expect(
      await codeOf(
        store.update((tx) => {
          tx.create("services", sampleService("s4", "new"));
          tx.create("services", sampleService("s5", "new"));
        }),
      ),
    ).toBe("already_exists");
    // Created at once by two callers: one of them gets it.
    const race = await Promise.allSettled(
      ["s6", "s7"].map((id) => store.update((tx) => tx.create("services", sampleService(id, "race")))),
    );
    expect(race.map((result) => result.status).sort()).toEqual(["fulfilled", "rejected"]);
    await store.update((tx) => {
      const web = present(tx.services.get("s1"));
      tx.put("services", { ...web, spec: { ...web.spec, name: "web2" } });
      tx.create("services", sampleService("s8", "web"));
    });
    expect(store.view().serviceByName("web")?.meta.id).toBe("s8");
    expect(store.view().serviceByName("web2")?.meta.id).toBe("s1");
    await store.update((tx) => tx.remove("services", "s8"));
    expect(store.view().serviceByName("web")).toBeUndefined();
  });

  test("the indexes follow every kind of change", async () => {
    await using store = await open();
    const check = (
      view: View,
      expected: { s1: string[]; s2: string[]; n1: string[]; n2: string[]; none: string[] },
    ) => {
      expect(idsOf(view.tasksOfService("s1"))).toEqual(expected.s1);
      expect(idsOf(view.tasksOfService("s2"))).toEqual(expected.s2);
      expect(idsOf(view.tasksOfNode("n1"))).toEqual(expected.n1);
      expect(idsOf(view.tasksOfNode("n2"))).toEqual(expected.n2);
      expect(idsOf(view.tasksOfNode(""))).toEqual(expected.none);
    };
    await store.update((tx) => {
      tx.create("tasks", sampleTask("t1", "s1", "n1"));
      tx.create("tasks", sampleTask("t2", "s1"));
      tx.create("tasks", sampleTask("t3", "s2", "n1"));
      check(tx, { s1: ["t1", "t2"], s2: ["t3"], n1: ["t1", "t3"], n2: [], none: ["t2"] });
    });
    check(store.view(), { s1: ["t1", "t2"], s2: ["t3"], n1: ["t1", "t3"], n2: [], none: ["t2"] });
    await store.update((tx) => {
      tx.put("tasks", { ...present(tx.tasks.get("t2")), nodeId: "n2" });
      tx.put("tasks", { ...present(tx.tasks.get("t1")), slot: 9 });
      tx.remove("tasks", "t3");
      check(tx, { s1: ["t1", "t2"], s2: [], n1: ["t1"], n2: ["t2"], none: [] });
    });
    check(store.view(), { s1: ["t1", "t2"], s2: [], n1: ["t1"], n2: ["t2"], none: [] });
    expect([...store.view().tasksOfNode("n1")][0]?.slot).toBe(9);

    await store.update((tx) => {
      tx.create("revisions", sampleRevision("r3", "s1", 3));
      tx.create("revisions", sampleRevision("r1", "s1", 1));
      tx.create("revisions", sampleRevision("rx", "s2", 1));
    });
    await store.update((tx) => {
      tx.create("revisions", sampleRevision("r2", "s1", 2));
      expect(tx.revisionsOfService("s1").map((revision) => revision.number)).toEqual([1, 2, 3]);
      expect(tx.revisionOfService("s1", 2)?.meta.id).toBe("r2");
    });
    expect(
      store
        .view()
        .revisionsOfService("s1")
        .map((revision) => revision.number),
    ).toEqual([1, 2, 3]);
    expect(store.view().revisionOfService("s1", 3)?.meta.id).toBe("r3");
    expect(store.view().revisionOfService("s1", 4)).toBeUndefined();
    await store.update((tx) => tx.remove("revisions", "r1"));
    expect(
      store
        .view()
        .revisionsOfService("s1")
        .map((revision) => revision.number),
    ).toEqual([2, 3]);
  });
}

function transactions(open: OpenStore): void {
  test("a transaction sees its own writes, and nobody else does before its end", async () => {
    await using store = await open();
    await store.update((tx) => tx.create("tasks", sampleTask("t1", "s1", "n1")));
    await store.update((tx) => {
      tx.remove("tasks", "t1");
      tx.create("tasks", sampleTask("t2", "s1", "n1"));
      tx.put("tasks", { ...present(tx.tasks.get("t2")), slot: 5 });
      expect(tx.tasks.get("t1")).toBeUndefined();
      expect(idsOf(tx.tasks.values())).toEqual(["t2"]);
      expect(tx.tasks.size).toBe(1);
      expect(idsOf(tx.tasksOfService("s1"))).toEqual(["t2"]);
      expect(store.view().tasks.get("t1")).toBeDefined();
      expect(store.view().tasks.get("t2")).toBeUndefined();
    });
    expect(idsOf(store.view().tasks.values())).toEqual(["t2"]);
    expect(store.view().tasks.get("t2")?.slot).toBe(5);
  });

  test("a loop that writes what it visits meets each object once", async () => {
    await using store = await open();
    const ids = Array.from({ length: 20 }, (_, i) => `t${i}`);
    await store.update((tx) => {
      for (const id of ids) tx.create("tasks", sampleTask(id, "s1", "n1"));
    });
    const visited = await store.update((tx) => {
      const seen: string[] = [];
      for (const task of tx.tasksOfService("s1")) {
        seen.push(task.meta.id);
        tx.put("tasks", { ...task, nodeId: "n2" });
      }
      return seen;
    });
    expect(visited.sort()).toEqual([...ids].sort());
    expect(idsOf(store.view().tasksOfNode("n2"))).toEqual([...ids].sort());
    expect(idsOf(store.view().tasksOfNode("n1"))).toEqual([]);
  });

  test("a function that throws changes nothing and its error comes back as it was", async () => {
    await using store = await open();
    await store.update((tx) => tx.create("tasks", sampleTask("t1", "s1")));
    const { revision } = store.view();
    const oops = new Error("oops");
    const failed = store.update((tx) => {
      tx.create("tasks", sampleTask("t2", "s1"));
      tx.remove("tasks", "t1");
      throw oops;
    });
    await expect(failed).rejects.toBe(oops);
    expect(idsOf(store.view().tasks.values())).toEqual(["t1"]);
    expect(store.view().revision).toBe(revision);
  });

  test("an update without writes answers and makes no revision", async () => {
    await using store = await open();
    await store.update((tx) => tx.create("tasks", sampleTask("t1", "s1")));
    const { revision } = store.view();
    expect(await store.update((tx) => tx.tasks.size)).toBe(1);
    await store.update((tx) => {
      tx.create("tasks", sampleTask("t2", "s1"));
      tx.remove("tasks", "t2");
    });
    expect(store.view().revision).toBe(revision);
  });

  test("a function that is asynchronous, or a transaction that outlives its function, is refused", async () => {
    await using store = await open();
    await expect(store.update(() => Promise.resolve(1))).rejects.toThrow(/synchronous/);
    const kept = await store.update((tx) => tx);
    expect(() => kept.create("tasks", sampleTask("t1", "s1"))).toThrow(/after its function/);
    expect(store.view().tasks.size).toBe(0);
  });

  test("one write too many is refused whole, and so is one byte too many", async () => {
    await using store = await open();
    const create = (count: number) =>
      store.update((tx) => {
        for (let i = 0; i < count; i += 1) tx.create("services", sampleService(`s${i}`));
      });
    expect(await codeOf(create(writesPerTransactionMax + 1))).toBe("resource_exhausted");
    expect(store.view().services.size).toBe(0);
    await create(writesPerTransactionMax);
    expect(store.view().services.size).toBe(writesPerTransactionMax);
    const big = { ...sampleTask("t1", "s1"), cause: "x".repeat(1_100_000) };
    expect(await codeOf(store.update((tx) => tx.create("tasks", big)))).toBe("resource_exhausted");
    await store.update((tx) => tx.create("tasks", { ...big, cause: "x".repeat(900_000) }));
    expect(store.view().tasks.get("t1")?.cause.length).toBe(900_000);
  });

  test("what was handed over can be changed afterwards without the store noticing", async () => {
    await using store = await open();
    const task = sampleTask("t1", "s1");
    await store.update((tx) => tx.create("tasks", task));
    task.slot = 99;
    task.status.message = "changed";
    expect(store.view().tasks.get("t1")?.slot).toBe(1);
    expect(store.view().tasks.get("t1")?.status.message).toBe("started");
  });
}

function groups(open: OpenStore, writesMax: number): void {
  test("updates of one object at the same time are serialised: none is lost", async () => {
    await using store = await open();
    await store.update((tx) => tx.create("tasks", { ...sampleTask("t1", "s1"), slot: 0 }));
    const answers = await Promise.all(
      Array.from({ length: 64 }, () =>
        store.update((tx) => {
          const task = present(tx.tasks.get("t1"));
          tx.put("tasks", { ...task, slot: task.slot + 1 });
          return task.slot;
        }),
      ),
    );
    expect(store.view().tasks.get("t1")?.slot).toBe(64);
    expect(answers.sort((a, b) => a - b)).toEqual(Array.from({ length: 64 }, (_, i) => i));
  });

  test("updates at the same time are each whole, and those that throw fail alone", async () => {
    await using store = await open();
    const results = await Promise.allSettled(
      Array.from({ length: 60 }, (_, i) =>
        store.update((tx) => {
          for (let k = 0; k < 5; k += 1) tx.create("tasks", sampleTask(`t${i}-${k}`, `s${i}`));
          if (i % 3 === 0) throw new Error(`no ${i}`);
          return i;
        }),
      ),
    );
    for (const [i, result] of results.entries()) {
      if (i % 3 === 0) {
        expect(result).toMatchObject({ status: "rejected", reason: { message: `no ${i}` } });
        expect(idsOf(store.view().tasksOfService(`s${i}`))).toEqual([]);
      } else {
        expect(result).toEqual({ status: "fulfilled", value: i });
        expect(idsOf(store.view().tasksOfService(`s${i}`))).toHaveLength(5);
      }
    }
  });

  test("updates at the same time are committed in fewer transactions, none of which splits an update", async () => {
    await using store = await open();
    const commits: Commit[] = [];
    store.subscribe((commit) => commits.push(commit));
    await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        store.update((tx) => {
          for (let k = 0; k < 7; k += 1) tx.create("tasks", sampleTask(`t${i}-${k}`, `s${i}`));
        }),
      ),
    );
    expect(commits.length).toBeLessThan(40);
    expect(store.view().tasks.size).toBe(280);
    for (const commit of commits) {
      expect(commit.changes.length).toBeLessThanOrEqual(writesMax);
      const perService = new Map<string, number>();
      for (const change of commit.changes) {
        if (change.table !== "tasks" || change.after === undefined) throw new Error("only tasks are created here");
        perService.set(change.after.serviceId, (perService.get(change.after.serviceId) ?? 0) + 1);
      }
      expect([...perService.values()].every((count) => count === 7)).toBe(true);
    }
  });

  test("an old version is in conflict even with an update of the same moment", async () => {
    await using store = await open();
    await store.update((tx) => tx.create("tasks", sampleTask("t1", "s1")));
    const seen = present(store.view().tasks.get("t1"));
    const results = await Promise.allSettled(
      [2, 3, 4].map((slot) => store.update((tx) => tx.put("tasks", { ...seen, slot }))),
    );
    expect(results.map((result) => result.status)).toEqual(["fulfilled", "rejected", "rejected"]);
    expect(store.view().tasks.get("t1")?.slot).toBe(2);
  });

  test("the answers of one caller come in the order of its updates, and the view has grown by then", async () => {
    await using store = await open();
    const order: number[] = [];
    await Promise.all(
      Array.from({ length: 30 }, async (_, i) => {
        await store.update((tx) => tx.create("tasks", sampleTask(`t${i}`, "s1")));
        expect(store.view().tasks.get(`t${i}`)).toBeDefined();
        order.push(i);
      }),
    );
    expect(order).toEqual(Array.from({ length: 30 }, (_, i) => i));
  });
}

function following(open: OpenStore): void {
  test("subscribers hear every commit once, in order, when the view has it; and nothing after they stopped", async () => {
    await using store = await open();
    const replica = new Map<string, unknown>();
    const revisions: number[] = [];
    const stop = store.subscribe((commit) => {
      expect(store.view().revision).toBe(commit.revision);
      revisions.push(commit.revision);
      applyTo(replica, commit);
    });
    for (let i = 0; i < 10; i += 1) await store.update((tx) => tx.create("tasks", sampleTask(`t${i}`, "s1")));
    await store.update((tx) => {
      tx.remove("tasks", "t3");
      tx.put("tasks", { ...present(tx.tasks.get("t4")), slot: 7 });
    });
    expect(revisions).toEqual([...revisions].sort((a, b) => a - b));
    expect(new Set(revisions).size).toBe(revisions.length);
    expect(replica).toEqual(contentOf(store.view()));
    stop();
    await store.update((tx) => tx.remove("tasks", "t1"));
    expect(replica.has("tasks/t1")).toBe(true);
  });

  test("a change names what was before and what is after", async () => {
    await using store = await open();
    const changes: Change[] = [];
    store.subscribe((commit) => changes.push(...commit.changes));
    await store.update((tx) => tx.create("tasks", sampleTask("t1", "s1")));
    const created = store.view().tasks.get("t1");
    await store.update((tx) => tx.put("tasks", { ...present(tx.tasks.get("t1")), slot: 2 }));
    const put = store.view().tasks.get("t1");
    await store.update((tx) => tx.remove("tasks", "t1"));
    expect(changes).toEqual([
      { table: "tasks", before: undefined, after: created },
      { table: "tasks", before: created, after: put },
      { table: "tasks", before: put, after: undefined },
    ]);
  });

  test("a watch goes on from any remembered revision, without a gap or a repetition", async () => {
    await using store = await open();
    const from = store.view().revision;
    const all: Commit[] = [];
    store.subscribe((commit) => all.push(commit));
    for (let i = 0; i < 6; i += 1) await store.update((tx) => tx.create("tasks", sampleTask(`t${i}`, "s1")));
    expect(all).toHaveLength(6);
    for (const [index, start] of [from, ...all.map((commit) => commit.revision)].entries()) {
      const seen = await take(store.watch(start), 6 - index);
      expect(seen).toEqual(all.slice(index));
    }
    const waiting = take(store.watch(store.view().revision), 2);
    await store.update((tx) => tx.remove("tasks", "t0"));
    await store.update((tx) => tx.remove("tasks", "t1"));
    expect(await waiting).toEqual(all.slice(6));
  });

  test("a watch from a forgotten revision, or from the future, says resync_required", async () => {
    await using store = await open({ history: { commitsMax: 4, changesMax: 100 } });
    const from = store.view().revision;
    for (let i = 0; i < 6; i += 1) await store.update((tx) => tx.create("tasks", sampleTask(`t${i}`, "s1")));
    expect(await codeOf(take(store.watch(from), 1))).toBe("resync_required");
    expect(await codeOf(take(store.watch(store.view().revision + 1_000), 1))).toBe("resync_required");
    expect(await take(store.watch(store.view().revision), 0)).toEqual([]);
  });

  test("history is bounded by changes too", async () => {
    await using store = await open({ history: { commitsMax: 100, changesMax: 20 } });
    const from = store.view().revision;
    for (let i = 0; i < 3; i += 1)
      await store.update((tx) => {
        for (let k = 0; k < 10; k += 1) tx.create("tasks", sampleTask(`t${i}-${k}`, "s1"));
      });
    expect(await codeOf(take(store.watch(from), 1))).toBe("resync_required");
  });

  test("a reader that falls behind is told so, and does not slow the store", async () => {
    await using store = await open({ history: { commitsMax: 4, changesMax: 100 } });
    const reader = store.watch(store.view().revision)[Symbol.asyncIterator]();
    await store.update((tx) => tx.create("tasks", sampleTask("t0", "s1")));
    expect((await reader.next()).done).toBe(false);
    for (let i = 1; i <= 6; i += 1) await store.update((tx) => tx.create("tasks", sampleTask(`t${i}`, "s1")));
    expect(await codeOf(reader.next())).toBe("resync_required");
    expect((await reader.next()).done).toBe(true);
  });

  test("a reader that leaves its loop is forgotten", async () => {
    await using store = await open();
    const reader = store.watch(store.view().revision)[Symbol.asyncIterator]();
    const waiting = reader.next();
    await reader.return?.();
    expect((await waiting).done).toBe(true);
    await store.update((tx) => tx.create("tasks", sampleTask("t1", "s1")));
    expect((await reader.next()).done).toBe(true);
  });
}

function ending(name: string, open: OpenStore): void {
  test("a store says what it is, and that it is ready", async () => {
    await using store = await open();
    await store.ready();
    expect(store.engine).toBe(name);
    expect(store.health().ready).toBe(true);
    expect(store.health().message).not.toBe("");
  });

  test("a barrier is passed by many at once, and not by who gives up or comes after the end", async () => {
    const store = await open();
    const creating = store.update((tx) => tx.create("tasks", sampleTask("t1", "s1")));
    await creating;
    await Promise.all(Array.from({ length: 100 }, () => store.barrier()));
    expect(store.view().tasks.get("t1")).toBeDefined();
    await expect(store.barrier(AbortSignal.abort(new Error("enough")))).rejects.toThrow("enough");
    await store[Symbol.asyncDispose]();
    expect(await codeOf(store.barrier())).toBe("unavailable");
  });

  test("closing answers every update that is pending, ends the readers, and refuses new updates", async () => {
    const store = await open();
    const reading = take(store.watch(store.view().revision), Number.POSITIVE_INFINITY);
    const pending = Array.from({ length: 300 }, (_, i) =>
      store.update((tx) => tx.create("tasks", sampleTask(`t${i}`, "s1"))),
    );
    const settled = Promise.allSettled(pending);
    await store[Symbol.asyncDispose]();
    for (const [i, result] of (await settled).entries()) {
      const there = store.view().tasks.get(`t${i}`) !== undefined;
      if (result.status === "fulfilled") expect(there).toBe(true);
      else {
        expect(result.reason).toBeInstanceOf(ClusterError);
        const { code } = result.reason as ClusterError;
        expect(["unavailable", "unknown_outcome"]).toContain(code);
        if (code === "unavailable") expect(there).toBe(false);
      }
    }
    const seen = await reading;
    expect(seen.flatMap((commit) => commit.changes)).toHaveLength(store.view().tasks.size);
    expect(await codeOf(store.update((tx) => tx.tasks.size))).toBe("unavailable");
    expect(store.health().ready).toBe(false);
    await store[Symbol.asyncDispose]();
  });
}

function leading(open: () => Promise<Managers>): void {
  test("after a barrier any manager shows every write that was acknowledged before it", async () => {
    await using managers = await open();
    const { leader, follower } = managers;
    for (let round = 0; round < 20; round += 1) {
      const id = `t${round}`;
      await leader.update((tx) => {
        tx.create("tasks", sampleTask(id, "s1"));
        if (round > 0) tx.remove("tasks", `t${round - 1}`);
      });
      await Promise.all([follower.barrier(), follower.barrier()]);
      expect(idsOf(follower.view().tasks.values())).toEqual([id]);
    }
    expect(contentOf(follower.view())).toEqual(contentOf(leader.view()));
    expect(follower.view().revision).toBe(leader.view().revision);
  });

  test("who does not lead writes nothing and says who does", async () => {
    await using managers = await open();
    const { leader, follower } = managers;
    const error = await errorOf(follower.update((tx) => tx.create("tasks", sampleTask("t1", "s1"))));
    expect([error.code, error.details["leader"]]).toEqual(["not_leader", managers.leaderAddress]);
    await leader.barrier();
    expect(leader.view().tasks.size).toBe(0);
  });

  test("leadership changes amid updates: what was acknowledged is there, once, and the deposed one writes nothing", async () => {
    await using managers = await open();
    const { leader, follower } = managers;
    await leader.update((tx) => tx.create("tasks", { ...sampleTask("counter", "s1"), slot: 0 }));
    await follower.barrier();
    let acknowledged = 0;
    let unknown = 0;
    const count = async (store: Store) => {
      try {
        await increment(store, "counter");
        acknowledged += 1;
      } catch (error) {
        expect(error).toBeInstanceOf(ClusterError);
        const { code } = error as ClusterError;
        expect(["not_leader", "unavailable", "unknown_outcome"]).toContain(code);
        if (code === "unknown_outcome") unknown += 1;
      }
    };
    const before = Promise.all(Array.from({ length: 400 }, () => count(leader)));
    const changed = managers.change();
    for (let i = 0; i < 5; i += 1) await Promise.all([count(leader), count(follower)]);
    await changed;
    await before;
    await Promise.all(Array.from({ length: 20 }, () => count(follower)));
    expect(["not_leader", "unavailable"]).toContain(await codeOf(increment(leader, "counter")));
    for (const store of [leader, follower]) {
      await store.barrier();
      const counter = present(store.view().tasks.get("counter")).slot;
      expect(counter).toBeGreaterThanOrEqual(acknowledged);
      expect(counter).toBeLessThanOrEqual(acknowledged + unknown);
    }
    expect(acknowledged).toBeGreaterThanOrEqual(20);
    expect(contentOf(follower.view())).toEqual(contentOf(leader.view()));
  });

  for (const made of [true, false])
    test(`a request whose outcome was lost (it was ${made ? "" : "not "}made) and that is repeated is done once`, async () => {
      await using managers = await open();
      const { leader, follower } = managers;
      await leader.update((tx) => tx.create("tasks", { ...sampleTask("counter", "s1"), slot: 0 }));
      const request = (store: Store) =>
        store.update((tx) => {
          if (tx.tasks.get("request-1") !== undefined) return "was done before";
          tx.create("tasks", sampleTask("request-1", "s1"));
          const counter = present(tx.tasks.get("counter"));
          tx.put("tasks", { ...counter, slot: counter.slot + 1 });
          return "done now";
        });
      managers.loseAnswer(made);
      const first = outcomeOf(request(leader));
      await managers.change();
      const said = await first;
      // Known when the new leader's word is heard; then it is told as it is.
      expect(["unknown_outcome", made ? "done now" : "not_leader"]).toContain(said);
      expect(await request(follower)).toBe(made ? "was done before" : "done now");
      expect(follower.view().tasks.get("counter")?.slot).toBe(1);
      await leader.barrier();
      expect(contentOf(leader.view())).toEqual(contentOf(follower.view()));
    });
}

function increment(store: Store, id: string): Promise<void> {
  return store.update((tx) => {
    const task = present(tx.tasks.get(id));
    tx.put("tasks", { ...task, slot: task.slot + 1 });
  });
}

/** The answer, or the code of the ClusterError. */
async function outcomeOf(answer: Promise<string>): Promise<string> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof ClusterError) return error.code;
    throw error;
  }
}

export function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("it is not there");
  return value;
}

/** The code of the ClusterError that a promise ends with. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  return (await errorOf(promise)).code;
}

export async function errorOf(promise: Promise<unknown>): Promise<ClusterError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof ClusterError) return error;
    throw new Error(`a ClusterError was expected, not ${messageOf(error)}`, { cause: error });
  }
  throw new Error("an error was expected, but it went well");
}

export async function take<T>(items: AsyncIterable<T>, count: number): Promise<T[]> {
  const taken: T[] = [];
  if (count <= 0) return taken;
  for await (const item of items) {
    taken.push(item);
    if (taken.length >= count) break;
  }
  return taken;
}

/** Everything in a view, by table and id. */
export function contentOf(view: View): Map<string, unknown> {
  const content = new Map<string, unknown>();
  for (const table of tables)
    for (const object of tablesOf(view)[table].values()) content.set(`${table}/${object.meta.id}`, object);
  return content;
}

/** A commit, applied to such content. */
export function applyTo(content: Map<string, unknown>, commit: Commit): void {
  for (const { table, before, after } of commit.changes) {
    const key = (id: string, of: Table = table) => `${of}/${id}`;
    if (after !== undefined) content.set(key(after.meta.id), after);
    else if (before !== undefined) content.delete(key(before.meta.id));
  }
}

function idsOf(objects: Iterable<{ meta: { id: string } }>): string[] {
  return [...objects].map((object) => object.meta.id).sort();
}
