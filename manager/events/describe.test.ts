import { describe as group, expect, it } from "vitest";
import {
  type Cluster,
  JobState,
  type JobRun,
  type Node,
  NodeAvailability,
  NodeRole,
  NodeState,
  type Rollout,
  RolloutState,
  type Service,
  SlotVerdict,
  type Task,
  TaskState,
  type TaskStatus,
} from "../../proto/mod.js";
import { makeNode, makeRevision, makeService, makeTask, readyStatus } from "../../test/kit/objects.js";
import { type Change, Layer, openMemoryStore } from "../store/mod.js";
import { describe } from "./mod.js";

interface Around {
  service?: Partial<Service> | "none";
  node?: Partial<Node> | "none";
  rollout?: Partial<Rollout>;
  /** Why the service's newest revision exists. */
  cause?: string;
}

/** "action name: message (cause)" of each event. */
function told(change: Change, { service, node, rollout, cause = "updated" }: Around = {}): string[] {
  const layer = new Layer(openMemoryStore().view());
  const base = makeService({ revision: 2, rolloutId: "r" });
  if (service !== "none") layer.absorb("services", base.meta.id, { ...base, ...service });
  layer.absorb("revisions", "r2", { ...makeRevision(base, 2), cause });
  if (node !== "none") layer.absorb("nodes", "node000001", { ...host, ...node });
  if (rollout !== undefined) layer.absorb("rollouts", "r", { ...going, ...rollout });
  return describe(layer, change).map(
    ({ kind, action, name, message, cause: why }) =>
      `${kind} ${action} ${name}: ${message}${why === "" ? "" : ` (${why})`}`,
  );
}

const host = makeNode("node000001", { description: { ...makeNode("x").description, hostname: "h1" } });
const going: Rollout = {
  meta: { id: "r", version: 0, createdAtMs: 0, updatedAtMs: 0 },
  serviceId: "service-web",
  fromRevision: 1,
  toRevision: 2,
  isRollback: false,
  state: RolloutState.RUNNING,
  message: "",
  startedAtMs: 0,
  endedAtMs: 0,
  slots: [],
  batchDoneAtMs: 0,
  rolledBackBy: "",
};
const status = (state: TaskState, more: Partial<TaskStatus> = {}): TaskStatus => ({
  state,
  sinceMs: 0,
  message: "",
  error: "",
  container: undefined,
  ...more,
});
const runs = makeTask("t1", { nodeId: "node000001", status: readyStatus(), readySinceMs: 5 });
const task = (before: Partial<Task> | undefined, after: Partial<Task>): Change => ({
  table: "tasks",
  before: before === undefined ? undefined : { ...runs, ...before },
  after: { ...runs, ...after },
});
const stopped = task({}, { desiredState: TaskState.SHUTDOWN });
const node = (before: Partial<Node>, after: Partial<Node>): Change => ({
  table: "nodes",
  before: { ...host, ...before },
  after: { ...host, ...after },
});
const service = (before: Partial<Service> | undefined, after: Partial<Service>): Change => ({
  table: "services",
  before: before === undefined ? undefined : makeService(before),
  after: makeService(after),
});
const rollout = (before: Partial<Rollout> | undefined, after: Partial<Rollout>): Change => ({
  table: "rollouts",
  before: before === undefined ? undefined : { ...going, ...before },
  after: { ...going, ...after },
});
const cluster: Cluster = {
  meta: { id: "c", version: 0, createdAtMs: 0, updatedAtMs: 0 },
  name: "prod",
  vipPool: "",
  nodePool: "",
  nodePrefix: 24,
  domain: "",
  dnsAddress: "",
  settings: undefined,
  brake: undefined,
};
const run: JobRun = {
  number: 3,
  revision: 2,
  dueAtMs: 0,
  startedAtMs: 0,
  endedAtMs: 0,
  state: JobState.RUNNING,
  message: "",
  completed: 0,
  total: 1,
  requestId: "",
};
const job = (before: JobRun[], after: JobRun[]): Change => {
  const of = (list: JobRun[]) => ({ job: { runs: list, lastRun: 3, lastDueAtMs: 0, requested: [] } });
  return service(of(before), of(after));
};
const spec = host.spec;

