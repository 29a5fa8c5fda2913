import { expect, test } from "vitest";
import { type Clock, ClusterError } from "../../lib/mod.js";
import { type Backend, Committer, type EncodedWrite } from "./committer.js";
import { codeOf, present } from "./contract.js";
import { sampleTask } from "./samples.js";
import { LiveView } from "./view.js";

/** A backend that asks the test what becomes of each commit, and applies those that succeed. */
function committerWith(
  answer: (writes: readonly EncodedWrite[], commit: number) => boolean,
  writable: Backend["writable"] = () => Promise.resolve(),
  clock?: Clock,
) {
  const view = new LiveView();
  const groups: string[][] = [];
  const committer = new Committer(view, {
    writable,
    ...(clock === undefined ? {} : { clock }),
    commit: (writes) => {
      groups.push(writes.map((write) => write.id));
      try {
        const made = answer(writes, groups.length);
        if (made)
          view.apply({
            revision: view.revision + 1,
            changes: writes.map(({ table, id, after }) => view.changeTo(table, id, after)),
          });
        return Promise.resolve(made);
      } catch (error) {
        return Promise.reject(error);
      }
    },
  });
  const create = (id: string) => committer.update((tx) => tx.create("tasks", sampleTask(id, "s1")));
  return { committer, view, groups, create };
}

test("one update that keeps conflicting is given up; those of its group are not", async () => {
  const { create, groups, view } = committerWith((writes) => writes.every((write) => write.id !== "contended"));
  const results = await Promise.allSettled([create("a"), create("contended"), create("b")]);
  expect(results.map((result) => result.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect((results[1] as PromiseRejectedResult).reason).toMatchObject({ code: "conflict" });
  expect([...view.tasks.values()].map((task) => task.meta.id).sort()).toEqual(["a", "b"]);
  // Together twice, then each alone.
  expect(groups.slice(0, 3)).toEqual([["a", "contended", "b"], ["a", "contended", "b"], ["a"]]);
  expect(groups.filter((group) => group.includes("contended")).length).toBe(16);
});

test("an update that conflicts once runs again and sees what stood in its way", async () => {
  const setup = committerWith((_, commit) => {
    if (commit === 2) {
      const other = { ...present(setup.view.tasks.get("t")), slot: 10 };
      setup.view.apply({ revision: 7, changes: [setup.view.changeTo("tasks", "t", other)] });
      return false;
    }
    return true;
  });
  await setup.create("t");
  const seen = await setup.committer.update((tx) => {
    const task = present(tx.tasks.get("t"));
    tx.put("tasks", { ...task, slot: task.slot + 1 });
    return task.slot;
  });
  expect(seen).toBe(10);
  expect(setup.view.tasks.get("t")?.slot).toBe(11);
});

test("an unknown outcome is told to those who wrote; who only looked knows that nothing of his was done", async () => {
  const { create, committer } = committerWith(() => {
    throw new ClusterError("unknown_outcome", "no answer");
  });
  const [wrote, looked, threw] = await Promise.all([
    codeOf(create("a")),
    codeOf(committer.update((tx) => tx.tasks.get("a"))),
    // It stumbled over a write that may not be there: its error would be a lie.
    codeOf(create("a")),
  ]);
  expect([wrote, looked, threw]).toEqual(["unknown_outcome", "unavailable", "unavailable"]);
});

test("while transactions cannot be made every update that waits is refused with the reason, and later ones go on", async () => {
  let down = true;
  const { create, groups } = committerWith(
    () => true,
    () => (down ? Promise.reject(new ClusterError("unavailable", "no quorum")) : Promise.resolve()),
  );
  expect(await Promise.all([codeOf(create("a")), codeOf(create("b"))])).toEqual(["unavailable", "unavailable"]);
  down = false;
  await create("c");
  expect(groups).toEqual([["c"]]);
});

test("more updates than may wait are refused at once", async () => {
  const { create, committer } = committerWith(() => true);
  const waiting = Promise.allSettled(Array.from({ length: 10_000 }, (_, i) => create(`t${i}`)));
  const refused = codeOf(create("one-too-many"));
  const closing = committer.close();
  expect(await refused).toBe("resource_exhausted");
  await closing;
  for (const result of await waiting) expect(result).toMatchObject({ reason: { code: "unavailable" } });
});

test("a group ends after a while, however slow its updates are; each makes progress", async () => {
  let nowMs = 0;
  const clock: Clock = { now: () => nowMs, monotonic: () => nowMs, after: () => () => undefined };
  const { committer, groups } = committerWith(
    () => true,
    () => Promise.resolve(),
    clock,
  );
  const slow = (id: string, ms: number) =>
    committer.update((tx) => {
      nowMs += ms;
      tx.create("tasks", sampleTask(id, "s1"));
    });
  await Promise.all([slow("a", 6), slow("b", 6), slow("c", 60), slow("d", 1), slow("e", 1)]);
  expect(groups).toEqual([["a", "b"], ["c"], ["d", "e"]]);
});
