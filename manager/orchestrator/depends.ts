// Services that wait for others before their first tasks are made (depends_on). A service that has begun is never held
// up again: what it depends on may be down for a while, and it has to live with that anyway.

import { isConverged, newestRun } from "../../deploy/strategy/mod.js";
import { isJob } from "../../deploy/spec/mod.js";
import { JobState } from "../../proto/mod.js";
import type { ServiceSnapshot } from "./plan.js";

/** What a new service says until it was first looked at; only one that says something has not begun. */
export function waitingAtFirst(dependsOn: readonly string[]): string {
  return dependsOn.length === 0 ? "" : `waits for ${dependsOn.join(", ")}`;
}

/** Why the service has no tasks yet; empty when it may have some. */
export function waitingFor({ service, unreadyBecause }: Pick<ServiceSnapshot, "service" | "unreadyBecause">): string {
  if (service.waitingFor === "" || unreadyBecause === undefined) return "";
  const clauses = service.spec.dependsOn.flatMap((name) => {
    const why = unreadyBecause(name);
    return why === undefined ? [] : [why];
  });
  return clauses.length === 0 ? "" : `waits: ${clauses.join("; ")}`;
}

/** Why a service is not what another may depend on; undefined: it is. An update under way is no reason. */
export function whyUnready(name: string, parts: Parameters<typeof isConverged>[0] | undefined): string | undefined {
  if (parts === undefined) return `there is no service ${name} yet`;
  const { service } = parts;
  if (service.removing) return `service ${name} is being removed`;
  if (service.waitingFor !== "") return `service ${name} has not begun`;
  if (isJob(service.spec)) {
    const last = newestRun(service.job);
    if (last?.state === JobState.SUCCEEDED) return undefined;
    if (last === undefined) return `job ${name} has not run yet`;
    return last.state === JobState.FAILED ? `the last run of job ${name} failed` : `job ${name} has not succeeded yet`;
  }
  const { running, desired } = isConverged(parts);
  return running >= desired ? undefined : `${running} of ${desired} tasks of service ${name} are ready`;
}
