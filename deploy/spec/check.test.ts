import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  PlacementStrategy,
  FailureAction,
  MountType,
  PullPolicy,
  RestartCondition,
  UpdateOrder,
} from "../../proto/mod.js";
import { type DeepPartial, ServiceSpec as Message } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { anySpec } from "../../test/kit/specs.js";
import { checkServiceSpec, equalSpecs, limits } from "./mod.js";

type Partly = DeepPartial<Message>;

const good: Partly = { name: "web", task: { container: { image: "nginx:1.27" } } };

function violationsOf(changes: object): { field: string; value: string; rule: string; fix: string }[] {
  const checked = checkServiceSpec(Message.fromPartial({ ...good, ...changes }));
  return "violations" in checked ? checked.violations : [];
}

const container = (changes: object) => ({ task: { container: { image: "nginx", ...changes } } });
const task = (changes: object) => ({ task: { container: { image: "nginx" }, ...changes } });
const update = (changes: object) => ({ update: changes });
const replicas = (count: number) => ({ mode: { $case: "replicated", value: { replicas: count } } });

test("a spec with a name and an image gets every default", () => {
  const checked = checkServiceSpec(Message.fromPartial(good));
  const updateDefaults = {
    parallelism: 1,
    delayMs: 0,
    order: UpdateOrder.STOP_FIRST,
    monitorMs: 5000,
    failureAction: FailureAction.PAUSE,
    maxFailureRatio: 0,
    minHealthyTimeMs: 1_000,
    progressDeadlineMs: 600_000,
  };
  expect(checked).toEqual({
    spec: {
      name: "web",
      labels: {},
      mode: { $case: "replicated", value: { replicas: 1 } },
      task: {
        container: {
          image: "nginx:1.27",
          command: [],
          args: [],
          env: [],
          user: "",
          workingDir: "",
          hostname: "",
          labels: {},
          stopSignal: "",
          stopGracePeriodMs: 10_000,
          healthcheck: undefined,
          tty: false,
          readOnly: false,
          mounts: [],
          pullPolicy: PullPolicy.MISSING,
        },
        reservations: { nanoCpus: 0, memoryBytes: 0, generic: {} },
        limits: { nanoCpus: 0, memoryBytes: 0, generic: {} },
        restart: { condition: RestartCondition.ANY, delayMs: 1000, maxAttempts: 3, windowMs: 120_000 },
        placement: {
          constraints: [],
          maxReplicasPerNode: 0,
          preferences: [],
          affinities: [],
          strategy: PlacementStrategy.UNSPECIFIED,
        },
        priority: 0,
      },
      ports: [],
      update: updateDefaults,
      rollback: updateDefaults,
      drainTimeoutMs: 5000,
      dependsOn: [],
      autoscale: undefined,
    },
  });
});

