import { expect, test } from "vitest";
import { PlacementStrategy, Protocol, type ServiceSpec } from "../../proto/mod.js";
import { makeSpec } from "../../test/kit/objects.js";
import { equalPlacement, templateHash } from "./mod.js";

const spec = makeSpec({ ports: [80, 443] });
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
])("%s may change without a restart", (_, changed) => {
  expect(templateHash(changed)).toBe(templateHash(spec));
});

test.each<[string, ServiceSpec]>([
  ["the image", makeSpec({ ports: [80, 443], image: "other" })],
  ["a target port", makeSpec({ ports: [80, 444] })],
  ["a port less", makeSpec({ ports: [80] })],
  ["a limit", withTask({ limits: { nanoCpus: 1e9, memoryBytes: 0, generic: {} } })],
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

test("placement is compared by constraints and the limit per node", () => {
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
