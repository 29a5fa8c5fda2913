import { expect, test } from "vitest";
import { FakeClock } from "../../../test/kit/clock.js";
import { FakeLog } from "../../../test/kit/fake-log.js";
import { systemClock } from "../../../lib/mod.js";
import type { StoreMachine } from "../../consensus/consensus.js";
import { applyTo, codeOf, contentOf, errorOf, present, storeContract, take } from "../contract.js";
import { exportChunks } from "../chunks.js";
import { sampleService, sampleTask } from "../samples.js";
import type { Commit, Store } from "../store.js";
import { openRaftStore } from "./raft.js";

const create = (store: Store, id: string) => store.update((tx) => tx.create("tasks", sampleTask(id, "s1")));

function trio() {
  const log = new FakeLog();
  const stores = [1, 2, 3].map(() => openRaftStore({ clock: systemClock }));
  const members = stores.map((store) => log.join(store));
  const [leader, follower, third] = stores;
  return { log, members, leader: present(leader), follower: present(follower), third: present(third) };
}

storeContract(
  "raft",
  async (options) => {
    const store = openRaftStore({ clock: systemClock, ...options });
    new FakeLog().join(store);
    await store.ready();
    return store;
  },
  {
    writesMax: 1_024,
    managers: () => {
      const { log, members, leader, follower } = trio();
      return Promise.resolve({
        leader,
        follower,
        leaderAddress: present(members[0]).self.address,
        change: async () => {
          await new Promise((resolve) => setImmediate(resolve));
          log.elect(present(members[1]));
        },
        loseAnswer: (made) => {
          log.fault = made ? "made" : "lost";
        },
        [Symbol.asyncDispose]: async () => {
          await Promise.all([leader, follower].map((store) => store[Symbol.asyncDispose]()));
        },
      });
    },
  },
);

test("its machine is what the log takes", () => {
  const machine: StoreMachine = openRaftStore({ clock: systemClock }).machine;
  expect(machine.snapshot()[Symbol.iterator]().next().done).toBe(false);
});

test("before it has its log it refuses, and says that it starts", async () => {
  await using store = openRaftStore({ clock: systemClock });
  expect(store.health()).toEqual({ ready: false, message: "raft: starting" });
  expect([await codeOf(create(store, "t1")), await codeOf(store.barrier())]).toEqual(["unavailable", "unavailable"]);
  const ready = store.ready();
  new FakeLog().join(store);
  await ready;
  await create(store, "t1");
});

test("without a leader an update is refused with the reason of the log", async () => {
  const { log, leader } = trio();
  log.depose();
  expect(await errorOf(create(leader, "t1"))).toMatchObject({ code: "unavailable", message: "raft: no leader" });
});

test("a write whose answer was lost is acknowledged when the next leader's log has it, refused for certain when not", async () => {
  for (const fault of ["made", "late", "lost"] as const) {
    const { log, members, leader, follower } = trio();
    await create(leader, "before");
    log.fault = fault;
    const written = create(leader, "t1").then(
      () => "acknowledged",
      (error: unknown) => (error as { code: string }).code,
    );
    await new Promise((resolve) => setImmediate(resolve));
    log.elect(present(members[1]));
    expect([fault, await written]).toEqual([fault, fault === "lost" ? "not_leader" : "acknowledged"]);
    await follower.barrier();
    expect(follower.view().tasks.get("t1") !== undefined).toBe(fault !== "lost");
    // The log tells who leads.
    expect(await errorOf(create(leader, "t2"))).toMatchObject({
      code: "not_leader",
      details: { leader: present(members[1]).self.address },
    });
  }
});

test("an outcome that a snapshot has swallowed stays unknown: what was made must not be said to be refused", async () => {
  const { log, members, leader, follower } = trio();
  const [old, next] = [present(members[0]), present(members[1])];
  await create(leader, "before");
  log.fault = "made";
  const written = codeOf(create(leader, "t1"));
  await new Promise((resolve) => setImmediate(resolve));
  // The old leader was away for so long that the new one sends its state instead of the entries.
  next.catchUp();
  const chunks = [...follower.machine.snapshot()];
  await leader.machine.restore(
    (async function* () {
      await Promise.resolve();
      yield* chunks;
    })(),
  );
  old.applied = log.entries.length;
  log.elect(next);
  expect(await written).toBe("unknown_outcome");
  expect(leader.view().tasks.get("t1")).toBeDefined();
});

test("while no leader follows, an outcome stays unknown, and is said to be after a while", async () => {
  const clock = new FakeClock();
  const log = new FakeLog();
  const store = openRaftStore({ clock });
  log.join(store);
  log.fault = "lost";
  const written = codeOf(create(store, "t1"));
  await clock.advance(10_000);
  expect(await written).toBe("unknown_outcome");
});

test("a store that closes does not wait for ever for its log", async () => {
  const clock = new FakeClock();
  const log = new FakeLog();
  const store = openRaftStore({ clock });
  log.join(store);
  log.fault = "stuck";
  const written = codeOf(create(store, "t1"));
  await new Promise((resolve) => setImmediate(resolve));
  const closing = store[Symbol.asyncDispose]();
  await clock.advance(1_000);
  expect(await written).toBe("unknown_outcome");
  await closing;
});

