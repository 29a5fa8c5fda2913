// What users do to services, as pure decisions: the control API makes them inside one transaction each.

import { checkReplicas, equalSpecs, isJob, modeWord, Problems, templateHash } from "../../deploy/spec/mod.js";
import { goesOn } from "../../deploy/strategy/mod.js";
import { ClusterError } from "../../lib/mod.js";
import {
  ConcurrencyPolicy,
  replicasOf,
  type Revision,
  RolloutState,
  type Service,
  type ServiceSpec,
} from "../../proto/mod.js";
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
import { waitingAtFirst } from "./depends.js";

/** Runs that were asked for and are not begun yet. */
const requestedRunsMax = 10;

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
    waitingFor: waitingAtFirst(spec.dependsOn),
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
  refuseOtherMode(service.spec, spec);
  if (!force && equalSpecs(spec, service.spec)) return { service, rollout: undefined, steps: [] };
  return changeSpec(parts, { spec, force, requestId, cause: force ? "updated by force" : "updated" }, making);
}

/** Slots, runs and history of one mode mean nothing to another. */
function refuseOtherMode(before: ServiceSpec, after: ServiceSpec): void {
  if (before.mode.$case === after.mode.$case) return;
  const was = modeWord(before.mode);
  throw ClusterError.invalid([
    {
      field: "mode",
      value: modeWord(after.mode),
      rule: `must stay ${was}: a service's mode cannot be changed`,
      fix: `leave it ${was}, or remove ${before.name} and create it again as ${modeWord(after.mode)}`,
    },
  ]);
}

/**
 * The service with another number of replicas and nothing else changed. `cause` is what the revision says of why;
 * "scaled to N" when it is not given.
 */
export function scaleService(
  parts: ServiceParts,
  { replicas, requestId, cause = `scaled to ${replicas}` }: { replicas: number; requestId: string; cause?: string },
  making: Making,
): ServiceChange {
  const again = doneBefore(parts, requestId);
  if (again !== undefined) return again;
  refuseRemoving(parts);
  const { service } = parts;
  refuseWithoutReplicas(service.spec, replicas);
  const problems = new Problems();
  checkReplicas(replicas, problems, service.spec.autoscale);
  if (problems.any) throw ClusterError.invalid(problems.list());
  if (replicas === replicasOf(service.spec)) return { service, rollout: undefined, steps: [] };
  const spec = withReplicas(service.spec, replicas);
  return changeSpec(parts, { spec, force: false, requestId, cause }, making);
}

function refuseWithoutReplicas({ name, mode }: ServiceSpec, replicas: number): void {
  if (mode.$case === "replicated") return;
  const fix =
    mode.$case === "global"
      ? "a global service has one task per node: narrow or widen its --constraint to have it on other nodes"
      : mode.$case === "globalJob"
        ? "a global job runs once per node: narrow or widen its --constraint to run it on other nodes"
        : `change how many tasks a run has: flotilla service update --completions ${replicas} ${name}`;
  throw ClusterError.invalid([
    {
      field: "replicas",
      value: String(replicas),
      rule: `must be given to replicated services only, and ${name} is ${modeWord(mode)}`,
      fix,
    },
  ]);
}

/** Asks for a run of a job; the same request sent again asks once. The orchestrator begins it. */
export function runService(
  { service }: Pick<ServiceParts, "service">,
  { requestId }: { requestId: string },
  { now, id }: Making,
): ServiceChange {
  const { name, mode } = service.spec;
  const job = service.job ?? { runs: [], lastRun: 0, lastDueAtMs: 0, requested: [] };
  const isKnown = job.requested.includes(requestId) || job.runs.some((run) => run.requestId === requestId);
  if (requestId !== "" && isKnown) return { service, rollout: undefined, steps: [] };
  refuseRemoving({ service, revisions: [], rollout: undefined });
  if (!isJob(service.spec))
    throw new ClusterError(
      "failed_precondition",
      `service ${name} is ${modeWord(mode)} and runs all the time, only jobs have runs; to replace its tasks: flotilla service update --force ${name}`,
    );
  const going = job.runs.filter(goesOn).map(({ number }) => number);
  if (mode.$case === "cron" && mode.value.concurrency === ConcurrencyPolicy.FORBID && going.length > 0)
    throw new ClusterError(
      "failed_precondition",
      `run ${going.join(", ")} of ${name} goes on, and its concurrency policy is forbid; wait until it has ended, or: flotilla service update --cron-concurrency allow ${name}`,
    );
  if (job.requested.length >= requestedRunsMax)
    throw new ClusterError(
      "resource_exhausted",
      `${requestedRunsMax} runs of ${name} are asked for and not begun yet; wait for them, see: flotilla service ps ${name}`,
    );
  const object: Service = {
    ...service,
    meta: { ...service.meta, updatedAtMs: now },
    job: { ...job, requested: [...job.requested, requestId === "" ? id() : requestId] },
  };
  return { service: object, rollout: undefined, steps: [{ do: "put", table: "services", object }] };
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
