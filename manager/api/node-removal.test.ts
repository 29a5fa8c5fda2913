import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { NodeAvailability, NodeRole, NodeState, TaskState } from "../../proto/mod.js";
import type { ManagerStatus, UpdateNodeRequest } from "../../proto/gen/flotilla/control/v1/control.js";
import { FakeClock } from "../../test/kit/clock.js";
import { makeNode, makeRevision, makeService, makeSpec, makeTask, readyStatus } from "../../test/kit/objects.js";
import { SoloConsensus } from "../consensus/mod.js";
import { openMemoryStore, type Store } from "../store/mod.js";
import { removeNode } from "./node-removal.js";
import { nodeState, updateNode } from "./nodes.js";

const clock = new FakeClock();
const alone = new SoloConsensus({
  clusterName: "c",
  name: "h9",
  address: "127.0.0.1:7400",
  httpAddress: "127.0.0.1:7401",
});
let store: Store;

beforeEach(() => {
  store = openMemoryStore();
});

afterEach(() => store[Symbol.asyncDispose]());

const status = (state: NodeState) => ({ state, message: "", sinceMs: 0, lossConfirmed: false, lastSeenAtMs: 0 });

async function join(state: NodeState, { task = false } = {}): Promise<void> {
  await store.update((tx) => {
    tx.create("nodes", makeNode("h1", { status: status(state) }));
    if (task) tx.create("tasks", makeTask("t1", { nodeId: "h1", status: readyStatus() }));
  });
}

describe("node rm", () => {
  const remove = (force: boolean, managers: ManagerStatus[] = []) => removeNode(store, managers, { node: "h1", force });

  it("forgets a node that is down and has nothing left", async () => {
    await join(NodeState.DOWN);
    expect((await remove(false)).node?.meta?.id).toBe("h1");
    expect(store.view().nodes.size).toBe(0);
  });

  it.each([
    ["connected", NodeState.READY, false, /node h1 is connected; drain it/],
    ["connected, with force", NodeState.READY, true, /node h1 is connected/],
    ["not heard of", NodeState.UNKNOWN, false, /heard of a moment ago; wait until it is down, or: .*--force h1/],
  ])("refuses one that is %s", async (_, state, force, why) => {
    await join(state);
    await expect(remove(force)).rejects.toMatchObject({
      code: "failed_precondition",
      message: expect.stringMatching(why) as string,
    });
    expect(store.view().nodes.size).toBe(1);
  });

  it("refuses one with tasks that may run, unless it is forced", async () => {
    await join(NodeState.DOWN, { task: true });
    await expect(remove(false)).rejects.toThrow(/has 1 task that may still run; .*flotilla node rm --force h1/);
    await remove(true);
    expect(store.view().nodes.size).toBe(0);
  });

  it("refuses a manager's, forced or not: demote it first", async () => {
    await join(NodeState.DOWN);
    const manager = { ...alone.status().managers[0]!, name: "h1" };
    for (const force of [false, true])
      await expect(remove(force, [manager])).rejects.toThrow(/node h1 is a manager; first: flotilla node demote h1/);
  });

  it("says which node there is instead of one that is not", async () => {
    await join(NodeState.DOWN);
    await expect(removeNode(store, [], { node: "h2", force: true })).rejects.toThrow(/did you mean h1\?/);
  });
});

describe("node drain, lost and inspect", () => {
  const update = (changes: Partial<UpdateNodeRequest>) =>
    updateNode(store, clock, alone, {
      node: "h1",
      availability: NodeAvailability.UNSPECIFIED,
      role: NodeRole.UNSPECIFIED,
      labelsAdd: {},
      labelsRemove: [],
      confirmLoss: false,
      ...changes,
    });
  const { ACTIVE, CORDONED, DRAINED } = NodeAvailability;

  it("keeps since when the node is drained, and until when; a new deadline does not begin the drain again", async () => {
    await join(NodeState.READY);
    const since = clock.now();
    expect((await update({ availability: DRAINED, drainDeadlineMs: 60_000 })).node?.spec).toMatchObject({
      availabilitySinceMs: since,
      drainDeadlineMs: 60_000,
    });
    await clock.advance(5_000);
    expect((await update({ availability: DRAINED })).node?.spec).toMatchObject({
      availabilitySinceMs: since,
      drainDeadlineMs: 60_000,
    });
    expect((await update({ drainDeadlineMs: 0 })).node?.spec).toMatchObject({
      availabilitySinceMs: since,
      drainDeadlineMs: 0,
    });
    const back = await update({ availability: ACTIVE });
    expect(back.node?.spec).toMatchObject({ availabilitySinceMs: since + 5_000, drainDeadlineMs: undefined });
    // The default again, not what an earlier drain had.
    expect((await update({ availability: DRAINED })).node?.spec?.drainDeadlineMs).toBeUndefined();
  });

  it.each([
    ["without a drain", { drainDeadlineMs: 1_000 }, /^drain_deadline: "1s" must come with a drain/],
    ["with a cordon", { availability: CORDONED, drainDeadlineMs: 1_000 }, /^drain_deadline/],
    [
      "that is too long",
      { availability: DRAINED, drainDeadlineMs: 999 * 3_600_000 },
      /must be a duration from 0s to (1d|24h)/,
    ],
  ])("refuses a deadline %s", async (_, changes, why) => {
    await join(NodeState.READY);
    await expect(update(changes)).rejects.toMatchObject({
      code: "invalid_argument",
      message: expect.stringMatching(why) as string,
    });
  });

  it("takes a loss as confirmed only for a node that is not connected", async () => {
    await join(NodeState.UNKNOWN);
    expect((await update({ confirmLoss: true })).node?.status?.lossConfirmed).toBe(true);
    await store.update((tx) => tx.put("nodes", { ...tx.nodes.get("h1")!, status: status(NodeState.READY) }));
    await expect(update({ confirmLoss: true })).rejects.toThrow(/node h1 is connected, and not lost/);
  });

  it("adds up what its tasks reserve, countable things too, until they have ended", async () => {
    const spec = makeSpec();
    spec.task.reservations = { nanoCpus: 5, memoryBytes: 7, generic: { gpu: 2, constructor: 1 } };
    const service = makeService({ spec });
    await store.update((tx) => {
      tx.create("nodes", makeNode("h1"));
      tx.create("revisions", makeRevision(service));
      const on = { nodeId: "h1", status: readyStatus() };
      tx.create("tasks", makeTask("t1", on));
      tx.create("tasks", makeTask("t2", { ...on, desiredState: TaskState.SHUTDOWN }));
      tx.create("tasks", makeTask("t3", { ...on, status: { ...readyStatus(), state: TaskState.FAILED } }));
    });
    const { tasks, reserved } = nodeState(store.view(), store.view().nodes.get("h1")!, []);
    expect(tasks).toBe(1);
    expect(reserved).toEqual({ nanoCpus: 10, memoryBytes: 14, generic: { gpu: 4, constructor: 2 } });
  });
});
