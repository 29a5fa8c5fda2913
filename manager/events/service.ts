// Events of services, of their rollouts and of the runs of jobs.

import {
  type JobRun,
  JobState,
  type Rollout,
  RolloutState,
  type Service,
  type SlotProgress,
  SlotVerdict,
} from "../../proto/mod.js";
import type { View } from "../store/mod.js";
import { causeOfRevision, nameOf, type Told } from "./told.js";

export function ofService(view: View, before: Service | undefined, after: Service | undefined): Told[] {
  const service = after ?? before;
  if (service === undefined) return [];
  const { id } = service.meta;
  const told = (action: string, message: string, cause = ""): Told => ({
    kind: "service",
    action,
    id,
    name: service.spec.name,
    message,
    cause,
  });
  if (after === undefined) return [told("removed", "")];
  const events: Told[] = [];
  if (before === undefined) events.push(told("created", after.spec.task.container.image));
  else {
    if (!before.removing && after.removing) events.push(told("removing", "", "asked by the user"));
    if (before.revision !== after.revision)
      events.push(told("updated", `revision ${after.revision}`, causeOfRevision(view, id, after.revision)));
  }
  const waitedFor = before?.waitingFor ?? "";
  if (waitedFor !== after.waitingFor)
    events.push(
      after.waitingFor === "" ? told("begun", "what it waited for is ready") : told("waiting", after.waitingFor),
    );
  return [...events, ...ofJob(after, before?.job?.runs ?? [], after.job?.runs ?? [])];
}

function ofJob(service: Service, before: readonly JobRun[], after: readonly JobRun[]): Told[] {
  const known = new Map(before.map((run) => [run.number, run.state]));
  return after.flatMap((run) => {
    const was = known.get(run.number);
    if (was === run.state) return [];
    const told = (action: string, cause: string): Told => ({
      kind: "job",
      action,
      id: service.meta.id,
      name: service.spec.name,
      message: `run ${run.number}${run.message === "" ? "" : `: ${run.message}`}`,
      cause,
    });
    const begun = whyBegun(run);
    if (run.state === JobState.RUNNING) return [told("started", begun)];
    return [told(nameOf(JobState, run.state), was === undefined ? begun : "")];
  });
}

function whyBegun({ dueAtMs, requestId, revision }: JobRun): string {
  if (dueAtMs > 0) return `due at ${new Date(dueAtMs).toISOString()}`;
  return requestId === "" ? `revision ${revision}` : "asked by the user";
}

export function ofRollout(view: View, before: Rollout | undefined, after: Rollout | undefined): Told[] {
  if (after === undefined) return [];
  const service = view.services.get(after.serviceId);
  const told = (action: string, message: string, cause: string): Told => ({
    kind: "rollout",
    action,
    id: after.meta.id,
    name: service?.spec.name ?? after.serviceId,
    message,
    cause,
  });
  const way = `${after.isRollback ? "back " : ""}from revision ${after.fromRevision} to ${after.toRevision}`;
  const events = newlyFailed(before?.slots ?? [], after.slots).map(({ slot, message }) =>
    told("slot failed", `slot ${slot}: ${message}`, way),
  );
  if (before?.state === after.state) return events;
  if (before === undefined)
    events.push(
      told("started", way, causeOfRevision(view, after.serviceId, after.toRevision) || "updated by the user"),
    );
  else
    events.push(
      told(
        before.state === RolloutState.PAUSED && after.state === RolloutState.RUNNING
          ? "resumed"
          : nameOf(RolloutState, after.state),
        way,
        after.message,
      ),
    );
  return events;
}

function newlyFailed(before: readonly SlotProgress[], after: readonly SlotProgress[]): SlotProgress[] {
  const failed = new Set(before.filter(({ verdict }) => verdict === SlotVerdict.FAILED).map(({ slot }) => slot));
  return after.filter(({ slot, verdict }) => verdict === SlotVerdict.FAILED && !failed.has(slot));
}
