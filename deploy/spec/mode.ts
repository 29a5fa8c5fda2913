// The modes of services: their numbers checked, and what holds for a kind of mode.

import type { AutoscaleSpec, ServiceSpec } from "../../proto/mod.js";
import type { ServiceSpec as ServiceMessage } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { ConcurrencyPolicy, type CronMode } from "../../proto/mod.js";
import { parseSchedule } from "./cron-fields.js";
import { limits } from "./limits.js";
import type { Problems } from "./problems.js";
import { modeWords, words } from "./words.js";
import { checkTimeZone } from "./zone.js";

type Mode = ServiceSpec["mode"];

/** Whether its tasks run to completion. */
export function isJob({ mode }: Pick<ServiceSpec, "mode">): boolean {
  return mode.$case === "replicatedJob" || mode.$case === "globalJob" || mode.$case === "cron";
}

/** Whether it has a slot per node. */
export function isGlobal({ mode }: Pick<ServiceSpec, "mode">): boolean {
  return mode.$case === "global" || mode.$case === "globalJob";
}

/** How many tasks a run of a replicated job or cron has, and at once; `undefined` for other modes. */
export function runSize({
  mode,
}: Pick<ServiceSpec, "mode">): { completions: number; maxConcurrent: number } | undefined {
  if (mode.$case !== "replicatedJob" && mode.$case !== "cron") return undefined;
  const completions = mode.value.completions ?? 1;
  return { completions, maxConcurrent: mode.value.maxConcurrent ?? completions };
}

/** One rule for create, update and scale; a service that is scaled automatically keeps between its bounds. */
export function checkReplicas(replicas: number, problems: Problems, autoscale?: AutoscaleSpec): void {
  problems.whole("replicas", replicas, 3, 0, limits.replicas);
  // Bounds that are no bounds are told by themselves.
  if (autoscale === undefined || autoscale.max < Math.max(1, autoscale.min)) return;
  if (replicas < autoscale.min || replicas > autoscale.max)
    problems.add(
      "replicas",
      replicas,
      `must be from autoscale.min (${autoscale.min}) to autoscale.max (${autoscale.max})`,
      "use a number between them, or change the bounds",
    );
}

export function checkMode(message: ServiceMessage, autoscale: AutoscaleSpec | undefined, problems: Problems): Mode {
  const mode = message.mode;
  switch (mode?.$case) {
    case undefined: {
      const replicas = Math.min(limits.replicas, Math.max(1, autoscale?.min ?? 1));
      checkReplicas(replicas, problems, autoscale);
      return { $case: "replicated", value: { replicas } };
    }
    case "replicated":
      checkReplicas(mode.value.replicas, problems, autoscale);
      return { $case: "replicated", value: { replicas: mode.value.replicas } };
    case "global":
      return { $case: "global", value: {} };
    case "globalJob":
      return { $case: "globalJob", value: {} };
    case "replicatedJob":
      return { $case: "replicatedJob", value: checkRun(mode.value, problems) };
    case "cron":
      return { $case: "cron", value: checkCron(mode.value, problems) };
  }
}

/** An absent max_concurrent stays absent: it follows completions when those are changed. */
function checkRun(
  { completions: wanted, maxConcurrent }: { completions?: number | undefined; maxConcurrent?: number | undefined },
  problems: Problems,
): { completions: number; maxConcurrent?: number } {
  const completions = problems.whole("completions", wanted, 1, 1, limits.replicas);
  if (maxConcurrent === undefined) return { completions };
  problems.whole("max_concurrent", maxConcurrent, 1, 1, limits.replicas);
  if (maxConcurrent > completions)
    problems.add(
      "max_concurrent",
      maxConcurrent,
      `must not exceed completions (${completions})`,
      "use a smaller number, leave it out, or raise completions",
    );
  return { completions, maxConcurrent };
}

function checkCron(cron: CronMode, problems: Problems): CronMode {
  const parsed = parseSchedule(cron.schedule);
  if ("rule" in parsed) problems.add("cron.schedule", cron.schedule, parsed.rule, parsed.fix);
  const timeZone = cron.timeZone === "" ? "UTC" : cron.timeZone;
  checkTimeZone("cron.time_zone", timeZone, problems);
  return {
    schedule: "rule" in parsed ? cron.schedule : parsed.text,
    timeZone,
    concurrency: problems.choice("cron.concurrency", cron.concurrency, ConcurrencyPolicy.FORBID, words.concurrency),
    keepSucceeded: problems.whole("cron.keep_succeeded", cron.keepSucceeded, 3, 0, limits.keptRuns),
    keepFailed: problems.whole("cron.keep_failed", cron.keepFailed, 3, 0, limits.keptRuns),
    startDeadlineMs: problems.duration(
      "cron.start_deadline",
      cron.startDeadlineMs,
      60_000,
      limits.durationMs,
      limits.shortWaitMs,
    ),
    suspended: cron.suspended,
    ...checkRun(cron, problems),
  };
}

/** The word for it, as `--mode` takes it. */
export function modeWord(mode: Mode): string {
  return modeWords[mode.$case];
}
