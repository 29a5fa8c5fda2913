// Specs that contradict themselves, or ask for what can never be.

import { expect, test } from "vitest";
import {
  ConcurrencyPolicy,
  FailureAction,
  MountType,
  PublishMode,
  RestartCondition,
  UpdateOrder,
} from "../../proto/mod.js";
import { type DeepPartial, ServiceSpec as Message } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { checkReplicas, checkServiceSpec, limits, Problems, runSize } from "./mod.js";

const base: DeepPartial<Message> = { name: "web", task: { container: { image: "nginx" } } };

function check(changes: object) {
  return checkServiceSpec(Message.fromPartial({ ...base, ...changes }));
}

function specOf(changes: object) {
  const checked = check(changes);
  if ("violations" in checked) throw new Error(JSON.stringify(checked.violations));
  return checked.spec;
}

const replicas = (count: number) => ({ mode: { $case: "replicated", value: { replicas: count } } });
const global = { mode: { $case: "global", value: {} } };
const globalJob = { mode: { $case: "globalJob", value: {} } };
const job = (value: object = {}) => ({ mode: { $case: "replicatedJob", value } });
const cron = (value: object = {}) => ({ mode: { $case: "cron", value: { schedule: "0 3 * * *", ...value } } });
const task = (changes: object) => ({ task: { container: { image: "nginx" }, ...changes } });
const placement = (changes: object) => task({ placement: changes });
const mount = (changes: object) => ({
  task: { container: { image: "nginx", mounts: [{ target: "/d", ...changes }] } },
});
const scaled = (changes: object) => ({ autoscale: { min: 1, max: 5, requestsPerReplica: 100, ...changes } });
const host = { targetPort: 80, publishedPort: 8080, mode: PublishMode.HOST };
const startFirst = { order: UpdateOrder.START_FIRST };

