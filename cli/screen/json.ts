// Objects as JSON for programs. The names are an interface: they stay, and units are part of them.

import type { NodeState, ServiceState } from "../../proto/gen/flotilla/control/v1/control.js";
import type {
  Event,
  PortSpec,
  Resources,
  Revision,
  Rollout,
  ServiceSpec,
  Task,
  UpdateConfig,
} from "../../proto/gen/flotilla/objects/v1/objects.js";
import { nodeManagerJson } from "./cluster.js";
import { iso } from "./time.js";
import * as words from "./words.js";

const time = (atMs: number | undefined) => (atMs === undefined || atMs === 0 ? null : iso(atMs));

export function portJson({ targetPort, publishedPort, name }: PortSpec) {
  return { target: targetPort, published: publishedPort === 0 ? null : publishedPort, protocol: "tcp", name };
}

function resourcesJson(resources: Resources | undefined) {
  return { nanoCpus: resources?.nanoCpus ?? 0, memoryBytes: resources?.memoryBytes ?? 0 };
}

function updateJson(update: UpdateConfig | undefined) {
  if (update === undefined) return null;
  const {
    order,
    failureAction,
    parallelism,
    delayMs,
    monitorMs,
    maxFailureRatio,
    minHealthyTimeMs,
    progressDeadlineMs,
  } = update;
  return {
    parallelism,
    delayMs,
    order: words.updateOrder(order),
    monitorMs,
    failureAction: words.failureAction(failureAction),
    maxFailureRatio,
    minHealthyTimeMs,
    progressDeadlineMs,
  };
}

export function specJson(spec: ServiceSpec) {
  const { container, restart, placement } = spec.task ?? {};
  const { pullPolicy, mounts, healthcheck, _unknownFields: _, ...rest } = container ?? {};
  return {
    name: spec.name,
    labels: spec.labels,
    mode: "replicated",
    replicas: spec.mode?.$case === "replicated" ? spec.mode.value.replicas : 0,
    container: {
      ...rest,
      healthcheck: healthcheck ?? null,
      mounts: (mounts ?? []).map(({ type, source, target, readOnly }) => ({
        type: words.mountType(type),
        source,
        target,
        readOnly,
      })),
      pullPolicy: words.pullPolicy(pullPolicy ?? 0),
    },
    reservations: resourcesJson(spec.task?.reservations),
    limits: resourcesJson(spec.task?.limits),
    restart: {
      condition: words.restartCondition(restart?.condition ?? 0),
      delayMs: restart?.delayMs,
      maxAttempts: restart?.maxAttempts,
      windowMs: restart?.windowMs,
    },
    placement: { constraints: placement?.constraints ?? [], maxReplicasPerNode: placement?.maxReplicasPerNode ?? 0 },
    ports: spec.ports.map(portJson),
    update: updateJson(spec.update),
    rollback: updateJson(spec.rollback),
    drainTimeoutMs: spec.drainTimeoutMs,
  };
}

export function taskJson(task: Task, nodeName: string, image?: string) {
  const { status } = task;
  const container = status?.container;
  return {
    id: task.meta?.id ?? "",
    service: task.serviceName,
    serviceId: task.serviceId,
    slot: task.slot,
    revision: task.revision,
    ...(image === undefined ? {} : { image }),
    node: nodeName,
    nodeId: task.nodeId,
    desiredState: words.taskState(task.desiredState),
    state: words.taskState(status?.state ?? 0),
    stateSince: time(status?.sinceMs),
    ready: container?.ready ?? false,
    message: status?.message ?? "",
    error: status?.error ?? "",
    placementMessage: task.placementMessage,
    cause: task.cause,
    createdAt: time(task.meta?.createdAtMs),
    endedAt: time(task.endedAtMs),
    container:
      container === undefined
        ? null
        : {
            id: container.id,
            attempt: container.attempt,
            phase: words.containerPhase(container.phase),
            health: words.containerHealth(container.health),
            nextAttemptAt: time(container.nextAttemptAtMs),
            startedAt: time(container.startedAtMs),
            address: container.address,
            hostPorts: container.hostPorts.map(({ targetPort, hostPort }) => ({ target: targetPort, host: hostPort })),
            exitCode: container.exitCode ?? null,
            oomKilled: container.oomKilled,
          },
  };
}

