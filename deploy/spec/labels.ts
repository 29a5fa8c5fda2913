// Labels, of services and of containers.

import { limits } from "./limits.js";
import type { Problems } from "./problems.js";

/** Labels that begin with this are Flotilla's own on containers. */
export const reservedLabelPrefix = "flotilla.";

export function checkLabels(
  field: string,
  labels: Readonly<Record<string, string>>,
  problems: Problems,
): Record<string, string> {
  const entries = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  if (!problems.fits(field, entries.length, limits.labels, "labels")) return {};
  for (const [key, value] of entries) {
    if (key === "" || key.length > limits.labelKeyLength || !/^[\x21-\x3c\x3e-\x7e]+$/.test(key))
      problems.add(
        field,
        key,
        `must have keys of 1 to ${limits.labelKeyLength} printable characters without white space and =`,
        "write for example com.example.team=web",
      );
    else if (key.startsWith(reservedLabelPrefix))
      problems.add(
        field,
        key,
        `must not begin with ${reservedLabelPrefix}, which Flotilla uses itself`,
        "use another key",
      );
    problems.text(`${field}.${key}`, value, limits.labelValueLength);
  }
  return Object.fromEntries(entries);
}