test.each<[string, object, string, RegExp, RegExp]>([
  ["no tasks to complete", job({ completions: 0 }), "completions", /1 to 10000/, /1/],
  ["none at once", job({ maxConcurrent: 0 }), "max_concurrent", /1 to 10000/, /1/],
  [
    "more at once than at all",
    job({ completions: 2, maxConcurrent: 3 }),
    "max_concurrent",
    /completions \(2\)/,
    /smaller/,
  ],
  [
    "more at once than the one of a cron job",
    cron({ maxConcurrent: 2 }),
    "max_concurrent",
    /completions \(1\)/,
    /raise/,
  ],
  ["a bad schedule", cron({ schedule: "0 25 * * *" }), "cron.schedule", /field 2 \(hour\) 25/, /0 to 23/],
  ["no schedule", cron({ schedule: "" }), "cron.schedule", /when the job runs/, /0 3/],
  ["a day that never comes", cron({ schedule: "0 0 30 2 *" }), "cron.schedule", /come due/, /the month has/],
  ["a city for a zone", cron({ timeZone: "Berlin" }), "cron.time_zone", /IANA/, /did you mean Europe\/Berlin\?/],
  ["a zone with a slip", cron({ timeZone: "Europe/Pariss" }), "cron.time_zone", /IANA/, /did you mean Europe\/Paris\?/],
  ["an offset for a zone", cron({ timeZone: "+01:00" }), "cron.time_zone", /IANA/, /./],
  ["too many runs kept", cron({ keepFailed: 101 }), "cron.keep_failed", /0 to 100/, /3/],
  ["no time to begin", cron({ startDeadlineMs: 0 }), "cron.start_deadline", /from 1s to 24h/, /1m/],
  ["an unknown policy", cron({ concurrency: 9 }), "cron.concurrency", /forbid, allow, replace/, /use forbid/],
  [
    "a job that is always restarted",
    { ...job(), ...task({ restart: { condition: RestartCondition.ANY } }) },
    "restart.condition",
    /none or on-failure/,
    /on-failure/,
  ],
  [
    "a published port of a job",
    { ...job(), ports: [{ targetPort: 80, publishedPort: 8080 }] },
    "ports[0].mode",
    /host in mode replicated-job/,
    /mode=host/,
  ],
  [
    "update settings of a job",
    { ...globalJob, update: { parallelism: 3 } },
    "update.parallelism",
    /mode global-job/,
    /leave it out/,
  ],
  [
    "a rollback of a cron job",
    { ...cron(), rollback: { failureAction: FailureAction.CONTINUE } },
    "rollback.failure_action",
    /mode cron/,
    /leave it out/,
  ],
  [
    "several replicas per node of a global service",
    { ...global, ...placement({ maxReplicasPerNode: 2 }) },
    "max_replicas_per_node",
    /mode global/,
    /leave/,
  ],
  [
    "preferences of a global job",
    { ...globalJob, ...placement({ preferences: ["spread=node.labels.zone"] }) },
    "preferences[0]",
    /mode global-job/,
    /leave/,
  ],
  [
    "a global service that starts first on a host's port",
    { ...global, ports: [host], update: startFirst },
    "update.order",
    /both have it/,
    /stop-first/,
  ],

  [
    "a maximum below the minimum",
    { ...replicas(5), ...scaled({ min: 5, max: 2 }) },
    "autoscale.max",
    /autoscale\.min \(5\)/,
    /raise/,
  ],
  ["a maximum of none", scaled({ min: 0, max: 0, requestsPerReplica: 1 }), "autoscale.max", /1 to 10000/, /10/],
  ["scaling without target", { autoscale: { min: 1, max: 5 } }, "autoscale", /at least one of/, /cpu=60/],
  [
    "none without requests",
    { ...scaled({ min: 0, requestsPerReplica: undefined, cpuPercent: 60 }), ...task({ limits: { nanoCpus: 1e9 } }) },
    "autoscale.min",
    /at least 1/,
    /requests/,
  ],
  [
    "a share of no cpus",
    scaled({ cpuPercent: 60 }),
    "autoscale.cpu_percent",
    /reservation or limit of cpus/,
    /limits\.cpus/,
  ],
  [
    "a share of no memory",
    scaled({ memoryPercent: 60 }),
    "autoscale.memory_percent",
    /limit of memory/,
    /reservations\.memory/,
  ],
  ["a target of none", scaled({ requestsPerReplica: 0 }), "autoscale.requests_per_replica", /1 to/, /100/],
  [
    "a target of 2000 %",
    { ...scaled({ cpuPercent: 2000 }), ...task({ limits: { nanoCpus: 1e9 } }) },
    "autoscale.cpu_percent",
    /1 to 1000/,
    /60/,
  ],
  ["a scaled job", { ...job(), ...scaled({}) }, "autoscale", /modes other than replicated/, /leave it out/],
  ["a scaled global service", { ...global, ...scaled({}) }, "autoscale", /modes other/, /replicated/],
  [
    "more replicas than the maximum",
    { ...replicas(6), ...scaled({}) },
    "replicas",
    /autoscale\.min \(1\) to autoscale\.max \(5\)/,
    /bounds/,
  ],
  ["fewer replicas than the minimum", { ...replicas(0), ...scaled({}) }, "replicas", /autoscale\.min/, /bounds/],
  ["too long a cool-down", scaled({ upCoolDownMs: limits.durationMs + 1 }), "autoscale.up_cool_down", /24h/, /15s/],

  [
    "no room to replace anything",
    { update: { maxUnavailable: 0 } },
    "update.max_unavailable",
    /nothing could be replaced/,
    /start-first/,
  ],
  [
    "no room with start-first either",
    { rollback: { ...startFirst, maxSurge: 0 } },
    "rollback.max_surge",
    /nothing could be replaced/,
    /stop-first/,
  ],
  [
    "nothing more with start-first",
    { update: { ...startFirst, maxSurge: 0, maxUnavailable: 1 } },
    "update.max_surge",
    /at least 1/,
    /stop-first/,
  ],
  [
    "more with stop-first",
    { update: { order: UpdateOrder.STOP_FIRST, maxSurge: 2 } },
    "update.max_surge",
    /must be 0 with update\.order stop-first/,
    /start-first/,
  ],
  ["too large a surge", { update: { maxSurge: 10_001 } }, "update.max_surge", /0 to 10000/, /1/],
  ["an unknown order", { update: { order: 7 } }, "update.order", /one of stop-first, start-first/, /stop-first/],

  ["a too short disconnection", { stopAfterDisconnectMs: 0 }, "stop_after_disconnect", /from 10s to 24h/, /1m/],
  ["less than two heartbeats", { stopAfterDisconnectMs: 9_999 }, "stop_after_disconnect", /from 10s to 24h/, /1m/],
  ["a service that waits for itself", { dependsOn: ["web"] }, "depends_on[0]", /for ever/, /leave it out/],
  ["a dependency twice", { dependsOn: ["db", "db"] }, "depends_on[1]", /depends_on\[0\]/, /leave one/],
  ["a dependency that is no name", { dependsOn: ["My DB"] }, "depends_on[0]", /lower-case/, /my-db/],
  [
    "too many dependencies",
    { dependsOn: Array.from({ length: 51 }, (_, i) => `s${i}`) },
    "depends_on",
    /at most 50/,
    /leave out 1/,
  ],
  ["too high a priority", task({ priority: 1001 }), "priority", /-1000 to 1000/, /0/],

  [
    "a preference that is none",
    placement({ preferences: ["pack=node.labels.zone"] }),
    "preferences[0]",
    /spread=KEY/,
    /zone/,
  ],
  [
    "a preference for what is unknown",
    placement({ preferences: ["spread=node.lables.zone"] }),
    "preferences[0]",
    /begin with/,
    /node\.labels\.zone/,
  ],
  [
    "a preference twice",
    placement({ preferences: ["spread=node.labels.a", "spread = node.labels.a"] }),
    "preferences[1]",
    /preferences\[0\]/,
    /leave/,
  ],
  [
    "an affinity without weight",
    placement({ affinities: [{ expression: "service==db" }] }),
    "affinities[0].weight",
    /not 0/,
    /50/,
  ],
  [
    "too heavy an affinity",
    placement({ affinities: [{ expression: "service==db", weight: 101 }] }),
    "affinities[0].weight",
    /-100 to 100/,
    /50/,
  ],
  [
    "an affinity to what is unknown",
    placement({ affinities: [{ expression: "rack==1", weight: 1 }] }),
    "affinities[0].expression",
    /constraint on the node/,
    /service==/,
  ],
  [
    "an affinity twice",
    placement({
      affinities: [
        { expression: "service==db", weight: 1 },
        { expression: "service == db", weight: 2 },
      ],
    }),
    "affinities[1]",
    /affinities\[0\]/,
    /leave/,
  ],
  [
    "with and without a service",
    placement({
      affinities: [
        { expression: "service==db", required: true },
        { expression: "service!=db", required: true },
      ],
    }),
    "affinities[1].expression",
    /both hold/,
    /leave/,
  ],
  [
    "two zones at once",
    placement({ constraints: ["node.labels.zone==eu", "node.labels.zone==us"] }),
    "constraints[1]",
    /constraints\[0\] \(node\.labels\.zone==eu\)/,
    /leave one/,
  ],
  [
    "a zone and not it",
    placement({ constraints: ["node.labels.zone!=EU", "node.labels.zone==eu"] }),
    "constraints[1]",
    /both hold/,
    /leave one/,
  ],
  [
    "a list without what is left",
    placement({ constraints: ["node.hostname in (a,b)", "node.hostname notin (a,b,c)"] }),
    "constraints[1]",
    /both hold/,
    /leave one/,
  ],
  [
    "more than 8 and fewer than 4",
    placement({ constraints: ["node.labels.cores>8", "node.labels.cores<4"] }),
    "constraints[1]",
    /both hold/,
    /leave one/,
  ],
  [
    "a constraint and the contrary as affinity",
    placement({
      constraints: ["node.role==worker"],
      affinities: [{ expression: "node.role==manager", required: true }],
    }),
    "affinities[0].expression",
    /constraints\[0\]/,
    /leave one/,
  ],
  ["an unknown strategy", placement({ strategy: 5 }), "strategy", /spread, binpack/, /spread/],

  [
    "a bad name of a thing",
    task({ reservations: { generic: { "-gpu": 1 } } }),
    "reservations.generic",
    /letters/,
    /gpu=2/,
  ],
  ["none of a thing", task({ reservations: { generic: { gpu: 0 } } }), "reservations.generic.gpu", /1 to 1000000/, /1/],
  [
    "a limit of things",
    task({ limits: { generic: { gpu: 1 } } }),
    "limits.generic.gpu",
    /reserved/,
    /reservations\.generic\.gpu/,
  ],
  ["negative memory", task({ limits: { memoryBytes: -5 } }), "limits.memory", /6 MiB/, /64m/],
  ["negative cpus", task({ limits: { nanoCpus: -5 } }), "limits.cpus", /0\.001/, /0\.5/],

  [
    "a driver of what is no volume",
    mount({ type: MountType.BIND, source: "/x", volumeDriver: "nfs" }),
    "mounts[0].volume_driver",
    /not a volume/,
    /type=volume/,
  ],
  [
    "a driver that is no name",
    mount({ source: "data", volumeDriver: "a b" }),
    "mounts[0].volume_driver",
    /driver's name/,
    /local/,
  ],
  ["a kind of mount that is unknown", mount({ type: 8 }), "mounts[0].type", /volume, bind, tmpfs/, /volume/],
  [
    "a host's port without number",
    { ports: [{ targetPort: 80, mode: PublishMode.HOST }] },
    "ports[0].published",
    /port of the host/,
    /80/,
  ],
  [
    "a host's port that is published everywhere",
    { ports: [host, { targetPort: 81, publishedPort: 8080 }] },
    "ports[1].published",
    /ports\[0\]/,
    /another/,
  ],
  [
    "a target both ways",
    { ports: [host, { targetPort: 80, publishedPort: 9090 }] },
    "ports[1].target",
    /ports\[0\]/,
    /another/,
  ],
  ["an unknown protocol", { ports: [{ targetPort: 80, protocol: 3 }] }, "ports[0].protocol", /one of tcp/, /tcp/],
])("%s is refused, with field, rule and fix", (_, changes, field, rule, fix) => {
  const checked = check(changes);
  const violations = "violations" in checked ? checked.violations : [];
  expect(violations.map((violation) => violation.field)).toEqual([field]);
  expect(violations[0]?.rule).toMatch(rule);
  expect(violations[0]?.fix).toMatch(fix);
});

