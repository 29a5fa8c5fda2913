// The stored objects as everything but the edges uses them. On the wire any message field may be absent; an object
// that went through validation or came from the store has its parts, and these types say which.

import {
  Cluster as ClusterCodec,
  type Cluster as ClusterMessage,
  type ContainerSpec as ContainerSpecMessage,
  type Meta,
  Node as NodeCodec,
  type Node as NodeMessage,
  type NodeDescription as NodeDescriptionMessage,
  type NodeSpec,
  type NodeStatus,
  type Placement,
  Revision as RevisionCodec,
  type Revision as RevisionMessage,
  type Resources,
  type RestartPolicy as RestartPolicyMessage,
  Rollout as RolloutCodec,
  type Rollout as RolloutMessage,
  Service as ServiceCodec,
  type Service as ServiceMessage,
  type ServiceSpec as ServiceSpecMessage,
  Task as TaskCodec,
  type Task as TaskMessage,
  type TaskSpec as TaskSpecMessage,
  type TaskStatus,
  type UpdateConfig as UpdateConfigMessage,
} from "./gen/flotilla/objects/v1/objects.js";

export {
  ConcurrencyPolicy,
  ContainerHealth,
  ContainerPhase,
  FailureAction,
  JobState,
  MountType,
  NodeAvailability,
  NodeRole,
  NodeState,
  PlacementStrategy,
  Protocol,
  PublishMode,
  PullPolicy,
  RestartCondition,
  RolloutState,
  SlotVerdict,
  TaskState,
  UpdateOrder,
} from "./gen/flotilla/objects/v1/objects.js";
export type {
  Affinity,
  AutoscaleSpec,
  AutoscaleStatus,
  Brake,
  ClusterSettings,
  ContainerCondition,
  CronMode,
  Endpoint,
  Event,
  HealthCheck,
  HostPort,
  JobRun,
  JobStatus,
  Meta,
  Mount,
  NodeSpec,
  NodeStatus,
  Placement,
  PortSpec,
  Resources,
  Route,
  SlotProgress,
  TaskLeave,
  TaskStatus,
} from "./gen/flotilla/objects/v1/objects.js";

/** T with the fields K present. */
type Whole<T, K extends keyof T> = Omit<T, K> & { [P in K]-?: NonNullable<T[P]> };

export type Cluster = Whole<ClusterMessage, "meta">;

export type ContainerSpec = Whole<ContainerSpecMessage, "stopGracePeriodMs">;
export type RestartPolicy = Whole<RestartPolicyMessage, "delayMs" | "maxAttempts" | "windowMs">;
export type UpdateConfig = Whole<
  UpdateConfigMessage,
  "parallelism" | "delayMs" | "monitorMs" | "maxFailureRatio" | "minHealthyTimeMs" | "progressDeadlineMs"
>;
export type TaskSpec = Omit<TaskSpecMessage, "container" | "reservations" | "limits" | "restart" | "placement"> & {
  container: ContainerSpec;
  reservations: Resources;
  limits: Resources;
  restart: RestartPolicy;
  placement: Placement;
};
export type ServiceSpec = Omit<ServiceSpecMessage, "mode" | "task" | "update" | "rollback" | "drainTimeoutMs"> & {
  mode: NonNullable<ServiceSpecMessage["mode"]>;
  task: TaskSpec;
  update: UpdateConfig;
  rollback: UpdateConfig;
  drainTimeoutMs: number;
};
export type Service = Omit<ServiceMessage, "meta" | "spec"> & { meta: Meta; spec: ServiceSpec };
export type Revision = Omit<RevisionMessage, "meta" | "spec"> & { meta: Meta; spec: ServiceSpec };
export type Task = Whole<TaskMessage, "meta"> & { status: TaskStatus };
export type NodeDescription = Whole<NodeDescriptionMessage, "resources">;
export type Node = Omit<NodeMessage, "meta" | "spec" | "description" | "status"> & {
  meta: Meta;
  spec: NodeSpec;
  description: NodeDescription;
  status: NodeStatus;
};
export type Rollout = Whole<RolloutMessage, "meta">;

/** The kinds of stored objects, by the name of their table. */
export interface Objects {
  clusters: Cluster;
  services: Service;
  revisions: Revision;
  tasks: Task;
  nodes: Node;
  rollouts: Rollout;
}
export type Table = keyof Objects;
export const tables: readonly Table[] = ["clusters", "services", "revisions", "tasks", "nodes", "rollouts"];

interface Codec<T> {
  encode(object: T): Uint8Array;
  decode(bytes: Uint8Array): T;
}

// Stored bytes were whole objects when they were written; only a foreign writer could break that, and the store
// checks `meta`, which every object has.
function codec<W, T extends W>(of: { encode(m: W): { finish(): Uint8Array }; decode(b: Uint8Array): W }): Codec<T> {
  return { encode: (object) => of.encode(object).finish(), decode: (bytes) => of.decode(bytes) as T };
}

/** How each table's objects become bytes and come back. */
export const codecs: { readonly [K in Table]: Codec<Objects[K]> } = {
  clusters: codec<ClusterMessage, Cluster>(ClusterCodec),
  services: codec<ServiceMessage, Service>(ServiceCodec),
  revisions: codec<RevisionMessage, Revision>(RevisionCodec),
  tasks: codec<TaskMessage, Task>(TaskCodec),
  nodes: codec<NodeMessage, Node>(NodeCodec),
  rollouts: codec<RolloutMessage, Rollout>(RolloutCodec),
};

/** The number of replicas that a replicated spec asks for; of other modes the number is not the spec's to say: 0. */
export function replicasOf(spec: ServiceSpec): number {
  return spec.mode.$case === "replicated" ? spec.mode.value.replicas : 0;
}
