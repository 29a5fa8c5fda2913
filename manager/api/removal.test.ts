// The symptom: `cluster leave` took a promoted node's manager out, and the node's agent started a new one at once.

import { describe, expect, it } from "vitest";
import { ClusterError } from "../../lib/mod.js";
import { NodeRole } from "../../proto/mod.js";
import type { ClusterStatus, ManagerStatus } from "../../proto/gen/flotilla/control/v1/control.js";
import { FakeClock } from "../../test/kit/clock.js";
import { makeNode } from "../../test/kit/objects.js";
import { type Member, SoloConsensus } from "../consensus/mod.js";
import { openMemoryStore } from "../store/mod.js";
import { removeManager } from "./removal.js";

const manager = (id: number, more: Partial<ManagerStatus> = {}): ManagerStatus => ({
  id,
  name: `h${id}`,
  address: `10.0.0.${id}:7400`,
  voter: true,
  leader: id === 1,
  reachable: true,
  replication: "replicate",
  matchIndex: 9,
  lag: 0,
  ...more,
});

class FakeConsensus extends SoloConsensus {
  readonly managers: ManagerStatus[];
  /** What was asked for, and what was stored of h2's node by then. */
  readonly asked: { manager: string; role: NodeRole | undefined }[] = [];
  role: () => NodeRole | undefined = () => undefined;

  constructor(managers: ManagerStatus[]) {
    super({ clusterName: "c", name: "h1", address: "10.0.0.1:7400", httpAddress: "10.0.0.1:7401" });
    this.managers = managers;
  }

  override status(): ClusterStatus {
    return { ...super.status(), managers: this.managers };
  }

  override removeManager(asked = ""): Promise<Member> {
    this.asked.push({ manager: asked, role: this.role() });
    const found = this.managers.find(({ id, name, address }) => [String(id), name, address].includes(asked));
    return found === undefined
      ? Promise.reject(new ClusterError("not_found", `no manager ${asked}`))
      : Promise.resolve({ ...found, httpAddress: "", nonce: "", learner: false });
  }
}

async function world(managers: ManagerStatus[], role: NodeRole) {
  const store = openMemoryStore();
  const clock = new FakeClock();
  const consensus = new FakeConsensus(managers);
  const node = (id: string, hostname: string) =>
    makeNode(id, {
      description: { ...makeNode(id).description, hostname },
      spec: { ...makeNode(id).spec, role },
      subnet: id,
    });
  await store.update((tx) => {
    tx.create("nodes", node("node000002", "h2"));
    tx.create("nodes", node("node000003", "h3"));
  });
  const roleOf = (id: string) => store.view().nodes.get(id)?.spec.role;
  consensus.role = () => roleOf("node000002");
  const remove = (wanted: string, force = false) => removeManager(store, clock, consensus, wanted, force);
  return { store, consensus, roleOf, remove };
}

describe("removeManager", () => {
  it.each(["h2", "2", "10.0.0.2:7400"])(
    "%s: its node is to have no manager, before it is taken out",
    async (wanted) => {
      const { consensus, roleOf, remove } = await world([manager(1), manager(2), manager(3)], NodeRole.MANAGER);
      expect(await remove(wanted)).toMatchObject({ id: 2, name: "h2", voter: true });
      expect(consensus.asked).toEqual([{ manager: wanted, role: NodeRole.WORKER }]);
      expect([roleOf("node000002"), roleOf("node000003")]).toEqual([NodeRole.WORKER, NodeRole.MANAGER]);
    },
  );

  it("writes nothing where nobody wished for a manager", async () => {
    const { store, roleOf, remove } = await world([manager(1), manager(2), manager(3)], NodeRole.UNSPECIFIED);
    const { revision } = store.view();
    await remove("h2");
    expect([roleOf("node000002"), store.view().revision]).toEqual([NodeRole.UNSPECIFIED, revision]);
  });

  it.each([
    [
      "the last one",
      [manager(1, { voter: false }), manager(2)],
      /manager 2 \(h2, 10\.0\.0\.2:7400\) is the last voting/,
    ],
    [
      "a quorum's",
      [manager(1), manager(2), manager(3, { reachable: false })],
      /1 of 2 voting managers answer, and 2 are/,
    ],
    ["none", [manager(1), manager(3)], /no manager h2/],
  ])("refuses %s, and the node stays what it is to be", async (_, managers, message) => {
    const { store, consensus, remove } = await world(managers, NodeRole.MANAGER);
    const before = store.view().nodes;
    await expect(remove("h2")).rejects.toThrow(message);
    expect([...store.view().nodes.values()]).toEqual([...before.values()]);
    expect(consensus.asked.length).toBe(managers.length === 2 && managers[1]?.id === 3 ? 1 : 0);
  });

  it("goes on without a quorum of the others by force, and without a vote in any case", async () => {
    const away = { reachable: false };
    const forced = await world([manager(1), manager(2), manager(3, away)], NodeRole.MANAGER);
    expect(await forced.remove("h2", true)).toMatchObject({ id: 2 });
    const learner = await world([manager(1), manager(2, { voter: false }), manager(3, away)], NodeRole.MANAGER);
    expect(await learner.remove("h2")).toMatchObject({ id: 2, voter: false });
    expect(learner.roleOf("node000002")).toBe(NodeRole.WORKER);
  });
});
