// Placement preferences: "spread=node.labels.zone" puts a service's tasks evenly over the values of a label.

import { type ConstraintKey, type ConstraintNode, nodeValue, parseKey } from "./constraint.js";

export interface Preference {
  /** As written, without white space around its parts. */
  text: string;
  key: ConstraintKey;
}

export type ParsedPreference = { preference: Preference } | { rule: string; fix: string };

export function parsePreference(text: string): ParsedPreference {
  const match = /^\s*(\w+)\s*=\s*(\S+)\s*$/.exec(text);
  if (match === null || match[1] !== "spread")
    return { rule: "must be spread=KEY", fix: "write for example spread=node.labels.zone" };
  const [, , name = ""] = match;
  const key = parseKey(name);
  if ("rule" in key) return key;
  return { preference: { text: `spread=${name}`, key } };
}

/** The branch that a node belongs to; nodes without the label have one of their own. */
export function branchOf({ key }: Preference, node: ConstraintNode): string {
  return nodeValue(key, node) ?? "";
}
