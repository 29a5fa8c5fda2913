// What an update may take away and add at once. The defaults of max_surge and max_unavailable hang on the order and
// on parallelism; this is the one place that knows them.

import { type UpdateConfig, UpdateOrder } from "../../proto/mod.js";

export interface Budget {
  /** Slots begun and not yet healthy at the same time. Infinite for "all". */
  parallelism: number;
  /** Wanted tasks beyond one per slot. */
  maxSurge: number;
  /** Slots that may be without a ready task, for whatever reason, when a ready one is begun. */
  maxUnavailable: number;
  /** Which of the two is taken from first. */
  startsFirst: boolean;
}

export function budgetOf(config: Pick<UpdateConfig, "parallelism" | "order" | "maxSurge" | "maxUnavailable">): Budget {
  const parallelism = config.parallelism === 0 ? Number.POSITIVE_INFINITY : config.parallelism;
  const startsFirst = config.order === UpdateOrder.START_FIRST;
  return {
    parallelism,
    maxSurge: config.maxSurge ?? (startsFirst ? parallelism : 0),
    maxUnavailable: config.maxUnavailable ?? (startsFirst ? 0 : parallelism),
    startsFirst,
  };
}