const cases: [string, Change, Around, string[]][] = [
  [
    "a task is made",
    task(undefined, { revision: 2, cause: "update to 2", nodeId: "", status: status(TaskState.NEW) }),
    {},
    ["task created web.1: revision 2 (update to 2)"],
  ],
  [
    "a task is made for a service that was scaled",
    task(undefined, { revision: 2, cause: "created", nodeId: "", status: status(TaskState.NEW) }),
    { cause: "scaled to 5" },
    ["task created web.1: revision 2 (scaled to 5)"],
  ],
  [
    "a task is made for a new service",
    task(undefined, { cause: "created", nodeId: "", status: status(TaskState.NEW) }),
    { service: { revision: 1 } },
    ["task created web.1: revision 1 (service web created)"],
  ],
  [
    "a task finds no node, and is pending from then on",
    task(
      { nodeId: "", status: status(TaskState.NEW) },
      { nodeId: "", status: status(TaskState.PENDING), placementMessage: "no suitable node" },
    ),
    {},
    ["task pending web.1: no suitable node"],
  ],
  [
    "a task finds no node",
    task(
      { nodeId: "", status: status(TaskState.PENDING) },
      { nodeId: "", status: status(TaskState.PENDING), placementMessage: "no suitable node" },
    ),
    {},
    ["task pending web.1: no suitable node"],
  ],
  [
    "a task gets its node",
    task(
      { nodeId: "", status: status(TaskState.NEW), readySinceMs: 0 },
      {
        status: status(TaskState.ASSIGNED, { message: "assigned to a node" }),
        placementReason: "fewest tasks",
        readySinceMs: 0,
      },
    ),
    {},
    ["task assigned web.1: assigned to a node on h1 (fewest tasks)"],
  ],
  [
    "a container is started again",
    task({}, { status: { ...readyStatus(), container: { ...readyStatus().container!, attempt: 2, exitCode: 3 } } }),
    {},
    ["task restarted web.1: in place, attempt 2 (exit code 3)"],
  ],
  ["a task is ready", task({ readySinceMs: 0 }, {}), {}, ["task ready web.1: ready on h1"]],
  ["a task is not ready any more", task({}, { readySinceMs: 0 }), {}, ["task unready web.1: running on h1"]],
  [
    "a task fails",
    task({}, { status: status(TaskState.FAILED, { error: "exit code 1" }), readySinceMs: 0 }),
    {},
    ["task failed web.1: exit code 1 on h1"],
  ],
  [
    "a task is to leave",
    task({}, { leave: { reason: "rebalanced: h1 has 5 of 6 tasks", atMs: 1, startFirst: true } }),
    {},
    ["task leaving web.1: to be replaced, and stopped then (rebalanced: h1 has 5 of 6 tasks)"],
  ],
  [
    "a task is stopped for a rollout",
    stopped,
    { rollout: {} },
    ["task stopping web.1: told to stop on h1 (update to 2)"],
  ],
  [
    "a task is stopped for a rollback",
    stopped,
    { rollout: { isRollback: true } },
    ["task stopping web.1: told to stop on h1 (rollback to 2)"],
  ],
  [
    "a task is stopped for a drain",
    stopped,
    { node: { spec: { ...spec, availability: NodeAvailability.DRAINED } } },
    ["task stopping web.1: told to stop on h1 (node h1 drained)"],
  ],
  [
    "a task is stopped by scaling",
    task({}, { desiredState: TaskState.REMOVE }),
    { cause: "autoscaled from 5 to 3: cpu 12 % of 60 %" },
    ["task stopping web.1: told to stop on h1 (autoscaled from 5 to 3: cpu 12 % of 60 %)"],
  ],
  [
    "a task is stopped with its service",
    stopped,
    { service: { removing: true } },
    ["task stopping web.1: told to stop on h1 (service web removed)"],
  ],
  [
    "a failed task is put away",
    task({ status: status(TaskState.FAILED) }, { status: status(TaskState.FAILED), desiredState: TaskState.SHUTDOWN }),
    {},
    [],
  ],
  [
    "a task is lost with its node",
    task({}, { status: status(TaskState.ORPHANED), readySinceMs: 0 }),
    { node: { status: { ...host.status, state: NodeState.DOWN } } },
    ["task orphaned web.1: on h1 (node h1 lost)"],
  ],
  ["a task is forgotten", { table: "tasks", before: runs, after: undefined }, {}, []],
  [
    "a node is lost",
    node({}, { status: { ...host.status, state: NodeState.DOWN, message: "no sign of life for 15 s" } }),
    {},
    ["node down h1: no sign of life for 15 s"],
  ],
  [
    "a node's loss is confirmed",
    node({}, { status: { ...host.status, lossConfirmed: true } }),
    {},
    ["node lost h1: gone for good: its tasks are replaced (confirmed by the user)"],
  ],
  [
    "a node is drained",
    node({}, { spec: { ...spec, availability: NodeAvailability.DRAINED, drainDeadlineMs: 60_000 } }),
    {},
    ["node drained h1: its tasks move away within 1m (asked by the user)"],
  ],
  [
    "a node is promoted and labelled",
    node(
      { spec: { ...spec, labels: { rack: "1", a: "b" } } },
      { spec: { ...spec, role: NodeRole.MANAGER, labels: { zone: "eu", a: "b" } } },
    ),
    {},
    ["node promoted h1:  (asked by the user)", "node updated h1: labels: +zone=eu -rack (asked by the user)"],
  ],
  [
    "a node is removed",
    { table: "nodes", before: host, after: undefined },
    {},
    ["node removed h1:  (asked by the user)"],
  ],
  [
    "a service is scaled by the autoscaler",
    service({}, { revision: 2 }),
    { cause: "autoscaled from 3 to 5: cpu 92 % of 60 %" },
    ["service updated web: revision 2 (autoscaled from 3 to 5: cpu 92 % of 60 %)"],
  ],
  ["a service waits", service({}, { waitingFor: "waits for db" }), {}, ["service waiting web: waits for db"]],
  [
    "a service has waited",
    service({ waitingFor: "waits for db" }, {}),
    {},
    ["service begun web: what it waited for is ready"],
  ],
  [
    "a service is removed",
    { table: "services", before: makeService(), after: undefined },
    {},
    ["service removed web: "],
  ],
  ["a run is begun by hand", job([], [{ ...run, requestId: "x" }]), {}, ["job started web: run 3 (asked by the user)"]],
  ["a run is begun by a revision", job([], [run]), {}, ["job started web: run 3 (revision 2)"]],
  [
    "a run is skipped",
    job([], [{ ...run, state: JobState.SKIPPED, message: "run 2 goes on", dueAtMs: 1_700_000_000_000 }]),
    {},
    ["job skipped web: run 3: run 2 goes on (due at 2023-11-14T22:13:20.000Z)"],
  ],
  ["a run ends", job([run], [{ ...run, state: JobState.SUCCEEDED }]), {}, ["job succeeded web: run 3"]],
  ["a run goes on", job([run], [{ ...run, completed: 1 }]), {}, []],
  ["a rollout begins", rollout(undefined, {}), {}, ["rollout started web: from revision 1 to 2 (updated by the user)"]],
  [
    "a slot of a rollout fails, and it pauses",
    rollout(
      {},
      {
        state: RolloutState.PAUSED,
        message: "slot 1: exit code 1",
        slots: [
          {
            slot: 1,
            taskId: "t1",
            startedAtMs: 0,
            startFirst: false,
            verdict: SlotVerdict.FAILED,
            message: "exit code 1",
          },
        ],
      },
    ),
    {},
    [
      "rollout slot failed web: slot 1: exit code 1 (from revision 1 to 2)",
      "rollout paused web: from revision 1 to 2 (slot 1: exit code 1)",
    ],
  ],
  [
    "a rollout is resumed",
    rollout({ state: RolloutState.PAUSED }, { message: "resumed by the user" }),
    {},
    ["rollout resumed web: from revision 1 to 2 (resumed by the user)"],
  ],
  [
    "the brake is put on",
    { table: "clusters", before: cluster, after: { ...cluster, brake: { sinceMs: 1, lostNodes: 3, nodes: 5 } } },
    {},
    [
      "cluster braked prod: what ran on the lost nodes is left alone until they return, or their loss is confirmed (3 of 5 nodes lost at once)",
    ],
  ],
  [
    "the brake is released",
    { table: "clusters", before: { ...cluster, brake: { sinceMs: 1, lostNodes: 3, nodes: 5 } }, after: cluster },
    {},
    ["cluster released prod: lost nodes are replaced again (no more than half of the nodes are lost)"],
  ],
  [
    "settings change",
    {
      table: "clusters",
      before: cluster,
      after: {
        ...cluster,
        settings: {
          strategy: 2,
          preemption: true,
          lostAfterMs: 30_000,
          taskHistory: undefined,
          rebalanceMoves: 0,
          rebalanceIntervalMs: undefined,
        },
      },
    },
    {},
    [
      "cluster updated prod: placement strategy binpack, was spread; preemption on, was off; lost after 30s, was 15s (asked by the user)",
    ],
  ],
];

group("events", () => {
  it.each(cases)("tell what led to it: %s", (_, change, around, expected) => {
    expect(told(change, around)).toEqual(expected);
  });

  it("name a node by its host, and one that is not known any more by its id", () => {
    const change = task({ readySinceMs: 0 }, {});
    expect(told(change, { node: "none" })).toEqual(["task ready web.1: ready on node000001"]);
  });
});
