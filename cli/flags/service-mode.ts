// Flags of what a service is for: how many tasks, for how long, begun by what, and after what.

import {
  type AutoscaleSpec,
  ConcurrencyPolicy,
  type CronMode,
  type ReplicatedJobMode,
} from "../../proto/gen/flotilla/objects/v1/objects.js";
import { modeWord } from "../screen/words.js";
import { autoscale } from "./autoscale.js";
import * as as from "./parsers.js";
import type { Parser } from "./reader.js";
import { type Draft, type Given, type ServiceFlag, many, one, removeFrom } from "./service-flag.js";

const group = "How many, and when:";

function cronMode(schedule: string) {
  return {
    $case: "cron" as const,
    value: {
      schedule,
      timeZone: "",
      concurrency: ConcurrencyPolicy.UNSPECIFIED,
      keepSucceeded: undefined,
      keepFailed: undefined,
      startDeadlineMs: undefined,
      suspended: false,
      completions: undefined,
      maxConcurrent: undefined,
    },
  };
}

/** What --cron stands for needs no --mode, and may have it. */
const modes = {
  replicated: () => ({ $case: "replicated" as const, value: { replicas: 1 } }),
  global: () => ({ $case: "global" as const, value: {} }),
  "replicated-job": () => ({
    $case: "replicatedJob" as const,
    value: { completions: undefined, maxConcurrent: undefined },
  }),
  "global-job": () => ({ $case: "globalJob" as const, value: {} }),
  cron: () => cronMode(""),
} satisfies Record<string, () => Draft["mode"]>;

const concurrencies = {
  allow: ConcurrencyPolicy.ALLOW,
  forbid: ConcurrencyPolicy.FORBID,
  replace: ConcurrencyPolicy.REPLACE,
} as const;

/** A flag that only some modes have was given for another one. */
function refuse({ spec, flags, checkMode }: Given, flag: string, of: string, fix: string): void {
  if (!checkMode) return;
  const value = flags.text(flag) ?? "";
  flags.report({
    field: `--${flag}`,
    value: value === "true" ? "" : value,
    rule: `is of ${of}, and the service is ${modeWord(spec.mode)}`,
    fix,
  });
}

/** Runs with a number of completions: jobs, and what a schedule begins. */
function ofRuns(given: Given): Pick<CronMode & ReplicatedJobMode, "completions" | "maxConcurrent"> | undefined {
  const { mode } = given.spec;
  return mode.$case === "replicatedJob" || mode.$case === "cron" ? mode.value : undefined;
}

function inMode<T>(
  flag: { long: string; value: string; help: string; complete?: readonly string[] },
  parse: Parser<T>,
  set: (given: Given, value: T) => void,
): ServiceFlag {
  return {
    flag: { ...flag, group },
    on: "both",
    apply(given) {
      const value = given.flags.get(flag.long, parse);
      if (value !== undefined) set(given, value);
    },
  };
}

function cronFlag<T>(
  flag: { long: string; value: string; help: string; complete?: readonly string[] },
  parse: Parser<T>,
  set: (mode: CronMode, value: T) => void,
): ServiceFlag {
  return inMode(flag, parse, (given, value) => {
    const { mode } = given.spec;
    if (mode.$case === "cron") set(mode.value, value);
    else refuse(given, flag.long, "cron services", "leave it out, or make a service with --cron SCHEDULE");
  });
}

function setReplicas(given: Given, value: number): void {
  const { spec } = given;
  const runs = ofRuns(given);
  if (runs !== undefined) {
    // As Docker has it: a job's replicas are the tasks that must complete.
    if (given.flags.has("completions"))
      given.flags.report({
        field: "--replicas",
        value: String(value),
        rule: "says for a job the same as --completions",
        fix: "give one of them",
      });
    runs.completions = value;
  } else if (spec.mode.$case === "replicated") spec.mode.value.replicas = value;
  else refuse(given, "replicas", "services with a number of tasks", "leave it out: there is one task per node");
}

function setCron(given: Given, schedule: string): void {
  const { spec, flags, checkMode } = given;
  if (spec.mode.$case === "cron") spec.mode.value.schedule = schedule;
  else if (flags.has("mode") && spec.mode.$case !== "replicatedJob")
    flags.report({
      field: "--cron",
      value: schedule,
      rule: `contradicts --mode ${modeWord(spec.mode)}: a schedule begins runs of replicated jobs`,
      fix: "leave --mode out, or write --mode cron",
    });
  else if (given.command === "create") spec.mode = cronMode(schedule);
  else if (checkMode)
    refuse(given, "cron", "cron services", "make a new service: one cannot become another mode later");
}

function setAutoscale(given: Given, parts: Partial<AutoscaleSpec>): void {
  const { spec, flags, checkMode } = given;
  const autoscaled = { ...spec.autoscale, ...parts };
  const { min, max } = autoscaled;
  if (min === undefined || max === undefined) {
    if (checkMode)
      flags.report({
        field: "--autoscale",
        value: flags.text("autoscale") ?? "",
        rule: `must say ${min === undefined ? "min" : "max"}`,
        fix: "write for example min=2,max=10,cpu=60",
      });
    return;
  }
  // Replicas that nobody named begin within the bounds.
  if (spec.mode.$case === "replicated" && !flags.has("replicas")) {
    const { replicas } = spec.mode.value;
    const within = Math.min(Math.max(replicas, min, 1), Math.max(min, max));
    if (within !== replicas && given.command === "update" && checkMode)
      given.note(`replicas: ${replicas} is outside of --autoscale; ${within} from now on`);
    spec.mode.value.replicas = within;
  }
  spec.autoscale = {
    cpuPercent: undefined,
    memoryPercent: undefined,
    requestsPerReplica: undefined,
    upCoolDownMs: undefined,
    downCoolDownMs: undefined,
    ...autoscaled,
    min,
    max,
  };
}

