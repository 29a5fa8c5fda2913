// Objects as JSON for programs. The names are an interface: they stay, and units are part of them.

import type { NodeState, ServiceState } from "../../proto/gen/flotilla/control/v1/control.js";
import { settingsOf } from "../../deploy/spec/mod.js";
import {
  type AutoscaleSpec,
  type Cluster,
  ConcurrencyPolicy,
  type Event,
  type JobRun,
  type Placement,
  PlacementStrategy,
  type PortSpec,
  PublishMode,
  type Resources,
  type Revision,
  type Rollout,
  type ServiceSpec,
  type Task,
  type UpdateConfig,
} from "../../proto/gen/flotilla/objects/v1/objects.js";
import { nodeManagerJson } from "./cluster.js";
import { nextRunMs } from "./job.js";
import { drainOf } from "./node.js";
import { iso } from "./time.js";
import * as words from "./words.js";

const time = (atMs: number | undefined) => (atMs === undefined || atMs === 0 ? null : iso(atMs));

export function portJson({ targetPort, publishedPort, name, mode }: PortSpec) {
  const published = publishedPort === 0 ? null : publishedPort;
  // Not said is on every host.
  const where = words.publishMode(mode === PublishMode.UNSPECIFIED ? PublishMode.INGRESS : mode);
  return { target: targetPort, published, protocol: "tcp", name, mode: where };
}

function resourcesJson(resources: Resources | undefined) {
  return {
    nanoCpus: resources?.nanoCpus ?? 0,
    memoryBytes: resources?.memoryBytes ?? 0,
    generic: resources?.generic ?? {},
  };
}

function placementJson(placement: Placement | undefined) {
  return {
    constraints: placement?.constraints ?? [],
    maxReplicasPerNode: placement?.maxReplicasPerNode ?? 0,
    preferences: placement?.preferences ?? [],
    affinities: (placement?.affinities ?? []).map(({ expression, weight, required }) => ({
      expression,
      weight: required ? null : weight,
      required,
    })),
    strategy: strategyJson(placement?.strategy),
  };
}

/** null: the cluster's. */
function strategyJson(strategy: PlacementStrategy | undefined) {
  return strategy === undefined || strategy === PlacementStrategy.UNSPECIFIED
    ? null
    : words.placementStrategy(strategy);
}

/** What only some modes have is null in the others. */
function modeJson(mode: ServiceSpec["mode"]) {
  const runs = mode?.$case === "replicatedJob" || mode?.$case === "cron" ? mode.value : undefined;
  const cron = mode?.$case === "cron" ? mode.value : undefined;
  return {
    mode: words.modeWord(mode),
    replicas: mode?.$case === "replicated" ? mode.value.replicas : null,
    completions: runs === undefined ? null : (runs.completions ?? 1),
    maxConcurrent: runs?.maxConcurrent ?? null,
    cron:
      cron === undefined
        ? null
        : {
            schedule: cron.schedule,
            timeZone: cron.timeZone === "" ? "UTC" : cron.timeZone,
            concurrency: words.concurrencyPolicy(
              cron.concurrency === ConcurrencyPolicy.UNSPECIFIED ? ConcurrencyPolicy.FORBID : cron.concurrency,
            ),
            keepSucceeded: cron.keepSucceeded,
            keepFailed: cron.keepFailed,
            startDeadlineMs: cron.startDeadlineMs,
            suspended: cron.suspended,
          },
  };
}

function runJson(run: JobRun) {
  return {
    number: run.number,
    revision: run.revision,
    state: words.jobState(run.state),
    message: run.message,
    completed: run.completed,
    total: run.total,
    dueAt: time(run.dueAtMs),
    startedAt: time(run.startedAtMs),
    endedAt: time(run.endedAtMs),
  };
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
    maxSurge,
    maxUnavailable,
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
    maxSurge,
    maxUnavailable,
  };
}