test("a transaction that was decided on another revision changes nothing on any manager, and is decided again", async () => {
  const { log, members, leader, follower } = trio();
  await leader.update((tx) => tx.create("tasks", { ...sampleTask("t1", "s1"), slot: 1 }));
  // The same entry once more, as no log would have it: every machine refuses it alike.
  log.entries.push(present(log.entries[0]));
  const answers = members.map((member) => member.catchUp());
  expect(answers.slice(1)).toEqual([{ committed: false }, { committed: false }]);
  expect(contentOf(follower.view())).toEqual(contentOf(leader.view()));
  expect(leader.view().revision).toBe(1);
  // A proposal that comes upon another base: its update sees what stood in the way and runs again.
  const other = openRaftStore({ clock: systemClock });
  const otherLog = new FakeLog();
  otherLog.join(other);
  await create(other, "t1");
  await other.update((tx) => tx.put("tasks", { ...present(tx.tasks.get("t1")), slot: 10 }));
  const slots: number[] = [];
  const updating = leader.update((tx) => {
    const task = present(tx.tasks.get("t1"));
    slots.push(task.slot);
    // Between the run and the proposal's place in the log somebody else's entry comes in.
    if (slots.length === 1) log.entries.push(present(otherLog.entries[1]));
    tx.put("tasks", { ...task, slot: task.slot + 1 });
  });
  await updating;
  expect(slots).toEqual([1, 10]);
  await follower.barrier();
  expect(follower.view().tasks.get("t1")?.slot).toBe(11);
});

test("an entry that this version cannot read stops the machine instead of being passed over", () => {
  const { machine } = openRaftStore({ clock: systemClock });
  expect(() => machine.apply({ index: 7, term: 1, data: new Uint8Array([255, 255, 255]) })).toThrow(/entry 7/);
});

async function* later(chunks: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) {
    await Promise.resolve();
    yield chunk;
  }
}

test("a snapshot is the moment of its call, and a manager restored from it goes on as the others do", async () => {
  const { log, leader } = trio();
  await leader.update((tx) => tx.create("services", sampleService("s1", "web")));
  for (let i = 0; i < 50; i += 1)
    await leader.update((tx) => {
      for (let k = 0; k < 50; k += 1) tx.create("tasks", sampleTask(`t${i}-${k}`, "s1", `n${k}`));
    });
  const expected = contentOf(leader.view());
  const { revision } = leader.view();
  const at = log.entries.length;
  const snapshot = leader.machine.snapshot();
  await leader.update((tx) => tx.remove("tasks", "t0-0"));
  await leader.update((tx) => tx.put("tasks", { ...present(tx.tasks.get("t1-1")), slot: 99 }));
  const chunks = [...snapshot];
  expect(chunks.length).toBeGreaterThan(1);
  for (const chunk of chunks) expect(chunk.length).toBeLessThanOrEqual(1_048_576);
  const fresh = openRaftStore({ clock: systemClock });
  await fresh.machine.restore(later(chunks));
  expect(contentOf(fresh.view())).toEqual(expected);
  expect(fresh.view().revision).toBe(revision);
  expect(fresh.view().serviceByName("web")?.meta.id).toBe("s1");
  expect([...fresh.view().tasksOfNode("n7")]).toHaveLength(50);
  const member = log.join(fresh);
  member.applied = at;
  await fresh.barrier();
  expect(contentOf(fresh.view())).toEqual(contentOf(leader.view()));
});

test("a restore tells subscribers what differs as one commit, keeps what is the same, and has watches start again", async () => {
  const { log, members, leader, follower } = trio();
  for (const id of ["stays", "changes", "goes"]) await create(leader, id);
  await follower.barrier();
  const replica = contentOf(follower.view());
  const stays = follower.view().tasks.get("stays");
  const commits: Commit[] = [];
  follower.subscribe((commit) => {
    expect(follower.view().revision).toBe(commit.revision);
    commits.push(commit);
    applyTo(replica, commit);
  });
  const view = follower.view();
  const watching = codeOf(take(follower.watch(view.revision), 1));
  await leader.update((tx) => tx.put("tasks", { ...present(tx.tasks.get("changes")), slot: 2 }));
  const between = leader.view().revision;
  await leader.update((tx) => tx.remove("tasks", "goes"));
  await create(leader, "comes");
  await follower.machine.restore(later(leader.machine.snapshot()));
  present(members[1]).applied = log.entries.length;
  expect(follower.view()).toBe(view);
  expect(contentOf(view)).toEqual(contentOf(leader.view()));
  expect(view.tasks.get("stays")).toBe(stays);
  expect(commits).toHaveLength(1);
  expect(new Set(commits[0]?.changes.map(({ before, after }) => `${before?.meta.id}>${after?.meta.id}`))).toEqual(
    new Set(["changes>changes", "goes>undefined", "undefined>comes"]),
  );
  expect(replica).toEqual(contentOf(view));
  expect(await watching).toBe("resync_required");
  expect(await codeOf(take(follower.watch(between), 1))).toBe("resync_required");
  const going = take(follower.watch(view.revision), 1);
  await create(leader, "after");
  await follower.barrier();
  expect((await going)[0]?.changes[0]?.after?.meta.id).toBe("after");
});

test("a snapshot that is damaged, ends too early or is of several moments leaves the machine as it was", async () => {
  const { leader, follower } = trio();
  for (let i = 0; i < 30; i += 1)
    await leader.update((tx) => {
      for (let k = 0; k < 90; k += 1) tx.create("tasks", sampleTask(`t${i}-${k}`, "s1"));
    });
  await follower.barrier();
  const before = contentOf(follower.view());
  const older = [...exportChunks(leader.view())];
  await create(leader, "one-more");
  const newer = [...exportChunks(leader.view())];
  const damages: AsyncGenerator<Uint8Array>[] = [
    later([]),
    later([present(newer[0]), present(older[1])]),
    later([present(newer[0]), new Uint8Array([10, 200, 1])]),
    (async function* cutShort() {
      yield* later([present(newer[0])]);
      throw new Error("the stream ended");
    })(),
  ];
  for (const chunks of damages) {
    await expect(follower.machine.restore(chunks)).rejects.toThrow();
    expect(contentOf(follower.view())).toEqual(before);
  }
});
