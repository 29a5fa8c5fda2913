// Small whole objects for the store's tests and benchmarks.

import {
  PlacementStrategy,
  PublishMode,
  type Cluster,
  type Node,
  type Revision,
  type Rollout,
  type Service,
  type ServiceSpec,
  type Task,
  codecs,
} from "../../proto/mod.js";

const nothing = new Uint8Array();

function meta(id: string) {
  return { id, version: 0, createdAtMs: 1_000, updatedAtMs: 1_000 };
}

function spec(name: string): ServiceSpec {
  const update = {
    parallelism: 1,
    delayMs: 0,
    order: 1 as const,
    monitorMs: 5_000,
    failureAction: 1 as const,
    maxFailureRatio: 0,
    minHealthyTimeMs: 0,
    progressDeadlineMs: 600_000,
  };
  return {
    name,
    labels: { tier: "front" },
    mode: { $case: "replicated", value: { replicas: 3 } },
    task: {
      container: {
        image: "registry.example/web:1",
        command: [],
        args: [],
        env: ["A=1"],
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
        pullPolicy: 1,
      },
      reservations: { nanoCpus: 0, memoryBytes: 0, generic: {} },
      limits: { nanoCpus: 0, memoryBytes: 0, generic: {} },
      restart: { condition: 3, delayMs: 1_000, maxAttempts: 3, windowMs: 120_000 },
      placement: {
        constraints: [],
        maxReplicasPerNode: 0,
        preferences: [],
        affinities: [],
        strategy: PlacementStrategy.UNSPECIFIED,
      },
      priority: 0,
    },
    ports: [{ protocol: 1, targetPort: 80, publishedPort: 0, name: "", mode: PublishMode.INGRESS }],
    update,
    rollback: update,
    drainTimeoutMs: 5_000,
    dependsOn: [],
    autoscale: undefined,
  };
}

export function sampleCluster(id: string): Cluster {
  return { ...codecs.clusters.decode(nothing), meta: meta(id), name: id };
}

export function sampleService(id: string, name = id): Service {
  return { ...codecs.services.decode(nothing), meta: meta(id), spec: spec(name), revision: 1 };
}

export function sampleRevision(id: string, serviceId: string, number: number): Revision {
  return { ...codecs.revisions.decode(nothing), meta: meta(id), serviceId, number, spec: spec(serviceId) };
}

export function sampleTask(id: string, serviceId: string, nodeId = "", slot = 1): Task {
  return {
    ...codecs.tasks.decode(nothing),
    meta: meta(id),
    serviceId,
    serviceName: serviceId,
    slot,
    revision: 1,
    nodeId,
    desiredState: 8,
    status: { state: 8, sinceMs: 1_000, message: "started", error: "", container: undefined },
    cause: "created",
  };
}

export function sampleNode(id: string): Node {
  return {
    ...codecs.nodes.decode(nothing),
    meta: meta(id),
    spec: { availability: 1, labels: {}, role: 0, availabilitySinceMs: 0 },
    description: {
      hostname: id,
      os: "linux",
      architecture: "amd64",
      engineVersion: "",
      engineApiVersion: "",
      resources: { nanoCpus: 4e9, memoryBytes: 8e9, generic: {} },
      engineLabels: {},
      advertiseAddress: "192.0.2.1",
      agentVersion: "",
      labels: {},
      volumeDrivers: [],
    },
    status: { state: 1, message: "", sinceMs: 1_000, lossConfirmed: false, lastSeenAtMs: 0 },
  };
}

export function sampleRollout(id: string, serviceId: string): Rollout {
  return { ...codecs.rollouts.decode(nothing), meta: meta(id), serviceId, fromRevision: 1, toRevision: 2 };
}
