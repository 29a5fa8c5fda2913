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
import { safeJson } from "../../screen/text.js";
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
  change: { isRollback?: true; created?: true } = {},
): Promise<Exit> {
  const { service, rollout } = response;
  if (service?.spec === undefined)
    throw new ClusterError("internal", "the manager answered without a service; its version may not be this command's");
  const id = service.meta?.id ?? "";
  const { name } = service.spec;
  // A request that was repeated may be answered with a rollout that is not its own.
  const rolloutId = rollout?.toRevision === service.revision ? (rollout.meta?.id ?? "") : "";
  const aim: Aim = { revision: service.revision, rolloutId, isRollback: change.isRollback ?? false };
  const asJson = given.json || wait.mode === "json";
  if (wait.detach) {
    if (asJson)
      io.out(
        `${safeJson({ type: "end", id, name, outcome: "detached", revision: service.revision, reason: "not waited for", exit: exits.ok })}\n`,
      );
    else io.out(`${id}\n`);
    return exits.ok;
  }
  if (!asJson) io.out(`${id}\n`);
  return await waitFor(io, given, api, wait, { id, name }, { aim, created: change.created ?? false });
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
