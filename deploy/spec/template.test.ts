import { expect, test } from "vitest";
import {
  ConcurrencyPolicy,
  MountType,
  PlacementStrategy,
  Protocol,
  PublishMode,
  type ServiceSpec,
} from "../../proto/mod.js";
import { makeSpec } from "../../test/kit/objects.js";
import { equalPlacement, templateHash } from "./mod.js";

const spec = makeSpec({ ports: [80, 443] });
const mounted = (volumeDriver: string): ServiceSpec =>
  withTask({
    container: {
      ...spec.task.container,
      mounts: [{ type: MountType.VOLUME, source: "data", target: "/d", readOnly: false, volumeDriver }],
    },
  });
const published = (publishedPort: number, mode: PublishMode): ServiceSpec => ({
  ...spec,
  ports: spec.ports.map((port, i) => (i === 0 ? { ...port, publishedPort, mode } : port)),
});
const withTask = (changes: Partial<ServiceSpec["task"]>): ServiceSpec => ({
  ...spec,
  task: { ...spec.task, ...changes },
});

test.each<[string, ServiceSpec]>([
  ["replicas", makeSpec({ ports: [80, 443], replicas: 9 })],
  ["labels of the service", { ...spec, labels: { a: "b" } }],
  ["update settings", { ...spec, update: { ...spec.update, parallelism: 7 } }],
  [
    "placement",
    withTask({
      placement: {
        constraints: ["node.id==a"],
        maxReplicasPerNode: 1,
        preferences: [],
        affinities: [],
        strategy: PlacementStrategy.UNSPECIFIED,
      },
    }),
  ],
  [
    "a published port",
    { ...spec, ports: spec.ports.map((port) => ({ ...port, publishedPort: port.targetPort + 8000 })) },
  ],
  ["the order of ports", makeSpec({ ports: [443, 80] })],
  ["priority", withTask({ priority: 100 })],
  [
    "affinities, preferences and strategy",
    withTask({
      placement: {
        ...spec.task.placement,
        preferences: ["spread=node.labels.zone"],
        affinities: [{ expression: "service==db", weight: 1, required: false }],
        strategy: PlacementStrategy.BINPACK,
      },
    }),
  ],
  ["completions", { ...spec, mode: { $case: "replicatedJob", value: { completions: 9 } } }],
  [
    "a schedule",
    {
      ...spec,
      mode: {
        $case: "cron",
        value: { schedule: "@daily", timeZone: "UTC", concurrency: ConcurrencyPolicy.FORBID, suspended: true },
      },
    },
  ],
  ["automatic scaling", { ...spec, autoscale: { min: 1, max: 5, requestsPerReplica: 10 } }],
  ["dependencies", { ...spec, dependsOn: ["db"] }],
  ["surge and unavailability", { ...spec, update: { ...spec.update, maxSurge: 2, maxUnavailable: 1 } }],
])("%s may change without a restart", (_, changed) => {
  expect(templateHash(changed)).toBe(templateHash(spec));
});

test.each<[string, ServiceSpec]>([
  ["the image", makeSpec({ ports: [80, 443], image: "other" })],
  ["a target port", makeSpec({ ports: [80, 444] })],
  ["a port less", makeSpec({ ports: [80] })],
  ["a limit", withTask({ limits: { nanoCpus: 1e9, memoryBytes: 0, generic: {} } })],
  ["what is reserved by name", withTask({ reservations: { nanoCpus: 0, memoryBytes: 0, generic: { gpu: 1 } } })],
  ["a volume's driver", mounted("nfs")],
  ["a published port to one of the host", published(8080, PublishMode.HOST)],
  // Its agent is told when it gets the task, and the managers count by what it was told.
  ["what happens when the agent is cut off", { ...spec, stopAfterDisconnectMs: 60_000 }],
  ["the environment", withTask({ container: { ...spec.task.container, env: ["A=1"] } })],
])("a change of %s restarts tasks", (_, changed) => {
  expect(templateHash(changed)).not.toBe(templateHash(spec));
});

test("the order of labels and absent keys make no difference", () => {
  const labelled = (labels: Record<string, string>) => withTask({ container: { ...spec.task.container, labels } });
  expect(templateHash(labelled({ a: "1", b: "2" }))).toBe(templateHash(labelled({ b: "2", a: "1" })));
  const { init: _, ...without } = { ...spec.task.container, init: undefined };
  expect(templateHash(withTask({ container: without }))).toBe(templateHash(spec));
  expect(spec.ports[0]?.protocol).toBe(Protocol.TCP);
});

test("placement is compared by the limit per node, too", () => {
  expect(equalPlacement(spec, makeSpec({ replicas: 3 }))).toBe(true);
  expect(
    equalPlacement(
      spec,
      withTask({
        placement: {
          constraints: [],
          maxReplicasPerNode: 1,
          preferences: [],
          affinities: [],
          strategy: PlacementStrategy.UNSPECIFIED,
        },
      }),
    ),
  ).toBe(false);
});

test("another driver of the same volume, and another port of the host, restart tasks", () => {
  expect(templateHash(mounted("nfs"))).not.toBe(templateHash(mounted("")));
  expect(templateHash(published(8081, PublishMode.HOST))).not.toBe(templateHash(published(8080, PublishMode.HOST)));
});

test.each<[string, Partial<ServiceSpec["task"]["placement"]>]>([
  ["preferences", { preferences: ["spread=node.labels.zone"] }],
  ["affinities", { affinities: [{ expression: "service==db", weight: 1, required: false }] }],
  ["the strategy", { strategy: PlacementStrategy.BINPACK }],
])("%s are part of placement, priority is not", (_, changes) => {
  expect(equalPlacement(spec, withTask({ placement: { ...spec.task.placement, ...changes } }))).toBe(false);
  expect(equalPlacement(spec, withTask({ priority: 7 }))).toBe(true);
});
