import { afterEach, beforeEach, expect, test } from "vitest";
import { seededRng, silentLogger } from "../../lib/mod.js";
import { replicasOf } from "../../proto/mod.js";
import { FakeClock } from "../../test/kit/clock.js";
import { makeRevision, makeService, makeSpec, makeTask, readyStatus } from "../../test/kit/objects.js";
import { openMemoryStore, type Store } from "../store/mod.js";
import { Autoscaler, type Use } from "./mod.js";

let clock: FakeClock;
let store: Store;
let autoscaler: Autoscaler;
let usage: Map<string, Use>;

beforeEach(async () => {
  clock = new FakeClock();
  store = openMemoryStore();
  usage = new Map();
  const spec = makeSpec({ replicas: 2 });
  spec.autoscale = { min: 1, max: 8, cpuPercent: 50 };
  spec.task.reservations.nanoCpus = 1e9;
  const service = makeService({ spec });
  await store.update((tx) => {
    tx.create("services", service);
    tx.create("revisions", makeRevision(service));
    for (const slot of [1, 2]) tx.create("tasks", task(slot));
  });
  autoscaler = start();
  await clock.advance(1);
});

afterEach(async () => {
  await autoscaler[Symbol.asyncDispose]();
  await store[Symbol.asyncDispose]();
});

const task = (slot: number) =>
  makeTask(`t${slot}`, { slot, status: readyStatus(), readySinceMs: clock.now() - 60_000 });

function start(): Autoscaler {
  const made = new Autoscaler({
    store,
    dispatcher: { usage: () => usage },
    clock,
    rng: seededRng(1),
    log: silentLogger,
  });
  made.start();
  return made;
}

function use(percent: number, ...slots: number[]): void {
  for (const slot of slots)
    usage.set(`t${slot}`, { nanoCpus: percent * 1e7, memoryBytes: undefined, requestsMilli: 0 });
}

const service = () => store.view().services.get("service-web")!;
const replicas = () => replicasOf(service().spec);

test("a service that is used more gets a revision more, with the cause, and its tasks stay", async () => {
  use(90, 1, 2);
  await clock.advance(15_000);
  expect(replicas()).toBe(4);
  expect(service().autoscale).toMatchObject({ scaledDownAtMs: 0, message: "autoscaled from 2 to 4: cpu 90 % of 50 %" });
  expect(service().autoscale?.scaledUpAtMs).toBeGreaterThan(0);
  expect(store.view().revisionOfService("service-web", 2)?.cause).toBe("autoscaled from 2 to 4: cpu 90 % of 50 %");
  expect(store.view().rollouts.size).toBe(0);
});

test("a look that changes nothing writes nothing but what it means, once", async () => {
  await clock.advance(15_000);
  expect(service().autoscale?.message).toBe("nothing is known of what its tasks use");
  use(50, 1, 2);
  await clock.advance(15_000);
  expect(service().autoscale?.message).toBe("cpu 50 % of 50 %");
  const { revision } = store.view();
  for (let i = 0; i < 20; i += 1) {
    use(48 + (i % 5), 1, 2);
    await clock.advance(15_000);
  }
  expect(store.view().revision).toBe(revision);
});

test("it shrinks after a whole cool-down of looks; a new leader begins that anew", async () => {
  use(10, 1, 2);
  await clock.advance(200_000);
  await autoscaler[Symbol.asyncDispose]();
  autoscaler = start();
  await clock.advance(290_000);
  expect(replicas()).toBe(2);
  await clock.advance(30_000);
  expect(replicas()).toBe(1);
  expect(service().autoscale?.scaledDownAtMs).toBeGreaterThan(0);
});

test("services that are removed, or not scaled by use, are left alone", async () => {
  await store.update((tx) => tx.put("services", { ...service(), removing: true }));
  use(90, 1, 2);
  await clock.advance(60_000);
  expect(replicas()).toBe(2);
  await store.update((tx) => {
    const { autoscale: _, ...spec } = service().spec;
    tx.put("services", { ...service(), removing: false, spec: { ...spec, autoscale: undefined } });
  });
  await clock.advance(60_000);
  expect(replicas()).toBe(2);
});
