// What users do to services, as pure decisions: the control API makes them inside one transaction each.

import { checkReplicas, equalSpecs, Problems, templateHash } from "../../deploy/spec/mod.js";
import { ClusterError } from "../../lib/mod.js";
import { replicasOf, type Revision, RolloutState, type Service, type ServiceSpec } from "../../proto/mod.js";
import {
  advance,
  doneBefore,
  type Making,
  newMeta,
  refuseRemoving,
  revisionNumbered,
  type ServiceChange,
  type ServiceParts,
  withReplicas,
} from "../rollout/mod.js";

/**
 * A new service with revision 1. `existing` is the service that has the name already: the same request sent again is
 * answered as before, any other is refused.
 */
export function createService(
  {
    spec,
    vip,
    requestId,
    existing,
  }: { spec: ServiceSpec; vip: string; requestId: string; existing: ServiceParts | undefined },
  making: Making,
): ServiceChange {
  if (existing !== undefined) {
    const again = doneBefore(existing, requestId);
    if (again !== undefined) return { ...again, rollout: undefined };
    refuseRemoving(existing);
    const violation = {
      field: "name",
      value: spec.name,
      rule: "must not be the name of another service",
      fix: `use another name, or flotilla service update ${spec.name}`,
    };
    throw new ClusterError("already_exists", `a service named ${spec.name} exists already; ${violation.fix}`, {
      violations: [violation],
    });
  }
  const service: Service = {
    meta: newMeta(making),
    spec,
    revision: 1,
    vip,
    rolloutId: "",
    removing: false,
    job: undefined,
    autoscale: undefined,
    waitingFor: "",
  };
  const revision: Revision = {
    meta: newMeta(making),
    serviceId: service.meta.id,
    number: 1,
    spec,
    templateHash: templateHash(spec),
    requestId,
    cause: "created",
    rollbackOf: 0,
  };
  return {
    service,
    rollout: undefined,
    steps: [
      { do: "create", table: "services", object: service },
      { do: "create", table: "revisions", object: revision },
    ],
  };
}

/**
 * The service with another spec. `version` is the service's version that the spec was made from, 0 for whichever;
 * `force` replaces the tasks even when nothing that concerns them changed. An equal spec changes nothing.
 */
export function updateService(
  parts: ServiceParts,
  { spec, version, force, requestId }: { spec: ServiceSpec; version: number; force: boolean; requestId: string },
  making: Making,
): ServiceChange {
  const again = doneBefore(parts, requestId);
  if (again !== undefined) return again;
  refuseRemoving(parts);
  const { service } = parts;
  if (version !== 0 && version !== service.meta.version)
    throw new ClusterError(
      "conflict",
      `service ${service.spec.name} was changed by somebody else in between; read it and update again`,
    );
  if (spec.name !== service.spec.name)
    throw ClusterError.invalid([
      {
        field: "name",
        value: spec.name,
        rule: `must stay ${service.spec.name}: a service cannot be renamed`,
        fix: "create a service with the new name and remove the old one",
      },
    ]);
  if (!force && equalSpecs(spec, service.spec)) return { service, rollout: undefined, steps: [] };
  return changeSpec(parts, { spec, force, requestId, cause: force ? "updated by force" : "updated" }, making);
}

/** The service with another number of replicas and nothing else changed. */
export function scaleService(
  parts: ServiceParts,
  { replicas, requestId }: { replicas: number; requestId: string },
  making: Making,
): ServiceChange {
  const again = doneBefore(parts, requestId);
  if (again !== undefined) return again;
  refuseRemoving(parts);
  const { service } = parts;
  const problems = new Problems();
  checkReplicas(replicas, problems);
  if (problems.any) throw ClusterError.invalid(problems.list());
  if (replicas === replicasOf(service.spec)) return { service, rollout: undefined, steps: [] };
  const spec = withReplicas(service.spec, replicas);
  return changeSpec(parts, { spec, force: false, requestId, cause: `scaled to ${replicas}` }, making);
}

/** Marks the service as being removed: its tasks are stopped, then it goes. Doing it twice changes nothing. */
export function removeService(service: Service, { now }: Making): ServiceChange {
  if (service.removing) return { service, rollout: undefined, steps: [] };
  const object: Service = { ...service, meta: { ...service.meta, updatedAtMs: now }, removing: true };
  return { service: object, rollout: undefined, steps: [{ do: "put", table: "services", object }] };
}

function changeSpec(
  parts: ServiceParts,
  { spec, force, requestId, cause }: { spec: ServiceSpec; force: boolean; requestId: string; cause: string },
  making: Making,
): ServiceChange {
  const number = parts.service.revision + 1;
  return advance(
    parts,
    {
      spec,
      templateHash: hashFor(parts, spec, force ? number : 0),
      requestId,
      cause,
      rollbackOf: 0,
      endsAs: RolloutState.SUPERSEDED,
      endMessage: `superseded by revision ${number}`,
    },
    making,
  );
}

/**
 * A forced revision's hash differs from all others by its number. A revision with the same template as the current
 * one, or as the one that a rollout under way came from, takes over that one's hash, so that what a forced update
 * made stays.
 */
function hashFor({ service, revisions, rollout }: ServiceParts, spec: ServiceSpec, forcedNumber: number): string {
  const hash = templateHash(spec);
  if (forcedNumber > 0) return `${hash}.${forcedNumber}`;
  const near = [service.revision, rollout?.fromRevision ?? 0].map((number) => revisionNumbered(revisions, number));
  return near.find((revision) => revision !== undefined && templateHash(revision.spec) === hash)?.templateHash ?? hash;
}
