// What a task reserves and what it may use at most.

import { formatBytes, formatNanoCpus } from "../../lib/mod.js";
import type { Resources, TaskSpec } from "../../proto/mod.js";
import type { TaskSpec as TaskMessage } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { limits } from "./limits.js";
import type { Problems } from "./problems.js";

export function checkResources(
  task: TaskMessage | undefined,
  problems: Problems,
): Pick<TaskSpec, "reservations" | "limits"> {
  const reservations = checkSizes("reservations", task?.reservations, problems);
  const limit = checkSizes("limits", task?.limits, problems);
  for (const name of Object.keys(limit.generic))
    problems.add(
      `limits.generic.${name}`,
      limit.generic[name] ?? 0,
      "must be absent: countable things are reserved, there is no using more than that",
      `use reservations.generic.${name}`,
    );
  if (limit.nanoCpus > 0 && reservations.nanoCpus > limit.nanoCpus)
    problems.add(
      "reservations.cpus",
      formatNanoCpus(reservations.nanoCpus),
      `must not exceed the limit of ${formatNanoCpus(limit.nanoCpus)} cores`,
      "raise the limit or reserve less",
    );
  if (limit.memoryBytes > 0 && reservations.memoryBytes > limit.memoryBytes)
    problems.add(
      "reservations.memory",
      formatBytes(reservations.memoryBytes),
      `must not exceed the limit of ${formatBytes(limit.memoryBytes)}`,
      "raise the limit or reserve less",
    );
  return { reservations, limits: limit };
}

function checkSizes(field: string, message: Resources | undefined, problems: Problems): Resources {
  const { nanoCpus, memoryBytes, generic } = message ?? { nanoCpus: 0, memoryBytes: 0, generic: {} };
  if (nanoCpus !== 0 && !(nanoCpus >= limits.nanoCpusMin && nanoCpus <= limits.nanoCpusMax))
    problems.add(
      `${field}.cpus`,
      // All digits: rounded, what is too little would look like the 0 that is allowed.
      String(nanoCpus / 1e9),
      `must be from ${formatNanoCpus(limits.nanoCpusMin)} to ${formatNanoCpus(limits.nanoCpusMax)} cores, or 0 for none`,
      "use for example 0.5",
    );
  if (memoryBytes !== 0 && !(memoryBytes >= limits.memoryBytesMin && memoryBytes <= limits.memoryBytesMax))
    problems.add(
      `${field}.memory`,
      memoryBytes < 0 ? `${memoryBytes} bytes` : formatBytes(memoryBytes),
      `must be from ${formatBytes(limits.memoryBytesMin)} to ${formatBytes(limits.memoryBytesMax)}, or 0 for none`,
      "use for example 64m",
    );
  return { nanoCpus, memoryBytes, generic: checkGeneric(`${field}.generic`, generic, problems) };
}

function checkGeneric(
  field: string,
  generic: Readonly<Record<string, number>>,
  problems: Problems,
): Record<string, number> {
  const entries = Object.entries(generic).sort(([a], [b]) => (a < b ? -1 : 1));
  if (!problems.fits(field, entries.length, limits.generics, "names")) return {};
  for (const [name, count] of entries) {
    if (name.length > limits.genericNameLength || !/^[A-Za-z0-9]([A-Za-z0-9_./-]*[A-Za-z0-9])?$/.test(name))
      problems.add(
        field,
        name,
        `must have names of 1 to ${limits.genericNameLength} letters, digits, _ . / and -, with a letter or digit at both ends`,
        "write for example gpu=2",
      );
    problems.whole(`${field}.${name}`, count, 1, 1, limits.genericCount);
  }
  return Object.fromEntries(entries);
}
