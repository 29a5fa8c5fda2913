// Automatic scaling: bounds and targets that can be held.

import type { AutoscaleSpec, ServiceSpec, TaskSpec } from "../../proto/mod.js";
import { limits } from "./limits.js";
import { modeWord } from "./mode.js";
import type { Problems } from "./problems.js";

/** Numbers and bounds; `checkTargets` looks at what they need from the rest of the spec. */
export function checkAutoscale(message: AutoscaleSpec | undefined, problems: Problems): AutoscaleSpec | undefined {
  if (message === undefined) return undefined;
  const { min, max, cpuPercent, memoryPercent, requestsPerReplica } = message;
  problems.whole("autoscale.min", min, 1, 0, limits.replicas);
  problems.whole("autoscale.max", max, 10, 1, limits.replicas);
  if (max >= 1 && max < min)
    problems.add("autoscale.max", max, `must not be below autoscale.min (${min})`, "raise it, or lower autoscale.min");
  const target = (name: string, value: number | undefined, example: number, most: number) =>
    value === undefined ? undefined : problems.whole(`autoscale.${name}`, value, example, 1, most);
  const cpu = target("cpu_percent", cpuPercent, 60, limits.autoscalePercent);
  const memory = target("memory_percent", memoryPercent, 80, limits.autoscalePercent);
  const requests = target("requests_per_replica", requestsPerReplica, 100, limits.autoscaleRequests);
  if (cpu === undefined && memory === undefined && requests === undefined)
    problems.add(
      "autoscale",
      "no target",
      "must have at least one of cpu_percent, memory_percent and requests_per_replica",
      "add for example cpu=60",
    );
  else if (min === 0 && requests === undefined)
    problems.add(
      "autoscale.min",
      0,
      "must be at least 1 without requests_per_replica: no task uses nothing, so there would never be one again",
      "use 1, or add a target of requests",
    );
  return {
    min,
    max,
    ...(cpu === undefined ? {} : { cpuPercent: cpu }),
    ...(memory === undefined ? {} : { memoryPercent: memory }),
    ...(requests === undefined ? {} : { requestsPerReplica: requests }),
    upCoolDownMs: problems.duration("autoscale.up_cool_down", message.upCoolDownMs, 15_000),
    downCoolDownMs: problems.duration("autoscale.down_cool_down", message.downCoolDownMs, 300_000),
  };
}

/** A share needs something that it is a share of, and only replicas can be made more or fewer. */
export function checkTargets(
  autoscale: AutoscaleSpec | undefined,
  mode: ServiceSpec["mode"],
  { reservations, limits: most }: Pick<TaskSpec, "reservations" | "limits">,
  problems: Problems,
): void {
  if (autoscale === undefined) return;
  if (mode.$case !== "replicated")
    problems.add(
      "autoscale",
      modeWord(mode),
      "must be absent in modes other than replicated",
      "leave it out, or use mode replicated",
    );
  const share = (name: string, percent: number | undefined, of: string, amounts: number[]) => {
    if (percent === undefined || amounts.some((amount) => amount > 0)) return;
    problems.add(
      `autoscale.${name}`,
      percent,
      `must have a reservation or limit of ${of} that it is a share of`,
      `set reservations.${of} or limits.${of}`,
    );
  };
  share("cpu_percent", autoscale.cpuPercent, "cpus", [reservations.nanoCpus, most.nanoCpus]);
  share("memory_percent", autoscale.memoryPercent, "memory", [reservations.memoryBytes, most.memoryBytes]);
}
