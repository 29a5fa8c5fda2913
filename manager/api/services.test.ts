import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { seededRng } from "../../lib/mod.js";
import { Protocol, PublishMode, RestartCondition, RolloutState, type ServiceSpec } from "../../proto/mod.js";
import { FakeClock } from "../../test/kit/clock.js";
import { makeSpec } from "../../test/kit/objects.js";
import { openMemoryStore, type Store } from "../store/mod.js";
import { ensureCluster } from "./cluster.js";
import { Services } from "./services.js";

function specOf(name: string, image: string, publishedPort: number): ServiceSpec {
  return {
    ...makeSpec({ name, image }),
    ports: [{ protocol: Protocol.TCP, targetPort: 80, publishedPort, name: "", mode: PublishMode.INGRESS }],
  };
}

describe("Services", () => {
  let store: Store;
  let services: Services;

  beforeEach(async () => {
    store = openMemoryStore();
    const clock = new FakeClock();
    await ensureCluster(store, "test", clock, seededRng(1));
    services = new Services({ store, clock, rng: seededRng(2) });
  });

  afterEach(() => store[Symbol.asyncDispose]());

  const create = (spec: ServiceSpec, requestId = "") => services.create({ spec, requestId });
  const update = (spec: ServiceSpec) =>
    services.update({ service: spec.name, spec, version: 0, force: false, requestId: "" });

  it("answers a request that is sent again as before, also after other changes", async () => {
    const { service } = await create(specOf("web", "one", 8080), "r1");
    await services.scale({ service: "web", replicas: 3, requestId: "r2" });
    const again = await create(specOf("web", "one", 8080), "r1");
    expect(again.service?.meta?.id).toBe(service?.meta?.id);
    await services.scale({ service: "web", replicas: 5, requestId: "r3" });
    expect((await services.scale({ service: "web", replicas: 3, requestId: "r2" })).service?.spec?.mode).toEqual({
      $case: "replicated",
      value: { replicas: 5 },
    });
    await expect(create(specOf("web", "one", 8080), "r9")).rejects.toMatchObject({ code: "already_exists" });
    expect(store.view().services.size).toBe(1);
  });

  it("is to be asked again while a cluster's first leader has yet to store its settings", async () => {
    const young = new Services({ store: openMemoryStore(), clock: new FakeClock(), rng: seededRng(3) });
    await expect(young.create({ spec: specOf("web", "one", 8080), requestId: "" })).rejects.toMatchObject({
      code: "unavailable",
      retryable: true,
    });
  });

  it("keeps the ports of a rollout that may be undone from other services until it has ended", async () => {
    await create(specOf("web", "one", 8080));
    const { rollout } = await update(specOf("web", "two", 0));
    await expect(create(specOf("api", "api", 8080))).rejects.toMatchObject({
      code: "already_exists",
      message: expect.stringContaining("service web publishes it until its rollout has ended") as string,
    });
    await services.abortRollout({ service: "web", requestId: "" });
    expect(store.view().serviceByName("web")?.spec.ports[0]?.publishedPort).toBe(8080);

    await update(specOf("web", "two", 0));
    for (const under of [...store.view().rollouts.values()])
      await store.update((tx) => tx.put("rollouts", { ...under, state: RolloutState.COMPLETED }));
    await create(specOf("api", "api", 8080));
    expect(rollout?.fromRevision).toBe(1);
    await expect(services.rollback({ service: "web", toRevision: 1, requestId: "" })).rejects.toMatchObject({
      code: "already_exists",
    });
  });

  it("refuses services that wait for each other, with the circle spelled out", async () => {
    const on = (name: string, dependsOn: string[]): ServiceSpec => ({ ...makeSpec({ name }), dependsOn });
    await create(on("a", ["b"]));
    await create(on("b", ["c"]));
    await expect(create(on("c", ["x", "a"]))).rejects.toMatchObject({
      code: "invalid_argument",
      violations: [
        {
          field: "depends_on[1]",
          value: "a",
          rule: "must not lead back to c: c depends on a depends on b depends on c",
          fix: "leave out a, or one of the others of this circle",
        },
      ],
    });
    await create(on("c", ["x"]));
    await expect(update(on("c", ["a"]))).rejects.toMatchObject({ code: "invalid_argument" });
    expect(store.view().serviceByName("a")?.waitingFor).toBe("waits for b");
  });

  it("asks for a run of a job once per request", async () => {
    const { task, ...rest } = makeSpec({ name: "once", ports: [] });
    const restart = { ...task.restart, condition: RestartCondition.ON_FAILURE };
    const mode = { $case: "replicatedJob", value: {} } as const;
    const spec = { ...rest, task: { ...task, restart }, mode, update: undefined, rollback: undefined };
    await services.create({ spec, requestId: "" });
    await services.run({ service: "once", requestId: "r" });
    const { service } = await services.run({ service: "once", requestId: "r" });
    expect(service?.job?.requested).toEqual(["r"]);
    await expect(services.scale({ service: "once", replicas: 2, requestId: "" })).rejects.toMatchObject({
      code: "invalid_argument",
    });
  });
});
