// Jobs and what a schedule begins: their runs in words.

import { nextDue } from "../../deploy/spec/mod.js";
import type { ServiceState } from "../../proto/gen/flotilla/control/v1/control.js";
import { type JobRun, JobState, type Service, type ServiceSpec } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { ago, humanDuration, iso } from "./time.js";
import { jobState } from "./words.js";

/** Whether its tasks run to completion. */
export function isJob(spec: Pick<ServiceSpec, "mode"> | undefined): boolean {
  const mode = spec?.mode?.$case;
  return mode === "replicatedJob" || mode === "globalJob" || mode === "cron";
}

/** Whether it has a slot per node. */
export function isGlobal(spec: Pick<ServiceSpec, "mode"> | undefined): boolean {
  return spec?.mode?.$case === "global" || spec?.mode?.$case === "globalJob";
}

export function newestRun(service: Service | undefined): JobRun | undefined {
  return service?.job?.runs.reduce<JobRun | undefined>(
    (newest, run) => (newest === undefined || run.number > newest.number ? run : newest),
    undefined,
  );
}

/** When the schedule begins the next run; 0 when it begins none. */
export function nextRunMs({ service }: Pick<ServiceState, "service">, nowMs: number): number {
  const mode = service?.spec?.mode;
  if (mode?.$case !== "cron" || mode.value.suspended || service?.removing === true) return 0;
  return nextDue(mode.value, nowMs) ?? 0;
}

/** "12:00:05Z", on another day with the date. */
export function dueTime(atMs: number, nowMs: number): string {
  const [date = "", time = ""] = iso(atMs).split("T");
  const clock = time.replace(/\.\d+Z$/, "Z");
  return iso(nowMs).startsWith(date) ? clock : `${date}T${clock}`;
}

/** "next 12:00:05Z", "suspended", "never due". */
export function scheduleWords(state: Pick<ServiceState, "service">, nowMs: number): string {
  const mode = state.service?.spec?.mode;
  if (mode?.$case === "cron" && mode.value.suspended) return "suspended";
  const next = nextRunMs(state, nowMs);
  return next === 0 ? "never due" : `next ${dueTime(next, nowMs)}`;
}

/** Tasks that a run has to complete; of a global job as many as there are to be now. */
export function completionsOf({ service, replicasDesired }: ServiceState): number {
  const mode = service?.spec?.mode;
  return mode?.$case === "replicatedJob" || mode?.$case === "cron" ? (mode.value.completions ?? 1) : replicasDesired;
}

/** In `service ls`: "2/3 done", "failed, 2/3 done", "1/1 done, next 12:00:05Z". */
export function runsWords(state: ServiceState, nowMs: number): string {
  const run = newestRun(state.service);
  const parts: string[] = [];
  if (run !== undefined) {
    if (run.state !== JobState.RUNNING && run.state !== JobState.SUCCEEDED) parts.push(jobState(run.state));
    if (run.state !== JobState.SKIPPED) parts.push(`${run.completed}/${run.total} done`);
  } else if (state.service?.spec?.mode?.$case !== "cron") parts.push(`0/${completionsOf(state)} done`);
  if (state.service?.spec?.mode?.$case === "cron") parts.push(scheduleWords(state, nowMs));
  return parts.join(", ");
}

/** A line of `inspect --pretty`: "7  failed 3 minutes ago  2/3 done  revision 2  slot 1 failed 3 times in a row". */
export function runLine(run: JobRun, nowMs: number): string[] {
  const { number, state, startedAtMs, endedAtMs, dueAtMs, completed, total, revision, message } = run;
  const at = endedAtMs || startedAtMs || dueAtMs;
  const took =
    endedAtMs > 0 && startedAtMs > 0
      ? ` (took ${humanDuration(Math.max(0, endedAtMs - startedAtMs)).toLowerCase()})`
      : "";
  return [
    String(number),
    `${jobState(state)} ${at === 0 ? "" : `${ago(at, nowMs)}${took}`}`.trimEnd(),
    `${completed}/${total} done`,
    `revision ${revision}`,
    message,
  ];
}
