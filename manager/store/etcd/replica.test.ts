import { expect, test } from "vitest";
import { encodeObject } from "../committer.js";
import { codeOf } from "../contract.js";
import { History } from "../history.js";
import { sampleTask } from "../samples.js";
import type { Commit } from "../store.js";
import { RevisionAssembly } from "./feed.js";
import { Keys } from "./keys.js";
import { type Entry, Replica } from "./replica.js";

const keys = new Keys("main");

function task(id: string, modRevision: number, slot = 1): Entry {
  const value = Buffer.from(encodeObject("tasks", sampleTask(id, "s1", "", slot)));
  return { key: keys.object("tasks", id), value, modRevision };
}

function gone(id: string, modRevision: number): Entry {
  return { key: keys.object("tasks", id), value: undefined, modRevision };
}

function open() {
  const history = new History();
  const commits: Commit[] = [];
  history.subscribe((commit) => commits.push(commit));
  return { replica: new Replica(keys, history), commits };
}

const own = { writer: "w", names: false };

test("a revision that comes twice, as etcd 3.4.24 sends some, counts once", () => {
  const { replica, commits } = open();
  replica.apply(5, [task("a", 5)]);
  replica.apply(5, [task("a", 5)]);
  replica.apply(4, [task("a", 4, 9)]);
  expect(commits.map((commit) => commit.revision)).toEqual([5]);
  expect(replica.view.tasks.get("a")).toMatchObject({ slot: 1, meta: { version: 5 } });
});

test("an own commit is taken over only when it is the very next revision; the watch's copy is then ignored", () => {
  const { replica, commits } = open();
  replica.reset(10, []);
  const after = sampleTask("a", "s1");
  const write = { table: "tasks" as const, id: "a", after, bytes: encodeObject("tasks", after) };
  expect(replica.applyOwn(12, [write], own)).toBe(false);
  expect(replica.view.tasks.size).toBe(0);
  replica.apply(11, [task("b", 11)]);
  expect(replica.applyOwn(12, [write], own)).toBe(true);
  replica.apply(12, [task("a", 12)]);
  expect(replica.applyOwn(12, [write], own)).toBe(true);
  expect(commits.map((commit) => commit.revision)).toEqual([11, 12]);
});

test("a revision of markers alone moves on without a commit", () => {
  const { replica, commits } = open();
  replica.apply(3, [{ key: keys.marker("w1"), value: Buffer.from("x"), modRevision: 3 }]);
  replica.apply(4, [{ key: keys.names, value: Buffer.from("x"), modRevision: 4 }]);
  expect([replica.applied, replica.namesRevision, replica.view.revision]).toEqual([4, 4, 0]);
  expect([...replica.markers]).toEqual([["w1", 3]]);
  expect(commits).toEqual([]);
});

test("a whole new load is one commit of what differs, and leaves what does not as it is", () => {
  const { replica, commits } = open();
  replica.reset(5, [task("same", 3), task("changed", 4), task("removed", 5)]);
  const same = replica.view.tasks.get("same");
  replica.reset(9, [task("same", 3), task("changed", 8, 2), task("added", 9)]);
  expect(commits).toHaveLength(2);
  expect(commits[1]?.revision).toBe(9);
  expect(commits[1]?.changes.map(({ before, after }) => [before?.meta.id, after?.meta.id])).toEqual([
    ["changed", "changed"],
    [undefined, "added"],
    ["removed", undefined],
  ]);
  expect(replica.view.tasks.get("same")).toBe(same);
  // A load that own commits have overtaken meanwhile is older than the view.
  replica.reset(8, []);
  expect(replica.view.tasks.size).toBe(3);
});

test("keys of other tables, other clusters' neighbours and newer versions are left alone; bytes that are no object are refused", async () => {
  const { replica } = open();
  replica.apply(2, [
    { key: Buffer.from("/flotilla/main/secrets/x"), value: Buffer.from("?"), modRevision: 2 },
    { key: Buffer.from("/flotilla/main/fence"), value: Buffer.from("?"), modRevision: 2 },
  ]);
  expect(replica.applied).toBe(2);
  for (const value of [Buffer.from("not a task"), Buffer.alloc(0), task("other", 3).value]) {
    const bad = { key: keys.object("tasks", "bad"), value, modRevision: 3 };
    expect(await codeOf(Promise.resolve().then(() => replica.apply(3, [bad])))).toBe("failed_precondition");
    expect(replica.applied).toBe(2);
  }
});

test("revisions come out whole, however the stream cuts them into messages", () => {
  const whole: [number, string[]][] = [];
  const assembly = new RevisionAssembly((revision, entries) =>
    whole.push([revision, entries.map((entry) => entry.key.toString().split("/").at(-1) ?? "")]),
  );
  const event = ({ key, value, modRevision }: Entry) => ({
    type: value === undefined ? ("Delete" as const) : ("Put" as const),
    kv: {
      key,
      value: value ?? Buffer.alloc(0),
      mod_revision: String(modRevision),
      create_revision: "1",
      version: "1",
      lease: "0",
    },
  });
  const add = (fragment: boolean, ...entries: Entry[]) =>
    assembly.add({ fragment, events: entries.map((entry) => ({ ...event(entry), prev_kv: event(entry).kv })) });
  add(true, task("a", 5), task("b", 6));
  expect(whole).toEqual([[5, ["a"]]]);
  add(true, task("c", 6));
  add(false, gone("d", 6), task("e", 7));
  expect(whole.slice(1)).toEqual([
    [6, ["b", "c", "d"]],
    [7, ["e"]],
  ]);
  // Repetitions of what was passed on, and within one revision.
  add(false, task("c", 6), task("f", 8), task("f", 8));
  expect(whole.slice(3)).toEqual([[8, ["f"]]]);
});
