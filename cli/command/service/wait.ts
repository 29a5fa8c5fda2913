// The waiting that create, update, scale, rollback and `rollout status -w` share.

import type { ServiceResponse } from "../../../proto/gen/flotilla/control/v1/control.js";
import { ClusterError } from "../../../lib/errors.js";
import type { ControlApi } from "../../client/mod.js";
import { type Exit, exits } from "../../exit.js";
import type { Flag } from "../../flags/flag.js";
import { duration, oneOf } from "../../flags/parsers.js";
import type { FlagReader } from "../../flags/reader.js";
import type { Io } from "../../io.js";
import { endWait } from "../../progress/end.js";
import { type ProgressMode, progressModes, screenFor } from "../../progress/screens.js";
import type { Aim } from "../../progress/view.js";
import { watchService } from "../../progress/watch.js";
import type { Service } from "../../../proto/gen/flotilla/objects/v1/objects.js";
import { nextRunMs, scheduleWords } from "../../screen/job.js";
import { plain, safeJson } from "../../screen/text.js";
import { humanDuration, iso } from "../../screen/time.js";
import type { Given } from "../leaf.js";

const group = "Waiting:";

export const waitFlags: readonly Flag[] = [
  { long: "timeout", value: "DURATION", help: "longest wait, then exit 5 (default: 10m without progress)", group },
  { long: "wait-timeout", value: "DURATION", help: "the same", group },
  {
    long: "progress",
    value: "MODE",
    help: "tty, plain, json or quiet (default: what suits the output)",
    complete: progressModes,
    group,
  },
];
export const deployFlags: readonly Flag[] = [
  { long: "detach", short: "d", help: "do not wait for the tasks", group },
  { long: "quiet", short: "q", help: "no progress", group },
  ...waitFlags,
];

/** A wait of 0s would be none at all: that is --detach. */
const limit: typeof duration = (text) => {
  const parsed = duration(text);
  return "ok" in parsed && parsed.ok === 0
    ? { rule: "must be longer than 0s", fix: "write for example 2m, or --detach not to wait" }
    : parsed;
};

export interface WaitOptions {
  detach: boolean;
  mode: ProgressMode;
  timeoutMs: number | undefined;
}

export function readWait(flags: FlagReader, io: Io): WaitOptions {
  const modes = Object.fromEntries(progressModes.map((mode) => [mode, mode])) as Record<ProgressMode, ProgressMode>;
  const asked = flags.get("progress", oneOf(modes));
  const timeoutMs = flags.get("timeout", limit) ?? flags.get("wait-timeout", limit);
  return {
    detach: flags.has("detach"),
    mode: asked ?? (flags.has("quiet") ? "quiet" : io.errTty && io.env["TERM"] !== "dumb" ? "tty" : "plain"),
    timeoutMs,
  };
}

/** After a change: says what was changed, and waits for it to be true. */
export async function afterChange(
  io: Io,
  given: Given,
  api: ControlApi,
  wait: WaitOptions,
  response: ServiceResponse,
  change: { isRollback?: true; created?: true; runRequest?: string } = {},
): Promise<Exit> {
  const { service, rollout } = response;
  if (service?.spec === undefined)
    throw new ClusterError("internal", "the manager answered without a service; its version may not be this command's");
  const id = service.meta?.id ?? "";
  const { name } = service.spec;
  // A request that was repeated may be answered with a rollout that is not its own.
  const rolloutId = rollout?.toRevision === service.revision ? (rollout.meta?.id ?? "") : "";
  const { runRequest } = change;
  const aim: Aim = {
    revision: service.revision,
    rolloutId,
    isRollback: change.isRollback ?? false,
    ...(runRequest === undefined ? {} : { run: { requestId: runRequest, version: service.meta?.version ?? 0 } }),
  };
  const asJson = given.json || wait.mode === "json";
  // Its first run may be due in a month.
  const scheduled = runRequest === undefined && service.spec.mode?.$case === "cron";
  if (wait.detach || scheduled) {
    const outcome = wait.detach ? "detached" : "scheduled";
    const nowMs = io.clock.now();
    const reason = wait.detach ? "not waited for" : scheduleWords({ service }, nowMs);
    const end = { type: "end", id, name, outcome, revision: service.revision, reason, exit: exits.ok };
    const next = scheduled ? { nextRunAt: iso(nextRunMs({ service }, nowMs)) || null } : {};
    io.out(asJson ? `${safeJson({ ...end, ...next })}\n` : `${id}\n`);
    if (scheduled && !asJson && wait.mode !== "quiet") io.err(`${dueText(service, nowMs)}\n`);
    return exits.ok;
  }
  if (!asJson) io.out(`${id}\n`);
  return await waitFor(io, given, api, wait, { id, name }, { aim, created: change.created ?? false });
}

/** When the schedule begins the next run, for whoever has just changed it. */
function dueText(service: Service, nowMs: number): string {
  const name = plain(service.spec?.name ?? "");
  const run = `flotilla service run ${name}`;
  const nextMs = nextRunMs({ service }, nowMs);
  if (service.spec?.mode?.$case === "cron" && service.spec.mode.value.suspended)
    return `${name} is suspended: the schedule begins no run; '${run}' does`;
  if (nextMs === 0) return `${name} is never due: no time is like its schedule; '${run}' begins a run now`;
  const which = (service.job?.lastRun ?? 0) === 0 ? "first" : "next";
  return `${name}: the ${which} run is due at ${iso(nextMs)}, in ${humanDuration(nextMs - nowMs).toLowerCase()}; '${run}' begins one now`;
}

/** Waits for `aim`, for the revision, or for whatever is under way. */
export async function waitFor(
  io: Io,
  given: Given,
  api: ControlApi,
  wait: WaitOptions,
  service: { id: string; name: string },
  target: { aim?: Aim; revision?: number; created?: boolean },
): Promise<Exit> {
  const result = await watchService({
    api,
    io,
    screen: screenFor(wait.mode, io),
    service: service.id,
    name: service.name,
    ...target,
    ...(wait.timeoutMs === undefined ? {} : { timeoutMs: wait.timeoutMs }),
  });
  return endWait(io, given, wait.mode, service, result);
}