test.each<[string, object, string, RegExp, RegExp]>([
  ["no name", { name: "" }, "name", /lower-case/, /web/],
  ["a name in capitals", { name: "My_Web" }, "name", /lower-case/, /my-web/],
  ["a long name", { name: "a".repeat(64) }, "name", /1 to 63/, /a{63}/],
  ["a name ending in -", { name: "web-" }, "name", /ending with a letter/, /example web$/],
  ["too many replicas", replicas(10_001), "replicas", /0 to 10000/, /3/],
  ["negative replicas", replicas(-1), "replicas", /0 to 10000/, /3/],
  ["no image", container({ image: "" }), "image", /must name an image/, /nginx/],
  ["an image in capitals", container({ image: "Nginx" }), "image", /lower-case/, /write nginx/],
  ["a variable without value", container({ env: ["LEVEL"] }), "env[0]", /NAME=value/, /LEVEL=value/],
  ["a variable twice", container({ env: ["A=1", "B=1", "A=2"] }), "env[2]", /env\[0\] sets A/, /leave one out/],
  ["a reserved variable", container({ env: ["FLOTILLA_TASK=x"] }), "env[0]", /Flotilla sets/, /another name/],
  ["NUL in an argument", container({ args: ["a\0b"] }), "args[0]", /NUL/, /leave it out/],
  ["a relative working directory", container({ workingDir: "./app" }), "working_dir", /absolute/, /write \/app/],
  ["a bad user", container({ user: "a b" }), "user", /USER:GROUP/, /1000/],
  ["a bad host name", container({ hostname: "-x" }), "hostname", /letters/, /web/],
  ["an unknown signal", container({ stopSignal: "SIGTREM" }), "stop_signal", /signal's name/, /SIGTERM/],
  ["a signal out of range", container({ stopSignal: "65" }), "stop_signal", /1 to 64/, /SIGTERM/],
  ["too long a grace", container({ stopGracePeriodMs: limits.durationMs + 1 }), "stop_grace_period", /24h/, /10s/],
  ["a reserved label", container({ labels: { "flotilla.task": "x" } }), "container_labels", /flotilla\./, /another/],
  ["a label without key", { labels: { "": "x" } }, "labels", /keys of 1 to/, /team/],
  ["a bad health check", container({ healthcheck: { test: ["wget"] } }), "healthcheck.test", /CMD-SHELL/, /wget -q/],
  ["NONE with words", container({ healthcheck: { test: ["NONE", "x"] } }), "healthcheck.test", /nothing after/, /NONE/],
  ["CMD without words", container({ healthcheck: { test: ["CMD"] } }), "healthcheck.test", /a command/, /CMD/],
  [
    "two command lines",
    container({ healthcheck: { test: ["CMD-SHELL", "a", "b"] } }),
    "healthcheck.test",
    /one/,
    /CMD/,
  ],
  ["a relative target", container({ mounts: [{ target: "data" }] }), "mounts[0].target", /absolute/, /\/data/],
  ["the root as target", container({ mounts: [{ target: "/" }] }), "mounts[0].target", /below/, /\/data/],
  [
    "a target twice",
    container({ mounts: [{ target: "/data" }, { target: "/data/" }] }),
    "mounts[1].target",
    /mounts\[0\]/,
    /leave one/,
  ],
  [
    "a relative bind source",
    container({ mounts: [{ type: MountType.BIND, source: "data", target: "/d" }] }),
    "mounts[0].source",
    /absolute/,
    /\/srv/,
  ],
  ["a path as volume", container({ mounts: [{ source: "/x", target: "/d" }] }), "mounts[0].source", /volume/, /bind/],
  [
    "tmpfs with source",
    container({ mounts: [{ type: MountType.TMPFS, source: "x", target: "/d" }] }),
    "mounts[0].source",
    /empty/,
    /leave/,
  ],
  ["little memory", task({ limits: { memoryBytes: 1024 } }), "limits.memory", /6 MiB/, /64m/],
  [
    "cpus that round to none",
    task({ reservations: { nanoCpus: 100_000 } }),
    "reservations.cpus",
    /0\.001 to 1024/,
    /0\.5/,
  ],
  ["few cpus", task({ reservations: { nanoCpus: 5 } }), "reservations.cpus", /0\.001 to 1024/, /0\.5/],
  [
    "reservation above limit",
    task({ reservations: { memoryBytes: 2 ** 30 }, limits: { memoryBytes: 2 ** 29 } }),
    "reservations.memory",
    /limit of 512 MiB/,
    /raise/,
  ],
  ["too many attempts", task({ restart: { maxAttempts: 1001 } }), "restart.max_attempts", /0 to 1000/, /3/],
  [
    "an unknown constraint",
    task({ placement: { constraints: ["node.hostnam==a"] } }),
    "constraints[0]",
    /node\.ip/,
    /node\.hostname/,
  ],
  [
    "a constraint twice",
    task({ placement: { constraints: ["node.id==a", "node.id == a"] } }),
    "constraints[1]",
    /constraints\[0\]/,
    /leave/,
  ],
  ["port 0", { ports: [{ targetPort: 0 }] }, "ports[0].target", /1 to 65535/, /80/],
  [
    "a port of Flotilla's own",
    { ports: [{ targetPort: 80, publishedPort: 7400 }] },
    "ports[0].published",
    /7402, 7443, where Flotilla's own/,
    /8080/,
  ],
  ["port 70000", { ports: [{ targetPort: 80, publishedPort: 70_000 }] }, "ports[0].published", /65535/, /8080/],
  [
    "a target port twice",
    { ports: [{ targetPort: 80 }, { targetPort: 80 }] },
    "ports[1].target",
    /ports\[0\]/,
    /leave/,
  ],
  [
    "a published port twice",
    {
      ports: [
        { targetPort: 80, publishedPort: 1 },
        { targetPort: 81, publishedPort: 1 },
      ],
    },
    "ports[1].published",
    /ports\[0\]/,
    /leave/,
  ],
  ["a bad port name", { ports: [{ targetPort: 80, name: "HTTP" }] }, "ports[0].name", /lower-case/, /http/],
  ["a ratio above 1", update({ maxFailureRatio: 1.5 }), "update.max_failure_ratio", /0 to 1/, /0\.1/],
  ["a ratio that is no number", update({ maxFailureRatio: Number.NaN }), "update.max_failure_ratio", /0 to 1/, /0\.1/],
  [
    "a deadline below the healthy time",
    update({ minHealthyTimeMs: 60_000, progressDeadlineMs: 30_000 }),
    "update.progress_deadline",
    /longer than update\.min_healthy_time \(1m\)/,
    /11m/,
  ],
  [
    "a rollback that rolls back",
    { rollback: { failureAction: FailureAction.ROLLBACK } },
    "rollback.failure_action",
    /pause/,
    /pause/,
  ],
  ["too long a drain", { drainTimeoutMs: 3_600_001 }, "drain_timeout", /1h/, /5s/],
])("%s is refused, with field, rule and fix", (_, changes, field, rule, fix) => {
  const violations = violationsOf(changes);
  expect(violations.map((violation) => violation.field)).toEqual([field]);
  expect(violations[0]?.rule).toMatch(rule);
  expect(violations[0]?.fix).toMatch(fix);
});

test("all problems come at once", () => {
  const violations = violationsOf({ name: "A", ...replicas(-1), ...container({ image: "", env: ["x"], user: "a b" }) });
  expect(violations.map(({ field }) => field)).toEqual(["name", "replicas", "image", "env[0]", "user"]);
});

test("a spec with very many problems gets a bounded answer that says how many there are", () => {
  const violations = violationsOf(container({ env: Array(150).fill("x") }));
  expect(violations).toHaveLength(limits.violations + 1);
  expect(violations.at(-1)).toMatchObject({ field: "spec", value: "150 problems", rule: "has 50 more problems" });
});

test("lists beyond their limit are refused without a look at each entry", () => {
  expect(violationsOf(container({ env: Array(501).fill("x") })).map(({ field }) => field)).toEqual(["env"]);
  expect(
    violationsOf({ ports: Array.from({ length: 101 }, () => ({ targetPort: 1 })) }).map(({ field }) => field),
  ).toEqual(["ports"]);
});

test("a spec that would not fit into a transaction is refused", () => {
  const env = Array.from({ length: 10 }, (_, i) => `V${i}=${"x".repeat(60_000)}`);
  expect(violationsOf(container({ env })).map(({ field }) => field)).toEqual(["spec"]);
});

test("a field that this version does not know is refused, not dropped", () => {
  const message = Message.fromPartial(good);
  message._unknownFields = { 99: [] };
  expect(checkServiceSpec(message)).toMatchObject({ violations: [{ field: "spec", value: "field 99" }] });
});

test("checking a checked spec changes nothing", () => {
  fc.assert(
    fc.property(anySpec, (message) => {
      const checked = checkServiceSpec(message);
      if (!("spec" in checked)) throw new Error(JSON.stringify(checked.violations));
      // Through the stored bytes, too.
      const again = checkServiceSpec(Message.decode(Message.encode(checked.spec).finish()));
      expect(again).toEqual(checkServiceSpec(checked.spec));
      expect("spec" in again && equalSpecs(again.spec, checked.spec)).toBe(true);
    }),
    { numRuns: 300 },
  );
});
