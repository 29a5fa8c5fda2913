// The runs of jobs, as they are recorded.

import { type JobRun, JobState, type JobStatus } from "../../proto/mod.js";

/** The newest run that was begun; one that was skipped says nothing of how the job does. */
export function newestRun(job: JobStatus | undefined): JobRun | undefined {
  return job?.runs.findLast(({ state }) => state !== JobState.SKIPPED);
}

/** Whether tasks of it may still be made. */
export function goesOn({ state }: JobRun): boolean {
  return state === JobState.RUNNING;
}
