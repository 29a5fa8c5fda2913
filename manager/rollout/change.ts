// How a service gets a new revision and the rollout that brings it about. All pure: what is there goes in, what to
// write comes out, and a refusal is a thrown ClusterError.

import { equalPlacement, equalSpecs, isJob } from "../../deploy/spec/mod.js";
import {
  replicasOf,
  type Revision,
  type Rollout,
  RolloutState,
  type Service,
  type ServiceSpec,
  type UpdateConfig,
} from "../../proto/mod.js";
import { ClusterError } from "../../lib/mod.js";
import type { Step } from "./step.js";

/** A service with what belongs to it, as read in one transaction. */
export interface ServiceParts {
  service: Service;
  /** Ascending by number. */
  revisions: readonly Revision[];
  /** The one that `service.rolloutId` names. */
  rollout: Rollout | undefined;
}

/** What a pure decision needs from outside. */
export interface Making {
  now: number;
  /** A new identifier at each call. */
  id: () => string;
}

/** A decided change: the service as it will be, and what to write in one transaction. No steps: nothing changes. */
export interface ServiceChange {
  service: Service;
  /** The rollout that this change began, stopped or resumed; undefined when no task needs replacing. */
  rollout: Rollout | undefined;
  steps: Step[];
}

export function isUnderWay(rollout: Rollout | undefined): rollout is Rollout {
  return rollout?.state === RolloutState.RUNNING || rollout?.state === RolloutState.PAUSED;
}

export function newMeta({ now, id }: Making): {
  id: string;
  version: number;
  createdAtMs: number;
  updatedAtMs: number;
} {
  return { id: id(), version: 0, createdAtMs: now, updatedAtMs: now };
}

/**
 * The revision that was known to work when a change comes: that of the service, unless an update to it is still on
 * its way; then the one that the update came from. The way back to it is the way back to before both updates.
 */
export function stableRevision({ service, rollout }: ServiceParts): number {
  return isUnderWay(rollout) && !rollout.isRollback ? rollout.fromRevision : service.revision;
}

/**
 * The settings of the change that is under way. A rollback goes by those of the revision that is being left, the last
 * word on how to leave it; unless the service was changed since.
 */
export function configInForce({ service, revisions, rollout }: ServiceParts): UpdateConfig {
  if (!isUnderWay(rollout) || !rollout.isRollback) return service.spec.update;
  const left = service.revision === rollout.toRevision ? revisionNumbered(revisions, rollout.fromRevision) : undefined;
  return (left?.spec ?? service.spec).rollback;
}

/** What to do with the service as it was asked, or nothing when that request was done before. */
export function doneBefore(parts: ServiceParts, requestId: string): ServiceChange | undefined {
  if (requestId === "" || !parts.revisions.some((revision) => revision.requestId === requestId)) return undefined;
  return { service: parts.service, rollout: parts.rollout, steps: [] };
}

export function refuseRemoving({ service }: ServiceParts): void {
  if (service.removing)
    throw new ClusterError(
      "failed_precondition",
      `service ${service.spec.name} is being removed; create it again once it is gone`,
    );
}

export function revisionNumbered(revisions: readonly Revision[], number: number): Revision | undefined {
  return revisions.find((revision) => revision.number === number);
}

export interface Advance {
  spec: ServiceSpec;
  templateHash: string;
  requestId: string;
  cause: string;
  /** 0 when the spec repeats no earlier revision's. */
  rollbackOf: number;
  /** What becomes of a rollout under way that this change ends. */
  endsAs: typeof RolloutState.SUPERSEDED | typeof RolloutState.ROLLED_BACK | typeof RolloutState.ABORTED;
  /** Why that rollout ended, in words. */
  endMessage: string;
}

/** The service with one revision more, and a rollout to it when tasks must change. */
export function advance(parts: ServiceParts, to: Advance, making: Making): ServiceChange {
  const { service, revisions, rollout: before } = parts;
  const { now } = making;
  const number = service.revision + 1;
  const current = revisionNumbered(revisions, service.revision);
  const steps: Step[] = [];
  const revision: Revision = {
    meta: newMeta(making),
    serviceId: service.meta.id,
    number,
    spec: to.spec,
    templateHash: to.templateHash,
    requestId: to.requestId,
    cause: to.cause,
    rollbackOf: to.rollbackOf,
  };
  // A job has no tasks to replace one by one: a new revision is a new run. A service that still waits for others has
  // no tasks at all: it will begin with this revision.
  const stays =
    isJob(to.spec) ||
    service.waitingFor !== "" ||
    (current !== undefined && current.templateHash === to.templateHash && equalPlacement(current.spec, to.spec));
  let rollout: Rollout | undefined;
  if (!stays) {
    const isRollback = to.rollbackOf > 0;
    rollout = {
      meta: newMeta(making),
      serviceId: service.meta.id,
      fromRevision: isRollback ? service.revision : stableRevision(parts),
      toRevision: number,
      isRollback,
      state: RolloutState.RUNNING,
      message: to.cause,
      startedAtMs: now,
      endedAtMs: 0,
      slots: [],
      batchDoneAtMs: 0,
      rolledBackBy: "",
    };
    if (isUnderWay(before))
      steps.push({
        do: "put",
        table: "rollouts",
        object: {
          ...before,
          meta: { ...before.meta, updatedAtMs: now },
          state: to.endsAs,
          message: to.endMessage,
          endedAtMs: now,
          rolledBackBy: isRollback ? rollout.meta.id : "",
        },
      });
  }
  const after: Service = {
    ...service,
    meta: { ...service.meta, updatedAtMs: now },
    spec: to.spec,
    revision: number,
    rolloutId: rollout?.meta.id ?? service.rolloutId,
  };
  steps.push({ do: "create", table: "revisions", object: revision });
  if (rollout !== undefined) steps.push({ do: "create", table: "rollouts", object: rollout });
  steps.push({ do: "put", table: "services", object: after });
  return { service: after, rollout, steps };
}

/**
 * The spec of an earlier revision, for going back to it. What later updates changed is undone; but when the service
 * was scaled apart from them since, its size answers to load and stays.
 */
export function specToRepeat({ service, revisions }: ServiceParts, to: Revision): ServiceSpec {
  if (to.spec.mode.$case !== "replicated") return to.spec;
  const scaledSince = revisions.some((revision) => {
    const previous = revisionNumbered(revisions, revision.number - 1);
    return revision.number > to.number && previous !== undefined && isScaling(previous.spec, revision.spec);
  });
  return scaledSince ? withReplicas(to.spec, replicasOf(service.spec)) : to.spec;
}

export function withReplicas(spec: ServiceSpec, replicas: number): ServiceSpec {
  return { ...spec, mode: { $case: "replicated", value: { replicas } } };
}

/** Whether the number of replicas is all that differs. */
function isScaling(before: ServiceSpec, after: ServiceSpec): boolean {
  if (before.mode.$case !== "replicated" || after.mode.$case !== "replicated") return false;
  const replicas = replicasOf(after);
  return replicasOf(before) !== replicas && equalSpecs(withReplicas(before, replicas), after);
}
