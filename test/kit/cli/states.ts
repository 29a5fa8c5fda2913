// For tests of the command line: states of a service "web", as a manager would send them.

import {
  ManagerStatus,
  type NodeState as NodeStateMessage,
  type ServiceState,
} from "../../../proto/gen/flotilla/control/v1/control.js";
import {
  PublishMode,
  ContainerHealth,
  ContainerPhase,
  Node,
  NodeAvailability,
  NodeRole,
  NodeState,
  CronMode,
  JobRun,
  JobState,
  JobStatus,
  Revision,
  Rollout,
  RolloutState,
  Service,
  ServiceSpec,
  Task,
  TaskState,
} from "../../../proto/gen/flotilla/objects/v1/objects.js";

export const startMs = 1_700_000_000_000;
export const webId = "web0000000000000000000000";

export interface TaskParts {
  slot: number;
  id?: string;
  revision?: number;
  state?: TaskState;
  desired?: TaskState;
  /** "" when it has no node. */
  node?: string;
  ready?: boolean;
  phase?: ContainerPhase;
  error?: string;
  placement?: string;
  createdAtMs?: number;
  exitCode?: number;
  oomKilled?: boolean;
  nextAttemptAtMs?: number;
  attempt?: number;
  health?: ContainerHealth;
  run?: number;
  /** The only node that it may run on. */
  only?: string;
  leave?: string;
  desiredSinceMs?: number;
  service?: string;
}

/** Running and ready on h1 unless told otherwise. */
export function task(parts: TaskParts): Task {
  const { slot, revision = 1, state = TaskState.RUNNING, node = "h1", createdAtMs = startMs } = parts;
  const id = parts.id ?? `task${slot}r${revision}`.padEnd(25, "0");
  const started = state >= TaskState.STARTING;
  return Task.fromPartial({
    meta: { id, version: 1, createdAtMs, updatedAtMs: createdAtMs },
    serviceId: parts.service === undefined ? webId : `${parts.service}0`,
    serviceName: parts.service ?? "web",
    slot,
    revision,
    run: parts.run ?? 0,
    onlyNodeId: parts.only === undefined ? "" : `node-${parts.only}`,
    ...(parts.leave === undefined ? {} : { leave: { reason: parts.leave, atMs: startMs, startFirst: true } }),
    desiredSinceMs: parts.desiredSinceMs ?? createdAtMs,
    nodeId: node === "" ? "" : `node-${node}`,
    desiredState: parts.desired ?? TaskState.RUNNING,
    placementMessage: parts.placement ?? "",
    status: {
      state,
      sinceMs: startMs,
      message: "",
      error: parts.error ?? "",
      ...(started
        ? {
            container: {
              id: `container-${id}`,
              attempt: parts.attempt ?? 1,
              phase: parts.phase ?? ContainerPhase.RUNNING,
              health: parts.health ?? ContainerHealth.NONE,
              ready: parts.ready ?? state === TaskState.RUNNING,
              nextAttemptAtMs: parts.nextAttemptAtMs ?? 0,
              oomKilled: parts.oomKilled ?? false,
              ...(parts.exitCode === undefined ? {} : { exitCode: parts.exitCode }),
            },
          }
        : {}),
    },
  });
}

export interface StateParts {
  revision?: number;
  replicas?: number;
  tasks?: Task[];
  converged?: boolean;
  rollout?: Rollout;
  /** Image of each revision, from 1; equal images are equal templates. */
  images?: string[];
  rollbackOf?: Readonly<Record<number, number>>;
  /** How long the service has new tasks watched. */
  monitorMs?: number;
  mode?: ServiceSpec["mode"];
  job?: Partial<JobStatus>;
  waitingFor?: string;
}

/** A run of revision 1 that has begun, with two tasks to complete, unless told otherwise. */
export function run(number: number, parts: Partial<JobRun> = {}): JobRun {
  return JobRun.fromPartial({
    number,
    revision: 1,
    startedAtMs: startMs,
    state: JobState.RUNNING,
    total: 2,
    ...parts,
  });
}

export const job: ServiceSpec["mode"] = {
  $case: "replicatedJob",
  value: { completions: 2, maxConcurrent: undefined },
};

export function cron(schedule: string, parts: Partial<CronMode> = {}): NonNullable<ServiceSpec["mode"]> {
  return { $case: "cron", value: CronMode.fromPartial({ schedule, ...parts }) };
}

