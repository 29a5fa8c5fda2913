// Where tasks may run and where they would rather: each rule parsed, none said twice, none that no node can meet.

import { type Affinity, type Placement, PlacementStrategy } from "../../proto/mod.js";
import { checkAffinityWeight, parseAffinity } from "./affinity.js";
import { type Constraint, parseConstraint } from "./constraint.js";
import { limits } from "./limits.js";
import { parsePreference } from "./preference.js";
import type { Problems } from "./problems.js";
import { words } from "./words.js";

/** What every node that takes a task must meet, with the field that says so. */
interface Demand {
  field: string;
  text: string;
  constraint: Constraint;
}

export function checkPlacement(message: Placement | undefined, problems: Problems): Placement {
  const demands: Demand[] = [];
  const constraints = checkConstraints(message?.constraints ?? [], demands, problems);
  const maxReplicasPerNode = problems.whole(
    "max_replicas_per_node",
    message?.maxReplicasPerNode,
    0,
    0,
    limits.maxReplicasPerNode,
  );
  const preferences = checkPreferences(message?.preferences ?? [], problems);
  const affinities = checkAffinities(message?.affinities ?? [], demands, problems);
  for (const [i, demand] of demands.entries()) {
    const other = demands.slice(0, i).find((before) => contradict(before.constraint, demand.constraint));
    if (other !== undefined)
      problems.add(
        demand.field,
        demand.text,
        `must leave a node that it and ${other.field} (${other.text}) both hold for`,
        "leave one of them out",
      );
  }
  return {
    constraints,
    maxReplicasPerNode,
    preferences,
    affinities,
    strategy: problems.choice("strategy", message?.strategy ?? 0, PlacementStrategy.UNSPECIFIED, words.strategy),
  };
}

/** Adds a problem for what was said before. */
function once(seen: Map<string, number>, list: string, text: string, value: string, i: number, problems: Problems) {
  const before = seen.get(text);
  if (before !== undefined)
    problems.add(`${list}[${i}]`, value, `must be unique, ${list}[${before}] says it too`, "leave one out");
  seen.set(text, before ?? i);
}

function checkConstraints(texts: readonly string[], demands: Demand[], problems: Problems): string[] {
  if (!problems.fits("constraints", texts.length, limits.constraints, "constraints")) return [];
  const seen = new Map<string, number>();
  return texts.map((text, i) => {
    const parsed = parseConstraint(text);
    if ("rule" in parsed) {
      problems.add(`constraints[${i}]`, text, parsed.rule, parsed.fix);
      return text;
    }
    const { constraint } = parsed;
    once(seen, "constraints", constraint.text, text, i, problems);
    demands.push({ field: `constraints[${i}]`, text: constraint.text, constraint });
    return constraint.text;
  });
}

function checkPreferences(texts: readonly string[], problems: Problems): string[] {
  if (!problems.fits("preferences", texts.length, limits.preferences, "preferences")) return [];
  const seen = new Map<string, number>();
  return texts.map((text, i) => {
    const parsed = parsePreference(text);
    if ("rule" in parsed) {
      problems.add(`preferences[${i}]`, text, parsed.rule, parsed.fix);
      return text;
    }
    once(seen, "preferences", parsed.preference.text, text, i, problems);
    return parsed.preference.text;
  });
}

/** A weight means nothing beside "required" and becomes 0, so that equal specs are equal. */
function checkAffinities(affinities: readonly Affinity[], demands: Demand[], problems: Problems): Affinity[] {
  if (!problems.fits("affinities", affinities.length, limits.affinities, "affinities")) return [];
  const seen = new Map<string, number>();
  const services = new Map<string, { has: boolean; field: string }>();
  return affinities.map((affinity, i) => {
    const field = `affinities[${i}]`;
    const { expression, required } = affinity;
    const wrong = checkAffinityWeight(affinity);
    if (wrong !== undefined) problems.add(`${field}.weight`, affinity.weight, wrong.rule, wrong.fix);
    const weight = required ? 0 : affinity.weight;
    const parsed = parseAffinity(expression);
    if ("rule" in parsed) {
      problems.add(`${field}.expression`, expression, parsed.rule, parsed.fix);
      return { expression, weight, required };
    }
    const rule = parsed.affinity;
    once(seen, "affinities", rule.text, expression, i, problems);
    if (required && rule.kind === "node")
      demands.push({ field: `${field}.expression`, text: rule.text, constraint: rule.constraint });
    if (required && rule.kind === "service") {
      const before = services.get(rule.name);
      if (before !== undefined && before.has !== rule.has)
        problems.add(
          `${field}.expression`,
          expression,
          `must leave a node that it and ${before.field} both hold for`,
          "leave one of them out",
        );
      services.set(rule.name, before ?? { has: rule.has, field: `${field}.expression` });
    }
    return { expression: rule.text, weight, required };
  });
}

/** Whether no node can meet both: for sure, not for lack of nodes. */
function contradict(a: Constraint, b: Constraint): boolean {
  if (keyOf(a) !== keyOf(b)) return false;
  // Addresses are compared by ranges, and architectures have several names.
  if (a.key.kind === "node.ip" || a.key.kind === "node.platform.arch") return false;
  const values = (constraint: Constraint) => constraint.values.map((value) => value.toLowerCase());
  const only = (constraint: Constraint) => constraint.operator === "==" || constraint.operator === "in";
  const never = (constraint: Constraint) => constraint.operator === "!=" || constraint.operator === "notin";
  if (only(a) && only(b)) return !values(a).some((value) => values(b).includes(value));
  if (only(a) && never(b)) return values(a).every((value) => values(b).includes(value));
  if (never(a) && only(b)) return contradict(b, a);
  if (a.operator === ">" && b.operator === "<") return Number(a.value) >= Number(b.value);
  return a.operator === "<" && b.operator === ">" && contradict(b, a);
}

function keyOf({ key }: Constraint): string {
  return "label" in key ? `${key.kind}.${key.label}` : key.kind;
}