test.each<[string, object]>([
  [
    "more replicas than any cluster has nodes, one per node",
    { ...replicas(9000), ...placement({ maxReplicasPerNode: 1 }) },
  ],
  ["a node that does not exist", placement({ constraints: ["node.hostname==nowhere"] })],
  ["a service that does not exist yet", { dependsOn: ["later"] }],
  ["things that no node has", task({ reservations: { generic: { "nvidia.com/gpu": 64 } } })],
  [
    "different zones of lists that meet",
    placement({ constraints: ["node.labels.z in (a,b)", "node.labels.z in (b,c)"] }),
  ],
  ["ranges that may meet", placement({ constraints: ["node.ip==10.0.0.0/8", "node.ip==10.1.0.0/16"] })],
  [
    "one architecture by two names",
    placement({ constraints: ["node.platform.arch==x86_64", "node.platform.arch==amd64"] }),
  ],
  ["a job's port on the host", { ...job(), ports: [host] }],
  ["replicas that start first on a host's port", { ports: [host], update: startFirst }],
  ["one per node of a global service", { ...global, ...placement({ maxReplicasPerNode: 1 }) }],
])("%s may come to be, and is taken", (_, changes) => {
  expect(check(changes)).toHaveProperty("spec");
});

test("each mode gets its defaults", () => {
  expect(specOf(job()).mode).toEqual({ $case: "replicatedJob", value: { completions: 1 } });
  expect(specOf(global).mode).toEqual({ $case: "global", value: {} });
  expect(specOf(globalJob).mode).toEqual({ $case: "globalJob", value: {} });
  expect(specOf(cron({ schedule: " 0  3 * * * " })).mode).toEqual({
    $case: "cron",
    value: {
      schedule: "0 3 * * *",
      timeZone: "UTC",
      concurrency: ConcurrencyPolicy.FORBID,
      keepSucceeded: 3,
      keepFailed: 3,
      startDeadlineMs: 60_000,
      suspended: false,
      completions: 1,
    },
  });
  for (const mode of [job(), globalJob, cron()])
    expect(specOf(mode).task.restart.condition).toBe(RestartCondition.ON_FAILURE);
});