export function rolloutJson(rollout: Rollout) {
  return {
    id: rollout.meta?.id ?? "",
    fromRevision: rollout.fromRevision,
    toRevision: rollout.toRevision,
    isRollback: rollout.isRollback,
    state: words.rolloutState(rollout.state),
    message: rollout.message,
    startedAt: time(rollout.startedAtMs),
    endedAt: time(rollout.endedAtMs),
    rolledBackBy: rollout.rolledBackBy,
    slots: rollout.slots.map((slot) => ({
      slot: slot.slot,
      taskId: slot.taskId,
      startedAt: time(slot.startedAtMs),
      verdict: words.slotVerdict(slot.verdict),
      message: slot.message,
    })),
  };
}

function revisionJson(revision: Revision) {
  return {
    number: revision.number,
    cause: revision.cause,
    createdAt: time(revision.meta?.createdAtMs),
    templateHash: revision.templateHash,
    rollbackOf: revision.rollbackOf === 0 ? null : revision.rollbackOf,
    image: revision.spec?.task?.container?.image ?? "",
  };
}

/** A service without its spec and tasks, for lists. */
export function serviceJson(state: ServiceState) {
  const { service } = state;
  return {
    id: service?.meta?.id ?? "",
    name: service?.spec?.name ?? "",
    mode: "replicated",
    replicas: { running: state.replicasRunning, desired: state.replicasDesired },
    image: service?.spec?.task?.container?.image ?? "",
    ports: (service?.spec?.ports ?? []).map(portJson),
    vip: service?.vip ?? "",
    revision: service?.revision ?? 0,
    version: service?.meta?.version ?? 0,
    converged: state.converged,
    removing: service?.removing ?? false,
    createdAt: time(service?.meta?.createdAtMs),
    updatedAt: time(service?.meta?.updatedAtMs),
    rollout: state.rollout === undefined ? null : rolloutJson(state.rollout),
  };
}

export function inspectJson(state: ServiceState) {
  return {
    ...serviceJson(state),
    spec: state.service?.spec === undefined ? null : specJson(state.service.spec),
    revisions: state.revisions.map(revisionJson),
    tasks: state.tasks.map((task) => taskJson(task, state.nodeNames[task.nodeId] ?? "")),
  };
}

export function nodeJson({ node, tasks, reserved, manager }: NodeState) {
  const description = node?.description;
  return {
    id: node?.meta?.id ?? "",
    hostname: description?.hostname ?? "",
    state: words.nodeState(node?.status?.state ?? 0),
    stateSince: time(node?.status?.sinceMs),
    message: node?.status?.message ?? "",
    availability: words.nodeAvailability(node?.spec?.availability ?? 0),
    role: words.nodeRole(node?.spec?.role ?? 0),
    manager: nodeManagerJson(manager),
    labels: node?.spec?.labels ?? {},
    agentLabels: description?.labels ?? {},
    engineLabels: description?.engineLabels ?? {},
    engineVersion: description?.engineVersion ?? "",
    engineApiVersion: description?.engineApiVersion ?? "",
    agentVersion: description?.agentVersion ?? "",
    os: description?.os ?? "",
    architecture: description?.architecture ?? "",
    address: description?.advertiseAddress ?? "",
    subnet: node?.subnet ?? "",
    problems: node?.problems ?? [],
    resources: resourcesJson(description?.resources),
    reserved: resourcesJson(reserved),
    tasks,
    createdAt: time(node?.meta?.createdAtMs),
  };
}

export function eventJson(event: Event) {
  return {
    sequence: event.sequence,
    at: iso(event.atMs),
    kind: event.kind,
    action: event.action,
    id: event.id,
    name: event.name,
    message: event.message,
  };
}
