// How a service is updated and rolled back.

import { formatDurationMs } from "../../lib/mod.js";
import { FailureAction, type UpdateConfig, UpdateOrder } from "../../proto/mod.js";
import type { UpdateConfig as UpdateMessage } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { limits } from "./limits.js";
import type { Problems } from "./problems.js";
import { words } from "./words.js";

/**
 * max_surge and max_unavailable stay absent when they are not said: their defaults follow order and parallelism when
 * those are changed. Who says max_surge and no order means start-first.
 */
export function checkUpdate(field: string, message: UpdateMessage | undefined, problems: Problems): UpdateConfig {
  const ratio = message?.maxFailureRatio ?? 0;
  if (!(ratio >= 0 && ratio <= 1))
    problems.add(`${field}.max_failure_ratio`, ratio, "must be a share from 0 to 1", "use for example 0.1");
  const implied = (message?.maxSurge ?? 0) > 0 ? UpdateOrder.START_FIRST : UpdateOrder.STOP_FIRST;
  const config: UpdateConfig = {
    parallelism: problems.whole(`${field}.parallelism`, message?.parallelism, 1, 0, limits.parallelism),
    delayMs: problems.duration(`${field}.delay`, message?.delayMs, 0),
    order: problems.choice(`${field}.order`, message?.order ?? UpdateOrder.UNSPECIFIED, implied, words.order),
    monitorMs: problems.duration(`${field}.monitor`, message?.monitorMs, 5000),
    failureAction: problems.choice(
      `${field}.failure_action`,
      message?.failureAction ?? FailureAction.UNSPECIFIED,
      FailureAction.PAUSE,
      words.failureAction,
    ),
    maxFailureRatio: ratio,
    minHealthyTimeMs: problems.duration(`${field}.min_healthy_time`, message?.minHealthyTimeMs, 1_000),
    progressDeadlineMs: problems.duration(`${field}.progress_deadline`, message?.progressDeadlineMs, 600_000),
    ...(message?.maxSurge === undefined
      ? {}
      : { maxSurge: problems.whole(`${field}.max_surge`, message.maxSurge, 1, 0, limits.replicas) }),
    ...(message?.maxUnavailable === undefined
      ? {}
      : { maxUnavailable: problems.whole(`${field}.max_unavailable`, message.maxUnavailable, 1, 0, limits.replicas) }),
  };
  // A task that cannot count as good in time would fail every rollout.
  if (config.progressDeadlineMs <= config.minHealthyTimeMs)
    problems.add(
      `${field}.progress_deadline`,
      formatDurationMs(config.progressDeadlineMs),
      `must be longer than ${field}.min_healthy_time (${formatDurationMs(config.minHealthyTimeMs)})`,
      `use for example ${formatDurationMs(Math.min(config.minHealthyTimeMs + 600_000, limits.durationMs))}`,
    );
  checkRoom(field, config, problems);
  return config;
}

/** With neither a task more nor a task less than asked for, nothing can be replaced. */
function checkRoom(field: string, { order, maxSurge, maxUnavailable }: UpdateConfig, problems: Problems): void {
  const startFirst = order === UpdateOrder.START_FIRST;
  if (maxSurge !== undefined && maxSurge > 0 && !startFirst)
    problems.add(
      `${field}.max_surge`,
      maxSurge,
      `must be 0 with ${field}.order stop-first, which never runs more tasks than asked for`,
      `use ${field}.order start-first, or leave it out`,
    );
  else if (maxSurge === 0 && startFirst && (maxUnavailable ?? 0) > 0)
    problems.add(
      `${field}.max_surge`,
      0,
      `must be at least 1 with ${field}.order start-first, which starts the new task beside the old`,
      `use ${field}.order stop-first, or leave it out`,
    );
  else if (maxSurge === 0 && startFirst)
    problems.add(
      `${field}.max_surge`,
      0,
      `must not be 0 while ${field}.max_unavailable is 0: nothing could be replaced`,
      `leave it out, or use ${field}.order stop-first and ${field}.max_unavailable 1`,
    );
  else if (maxUnavailable === 0 && !startFirst)
    problems.add(
      `${field}.max_unavailable`,
      0,
      `must not be 0 while ${field}.max_surge is 0, as it is with stop-first: nothing could be replaced`,
      `use ${field}.order start-first, or ${field}.max_unavailable 1`,
    );
}
