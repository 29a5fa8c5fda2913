// What a change of a spec changes, for plans.

import type { ServiceSpec } from "../../proto/mod.js";
import { describe, type Line, type Section } from "./describe.js";

export interface SpecChange {
  /** As in errors: "image", "env[2]", "update.parallelism"; of a list's entry its place now, or before it went. */
  field: string;
  /** As people write it; empty when it was, or will be, absent. */
  before: string;
  after: string;
  /** Whether tasks must be replaced for it: some change says so exactly when the template hash is another. */
  replacesTasks: boolean;
}

/**
 * Of two checked specs; none when they are equal. In the order of the spec's parts, not of importance. `before` is
 * undefined for a new service: then all that it says is a change, and there are no tasks to replace.
 */
export function diffSpecs(before: ServiceSpec | undefined, after: ServiceSpec): SpecChange[] {
  const old = before === undefined ? [] : describe(before);
  const changes = describe(after).flatMap((section, i) => {
    const was = old[i] ?? { ...section, lines: [] };
    return [...compareLines(was, section), ...compareOrder(was, section)];
  });
  return before === undefined ? changes.map((one) => ({ ...one, replacesTasks: false })) : changes;
}

function compareLines(before: Section, after: Section): SpecChange[] {
  const old = new Map(before.lines.map((line) => [line.key, line]));
  const now = new Set(after.lines.map((line) => line.key));
  return [
    ...before.lines.filter((line) => !now.has(line.key)).flatMap((line) => change(line, undefined)),
    ...after.lines.flatMap((line) => change(old.get(line.key), line)),
  ];
}

function change(before: Line | undefined, after: Line | undefined): SpecChange[] {
  if ((before?.text ?? "") === (after?.text ?? "")) return [];
  return [
    {
      field: after?.field ?? before?.field ?? "",
      before: before?.text ?? "",
      after: after?.text ?? "",
      replacesTasks: (before?.template ?? "") !== (after?.template ?? ""),
    },
  ];
}

/** The entries that both have, in another order; what came and went is told by itself. */
function compareOrder(before: Section, after: Section): SpecChange[] {
  if (after.list === "") return [];
  const kept = ({ lines }: Section, other: Section) => {
    const keys = new Set(other.lines.map((line) => line.key));
    return lines.filter((line) => keys.has(line.key)).map((line) => line.key);
  };
  const old = kept(before, after);
  const now = kept(after, before);
  if (old.every((key, i) => key === now[i])) return [];
  return [{ field: after.list, before: old.join(", "), after: now.join(", "), replacesTasks: after.orderReplaces }];
}
