// Random service specs as a client may send them, all of them right: whatever the checks must take.

import * as fc from "fast-check";
import {
  ConcurrencyPolicy,
  FailureAction,
  MountType,
  PlacementStrategy,
  Protocol,
  PublishMode,
  PullPolicy,
  RestartCondition,
  UpdateOrder,
} from "../../proto/mod.js";
import { type DeepPartial, ServiceSpec } from "../../proto/gen/flotilla/objects/v1/objects.js";

const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const duration = maybe(fc.integer({ min: 0, max: 500_000 }));
const oneOf = <T extends number>(values: Readonly<Record<string, T>>) => fc.constantFrom(...Object.values(values));

/** Without surge and unavailability, which need one another: `room` gives those. */
const update = fc.record({
  parallelism: maybe(fc.integer({ min: 0, max: 100 })),
  delayMs: duration,
  monitorMs: duration,
  failureAction: fc.constantFrom(FailureAction.UNSPECIFIED, FailureAction.PAUSE, FailureAction.CONTINUE),
  maxFailureRatio: maybe(fc.double({ min: 0, max: 1, noNaN: true, noDefaultInfinity: true })),
  minHealthyTimeMs: duration,
  progressDeadlineMs: maybe(fc.integer({ min: 500_001, max: 5_000_000 })),
});

const room = fc.oneof(
  fc.record({ order: oneOf(UpdateOrder) }),
  fc.record({
    order: fc.constantFrom(UpdateOrder.UNSPECIFIED, UpdateOrder.START_FIRST),
    maxSurge: fc.integer({ min: 1, max: 20 }),
    maxUnavailable: maybe(fc.integer({ min: 0, max: 20 })),
  }),
  fc.record({ order: fc.constant(UpdateOrder.STOP_FIRST), maxUnavailable: fc.integer({ min: 1, max: 20 }) }),
);

const run = fc.oneof(
  fc.record({ completions: maybe(fc.integer({ min: 1, max: 50 })) }),
  fc.record({ completions: fc.integer({ min: 5, max: 50 }), maxConcurrent: fc.integer({ min: 1, max: 5 }) }),
);

const cron = fc.record({
  schedule: fc.constantFrom("0 3 * * *", "  */5 *  * * mon-fri", "@daily", "0 0 29 2 *"),
  timeZone: fc.constantFrom("", "UTC", "Europe/Berlin"),
  concurrency: oneOf(ConcurrencyPolicy),
  keepSucceeded: maybe(fc.integer({ min: 0, max: 100 })),
  keepFailed: maybe(fc.integer({ min: 0, max: 100 })),
  startDeadlineMs: maybe(fc.integer({ min: 1000, max: 100_000 })),
  suspended: fc.boolean(),
});

const mode: fc.Arbitrary<DeepPartial<ServiceSpec["mode"]> | undefined> = fc.oneof(
  fc.constant(undefined),
  fc.integer({ min: 0, max: 10_000 }).map((replicas) => ({ $case: "replicated", value: { replicas } }) as const),
  fc.constant({ $case: "global", value: {} } as const),
  run.map((value) => ({ $case: "replicatedJob", value }) as const),
  fc.constant({ $case: "globalJob", value: {} } as const),
  fc.tuple(cron, run).map(([value, size]) => ({ $case: "cron", value: { ...value, ...size } }) as const),
);

const autoscale = fc
  .record({
    min: fc.integer({ min: 1, max: 5 }),
    more: fc.integer({ min: 0, max: 20 }),
    cpuPercent: fc.integer({ min: 1, max: 1000 }),
    requestsPerReplica: maybe(fc.integer({ min: 1, max: 1000 })),
    upCoolDownMs: duration,
  })
  .map(({ more, ...rest }) => ({ ...rest, max: rest.min + more }));

const container = fc.record({
  image: fc.constantFrom("nginx", "nginx:1.27", "registry.example.com:5000/team/web:1"),
  command: fc.array(fc.constantFrom("sh", "-c", "echo 'a b'"), { maxLength: 3 }),
  args: fc.array(fc.constantFrom("", "a b", "--port=80"), { maxLength: 3 }),
  env: fc.shuffledSubarray(["A=1", "B=2", "B2=", "C=x=y"]),
  labels: fc.dictionary(fc.stringMatching(/^[a-z]{1,5}$/), fc.constantFrom("", "x"), { maxKeys: 3 }),
  stopGracePeriodMs: duration,
  init: maybe(fc.boolean()),
  readOnly: fc.boolean(),
  healthcheck: maybe(fc.record({ test: fc.constantFrom([], ["CMD", "true"], ["NONE"]), intervalMs: duration })),
  mounts: fc.shuffledSubarray([
    { type: MountType.UNSPECIFIED, source: "data", target: "/a", volumeDriver: "nfs" },
    { type: MountType.TMPFS, source: "", target: "/b/" },
    { type: MountType.BIND, source: "/srv", target: "/c", readOnly: true },
  ]),
  pullPolicy: oneOf(PullPolicy),
});

