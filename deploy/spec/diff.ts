// What differs between two specs, field by field, as a user would name it.

import type { SpecChange } from "../../proto/gen/flotilla/control/v1/control.js";
import type { ServiceSpec } from "../../proto/mod.js";
import { templateHash } from "./template.js";

/** `before` is undefined for a new service: then everything that is set is a change, and nothing is replaced. */
export function diffSpecs(before: ServiceSpec | undefined, after: ServiceSpec): SpecChange[] {
  const was = before === undefined ? new Map<string, string>() : leaves(before);
  const is = leaves(after);
  const replaces = before !== undefined && templateHash(before) !== templateHash(after);
  return [...new Set([...was.keys(), ...is.keys()])]
    .filter((field) => was.get(field) !== is.get(field))
    .sort()
    .map((field) => ({
      field,
      before: was.get(field) ?? "",
      after: is.get(field) ?? "",
      replacesTasks: replaces && /^task\.(?!placement)|^ports\[\d+\]\.(target|protocol)/.test(field),
    }));
}

function leaves(value: unknown, path = "", found = new Map<string, string>()): Map<string, string> {
  if (typeof value === "object" && value !== null)
    for (const [key, part] of Object.entries(value)) {
      if (key === "_unknownFields") continue;
      leaves(part, Array.isArray(value) ? `${path}[${key}]` : path === "" ? key : `${path}.${key}`, found);
    }
  else if (value !== undefined && value !== "") found.set(path, String(value));
  return found;
}