export function spec(image: string, replicas: number, monitorMs = 0): ServiceSpec {
  return ServiceSpec.fromPartial({
    name: "web",
    mode: { $case: "replicated", value: { replicas } },
    task: {
      container: { image },
      reservations: {},
      limits: {},
      restart: {},
      placement: {},
    },
    ports: [{ protocol: 1, targetPort: 80, publishedPort: 8080, name: "", mode: PublishMode.INGRESS }],
    update: { monitorMs },
    rollback: {},
  });
}

export function state(parts: StateParts = {}): ServiceState {
  const {
    revision = 1,
    replicas = 2,
    tasks = [],
    converged = false,
    images = ["nginx:1", "nginx:2", "nginx:1"],
  } = parts;
  const image = (number: number) => images[number - 1] ?? "nginx:1";
  return {
    service: Service.fromPartial({
      meta: { id: webId, version: 40 + revision, createdAtMs: startMs, updatedAtMs: startMs },
      spec: {
        ...spec(image(revision), replicas, parts.monitorMs),
        ...(parts.mode === undefined ? {} : { mode: parts.mode }),
      },
      ...(parts.job === undefined ? {} : { job: JobStatus.fromPartial(parts.job) }),
      waitingFor: parts.waitingFor ?? "",
      revision,
      vip: "10.127.0.1",
      rolloutId: parts.rollout?.meta?.id ?? "",
    }),
    rollout: parts.rollout,
    tasks,
    revisions: Array.from({ length: revision }, (_, i) =>
      Revision.fromPartial({
        meta: { id: `rev${i + 1}`, version: 1, createdAtMs: startMs, updatedAtMs: startMs },
        serviceId: webId,
        number: i + 1,
        spec: spec(image(i + 1), replicas),
        templateHash: image(i + 1),
        cause: i === 0 ? "created" : "updated",
        rollbackOf: parts.rollbackOf?.[i + 1] ?? 0,
      }),
    ),
    nodeNames: { "node-h1": "h1", "node-h2": "h2" },
    converged,
    removed: false,
    replicasRunning: tasks.filter(({ status }) => status?.container?.ready === true).length,
    replicasDesired: replicas,
  };
}

export function rollout(parts: {
  id?: string;
  from?: number;
  to?: number;
  state?: RolloutState;
  message?: string;
  isRollback?: boolean;
}): Rollout {
  return Rollout.fromPartial({
    meta: { id: parts.id ?? "rollout2", version: 1, createdAtMs: startMs, updatedAtMs: startMs },
    serviceId: webId,
    fromRevision: parts.from ?? 1,
    toRevision: parts.to ?? 2,
    isRollback: parts.isRollback ?? false,
    state: parts.state ?? RolloutState.RUNNING,
    message: parts.message ?? "",
    startedAtMs: startMs,
  });
}

export function node(
  hostname: string,
  parts: {
    availability?: NodeAvailability;
    role?: NodeRole;
    tasks?: number;
    state?: NodeState;
    labels?: Record<string, string>;
    manager?: Partial<ManagerStatus>;
    availabilitySinceMs?: number;
    drainDeadlineMs?: number;
    generic?: Record<string, number>;
    lossConfirmed?: boolean;
  } = {},
): NodeStateMessage {
  return {
    node: Node.fromPartial({
      meta: { id: `node-${hostname}`.padEnd(25, "0"), version: 1, createdAtMs: startMs, updatedAtMs: startMs },
      spec: {
        availability: parts.availability ?? NodeAvailability.ACTIVE,
        role: parts.role ?? NodeRole.UNSPECIFIED,
        labels: parts.labels ?? {},
        availabilitySinceMs: parts.availabilitySinceMs ?? startMs,
        ...(parts.drainDeadlineMs === undefined ? {} : { drainDeadlineMs: parts.drainDeadlineMs }),
      },
      description: {
        hostname,
        engineVersion: "20.10.24",
        advertiseAddress: "10.0.0.1",
        os: "linux",
        architecture: "amd64",
        resources: { nanoCpus: 2e9, memoryBytes: 2 ** 30, generic: parts.generic ?? {} },
      },
      status: {
        state: parts.state ?? NodeState.READY,
        message: "",
        sinceMs: startMs,
        lossConfirmed: parts.lossConfirmed ?? false,
      },
      subnet: "10.128.1.0/24",
    }),
    tasks: parts.tasks ?? 0,
    reserved: { nanoCpus: 0, memoryBytes: 0, generic: {} },
    manager: parts.manager === undefined ? undefined : ManagerStatus.fromPartial(parts.manager),
  };
}
