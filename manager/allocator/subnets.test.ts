import { describe, expect, it } from "vitest";
import type { Cluster } from "../../proto/mod.js";
import { clusterDefaults } from "../api/cluster.js";
import { SubnetPool } from "./mod.js";

const cluster: Cluster = {
  meta: { id: "c", version: 0, createdAtMs: 0, updatedAtMs: 0 },
  name: "c",
  ...clusterDefaults,
  nodePool: "10.8.0.0/22",
  nodePrefix: 24,
  settings: undefined,
  brake: undefined,
};

describe("SubnetPool", () => {
  it("gives each node its own, stored or not yet, and the same one when asked again", () => {
    const pool = new SubnetPool();
    expect(pool.take(cluster, "a")).toBe("10.8.1.0/24");
    expect(pool.take(cluster, "b")).toBe("10.8.2.0/24");
    expect(pool.take(cluster, "a")).toBe("10.8.1.0/24");
    pool.stored("a", "10.8.1.0/24");
    pool.settle("a");
    expect(pool.take(cluster, "c")).toBe("10.8.3.0/24");
    expect(() => pool.take(cluster, "d")).toThrow(/all 3 node subnets of 10\.8\.0\.0\/22/);
  });

  it("gives what was never stored, or is no longer, to others", () => {
    const pool = new SubnetPool();
    pool.stored("x", "10.8.2.0/24");
    pool.take(cluster, "a");
    pool.settle("a");
    expect(pool.take(cluster, "b")).toBe("10.8.1.0/24");
    expect(pool.take(cluster, "c")).toBe("10.8.3.0/24");
    pool.stored("x", undefined);
    expect(pool.take(cluster, "d")).toBe("10.8.2.0/24");
  });
});
