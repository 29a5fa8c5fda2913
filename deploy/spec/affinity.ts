// Affinities: what attracts tasks to nodes or keeps them away. The expression is a constraint on the node, or
// "service==NAME" and "service!=NAME": a node that has, or has not, a task of that service.

import type { Affinity } from "../../proto/mod.js";
import { type Constraint, parseConstraint } from "./constraint.js";

export type AffinityRule =
  | { kind: "node"; text: string; constraint: Constraint }
  /** `has` is false for "service!=NAME". */
  | { kind: "service"; text: string; name: string; has: boolean };

export type ParsedAffinity = { affinity: AffinityRule } | { rule: string; fix: string };

export const affinityWeightMax = 100;

export function parseAffinity(expression: string): ParsedAffinity {
  const service = /^\s*service\s*(==|!=|=)\s*(.*?)\s*$/.exec(expression);
  if (service === null) {
    const parsed = parseConstraint(expression);
    if (!("rule" in parsed))
      return { affinity: { kind: "node", text: parsed.constraint.text, constraint: parsed.constraint } };
    // Only what looks like neither is told of both.
    return /^\s*(node|engine)\./.test(expression)
      ? parsed
      : {
          rule: "must be a constraint on the node, service==NAME or service!=NAME",
          fix: "write for example node.labels.disk==ssd or service==cache",
        };
  }
  const [, operator, name = ""] = service;
  if (operator === "=") return { rule: "must compare the service with == or !=", fix: `write service==${name}` };
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name))
    return {
      rule: "must name a service: 1 to 63 lower-case letters, digits and -",
      fix: `write for example service${operator}cache`,
    };
  return { affinity: { kind: "service", text: `service${operator}${name}`, name, has: operator === "==" } };
}

/** What is wrong with an affinity's weight, if anything. */
export function checkAffinityWeight({ weight, required }: Affinity): { rule: string; fix: string } | undefined {
  if (required || (Number.isInteger(weight) && weight !== 0 && Math.abs(weight) <= affinityWeightMax)) return undefined;
  return {
    rule: `must be a whole number from -${affinityWeightMax} to ${affinityWeightMax} and not 0`,
    fix: "use for example 50 to attract, -50 to repel, or required",
  };
}
