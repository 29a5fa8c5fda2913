import { describe, expect, it } from "vitest";
import { seededRng } from "../../lib/mod.js";
import { NodeAvailability, NodeRole } from "../../proto/mod.js";
import { FakeClock } from "../../test/kit/clock.js";
import { makeNode, makeService, makeSpec, makeTask } from "../../test/kit/objects.js";
import { allocateVip } from "../allocator/mod.js";
import { openMemoryStore } from "../store/mod.js";
import { SoloConsensus } from "../consensus/mod.js";
import { clusterDefaults, ensureCluster } from "./cluster.js";
import { findNode, findService, findTask } from "./lookup.js";
import { updateNode } from "./nodes.js";

const cluster = (changes: object) => ({
  meta: { id: "c", version: 0, createdAtMs: 0, updatedAtMs: 0 },
  name: "c",
  ...clusterDefaults,
  settings: undefined,
  brake: undefined,
  ...changes,
});

describe("allocator", () => {
  it("never gives the same address twice, skips the resolver's, and says when there is none left", async () => {
    const store = openMemoryStore();
    const small = cluster({ vipPool: "10.9.0.0/29", dnsAddress: "10.9.0.3" });
    for (let i = 0; i < 5; i += 1)
      await store.update((tx) =>
        tx.create(
          "services",
          makeService({
            meta: { id: `s${i}`, version: 0, createdAtMs: i, updatedAtMs: i },
            spec: makeSpec({ name: `s${i}` }),
            vip: allocateVip(tx, small),
          }),
        ),
      );
    const vips = [...store.view().services.values()].map(({ vip }) => vip).sort();
    expect(vips).toEqual(["10.9.0.1", "10.9.0.2", "10.9.0.4", "10.9.0.5", "10.9.0.6"]);
    expect(() => allocateVip(store.view(), small)).toThrow(/all 5 virtual IPs of 10.9.0.0\/29 are in use/);
  });
});

describe("cluster", () => {
  it("is made once, and a store of another cluster is refused", async () => {
    const store = openMemoryStore();
    const clock = new FakeClock();
    const made = await ensureCluster(store, "a", clock, seededRng(1));
    expect((await ensureCluster(store, "a", clock, seededRng(2))).meta.id).toBe(made.meta.id);
    await expect(ensureCluster(store, "b", clock, seededRng(3))).rejects.toMatchObject({ code: "failed_precondition" });
  });
});

describe("names", () => {
  it("finds by name, id and unique prefix, and suggests what was meant", async () => {
    const store = openMemoryStore();
    await store.update((tx) => {
      tx.create("services", makeService({ meta: { id: "abcdef1", version: 0, createdAtMs: 0, updatedAtMs: 0 } }));
      tx.create(
        "services",
        makeService({
          meta: { id: "abcdxyz", version: 0, createdAtMs: 0, updatedAtMs: 0 },
          spec: makeSpec({ name: "api" }),
        }),
      );
      tx.create("nodes", makeNode("node000001", { description: { ...makeNode("x").description, hostname: "h1" } }));
    });
    const view = store.view();
    expect(findService(view, "web").spec.name).toBe("web");
    expect(findService(view, "abcdef1").spec.name).toBe("web");
    expect(findService(view, "abcde").spec.name).toBe("web");
    expect(() => findService(view, "abcd")).toThrow(/beginning of 2 ids/);
    expect(() => findService(view, "wed")).toThrow(/no service "wed"; did you mean web\?/);
    expect(findNode(view, "h1").meta.id).toBe("node000001");
    expect(() => findNode(view, "h9")).toThrow(/no node "h9"; did you mean h1\?/);
  });
});

describe("tasks", () => {
  it("are found by id, unique prefix and slot: then the newest of the newest run", async () => {
    const store = openMemoryStore();
    const at = (id: string, createdAtMs: number) => ({ id, version: 0, createdAtMs, updatedAtMs: 0 });
    await store.update((tx) => {
      tx.create("services", makeService());
      tx.create(
        "services",
        makeService({ meta: at("empty", 0), spec: makeSpec({ name: "db" }), waitingFor: "waits for vault" }),
      );
      tx.create("tasks", makeTask("aaaa1", { meta: at("aaaa1", 1) }));
      tx.create("tasks", makeTask("aaaa2", { meta: at("aaaa2", 5), run: 1 }));
      tx.create("tasks", makeTask("bbbb1", { meta: at("bbbb1", 3), run: 2 }));
      tx.create("tasks", makeTask("cccc1", { meta: at("cccc1", 3), slot: 2 }));
    });
    const view = store.view();
    const found = (wanted: string) => findTask(view, wanted).meta.id;
    expect(["aaaa1", "bbbb", "web.1", "web.2", "service-web.2"].map(found)).toEqual([
      "aaaa1",
      "bbbb1",
      "bbbb1",
      "cccc1",
      "cccc1",
    ]);
    expect(() => found("aaaa")).toThrow(/beginning of 2 ids/);
    expect(() => found("web")).toThrow(/service web has several tasks; give the slot: web\.1; there are 1, 2/);
    expect(() => found("web.3")).toThrow(/service web has no task in slot 3; there are 1, 2/);
    expect(() => found("wed.1")).toThrow(/no service "wed"; did you mean web\?/);
    expect(() => found("db.1")).toThrow(/service db has no tasks: it waits for vault/);
    expect(() => found("webb")).toThrow(/no task "webb"/);
  });
});

const alone = new SoloConsensus({
  clusterName: "c",
  name: "h9",
  address: "127.0.0.1:7400",
  httpAddress: "127.0.0.1:7401",
});

describe("updateNode", () => {
  it("changes labels and availability, refuses bad keys and labels that are not there", async () => {
    const store = openMemoryStore();
    const clock = new FakeClock();
    await store.update((tx) => tx.create("nodes", makeNode("node000001")));
    const request = {
      node: "node000001",
      availability: NodeAvailability.UNSPECIFIED,
      role: NodeRole.UNSPECIFIED,
      labelsAdd: {},
      confirmLoss: false,
      labelsRemove: [],
    };
    const drained = await updateNode(store, clock, alone, {
      ...request,
      availability: NodeAvailability.DRAINED,
      labelsAdd: { zone: "eu" },
    });
    expect(drained.node?.spec).toMatchObject({ availability: NodeAvailability.DRAINED, labels: { zone: "eu" } });
    await expect(updateNode(store, clock, alone, { ...request, labelsAdd: { "a b": "x" } })).rejects.toMatchObject({
      code: "invalid_argument",
    });
    await expect(
      updateNode(store, clock, alone, { ...request, confirmLoss: false, labelsRemove: ["rack"] }),
    ).rejects.toThrow(/has no label "rack"/);
    await expect(updateNode(store, clock, alone, { ...request, availability: 99 as never })).rejects.toThrow(
      /^availability:/,
    );
    const bare = await updateNode(store, clock, alone, { ...request, confirmLoss: false, labelsRemove: ["zone"] });
    expect(bare.node?.spec?.labels).toEqual({});
  });
});
