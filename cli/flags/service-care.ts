// Flags of health, stopping and restarting.

import { type HealthCheck, RestartCondition } from "../../proto/gen/flotilla/objects/v1/objects.js";
import * as as from "./parsers.js";
import { type Draft, type ServiceFlag, container, one, text } from "./service-flag.js";

const care = "Health, stop and restart:";

function health(spec: Draft): HealthCheck {
  const check = container(spec);
  check.healthcheck ??= { test: [] };
  // A setting of the check means that there is one again.
  if (check.healthcheck.test[0] === "NONE") check.healthcheck.test = [];
  return check.healthcheck;
}

const conditions = {
  none: RestartCondition.NONE,
  "on-failure": RestartCondition.ON_FAILURE,
  any: RestartCondition.ANY,
} as const;

export const careFlags: readonly ServiceFlag[] = [
  {
    flag: { long: "no-healthcheck", help: "switch the image's health check off", group: care },
    on: "both",
    apply({ spec, flags }) {
      const given = ["health-cmd", "health-interval", "health-timeout", "health-retries", "health-start-period"].find(
        (flag) => flags.has(flag),
      );
      if (given !== undefined)
        flags.report({ field: "--no-healthcheck", value: "", rule: `contradicts --${given}`, fix: "give one of them" });
      container(spec).healthcheck = { test: ["NONE"] };
    },
  },
  one(
    care,
    { long: "health-cmd", value: "COMMAND", help: "shell command, 0 is healthy; empty for the image's own" },
    text,
    (spec, value) => {
      if (value === "") container(spec).healthcheck = undefined;
      else health(spec).test = ["CMD-SHELL", value];
    },
  ),
  one(care, { long: "health-interval", value: "DURATION", help: "between checks" }, as.duration, (spec, value) => {
    health(spec).intervalMs = value;
  }),
  one(care, { long: "health-timeout", value: "DURATION", help: "longest check" }, as.duration, (spec, value) => {
    health(spec).timeoutMs = value;
  }),
  one(
    care,
    { long: "health-retries", value: "N", help: "failures in a row to be unhealthy" },
    as.uint32("3"),
    (spec, value) => {
      health(spec).retries = value;
    },
  ),
  one(
    care,
    { long: "health-start-period", value: "DURATION", help: "failures do not count so long" },
    as.duration,
    (spec, value) => {
      health(spec).startPeriodMs = value;
    },
  ),
  one(
    care,
    { long: "stop-signal", value: "SIGNAL", help: "asks the process to end (default SIGTERM)" },
    text,
    (spec, value) => {
      container(spec).stopSignal = value;
    },
  ),
  one(
    care,
    { long: "stop-grace-period", value: "DURATION", help: "from there to SIGKILL (default 10s)" },
    as.duration,
    (spec, value) => {
      container(spec).stopGracePeriodMs = value;
    },
  ),
  one(
    care,
    { long: "drain-timeout", value: "DURATION", help: "for open connections to end before that (default 5s)" },
    as.duration,
    (spec, value) => {
      spec.drainTimeoutMs = value;
    },
  ),
  one(
    care,
    {
      long: "restart-condition",
      value: "CONDITION",
      help: "none, on-failure or any (default any, of jobs on-failure)",
      complete: Object.keys(conditions),
    },
    as.oneOf<RestartCondition>(conditions),
    (spec, value) => {
      spec.task.restart.condition = value;
    },
  ),
  one(
    care,
    { long: "restart-delay", value: "DURATION", help: "before the first restart, doubled up to 60s (default 1s)" },
    as.duration,
    (spec, value) => {
      spec.task.restart.delayMs = value;
    },
  ),
  one(
    care,
    { long: "restart-max-attempts", value: "N", help: "restarts in place before the task is replaced (default 3)" },
    as.uint32("3"),
    (spec, value) => {
      spec.task.restart.maxAttempts = value;
    },
  ),
  one(
    care,
    { long: "restart-window", value: "DURATION", help: "how far back attempts count (default 2m)" },
    as.duration,
    (spec, value) => {
      spec.task.restart.windowMs = value;
    },
  ),
];
