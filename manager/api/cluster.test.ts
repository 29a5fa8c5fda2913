import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { seededRng } from "../../lib/mod.js";
import { PlacementStrategy } from "../../proto/mod.js";
import type { UpdateClusterRequest } from "../../proto/gen/flotilla/control/v1/control.js";
import { FakeClock } from "../../test/kit/clock.js";
import { openMemoryStore, type Store } from "../store/mod.js";
import { clusterState, ensureCluster, updateCluster } from "./cluster.js";

let store: Store;
const clock = new FakeClock();

beforeEach(async () => {
  store = openMemoryStore();
  await ensureCluster(store, "test", clock, seededRng(1));
});

afterEach(() => store[Symbol.asyncDispose]());

const update = (changes: Partial<UpdateClusterRequest>) =>
  updateCluster(store, clock, { strategy: PlacementStrategy.UNSPECIFIED, ...changes });

describe("cluster settings", () => {
  it("have defaults, and say them", () => {
    expect(clusterState(store.view()).cluster?.settings).toEqual({
      strategy: PlacementStrategy.SPREAD,
      preemption: false,
      lostAfterMs: 15_000,
      taskHistory: 5,
      rebalanceMoves: 0,
      rebalanceIntervalMs: 300_000,
    });
  });

  it("change one by one, and what is not named stays", async () => {
    await update({ lostAfterMs: 30_000 });
    await update({ strategy: PlacementStrategy.BINPACK, preemption: true });
    const { cluster } = await update({ rebalanceMoves: 2 });
    expect(cluster?.settings).toMatchObject({
      strategy: PlacementStrategy.BINPACK,
      preemption: true,
      lostAfterMs: 30_000,
      rebalanceMoves: 2,
    });
    // What nobody set follows the defaults of later versions.
    const [stored] = store.view().clusters.values();
    expect(stored?.settings?.taskHistory).toBeUndefined();
    expect((await update({ preemption: false })).cluster?.settings?.preemption).toBe(false);
  });

  it("are refused all at once where they make no sense", async () => {
    const refused = await update({
      strategy: 9 as never,
      lostAfterMs: 9_000,
      taskHistory: 0,
      rebalanceMoves: 100_000,
      rebalanceIntervalMs: 1,
    }).catch((error: unknown) => error);
    expect(refused).toMatchObject({
      code: "invalid_argument",
      violations: [
        { field: "placement_strategy", rule: "must be spread or binpack" },
        { field: "lost_after", value: "9s", fix: "use for example 15s" },
        { field: "task_history", value: "0" },
        { field: "rebalance_moves" },
        { field: "rebalance_interval" },
      ],
    });
  });

  it("are to be asked for again where a cluster's first leader has yet to store them", () => {
    expect(() => clusterState(openMemoryStore().view())).toThrow(/not stored yet/);
  });
});
