// Managers come and go while the cluster runs, in a lab of its own: its nodes change what they are.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BUSYBOX_IMAGE, Lab } from "../../packaging/lab/mod.js";
import { LabCluster, eventually, inTouch } from "../kit/lab.js";

const name = "members";
let cluster: LabCluster;

interface Status {
  leader: { name: string } | null;
  managers: { name: string; role: string; state: string }[];
}

const status = () => cluster.json<Status>("cluster", "status");

/** Names of the managers that vote and are in touch with the leader. */
async function voters(): Promise<string[]> {
  const { managers } = await status();
  return managers
    .filter(({ role, state }) => role !== "learner" && inTouch(state))
    .map(({ name }) => name)
    .sort();
}

async function containers(): Promise<string[]> {
  const perHost = await Promise.all(cluster.lab.hosts.map((n) => cluster.containers(n, "web")));
  return perHost.flat().sort();
}

beforeAll(async () => {
  await Lab.down(name);
  cluster = new LabCluster(await Lab.up({ name, hosts: 5, managers: 1, images: ["busybox"] }));
  await cluster.must("service", "create", "--name", "web", "--replicas", "5", BUSYBOX_IMAGE);
});
afterAll(async () => {
  await Lab.down(name);
});

describe("a cluster of five nodes that began with one manager", () => {
  it("1 to 3 to 5 to 3 managers, the first one among those that leave; nothing that runs is touched", async () => {
    const before = await containers();
    expect(before).toHaveLength(5);
    expect(await voters()).toEqual(["h1"]);
    await cluster.must("node", "promote", "h2", "h3");
    expect(await voters()).toEqual(["h1", "h2", "h3"]);
    await cluster.must("node", "promote", "h4", "h5");
    expect(await voters()).toEqual(["h1", "h2", "h3", "h4", "h5"]);
    await cluster.must("service", "create", "--detach", "--name", "five", "--replicas", "0", BUSYBOX_IMAGE);
    // The command line knows h1 only, from before; what is asked of it while it leaves is answered by the others.
    const managers = [2, 3, 4, 5].map((n) => `${cluster.lab.address(n)}:7400`).join(",");
    await cluster.must("--host", managers, "node", "demote", "h1");
    await cluster.must("--host", managers, "node", "demote", "h2");
    const { managers: left, leader } = await cluster.json<Status>("--host", managers, "cluster", "status");
    expect(left.map(({ name }) => name).sort()).toEqual(["h3", "h4", "h5"]);
    expect(["h3", "h4", "h5"]).toContain(leader?.name);
    const rows = await cluster.json<{ name: string; desiredState: string }[]>(
      "--host",
      managers,
      "service",
      "ps",
      "web",
    );
    expect(rows).toHaveLength(5);
    expect(await containers()).toEqual(before);
    // The removed one's process ended by itself, and its agent found the others.
    await eventually("no manager listens on h1", async () => {
      const { code } = await cluster.lab.exec(1, ["busybox", "nc", "-z", cluster.lab.address(1), "7400"]);
      return code !== 0;
    });
    await eventually("every node is ready", async () => {
      const nodes = await cluster.json<{ state: string }[]>("--host", managers, "node", "ls");
      return nodes.filter(({ state }) => state === "ready").length === 5;
    });
    // The last managers of a cluster cannot be taken out behind its back.
    await cluster.must("--host", managers, "node", "demote", "h3");
    await cluster.must("--host", managers, "node", "demote", "h4");
    const last = await cluster.run(["--host", managers, "node", "demote", "h5"]);
    expect(last.code).not.toBe(0);
    expect(last.stderr).toMatch(/only manager with a vote/);
    // And a node that was one can be one again.
    await cluster.must("--host", managers, "node", "promote", "h2", "h3");
    expect(await containers()).toEqual(before);
  });
});
