import { describe, expect, it } from "vitest";
import {
  type Cluster,
  ContainerHealth,
  ContainerPhase,
  type ContainerCondition,
  type Event,
  MountType,
  type Node,
  NodeAvailability,
  NodeState,
  PublishMode,
  type Rollout,
  RolloutState,
  type Service,
  type Task,
  TaskState,
  type TaskStatus,
} from "../../proto/mod.js";
import { makeNode, makeRevision, makeService, makeSpec, makeTask, readyStatus } from "../../test/kit/objects.js";
import { Layer, openMemoryStore } from "../store/mod.js";
import { place } from "../scheduler/mod.js";
import { explainTask, schedulingOf } from "./mod.js";

const now = 1_700_000_000_000;
const ago = (seconds: number) => now - seconds * 1_000;
const meta = (id: string, createdAtMs: number) => ({ id, version: 0, createdAtMs, updatedAtMs: createdAtMs });

interface Shape {
  task?: Partial<Task>;
  others?: Partial<Task>[];
  node?: Partial<Node> | "none";
  service?: Partial<Service> | "none";
  rollout?: Partial<Rollout>;
  cluster?: Partial<Cluster>;
  events?: Event[];
}

function explain({ task, others = [], node, service, rollout, cluster, events = [] }: Shape) {
  const layer = new Layer(openMemoryStore().view());
  layer.absorb("clusters", "c", {
    meta: meta("c", 0),
    name: "c",
    vipPool: "",
    nodePool: "",
    nodePrefix: 24,
    domain: "",
    dnsAddress: "",
    settings: undefined,
    brake: undefined,
    ...cluster,
  });
  if (node !== "none") layer.absorb("nodes", "h1", makeNode("h1", node));
  if (node !== "none") layer.absorb("nodes", "h2", makeNode("h2"));
  const base = makeService({ revision: 2, rolloutId: "r" });
  if (service !== "none") layer.absorb("services", base.meta.id, { ...base, ...service });
  layer.absorb("revisions", "r1", { ...makeRevision(base, 1), meta: meta("r1", 0) });
  const fence = service === "none" ? undefined : service?.spec?.stopAfterDisconnectMs;
  layer.absorb("revisions", "r2", {
    ...makeRevision(base, 2, { ...makeSpec({ image: "nginx:2" }), stopAfterDisconnectMs: fence }),
    meta: meta("r2", 0),
  });
  if (rollout !== undefined)
    layer.absorb("rollouts", "r", {
      meta: meta("r", ago(60)),
      serviceId: base.meta.id,
      fromRevision: 1,
      toRevision: 2,
      isRollback: false,
      state: RolloutState.RUNNING,
      message: "",
      startedAtMs: ago(60),
      endedAtMs: 0,
      slots: [],
      batchDoneAtMs: 0,
      rolledBackBy: "",
      ...rollout,
    });
  const asked = makeTask("t1", { meta: meta("t1", ago(100)), revision: 2, desiredSinceMs: ago(3), ...task });
  for (const one of [
    asked,
    ...others.map((other, i) => makeTask(`o${i}`, { meta: meta(`o${i}`, ago(50)), revision: 2, ...other })),
  ])
    layer.absorb("tasks", one.meta.id, one);
  return explainTask(layer, asked, { now, events: (id) => events.filter((event) => event.id === id) });
}

const status = (state: TaskState, more: Partial<TaskStatus> = {}): TaskStatus => ({
  state,
  sinceMs: ago(20),
  message: "",
  error: "",
  container: undefined,
  ...more,
});
const container = (more: Partial<ContainerCondition>): ContainerCondition => ({ ...readyStatus().container!, ...more });
const on = (task: Partial<Task>): Partial<Task> => ({ nodeId: "h1", ...task });
const well = on({ status: readyStatus(), readySinceMs: ago(30) });
const away = (state: NodeState, more: Partial<Node["status"]> = {}): Partial<Node> => ({
  status: { state, message: "not connected", sinceMs: ago(5), lossConfirmed: false, lastSeenAtMs: ago(10), ...more },
});
const availability = (value: NodeAvailability): Partial<Node> => ({
  spec: { ...makeNode("h1").spec, availability: value, availabilitySinceMs: ago(9) },
});

