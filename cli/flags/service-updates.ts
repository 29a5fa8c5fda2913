// The --update-… flags and their --rollback-… twins.

import { FailureAction, UpdateOrder } from "../../proto/gen/flotilla/objects/v1/objects.js";
import * as as from "./parsers.js";
import { type Draft, type ServiceFlag, one } from "./service-flag.js";

const orders = { "stop-first": UpdateOrder.STOP_FIRST, "start-first": UpdateOrder.START_FIRST } as const;
const actions = {
  pause: FailureAction.PAUSE,
  continue: FailureAction.CONTINUE,
  rollback: FailureAction.ROLLBACK,
} as const;

/** The same settings for the way there and, prefixed with rollback, for the way back. */
export function rolling(prefix: "update" | "rollback"): ServiceFlag[] {
  const group = prefix === "update" ? "Updates:" : "Rollbacks:";
  const config = (spec: Draft) => spec[prefix];
  const failure: Readonly<Record<string, FailureAction>> =
    prefix === "update" ? actions : { pause: actions.pause, continue: actions.continue };
  return [
    one(
      group,
      { long: `${prefix}-parallelism`, value: "N", help: "slots replaced at once, 0 for all (default 1)" },
      as.uint32("2"),
      (spec, value) => {
        config(spec).parallelism = value;
      },
    ),
    one(
      group,
      { long: `${prefix}-delay`, value: "DURATION", help: "wait between batches (default 0s)" },
      as.duration,
      (spec, value) => {
        config(spec).delayMs = value;
      },
    ),
    one(
      group,
      {
        long: `${prefix}-order`,
        value: "ORDER",
        help: "stop-first or start-first (default stop-first)",
        complete: Object.keys(orders),
      },
      as.oneOf<UpdateOrder>(orders),
      (spec, value) => {
        config(spec).order = value;
      },
    ),
    one(
      group,
      { long: `${prefix}-monitor`, value: "DURATION", help: "how long new tasks are watched (default 5s)" },
      as.duration,
      (spec, value) => {
        config(spec).monitorMs = value;
      },
    ),
    one(
      group,
      {
        long: `${prefix}-failure-action`,
        value: "ACTION",
        help: `${Object.keys(failure).join(", ")} (default pause)`,
        complete: Object.keys(failure),
      },
      as.oneOf(failure),
      (spec, value) => {
        config(spec).failureAction = value;
      },
    ),
    one(
      group,
      { long: `${prefix}-max-failure-ratio`, value: "RATIO", help: "share of slots that may fail, 0 to 1 (default 0)" },
      as.ratio,
      (spec, value) => {
        config(spec).maxFailureRatio = value;
      },
    ),
    one(
      group,
      { long: `${prefix}-min-healthy-time`, value: "DURATION", help: "ready this long counts as good (default 1s)" },
      as.duration,
      (spec, value) => {
        config(spec).minHealthyTimeMs = value;
      },
    ),
    one(
      group,
      {
        long: `${prefix}-progress-deadline`,
        value: "DURATION",
        help: "a batch slower than this has failed (default 10m)",
      },
      as.duration,
      (spec, value) => {
        config(spec).progressDeadlineMs = value;
      },
    ),
    one(
      group,
      {
        long: `${prefix}-max-surge`,
        value: "N",
        help: "tasks beyond the number asked for (default parallelism with start-first, else 0)",
      },
      as.replicas,
      (spec, value) => {
        config(spec).maxSurge = value;
      },
    ),
    one(
      group,
      {
        long: `${prefix}-max-unavailable`,
        value: "N",
        help: "slots without a ready task (default 0 with start-first, else parallelism)",
      },
      as.replicas,
      (spec, value) => {
        config(spec).maxUnavailable = value;
      },
    ),
  ];
}
