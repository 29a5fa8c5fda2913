// Stored objects for tests, with everything filled in that a test does not care about.

import { templateHash } from "../../deploy/spec/mod.js";
import {
  type Cluster,
  PlacementStrategy,
  ContainerHealth,
  ContainerPhase,
  FailureAction,
  type Node,
  NodeAvailability,
  NodeRole,
  NodeState,
  Protocol,
  PublishMode,
  PullPolicy,
  RestartCondition,
  type Revision,
  type Service,
  type ServiceSpec,
  type Task,
  TaskState,
  type TaskStatus,
  UpdateOrder,
} from "../../proto/mod.js";

const meta = (id: string) => ({ id, version: 0, createdAtMs: 0, updatedAtMs: 0 });

export function makeCluster(changes: Partial<Cluster> = {}): Cluster {
  return {
    meta: meta("cluster-1"),
    name: "test",
    vipPool: "10.127.0.0/16",
    nodePool: "10.128.0.0/10",
    nodePrefix: 24,
    domain: "flotilla.internal",
    dnsAddress: "10.127.0.53",
    settings: undefined,
    brake: undefined,
    ...changes,
  };
}

export function makeSpec(
  changes: { name?: string; image?: string; replicas?: number; ports?: number[] } = {},
): ServiceSpec {
  const { name = "web", image = "nginx", replicas = 1, ports = [80] } = changes;
  const update = {
    parallelism: 1,
    delayMs: 0,
    order: UpdateOrder.STOP_FIRST,
    monitorMs: 5_000,
    failureAction: FailureAction.PAUSE,
    maxFailureRatio: 0,
    minHealthyTimeMs: 0,
    progressDeadlineMs: 600_000,
  };
  return {
    name,
    labels: {},
    mode: { $case: "replicated", value: { replicas } },
    task: {
      container: {
        image,
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
      restart: { condition: RestartCondition.ANY, delayMs: 1_000, maxAttempts: 3, windowMs: 120_000 },
      placement: {
        constraints: [],
        maxReplicasPerNode: 0,
        preferences: [],
        affinities: [],
        strategy: PlacementStrategy.UNSPECIFIED,
      },
      priority: 0,
    },
    ports: ports.map((targetPort) => ({
      protocol: Protocol.TCP,
      targetPort,
      publishedPort: 0,
      name: "",
      mode: PublishMode.INGRESS,
    })),
    update,
    rollback: update,
    drainTimeoutMs: 5_000,
    dependsOn: [],
    autoscale: undefined,
  };
}

export function makeService(changes: Partial<Service> = {}): Service {
  return {
    meta: meta("service-web"),
    spec: makeSpec(),
    revision: 1,
    vip: "10.127.0.1",
    rolloutId: "",
    removing: false,
    job: undefined,
    autoscale: undefined,
    waitingFor: "",
    ...changes,
  };
}

export function makeRevision(service: Service, number = service.revision, spec = service.spec): Revision {
  return {
    meta: meta(`${service.meta.id}-r${number}`),
    serviceId: service.meta.id,
    number,
    spec,
    templateHash: templateHash(spec),
    requestId: "",
    cause: "created",
    rollbackOf: 0,
  };
}

export function makeNode(id: string, changes: Partial<Node> = {}): Node {
  return {
    meta: meta(id),
    spec: { availability: NodeAvailability.ACTIVE, role: NodeRole.UNSPECIFIED, labels: {}, availabilitySinceMs: 0 },
    description: {
      hostname: id,
      os: "linux",
      architecture: "amd64",
      engineVersion: "20.10.24",
      engineApiVersion: "1.41",
      resources: { nanoCpus: 2_000_000_000, memoryBytes: 8 * 1024 ** 3, generic: {} },
      engineLabels: {},
      advertiseAddress: "10.77.0.1",
      agentVersion: "0.1.0",
      labels: {},
      volumeDrivers: ["local"],
    },
    status: { state: NodeState.READY, message: "", sinceMs: 0, lossConfirmed: false, lastSeenAtMs: 0 },
    subnet: "10.128.1.0/24",
    problems: [],
    manager: false,
    ...changes,
  };
}

export function makeTask(id: string, changes: Partial<Task> = {}): Task {
  return {
    meta: meta(id),
    serviceId: "service-web",
    serviceName: "web",
    slot: 1,
    revision: 1,
    nodeId: "",
    desiredState: TaskState.RUNNING,
    desiredSinceMs: 0,
    status: { state: TaskState.NEW, sinceMs: 0, message: "", error: "", container: undefined },
    placementMessage: "",
    readySinceMs: 0,
    endedAtMs: 0,
    cause: "created",
    onlyNodeId: "",
    leave: undefined,
    run: 0,
    placementReason: "",
    ...changes,
  };
}

/** What an agent reports of a task that serves. */
export function readyStatus(address = "10.128.1.2"): TaskStatus {
  return {
    state: TaskState.RUNNING,
    sinceMs: 0,
    message: "running",
    error: "",
    container: {
      id: "c1",
      attempt: 1,
      phase: ContainerPhase.RUNNING,
      nextAttemptAtMs: 0,
      health: ContainerHealth.NONE,
      ready: true,
      address,
      hostPorts: [{ protocol: Protocol.TCP, targetPort: 80, hostPort: 49153 }],
      exitCode: undefined,
      oomKilled: false,
      startedAtMs: 0,
    },
  };
}
