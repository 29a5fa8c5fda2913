// What a user or a failed rollout does to rollouts: pause, resume, abort, roll back.

import { equalPlacement, equalSpecs } from "../../deploy/spec/mod.js";
import { ClusterError } from "../../lib/mod.js";
import { type Revision, type Rollout, RolloutState, SlotVerdict } from "../../proto/mod.js";
import {
  advance,
  doneBefore,
  isUnderWay,
  type Making,
  refuseRemoving,
  revisionNumbered,
  type ServiceChange,
  type ServiceParts,
  specToRepeat,
} from "./change.js";

/** No further slot is begun until `resumeRollout`; what was begun is finished. Pausing a paused one changes nothing. */
export function pauseRollout(parts: ServiceParts, making: Making): ServiceChange {
  const rollout = underWay(parts, "pause");
  if (rollout.state === RolloutState.PAUSED) return { service: parts.service, rollout, steps: [] };
  return putRollout(parts, { ...rollout, state: RolloutState.PAUSED, message: "paused by the user" }, making);
}

/** Goes on; slots that failed are tried again with new tasks. Resuming a running one changes nothing. */
export function resumeRollout(parts: ServiceParts, making: Making): ServiceChange {
  const rollout = underWay(parts, "resume");
  if (rollout.state === RolloutState.RUNNING) return { service: parts.service, rollout, steps: [] };
  const slots = rollout.slots.map((slot) =>
    slot.verdict === SlotVerdict.FAILED
      ? { ...slot, taskId: "", startedAtMs: making.now, verdict: SlotVerdict.PENDING, message: "" }
      : slot,
  );
  // The delay, and the patience with a rollout that makes no progress, count from here. What is begun now is a batch
  // that is not done yet, and so must be later.
  const batchDoneAtMs = making.now - 1;
  return putRollout(
    parts,
    { ...rollout, state: RolloutState.RUNNING, message: "resumed by the user", slots, batchDoneAtMs },
    making,
  );
}

/** The user's way back from a rollout under way to the revision that it came from. */
export function abortRollout(parts: ServiceParts, requestId: string, making: Making): ServiceChange {
  const again = doneBefore(parts, requestId);
  if (again !== undefined) return again;
  refuseRemoving(parts);
  const rollout = underWay(parts, "abort");
  if (rollout.isRollback)
    throw new ClusterError(
      "failed_precondition",
      `the rollout of ${parts.service.spec.name} is itself a rollback; update the service to go forward, or pause it`,
    );
  const to = requireRevision(parts, rollout.fromRevision);
  if (!differs(parts, to))
    throw new ClusterError(
      "failed_precondition",
      `the rollout of ${parts.service.spec.name} goes to the tasks that it came from: there is nothing to go back to`,
    );
  return goBack(parts, { to, reason: "aborted by the user", requestId, endsAs: RolloutState.ABORTED }, making);
}

/** To revision `toRevision`, or with 0 to the newest one before this with other tasks. */
export function rollbackService(
  parts: ServiceParts,
  { toRevision, requestId }: { toRevision: number; requestId: string },
  making: Making,
): ServiceChange {
  const again = doneBefore(parts, requestId);
  if (again !== undefined) return again;
  refuseRemoving(parts);
  const { service, revisions } = parts;
  const current = requireRevision(parts, service.revision);
  const to =
    toRevision === 0
      ? revisions.findLast(({ templateHash }) => templateHash !== current.templateHash)
      : requireRevision(parts, toRevision);
  if (to === undefined)
    throw new ClusterError(
      "failed_precondition",
      `service ${service.spec.name} has no earlier revision with other tasks; name one of ${numbers(revisions)}`,
    );
  if (equalSpecs(specToRepeat(parts, to), service.spec) && to.templateHash === current.templateHash)
    return { service, rollout: undefined, steps: [] };
  return goBack(parts, { to, reason: "asked by the user", requestId, endsAs: RolloutState.ABORTED }, making);
}

/** A failed rollout's own way back to where it came from; undefined when that is not possible. */
export function undoRollout(
  parts: ServiceParts,
  rollout: Rollout,
  reason: string,
  making: Making,
): ServiceChange | undefined {
  const to = revisionNumbered(parts.revisions, rollout.fromRevision);
  if (rollout.isRollback || to === undefined || !differs(parts, to)) return undefined;
  return goBack(parts, { to, reason, requestId: "", endsAs: RolloutState.ROLLED_BACK }, making);
}

/** Whether going back to `to` would change any task: an update may have led back to where it came from. */
function differs({ service, revisions }: ServiceParts, to: Revision): boolean {
  const current = revisionNumbered(revisions, service.revision);
  return current?.templateHash !== to.templateHash || !equalPlacement(current.spec, to.spec);
}

function goBack(
  parts: ServiceParts,
  {
    to,
    reason,
    requestId,
    endsAs,
  }: {
    to: Revision;
    reason: string;
    requestId: string;
    endsAs: typeof RolloutState.ROLLED_BACK | typeof RolloutState.ABORTED;
  },
  making: Making,
): ServiceChange {
  return advance(
    parts,
    {
      spec: specToRepeat(parts, to),
      // The same template, so that healthy tasks of the revision gone back to stay as they are.
      templateHash: to.templateHash,
      requestId,
      cause: `rollback to ${to.number}: ${reason}`,
      rollbackOf: to.number,
      endsAs,
      endMessage: reason,
    },
    making,
  );
}

function putRollout(parts: ServiceParts, rollout: Rollout, { now }: Making): ServiceChange {
  const object = { ...rollout, meta: { ...rollout.meta, updatedAtMs: now } };
  return { service: parts.service, rollout: object, steps: [{ do: "put", table: "rollouts", object }] };
}

function underWay({ service, rollout }: ServiceParts, verb: string): Rollout {
  if (isUnderWay(rollout) && !service.removing) return rollout;
  const why = rollout === undefined ? "there has been none" : `the last one is ${rolloutStateName(rollout.state)}`;
  throw new ClusterError(
    "failed_precondition",
    `service ${service.spec.name} has no rollout under way to ${verb}: ${why}; see flotilla rollout status ${service.spec.name}`,
  );
}

/** "running", "rolled back", …: as people read it. */
export function rolloutStateName(state: RolloutState): string {
  const name = Object.entries(RolloutState).find(([, number]) => number === state)?.[0] ?? "unknown";
  return name.toLowerCase().replaceAll("_", " ");
}

function requireRevision({ service, revisions }: ServiceParts, number: number): Revision {
  const found = revisionNumbered(revisions, number);
  if (found !== undefined) return found;
  throw new ClusterError("not_found", `service ${service.spec.name} has no revision ${number}`, {
    violations: [
      {
        field: "to_revision",
        value: String(number),
        rule: `must be a revision of ${service.spec.name}`,
        fix: `use one of ${numbers(revisions)}`,
      },
    ],
  });
}

/** "3, 4, 5", at most the newest ten. */
function numbers(revisions: readonly Revision[]): string {
  return revisions
    .slice(-10)
    .map(({ number }) => number)
    .join(", ");
}