/** Name, what there is, what it does and waits for, what to do (empty: nothing is wrong). */
const cases: [string, Shape, RegExp, RegExp[]][] = [
  ["made a moment ago", {}, /yet to look at it/, []],
  [
    "short of room",
    {
      task: {
        placementMessage: "no suitable node (2 nodes): 2 short of memory (asks 64 GiB; largest free 8 GiB on h1)",
      },
    },
    /^It waits since 1m40s for a node: no suitable node .*short of memory/,
    [/ask for less/, /make room/],
  ],
  [
    "excluded by a constraint",
    { task: { placementMessage: "no suitable node (2 nodes): 2 excluded by node.labels.zone==eu" } },
    /excluded by node.labels.zone==eu/,
    [/node update --label-add.*constraint-rm/],
  ],
  [
    "cordoned",
    { task: { placementMessage: "no suitable node (2 nodes): 2 cordoned" } },
    /2 cordoned/,
    [/node activate/],
  ],
  [
    "not connected",
    { task: { placementMessage: "no suitable node (2 nodes): 2 not connected" } },
    /not connected/,
    [/node ls/],
  ],
  [
    "limit per node",
    { task: { placementMessage: "no suitable node (2 nodes): 2 at the limit of 1 replica per node" } },
    /limit of 1 replica/,
    [/--replicas-max-per-node/],
  ],
  ["another reason", { task: { placementMessage: "revision 2 is not known" } }, /not known/, [/service inspect/]],
  ["no nodes at all", { node: "none" }, /no agent has joined/, [/agent --join/]],
  [
    "for one node only",
    { task: { onlyNodeId: "h1", placementMessage: "h1 is drained" } },
    /place on h1, the only node that it is for: h1 is drained/,
    [/node inspect h1/],
  ],
  ["for a node that is gone", { task: { onlyNodeId: "h9" } }, /that node was removed/, [/./]],
  [
    "assigned",
    { task: on({ status: status(TaskState.ASSIGNED, { sinceMs: ago(2) }) }) },
    /agent has yet to accept/,
    [],
  ],
  ["assigned for long", { task: on({ status: status(TaskState.ASSIGNED) }) }, /20s ago/, [/agent is well/]],
  ["accepted", { task: on({ status: status(TaskState.ACCEPTED) }) }, /^h1 prepares it since 20s\.$/, []],
  [
    "preparing",
    { task: on({ status: status(TaskState.PREPARING, { message: "pulling nginx:2" }) }) },
    /h1 prepares it since 20s: pulling nginx:2/,
    [],
  ],
  [
    "preparing for long",
    { task: on({ status: status(TaskState.PREPARING, { sinceMs: ago(90) }) }) },
    /since 1m30s/,
    [/large image/],
  ],
  [
    "prepared, and the old one still runs",
    {
      task: on({ status: status(TaskState.READY), desiredState: TaskState.READY }),
      others: [{ ...well, meta: meta("old", ago(500)) }],
    },
    /starts when old, which it replaces, has stopped/,
    [],
  ],
  ["released", { task: on({ status: status(TaskState.READY) }) }, /about to start/, []],
  ["starting", { task: on({ status: status(TaskState.STARTING) }) }, /is being started/, []],
  [
    "starting, not healthy yet",
    {
      task: on({ status: status(TaskState.STARTING, { container: container({ health: ContainerHealth.STARTING }) }) }),
    },
    /health check has yet to succeed, since 20s/,
    [],
  ],
  [
    "backing off",
    {
      task: on({
        status: status(TaskState.RUNNING, {
          container: container({
            phase: ContainerPhase.BACKING_OFF,
            attempt: 2,
            exitCode: 1,
            nextAttemptAtMs: now + 4_000,
          }),
        }),
      }),
    },
    /ended on h1 with exit code 1; attempt 3 in 4s/,
    [/service logs web/],
  ],
  [
    "backing off, out of memory",
    {
      task: on({
        status: status(TaskState.RUNNING, {
          container: container({ phase: ContainerPhase.BACKING_OFF, oomKilled: true }),
        }),
      }),
    },
    /out of memory; attempt 2 is due/,
    [/--limit-memory/, /logs/],
  ],
  [
    "unhealthy",
    {
      task: on({
        status: status(TaskState.RUNNING, {
          container: container({ health: ContainerHealth.UNHEALTHY, ready: false }),
        }),
      }),
    },
    /health check fails/,
    [/logs/, /inspect/],
  ],
  [
    "running, not ready",
    { task: on({ status: status(TaskState.RUNNING, { container: container({ ready: false }) }) }) },
    /is not ready yet/,
    [],
  ],
  ["well", { task: well }, /^It runs on h1 and is ready since 30s\.$/, []],
  [
    "held by a paused rollout",
    { task: { ...well, revision: 1 }, rollout: { state: RolloutState.PAUSED, message: "slot 2: exit code 1" } },
    /of revision 1: the rollout to 2 is paused: slot 2: exit code 1/,
    [/rollout resume web/, /rollout abort web/],
  ],
  [
    "waits for its turn in a rollout",
    { task: { ...well, revision: 1 }, rollout: {} },
    /until the rollout to 2 replaces it/,
    [],
  ],
  ["of the rollout's target", { task: well, rollout: {} }, /^It runs on h1 and is ready since 30s\.$/, []],
  [
    "leaving, no replacement yet",
    { task: { ...well, leave: { reason: "rebalanced: h1 has 5 of 6 tasks", atMs: ago(4), startFirst: true } } },
    /makes way \(rebalanced: h1 has 5 of 6 tasks\) once it has a replacement/,
    [],
  ],
  [
    "leaving, the replacement has no node",
    {
      task: { ...well, leave: { reason: "rebalanced", atMs: ago(4), startFirst: true } },
      others: [{ meta: meta("new", ago(3)), placementMessage: "no suitable node" }],
    },
    /when new is ready, which has no node: no suitable node/,
    [/task why new/],
  ],
  ["on a drained node", { task: well, node: availability(NodeAvailability.DRAINED) }, /its node h1 is drained/, []],
  [
    "its node is not connected",
    { task: well, node: away(NodeState.UNKNOWN) },
    /It was running when its node h1 was last heard of, 10s ago; it is replaced if nothing is heard for another 5s/,
    [/node inspect h1/],
  ],
  [
    "the brake holds",
    {
      task: well,
      node: away(NodeState.UNKNOWN),
      cluster: { brake: { sinceMs: ago(5), lostNodes: 3, nodes: 5 } },
    },
    /not replaced: 3 of 5 nodes were lost at once, and the brake holds/,
    [/node ls/, /node lost --force h1/],
  ],
  [
    "fenced",
    {
      task: well,
      node: away(NodeState.UNKNOWN),
      service: { spec: { ...makeSpec(), stopAfterDisconnectMs: 60_000 } },
    },
    /Its agent stops it after 1m without a manager/,
    [/node lost --force h1/],
  ],
  [
    "silent, of a revision without the fence that the service has by now",
    {
      task: { ...well, revision: 1 },
      node: away(NodeState.UNKNOWN),
      service: { spec: { ...makeSpec(), stopAfterDisconnectMs: 60_000 } },
    },
    /it (is replaced if nothing is heard|will be replaced)/,
    [/node inspect h1/],
  ],
  ["its node is lost", { task: well, node: away(NodeState.DOWN) }, /the node is lost, and it will be replaced/, []],
  [
    "its node is lost, and no two may run",
    { task: well, node: away(NodeState.DOWN), service: { spec: { ...makeSpec(), stopAfterDisconnectMs: 60_000 } } },
    /the node is lost, and it is replaced in 1m10s, when its agent must have stopped it/,
    [],
  ],
  [
    "orphaned, and no two may run",
    {
      task: on({ status: status(TaskState.ORPHANED), endedAtMs: ago(20), desiredState: TaskState.SHUTDOWN }),
      node: away(NodeState.DOWN),
      service: { spec: { ...makeSpec(), stopAfterDisconnectMs: 60_000 } },
    },
    /nobody knows what became of it; it is replaced in 1m10s/,
    [/node inspect/],
  ],
  ["its node was removed", { task: { ...well, nodeId: "h9" } }, /node was removed/, []],
  [
    "stopping, replaced",
    {
      task: { ...well, desiredState: TaskState.SHUTDOWN },
      others: [{ meta: meta("new", ago(4)), cause: "update to 2", nodeId: "h2" }],
    },
    /It is stopping: replaced by new \(update to 2\).* have 12s to end/,
    [],
  ],
  [
    "stopping for too long",
    { task: { ...well, desiredState: TaskState.REMOVE, desiredSinceMs: ago(60) } },
    /since 1m, longer than it was given: its slot is not asked for any more/,
    [/node inspect h1/],
  ],
  [
    "stopping on a node that is away",
    { task: { ...well, desiredState: TaskState.SHUTDOWN }, node: away(NodeState.UNKNOWN), service: "none" },
    /is to stop \(its service was removed\), but its node h1 is not connected/,
    [/node inspect/],
  ],
  [
    "stopping for a drain",
    { task: { ...well, desiredState: TaskState.SHUTDOWN }, node: availability(NodeAvailability.DRAINED) },
    /its node h1 is drained/,
    [],
  ],
  [
    "stopping for a rollout",
    { task: { ...well, revision: 1, desiredState: TaskState.SHUTDOWN }, rollout: {} },
    /the rollout to revision 2 replaces it/,
    [],
  ],
  [
    "complete",
    { task: on({ status: status(TaskState.COMPLETE), endedAtMs: ago(20), desiredState: TaskState.SHUTDOWN }) },
    /ended by itself with success 20s ago/,
    [],
  ],
  [
    "shut down",
    { task: on({ status: status(TaskState.SHUTDOWN), desiredState: TaskState.REMOVE, endedAtMs: ago(20) }) },
    /was stopped 20s ago: its slot is not asked for any more/,
    [],
  ],
  [
    "failed, its slot waits",
    {
      task: on({
        status: status(TaskState.FAILED, { error: "exit code 1" }),
        endedAtMs: now - 500,
        desiredState: TaskState.SHUTDOWN,
      }),
    },
    /It failed .* ago: exit code 1; its slot is tried again in \ds/,
    [/logs web/],
  ],
  [
    "failed, replaced",
    {
      task: on({
        status: status(TaskState.FAILED, { error: "exit code 1" }),
        endedAtMs: ago(60),
        desiredState: TaskState.SHUTDOWN,
      }),
      others: [{ meta: meta("new", ago(40)), nodeId: "h2" }],
    },
    /new took its place on h2/,
    [/logs web/],
  ],
  [
    "rejected",
    {
      task: on({ status: status(TaskState.REJECTED, { error: "manifest for nginx:2 not found" }), endedAtMs: ago(60) }),
    },
    /h1 could not start it: manifest for nginx:2 not found; its restart policy asks for no other/,
    [/image's name/, /service update web/],
  ],
  [
    "orphaned",
    { task: on({ status: status(TaskState.ORPHANED), endedAtMs: ago(60), desiredState: TaskState.SHUTDOWN }) },
    /node h1 was lost 1m ago, and nobody knows/,
    [/node inspect h1/],
  ],
];

describe("explainTask", () => {
  it.each(cases)("says in one sentence how it is, and what to do: %s", (_, shape, summary, advice) => {
    const answer = explain(shape);
    expect(answer.summary).toMatch(summary);
    expect(answer.advice).toHaveLength(advice.length);
    for (const [i, pattern] of advice.entries()) expect(answer.advice[i]).toMatch(pattern);
  });

  it("has a case for every state", () => {
    const states = new Set(cases.map(([, { task }]) => task?.status?.state ?? TaskState.NEW));
    // PENDING is NEW with a message; REMOVE is never observed.
    for (const [name, state] of Object.entries(TaskState))
      if (!["UNSPECIFIED", "PENDING", "REMOVE"].includes(name)) expect(states, name).toContain(state);
  });

  it("tells how it came to this in order of time: its predecessor, its cause, its node, its restarts, what is due", () => {
    const { steps, nodeName } = explain({
      task: on({
        cause: "replaces o0: exit code 7",
        placementReason: "fewest tasks of the service",
        status: status(TaskState.RUNNING, {
          sinceMs: ago(90),
          container: container({
            phase: ContainerPhase.BACKING_OFF,
            attempt: 3,
            exitCode: 1,
            startedAtMs: ago(10),
            nextAttemptAtMs: now + 4_000,
          }),
        }),
      }),
      others: [
        {
          meta: meta("o0", ago(300)),
          nodeId: "h2",
          status: status(TaskState.FAILED, { error: "exit code 7" }),
          endedAtMs: ago(101),
        },
      ],
      rollout: { state: RolloutState.PAUSED, message: "slot 1: exit code 7", meta: meta("r", ago(5)) },
    });
    expect(nodeName).toBe("h1");
    expect(steps.map(({ text }) => text)).toEqual([
      "its predecessor o0 on h2 ended: failed: exit code 7",
      "created for revision 2: replaces o0: exit code 7",
      "placed on h1: fewest tasks of the service",
      "running",
      "rollout from revision 1 to 2 began",
      "its container was started again in place, attempt 3 after exit code 1",
      "the rollout was paused: slot 1: exit code 7",
      "next start in place",
    ]);
    expect(steps.map(({ atMs }) => atMs)).toEqual(steps.map(({ atMs }) => atMs).toSorted((a, b) => a - b));
  });

  it("prefers what was told at the time, and does not say it twice", () => {
    const event = (action: string, atMs: number, message: string): Event => ({
      sequence: 1,
      atMs,
      kind: "task",
      action,
      id: "t1",
      name: "web.1",
      message,
      cause: "",
    });
    const { steps } = explain({
      task: well,
      events: [
        event("created", ago(100), "revision 2"),
        event("assigned", ago(99), "assigned to a node on h1"),
        event("running", ago(40), "running on h1"),
        event("ready", ago(30), "ready on h1"),
      ],
    });
    expect(steps.map(({ text }) => text)).toEqual([
      "created for revision 2",
      "assigned: assigned to a node on h1",
      "running: running on h1",
      "ready: ready on h1",
    ]);
  });

  it("says of each node what it lacks, for a task without one only", () => {
    expect(explain({ task: well }).nodes).toEqual([]);
    const { nodes } = explain({ node: availability(NodeAvailability.CORDONED) });
    expect(nodes).toMatchObject([
      { nodeName: "h2", fits: true },
      { nodeName: "h1", fits: false, reason: "cordoned" },
    ]);
  });
});

describe("the advice for a task that fits nowhere", () => {
  type Spec = ReturnType<typeof makeSpec>;
  const volume = (spec: Spec) =>
    spec.task.container.mounts.push({
      type: MountType.VOLUME,
      source: "data",
      target: "/data",
      readOnly: false,
      volumeDriver: "nfs",
    });
  const affinity = (expression: string) => (spec: Spec) =>
    spec.task.placement.affinities.push({ expression, weight: 0, required: true });
  const reserve = (what: object) => (spec: Spec) => Object.assign(spec.task.reservations, what);
  const onHost = (spec: Spec) => Object.assign(spec.ports[0]!, { mode: PublishMode.HOST, publishedPort: 8080 });

  /** What is wrong, of the new service's spec or of the one node; a task of service db is there already. */
  it.each<[string, (spec: Spec) => unknown, Partial<Node>, RegExp]>([
    ["memory", reserve({ memoryBytes: 2 ** 60 }), {}, /--reserve-memory/],
    ["cpus", reserve({ nanoCpus: 1e15 }), {}, /--reserve-cpu/],
    ["countable things", reserve({ generic: { gpu: 2 } }), {}, /make room/],
    ["a label", (spec) => spec.task.placement.constraints.push("node.labels.zone==eu"), {}, /--label-add/],
    ["a port", onHost, {}, /mode=host/],
    ["a volume driver", volume, {}, /volume driver/],
    ["company", affinity("service==cache"), {}, /affinities/],
    ["solitude", affinity("service!=db"), {}, /affinities/],
    ["an open node", () => undefined, availability(NodeAvailability.CORDONED), /node activate/],
    ["a node that is not drained", () => undefined, availability(NodeAvailability.DRAINED), /node activate/],
    ["a node that is there", () => undefined, away(NodeState.UNKNOWN), /node ls/],
    ["a node that is not lost", () => undefined, away(NodeState.DOWN), /node ls/],
  ])("follows what the scheduler says is missing: %s", (_, change, node, advice) => {
    const layer = new Layer(openMemoryStore().view());
    layer.absorb("nodes", "h1", makeNode("h1", node));
    const spec = makeSpec();
    change(spec);
    const service = makeService({ spec });
    const db = makeService({ meta: meta("service-db", 0), spec: { ...makeSpec({ name: "db" }), ports: spec.ports } });
    for (const one of [service, db]) {
      layer.absorb("services", one.meta.id, one);
      const revision = makeRevision(one);
      layer.absorb("revisions", revision.meta.id, revision);
    }
    const there = { serviceId: "service-db", serviceName: "db", nodeId: "h1", status: readyStatus() };
    layer.absorb("tasks", "d1", makeTask("d1", there));
    const { unplaced } = place({ ...schedulingOf(layer, now), tasks: [makeTask("t1")] });
    const task = makeTask("t1", { placementMessage: unplaced[0]?.message ?? "" });
    layer.absorb("tasks", "t1", task);
    const answer = explainTask(layer, task, { now, events: () => [] });
    expect(answer.advice.join("\n"), answer.summary).toMatch(advice);
    expect(answer.nodes).toMatchObject([{ nodeName: "h1", fits: false }]);
  });

  it("allows more tasks per node where their number is the limit", () => {
    const { advice } = explain({ task: { placementMessage: "1 at the limit of 2 replicas per node" } });
    expect(advice).toEqual([expect.stringMatching(/--replicas-max-per-node 0 web/)]);
  });
});