export const modeFlags: readonly ServiceFlag[] = [
  {
    flag: {
      long: "mode",
      value: "MODE",
      help: `${Object.keys(modes).join(", ")} (default replicated)`,
      complete: Object.keys(modes),
      group,
    },
    on: "create",
    apply({ spec, flags }) {
      const mode = flags.get("mode", as.oneOf<() => Draft["mode"]>(modes));
      if (mode === undefined) return;
      spec.mode = mode();
      if (spec.mode.$case === "cron" && !flags.has("cron"))
        flags.report({
          field: "--cron",
          value: "",
          rule: "is needed: mode cron begins runs by a schedule",
          fix: "write for example --cron '30 6 * * *'",
        });
    },
  },
  inMode(
    { long: "cron", value: "SCHEDULE", help: "begin a job by a schedule: '*/5 * * * *', @daily" },
    as.nonEmpty,
    setCron,
  ),
  inMode(
    { long: "replicas", value: "N", help: "number of tasks, of a job those that must complete (default 1)" },
    as.replicas,
    setReplicas,
  ),
  inMode(
    { long: "completions", value: "N", help: "tasks of a job that must complete (default 1)" },
    as.replicas,
    (given, value) => {
      const runs = ofRuns(given);
      if (runs === undefined) refuse(given, "completions", "replicated jobs and cron services", "write --replicas");
      else runs.completions = value;
    },
  ),
  inMode(
    { long: "max-concurrent", value: "N", help: "tasks of a job at the same time (default all)" },
    as.replicas,
    (given, value) => {
      const runs = ofRuns(given);
      if (runs === undefined) refuse(given, "max-concurrent", "replicated jobs and cron services", "leave it out");
      else runs.maxConcurrent = value;
    },
  ),
  cronFlag(
    { long: "cron-time-zone", value: "ZONE", help: "of the schedule, as Europe/Paris (default UTC)" },
    as.nonEmpty,
    (mode, value) => {
      mode.timeZone = value;
    },
  ),
  cronFlag(
    {
      long: "cron-concurrency",
      value: "POLICY",
      help: "while a run goes on: allow, forbid or replace (default forbid)",
      complete: Object.keys(concurrencies),
    },
    as.oneOf<ConcurrencyPolicy>(concurrencies),
    (mode, value) => {
      mode.concurrency = value;
    },
  ),
  cronFlag(
    { long: "cron-keep-succeeded", value: "N", help: "runs that ended well to keep (default 3)" },
    as.uint32("3"),
    (mode, value) => {
      mode.keepSucceeded = value;
    },
  ),
  cronFlag(
    { long: "cron-keep-failed", value: "N", help: "runs that failed to keep (default 3)" },
    as.uint32("3"),
    (mode, value) => {
      mode.keepFailed = value;
    },
  ),
  cronFlag(
    { long: "cron-start-deadline", value: "DURATION", help: "a run found due later than that is skipped (default 1m)" },
    as.duration,
    (mode, value) => {
      mode.startDeadlineMs = value;
    },
  ),
  ...(["cron-suspended", "no-cron-suspended"] as const).map(
    (long): ServiceFlag => ({
      flag: {
        long,
        help: long === "cron-suspended" ? "the schedule begins no run" : "undo --cron-suspended",
        group,
      },
      on: long === "cron-suspended" ? "both" : "update",
      apply(given) {
        const { mode } = given.spec;
        if (mode.$case === "cron") mode.value.suspended = long === "cron-suspended";
        else refuse(given, long, "cron services", "leave it out");
      },
    }),
  ),
  // Before --autoscale: both together forget what was there and begin anew.
  {
    flag: { long: "no-autoscale", help: "undo --autoscale; with it: forget what it does not name", group },
    on: "update",
    apply({ spec }) {
      spec.autoscale = undefined;
    },
  },
  inMode(
    {
      long: "autoscale",
      value: "BOUNDS",
      help: "min=2,max=10,cpu=60: bounds, then cpu %, memory %, requests, up-cool-down, down-cool-down",
    },
    autoscale,
    setAutoscale,
  ),
  ...many(
    group,
    { long: "depends-on", value: "SERVICE", help: "no tasks before this service is ready", complete: "services" },
    () => as.nonEmpty,
    { value: "SERVICE", parse: as.nonEmpty },
    {
      add: (spec, value) => {
        if (!spec.dependsOn.includes(value)) spec.dependsOn.push(value);
      },
      remove: (spec, key) => removeFrom(spec.dependsOn, (name) => name === key),
    },
  ),
  one(
    group,
    {
      long: "stop-after-disconnect",
      value: "DURATION",
      help: "tasks stop on a node without managers so long: never two of them",
    },
    as.duration,
    (spec, value) => {
      spec.stopAfterDisconnectMs = value;
    },
  ),
  {
    flag: { long: "no-stop-after-disconnect", help: "undo --stop-after-disconnect", group },
    on: "update",
    apply({ spec }) {
      spec.stopAfterDisconnectMs = undefined;
    },
  },
];
