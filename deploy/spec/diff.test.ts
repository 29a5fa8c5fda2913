import * as fc from "fast-check";
import { expect, test } from "vitest";
import { FailureAction, MountType, Protocol, PublishMode, type ServiceSpec, UpdateOrder } from "../../proto/mod.js";
import { ServiceSpec as Message } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { makeSpec } from "../../test/kit/objects.js";
import { anySpec } from "../../test/kit/specs.js";
import { checkServiceSpec, diffSpecs, equalPlacement, equalSpecs, templateHash } from "./mod.js";

const spec = makeSpec();
const container = (changes: object): ServiceSpec => ({
  ...spec,
  task: { ...spec.task, container: { ...spec.task.container, ...changes } },
});
const task = (changes: object): ServiceSpec => ({ ...spec, task: { ...spec.task, ...changes } });
const placement = (changes: object) => task({ placement: { ...spec.task.placement, ...changes } });
const port = (changes: object) => ({
  protocol: Protocol.TCP,
  targetPort: 80,
  publishedPort: 0,
  name: "",
  mode: PublishMode.INGRESS,
  ...changes,
});
const none = { nanoCpus: 0, memoryBytes: 0, generic: {} };

const replacing = true;
const keeping = false;

test.each<[string, ServiceSpec, ServiceSpec, [string, string, string, boolean][]]>([
  ["an image", spec, container({ image: "nginx:2" }), [["image", "nginx", "nginx:2", replacing]]],
  ["arguments", spec, container({ args: ["-c", "a b"] }), [["args", "", '-c "a b"', replacing]]],
  [
    "variables, by name",
    container({ env: ["A=1", "B=2", "C=3"] }),
    container({ env: ["B=5", "C=3", "D="] }),
    [
      ["env[0]", "A=1", "", replacing],
      ["env[0]", "B=2", "B=5", replacing],
      ["env[2]", "", "D=", replacing],
    ],
  ],
  [
    "the order of variables",
    container({ env: ["A=1", "B=2"] }),
    container({ env: ["B=2", "A=1"] }),
    [["env", "A, B", "B, A", replacing]],
  ],
  [
    "a volume's driver",
    container({ mounts: [{ type: MountType.VOLUME, source: "d", target: "/d", readOnly: false, volumeDriver: "" }] }),
    container({ mounts: [{ type: MountType.VOLUME, source: "d", target: "/d", readOnly: true, volumeDriver: "nfs" }] }),
    [
      [
        "mounts[0]",
        "type=volume,source=d,target=/d",
        "type=volume,source=d,target=/d,readonly,volume-driver=nfs",
        replacing,
      ],
    ],
  ],
  [
    "what is reserved",
    spec,
    task({ reservations: { nanoCpus: 500_000_001, memoryBytes: 512 * 1024 ** 2, generic: { gpu: 2 } } }),
    [
      ["reservations.cpus", "", "0.500000001", replacing],
      ["reservations.memory", "", "512 MiB", replacing],
      ["reservations.generic.gpu", "", "2", replacing],
    ],
  ],
  [
    "sizes that look alike when rounded",
    task({ limits: { ...none, memoryBytes: 1024 ** 3 + 1 } }),
    task({ limits: { ...none, memoryBytes: 1024 ** 3 + 2 } }),
    [["limits.memory", "1073741825b", "1073741826b", replacing]],
  ],
  [
    "a published port",
    spec,
    { ...spec, ports: [port({ publishedPort: 8080, name: "http" })] },
    [["ports[0]", "target=80,protocol=tcp", "published=8080,target=80,protocol=tcp,name=http", keeping]],
  ],
  [
    "a port of the host",
    { ...spec, ports: [port({ publishedPort: 8080 })] },
    { ...spec, ports: [port({ publishedPort: 8080, mode: PublishMode.HOST })] },
    [
      [
        "ports[0]",
        "published=8080,target=80,protocol=tcp",
        "published=8080,target=80,protocol=tcp,mode=host",
        replacing,
      ],
    ],
  ],
  [
    "placement and priority",
    placement({ constraints: ["node.id==a"] }),
    {
      ...placement({ affinities: [{ expression: "service==db", weight: -5, required: false }] }),
      stopAfterDisconnectMs: 90_500,
      dependsOn: ["db"],
    },
    [
      ["constraints[0]", "node.id==a", "", keeping],
      ["affinities[0]", "", "service==db,weight=-5", keeping],
      ["stop_after_disconnect", "", "1m30.5s", replacing],
      ["depends_on[0]", "", "db", keeping],
    ],
  ],
  [
    "how it is updated",
    spec,
    {
      ...spec,
      update: {
        ...spec.update,
        order: UpdateOrder.START_FIRST,
        failureAction: FailureAction.ROLLBACK,
        delayMs: 1234,
        maxSurge: 0,
      },
    },
    [
      ["update.delay", "0s", "1234ms", keeping],
      ["update.order", "stop-first", "start-first", keeping],
      ["update.failure_action", "pause", "rollback", keeping],
      ["update.max_surge", "", "0", keeping],
    ],
  ],
  [
    "automatic scaling",
    spec,
    { ...spec, autoscale: { min: 1, max: 5, requestsPerReplica: 100, upCoolDownMs: 15_000, downCoolDownMs: 300_000 } },
    [
      ["autoscale.min", "", "1", keeping],
      ["autoscale.max", "", "5", keeping],
      ["autoscale.requests_per_replica", "", "100", keeping],
      ["autoscale.up_cool_down", "", "15s", keeping],
      ["autoscale.down_cool_down", "", "5m", keeping],
    ],
  ],
  ["a label without value", spec, { ...spec, labels: { team: "" } }, [["labels.team", "", "team=", keeping]]],
])("%s: the change has its field, both values, and whether tasks are replaced", (_, before, after, changes) => {
  expect(
    diffSpecs(before, after).map((change) => [change.field, change.before, change.after, change.replacesTasks]),
  ).toEqual(changes);
});

test("of a new service all that it says is told, and nothing is replaced", () => {
  const changes = diffSpecs(undefined, container({ env: ["A=1"] }));
  expect(changes).toContainEqual({ field: "image", before: "", after: "nginx", replacesTasks: false });
  expect(changes).toContainEqual({ field: "env[0]", before: "", after: "A=1", replacesTasks: false });
  expect(changes.filter(({ before, replacesTasks }) => before !== "" || replacesTasks)).toEqual([]);
});

const checked = anySpec.map((message) => {
  const answer = checkServiceSpec(Message.decode(Message.encode(message).finish()));
  if ("violations" in answer) throw new Error(JSON.stringify(answer.violations));
  return answer.spec;
});

test("there are changes exactly when specs differ, and some replace tasks exactly when the template does", () => {
  fc.assert(
    fc.property(checked, checked, fc.boolean(), (before, other, near) => {
      // Specs that differ in little are as interesting as those that differ in all.
      const after = near
        ? { ...before, ports: other.ports, task: { ...before.task, restart: other.task.restart } }
        : other;
      const changes = diffSpecs(before, after);
      expect(changes.length > 0).toBe(!equalSpecs(before, after));
      expect(changes.some(({ replacesTasks }) => replacesTasks)).toBe(templateHash(before) !== templateHash(after));
      const placed = /^(constraints|preferences|affinities|max_replicas_per_node|strategy)/;
      expect(changes.some(({ field }) => placed.test(field))).toBe(!equalPlacement(before, after));
      expect(diffSpecs(after, after)).toEqual([]);
    }),
    { numRuns: 300 },
  );
});
