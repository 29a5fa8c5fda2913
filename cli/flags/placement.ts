// Where tasks should run, as it is written on the command line: preferences, affinities, countable resources.

import { type AffinityRule, affinityWeightMax, parseAffinity, parsePreference } from "../../deploy/spec/mod.js";
import type { Affinity } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { integer } from "./parsers.js";
import type { Parser } from "./reader.js";

/** Blanks around the operator do not make an expression another one. */
export function sameExpression(a: string, b: string): boolean {
  return a.replaceAll(/\s/g, "") === b.replaceAll(/\s/g, "");
}

/** `spread=node.labels.zone`; Docker takes no other kind either. */
export const preference: Parser<string> = (text) => {
  const parsed = parsePreference(text);
  return "rule" in parsed ? parsed : { ok: parsed.preference.text };
};

/** Between 0, which would be nothing, and 100, which outweighs every other score. */
const weightDefault = 50;
const weight = integer(1, affinityWeightMax, "50");
const affinityFix = "write for example node.labels.disk==ssd,weight=50 or service==db,required";

const opposites: Readonly<Record<string, string>> = { "==": "!=", "!=": "==", "~=": "!~", "!~": "~=" };

/** What must not hold, as what must: the other operator. Nothing is that for more and less, where equal is neither. */
function negated(rule: AffinityRule): string | undefined {
  if (rule.kind === "service") return `service${rule.has ? "!=" : "=="}${rule.name}`;
  const { text, operator } = rule.constraint;
  if (operator === "in") return text.replace(" in ", " notin ");
  if (operator === "notin") return text.replace(" notin ", " in ");
  const opposite = opposites[operator];
  return opposite === undefined ? undefined : text.replace(operator, opposite);
}

/**
 * `EXPRESSION[,weight=N|,required]`. An anti-affinity is stored as an affinity too: with the weight below zero, or, when
 * it is required, with the opposite expression.
 */
export function affinity(kind: "affinity" | "anti-affinity"): Parser<Affinity> {
  return (text) => {
    // Only these two words end an expression: a regular expression may have commas of its own.
    const match = /^(.*?)((?:\s*,\s*(?:weight\s*=[^,]*|required))*)\s*$/.exec(text);
    const expression = (match?.[1] ?? "").trim();
    const options = (match?.[2] ?? "")
      .split(",")
      .map((option) => option.trim())
      .filter((option) => option !== "");
    if (expression === "") return { rule: "must begin with an expression", fix: affinityFix };
    if (/,\s*(weight|required)\b/.test(expression))
      return { rule: "must end with weight=N or required", fix: affinityFix };
    const rule = parseAffinity(expression);
    if ("rule" in rule) return rule;
    if (options.length > 1)
      return { rule: "must have one of weight=N and required, once", fix: "leave the others out" };
    const [option] = options;
    if (option === "required") {
      if (kind === "affinity") return { ok: { expression: rule.affinity.text, weight: 0, required: true } };
      const opposite = negated(rule.affinity);
      return opposite === undefined
        ? {
            rule: "must not compare with > or < to be required as an anti-affinity",
            fix: "write the opposite as --affinity …,required, or give it a weight",
          }
        : { ok: { expression: opposite, weight: 0, required: true } };
    }
    const parsed = option === undefined ? { ok: weightDefault } : weight(option.replace(/^weight\s*=\s*/, ""));
    if (!("ok" in parsed)) return { rule: `has a weight that ${parsed.rule}`, fix: parsed.fix };
    return {
      ok: { expression: rule.affinity.text, weight: kind === "affinity" ? parsed.ok : -parsed.ok, required: false },
    };
  };
}

/** Whether the flag of this kind, with this expression, is where the affinity comes from. */
export function isAffinity(kind: "affinity" | "anti-affinity", key: string): (affinity: Affinity) => boolean {
  const rule = parseAffinity(key);
  const opposite = "rule" in rule ? undefined : negated(rule.affinity);
  return ({ expression, weight: weighs, required }) => {
    if (kind === "affinity") return (required || weighs > 0) && sameExpression(expression, key);
    if (!required) return weighs < 0 && sameExpression(expression, key);
    return opposite !== undefined && sameExpression(expression, opposite);
  };
}

/** `gpu=2`, as Docker's --generic-resource. */
export const genericResource: Parser<[string, number]> = (text) => {
  const fix = "write for example gpu=2";
  const match = /^([A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?)=(.*)$/.exec(text);
  if (match === null) return { rule: "must be NAME=N, the name of letters, digits, '.', '_', '/' and '-'", fix };
  const [, name = "", amount = ""] = match;
  const parsed = integer(1, 1_000_000, "2")(amount);
  return "ok" in parsed
    ? { ok: [name, parsed.ok] }
    : { rule: `has the amount ${JSON.stringify(amount)}, which ${parsed.rule}`, fix };
};