const sizes = fc.record({
  nanoCpus: fc.constantFrom(1_000_000, 500_000_000),
  memoryBytes: fc.constantFrom(0, 64 * 1024 ** 2, 64 * 1024 ** 2 + 1),
});

const placement = {
  constraints: fc.shuffledSubarray([" node.labels.zone == eu", "node.ip!=10.0.0.0/8", "node.labels.cores>8"]),
  affinities: fc.shuffledSubarray([
    { expression: "service == cache", weight: 50 },
    { expression: "node.labels.disk==ssd", weight: -100 },
    { expression: "service!=web", weight: 7, required: true },
  ]),
  strategy: oneOf(PlacementStrategy),
};

const ports = fc.shuffledSubarray([
  { protocol: Protocol.UNSPECIFIED, targetPort: 80, publishedPort: 8080, name: "http" },
  { protocol: Protocol.TCP, targetPort: 443, mode: PublishMode.INGRESS },
  { protocol: Protocol.TCP, targetPort: 9000, publishedPort: 9000, mode: PublishMode.HOST },
]);

/** Specs that the checks must take, with defaults left out here and there. */
export const anySpec: fc.Arbitrary<ServiceSpec> = fc
  .record({
    mode,
    autoscale: maybe(autoscale),
    labels: fc.dictionary(fc.stringMatching(/^[a-z]{1,5}$/), fc.string({ maxLength: 5 }), { maxKeys: 3 }),
    container,
    reservations: sizes,
    generic: fc.constantFrom({}, { gpu: 2 }, { "nvidia.com/gpu": 1, disk: 3 }),
    priority: fc.integer({ min: -1000, max: 1000 }),
    restart: maybe(fc.record({ condition: oneOf(RestartCondition), maxAttempts: maybe(fc.nat(10)) })),
    placement: fc.record(placement),
    preferences: fc.shuffledSubarray(["spread=node.labels.zone", " spread = node.labels.rack"]),
    maxReplicasPerNode: fc.nat(5),
    ports,
    updates: fc.tuple(update, update, room, room),
    stopAfterDisconnectMs: maybe(fc.integer({ min: 10_000, max: 100_000 })),
    dependsOn: fc.shuffledSubarray(["db", "cache", "queue"]),
  })
  .map((parts) => {
    const kind = parts.mode?.$case ?? "replicated";
    const job = kind !== "replicated" && kind !== "global";
    const global = kind === "global" || kind === "globalJob";
    const hostPorts = parts.ports.filter((port) => port.mode === PublishMode.HOST);
    const [forward, back, forwardRoom, backRoom] = parts.updates;
    // What a mode has no use for is left out of it.
    const stopFirst = kind === "global" && hostPorts.length > 0;
    const scaled = kind === "replicated" && parts.mode === undefined ? parts.autoscale : undefined;
    return ServiceSpec.fromPartial({
      name: "web",
      mode: parts.mode,
      autoscale: scaled,
      labels: parts.labels,
      task: {
        container: parts.container,
        reservations: { ...parts.reservations, generic: parts.generic },
        limits: { nanoCpus: 1_000_000_000, memoryBytes: 0 },
        restart:
          job && parts.restart?.condition === RestartCondition.ANY
            ? { ...parts.restart, condition: RestartCondition.NONE }
            : parts.restart,
        placement: {
          ...parts.placement,
          preferences: global ? [] : parts.preferences,
          maxReplicasPerNode: global ? 0 : parts.maxReplicasPerNode,
        },
        priority: parts.priority,
      },
      ports: job ? hostPorts : parts.ports,
      update: job ? undefined : { ...forward, ...(stopFirst ? {} : forwardRoom) },
      rollback: job ? undefined : { ...back, ...(stopFirst ? {} : backRoom) },
      stopAfterDisconnectMs: parts.stopAfterDisconnectMs,
      dependsOn: parts.dependsOn,
    } as DeepPartial<ServiceSpec>);
  });