export function specJson(spec: ServiceSpec) {
  const { container, restart, placement } = spec.task ?? {};
  const { pullPolicy, mounts, healthcheck, _unknownFields: _, ...rest } = container ?? {};
  return {
    name: spec.name,
    labels: spec.labels,
    ...modeJson(spec.mode),
    container: {
      ...rest,
      healthcheck: healthcheck ?? null,
      mounts: (mounts ?? []).map(({ type, source, target, readOnly, volumeDriver }) => ({
        type: words.mountType(type),
        source,
        target,
        readOnly,
        volumeDriver,
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
    placement: placementJson(placement),
    priority: spec.task?.priority ?? 0,
    ports: spec.ports.map(portJson),
    update: updateJson(spec.update),
    rollback: updateJson(spec.rollback),
    drainTimeoutMs: spec.drainTimeoutMs,
    stopAfterDisconnectMs: spec.stopAfterDisconnectMs ?? null,
    autoscale: spec.autoscale === undefined ? null : autoscaleJson(spec.autoscale),
    dependsOn: spec.dependsOn,
  };
}

function autoscaleJson(autoscale: AutoscaleSpec) {
  const { min, max, cpuPercent, memoryPercent, requestsPerReplica, upCoolDownMs, downCoolDownMs } = autoscale;
  return {
    min,
    max,
    cpuPercent: cpuPercent ?? null,
    memoryPercent: memoryPercent ?? null,
    requestsPerReplica: requestsPerReplica ?? null,
    upCoolDownMs,
    downCoolDownMs,
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
    run: task.run === 0 ? null : task.run,
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
    placementReason: task.placementReason,
    onlyNodeId: task.onlyNodeId,
    leave:
      task.leave === undefined
        ? null
        : { reason: task.leave.reason, at: time(task.leave.atMs), startFirst: task.leave.startFirst },
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
export function serviceJson(state: ServiceState, nowMs: number) {
  const { service } = state;
  return {
    id: service?.meta?.id ?? "",
    name: service?.spec?.name ?? "",
    mode: words.modeWord(service?.spec?.mode),
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
    waitingFor: service?.waitingFor ?? "",
    job:
      service?.job === undefined
        ? null
        : {
            lastRun: service.job.lastRun,
            requested: service.job.requested.length,
            runs: service.job.runs.map(runJson),
          },
    nextRunAt: time(nextRunMs(state, nowMs)),
    autoscale:
      service?.autoscale === undefined
        ? null
        : {
            message: service.autoscale.message,
            scaledUpAt: time(service.autoscale.scaledUpAtMs),
            scaledDownAt: time(service.autoscale.scaledDownAtMs),
          },
  };
}

export function inspectJson(state: ServiceState, nowMs: number) {
  return {
    ...serviceJson(state, nowMs),
    spec: state.service?.spec === undefined ? null : specJson(state.service.spec),
    revisions: state.revisions.map(revisionJson),
    tasks: state.tasks.map((task) => taskJson(task, state.nodeNames[task.nodeId] ?? "")),
  };
}

export function nodeJson({ node, tasks, reserved, manager }: NodeState) {
  const description = node?.description;
  const drain = drainOf(node);
  return {
    id: node?.meta?.id ?? "",
    hostname: description?.hostname ?? "",
    state: words.nodeState(node?.status?.state ?? 0),
    stateSince: time(node?.status?.sinceMs),
    lastSeenAt: time(node?.status?.lastSeenAtMs),
    lossConfirmed: node?.status?.lossConfirmed ?? false,
    message: node?.status?.message ?? "",
    availability: words.nodeAvailability(node?.spec?.availability ?? 0),
    drain: drain === undefined ? null : { deadlineAt: time(drain.deadlineAtMs), tasksLeft: tasks },
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
    volumeDrivers: description?.volumeDrivers ?? [],
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
    cause: event.cause,
  };
}

export function settingsJson(cluster: Cluster) {
  const settings = settingsOf(cluster);
  return {
    placementStrategy: words.placementStrategy(settings.strategy),
    preemption: settings.preemption,
    lostAfterMs: settings.lostAfterMs,
    taskHistory: settings.taskHistory,
    rebalanceMoves: settings.rebalanceMoves,
    rebalanceIntervalMs: settings.rebalanceIntervalMs,
  };
}

export function brakeJson({ brake }: Cluster) {
  return brake === undefined ? null : { since: time(brake.sinceMs), lostNodes: brake.lostNodes, nodes: brake.nodes };
}