test("as many at once as there are, until somebody says otherwise", () => {
  expect(runSize(specOf(job({ completions: 7 })))).toEqual({ completions: 7, maxConcurrent: 7 });
  expect(runSize(specOf(cron({ completions: 7, maxConcurrent: 2 })))).toEqual({ completions: 7, maxConcurrent: 2 });
  expect(runSize(specOf(replicas(3)))).toBeUndefined();
});

test("automatic scaling gets its cool-downs, and as many replicas as it must have", () => {
  const spec = specOf(scaled({ min: 3 }));
  expect(spec.autoscale).toEqual({
    min: 3,
    max: 5,
    requestsPerReplica: 100,
    upCoolDownMs: 15_000,
    downCoolDownMs: 300_000,
  });
  expect(spec.mode).toEqual({ $case: "replicated", value: { replicas: 3 } });
  expect(specOf(scaled({ min: 0 })).mode).toEqual({ $case: "replicated", value: { replicas: 1 } });
});

test("scaling by hand keeps between the bounds", () => {
  const problems = new Problems();
  checkReplicas(6, problems, specOf(scaled({})).autoscale);
  expect(problems.list().map(({ field, value }) => [field, value])).toEqual([["replicas", "6"]]);
});

test("who allows tasks beyond the number and says no order means start-first", () => {
  expect(specOf({ update: { maxSurge: 2 } }).update).toMatchObject({ order: UpdateOrder.START_FIRST, maxSurge: 2 });
  expect(specOf({ update: { maxSurge: 0 } }).update).toMatchObject({ order: UpdateOrder.STOP_FIRST, maxSurge: 0 });
});

test("a weight beside required means nothing and goes", () => {
  const affinities = [{ expression: " service != web ", weight: 7, required: true }];
  expect(specOf(placement({ affinities })).task.placement.affinities).toEqual([
    { expression: "service!=web", weight: 0, required: true },
  ]);
});

test("all contradictions come at once", () => {
  const checked = check({
    ...cron({ schedule: "61 * * * *", maxConcurrent: 4 }),
    ...scaled({ max: 0 }),
    dependsOn: ["web"],
    stopAfterDisconnectMs: 5,
    ports: [{ targetPort: 80 }],
  });
  expect("violations" in checked && checked.violations.map(({ field }) => field)).toEqual([
    "autoscale.max",
    "cron.schedule",
    "max_concurrent",
    "depends_on[0]",
    "stop_after_disconnect",
    "autoscale",
    "ports[0].mode",
  ]);
});
