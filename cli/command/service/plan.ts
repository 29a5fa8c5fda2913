// What a change would do, for `--dry-run` and `service plan`.

import type { PlanServiceResponse } from "../../../proto/gen/flotilla/control/v1/control.js";
import { type Flag, noTruncFlag } from "../../flags/flag.js";
import type { Io } from "../../io.js";
import { planJson, planText } from "../../screen/plan.js";
import { plain, safeJson } from "../../screen/text.js";
import type { Given } from "../leaf.js";

const group = "Planning:";

export const planFlags: readonly Flag[] = [
  { long: "dry-run", help: "only show what would be done, and where tasks would run", group },
  { ...noTruncFlag, group },
];

/** The plan is data; what cannot be had is a message as well. */
export function showPlan(io: Io, { flags, json }: Given, plan: PlanServiceResponse, name: string): void {
  if (json) {
    io.out(`${safeJson(planJson(plan), 2)}\n`);
    return;
  }
  io.out(planText(plan, name, !flags.has("no-trunc")));
  for (const warning of plan.warnings) io.err(`warning: ${plain(warning)}\n`);
}
