// Placement constraints, `node.labels.zone==eu`: parsed when a spec is checked, matched by the scheduler.
// Values compare without regard to case, as Swarm's do; a node without the label differs from every value.

import type { Node } from "../../proto/mod.js";
import { type Pattern, parsePattern } from "./constraint-pattern.js";
import { limits } from "./limits.js";
import { closest } from "./suggest.js";

const plainKeys = [
  "node.id",
  "node.hostname",
  "node.role",
  "node.ip",
  "node.platform.os",
  "node.platform.arch",
] as const;
const labelPrefixes = ["node.labels.", "engine.labels."] as const;
/** Bounds what one match costs. */
const patternLengthMax = 128;

const keyList = [...plainKeys, "node.labels.NAME", "engine.labels.NAME"].join(", ");

export type ConstraintKey =
  | { kind: (typeof plainKeys)[number] }
  | { kind: "node.labels" | "engine.labels"; label: string };

export type ConstraintOperator = (typeof signs)[number] | "in" | "notin";

const signs = ["==", "!=", "~=", "!~", ">", "<"] as const;

export interface Constraint {
  /** As written, without white space around its parts. */
  text: string;
  key: ConstraintKey;
  operator: ConstraintOperator;
  /** What follows the operator; of a list its first value. */
  value: string;
  /** All values: several only of `in` and `notin`. */
  values: readonly string[];
  /** Of `~=` and `!~`. */
  pattern: Pattern | undefined;
}

export type ParsedConstraint = { constraint: Constraint } | { rule: string; fix: string };

export function parseConstraint(text: string): ParsedConstraint {
  if (text.length > limits.constraintLength)
    return { rule: `must have at most ${limits.constraintLength} characters`, fix: "shorten it" };
  const list = /^\s*([^\s=!<>~]+)\s+(in|notin)\s*\(([^()]*)\)\s*$/.exec(text);
  if (list !== null) {
    const [, name = "", operator, inside = ""] = list;
    return parseList(name, operator === "in" ? "in" : "notin", inside);
  }
  const match = /^\s*([^\s=!<>~]+)\s*(==|!=|~=|!~|>|<)\s*(.*?)\s*$/.exec(text);
  if (match === null) {
    const single = /^\s*([^\s=!<>~]+)\s*=\s*([^=\s].*?)\s*$/.exec(text);
    return {
      rule: "must be KEY==VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B), KEY>NUMBER, KEY<NUMBER, KEY~=PATTERN or KEY!~PATTERN",
      fix: single === null ? "write for example node.labels.zone==eu" : `write ${single[1]}==${single[2]}`,
    };
  }
  const [, name = "", sign, value = ""] = match;
  const key = parseKey(name);
  if ("rule" in key) return key;
  const operator = signs.find((known) => known === sign) ?? "==";
  if (value === "") return { rule: "must have a value after the operator", fix: `write for example ${name}==eu` };
  if (operator === "~=" || operator === "!~") return parseMatch(name, key, operator, value);
  if (operator === ">" || operator === "<") {
    if (key.kind !== "node.labels" && key.kind !== "engine.labels")
      return {
        rule: `must compare a label with ${operator}, ${name} is no number`,
        fix: `write for example node.labels.cores${operator}8`,
      };
    if (numberOf(value) === undefined)
      return { rule: `must have a number after ${operator}`, fix: `write for example ${name}${operator}8` };
  } else {
    const wrong = checkValue(name, key, operator, value);
    if (wrong !== undefined) return wrong;
  }
  const canonical = `${name}${operator}${value}`;
  return { constraint: { text: canonical, key, operator, value, values: [value], pattern: undefined } };
}

function parseList(name: string, operator: "in" | "notin", inside: string): ParsedConstraint {
  const key = parseKey(name);
  if ("rule" in key) return key;
  const values = inside.split(",").map((value) => value.trim());
  const [first = ""] = values;
  if (values.includes(""))
    return {
      rule: "must have a value on both sides of each comma",
      fix: `write for example ${name} ${operator} (a,b)`,
    };
  for (const value of values) {
    const wrong = checkValue(name, key, operator === "in" ? "==" : "!=", value);
    if (wrong !== undefined) return wrong;
  }
  const canonical = `${name} ${operator} (${values.join(",")})`;
  return { constraint: { text: canonical, key, operator, value: first, values, pattern: undefined } };
}

function parseMatch(name: string, key: ConstraintKey, operator: "~=" | "!~", value: string): ParsedConstraint {
  const example = `write for example ${name}${operator}^eu-[0-9]+$`;
  if (value.length > patternLengthMax)
    return { rule: `must have a pattern of at most ${patternLengthMax} characters`, fix: "shorten it" };
  const pattern = parsePattern(value);
  if ("rule" in pattern) return { rule: `must ${pattern.rule}`, fix: example };
  return { constraint: { text: `${name}${operator}${value}`, key, operator, value, values: [value], pattern } };
}

function checkValue(
  name: string,
  key: ConstraintKey,
  operator: "==" | "!=",
  value: string,
): { rule: string; fix: string } | undefined {
  if (!/^[\w .:/*()?+[\]\\^$|-]+$/.test(value))
    return { rule: "must have a value of letters, digits and _ . : / - only", fix: `write for example ${name}==eu-1` };
  if (key.kind === "node.role" && !["manager", "worker"].includes(value.toLowerCase()))
    return {
      rule: "must compare node.role with manager or worker",
      fix: `write ${name}${operator}${closest(value, ["manager", "worker"]) ?? "worker"}`,
    };
  if (key.kind === "node.ip" && parseRange(value) === undefined)
    return {
      rule: "must compare node.ip with an IPv4 address or range",
      fix: `write for example ${name}${operator}10.0.0.0/8`,
    };
  return undefined;
}

export function parseKey(name: string): ConstraintKey | { rule: string; fix: string } {
  const plain = plainKeys.find((key) => key === name);
  if (plain !== undefined) return { kind: plain };
  for (const prefix of labelPrefixes) {
    if (!name.startsWith(prefix)) continue;
    const label = name.slice(prefix.length);
    if (!/^[A-Za-z0-9_]([A-Za-z0-9_./-]*[A-Za-z0-9_])?$/.test(label))
      return { rule: `must name a label after ${prefix.slice(0, -1)}`, fix: `write for example ${prefix}zone==eu` };
    return { kind: prefix === "node.labels." ? "node.labels" : "engine.labels", label };
  }
  const known = closest(name, plainKeys);
  // A near miss of a label's prefix keeps the label: node.label.zone → node.labels.zone.
  const parts = name.split(".");
  const prefix = closest(`${parts.slice(0, 2).join(".")}.`, labelPrefixes);
  const meant =
    known ?? (prefix !== undefined && parts.length > 2 ? `${prefix}${parts.slice(2).join(".")}` : undefined);
  return {
    rule: `must begin with one of ${keyList}`,
    fix: meant === undefined ? "write for example node.labels.zone==eu" : `did you mean ${meant}?`,
  };
}

/** What of a node constraints look at; a stored Node is one. */
export type ConstraintNode = Pick<Node, "meta" | "spec" | "description" | "manager">;

/** The node's labels: those set by users go before those its agent was started with. */
export function labelsOf(node: ConstraintNode): Record<string, string> {
  return { ...node.description.labels, ...node.spec.labels };
}

/** What a node has for the key; undefined when it has no such label. */
export function nodeValue(key: ConstraintKey, node: ConstraintNode): string | undefined {
  const { description } = node;
  switch (key.kind) {
    case "node.id":
      return node.meta.id;
    case "node.hostname":
      return description.hostname;
    case "node.role":
      return node.manager ? "manager" : "worker";
    case "node.ip":
      return description.advertiseAddress;
    case "node.platform.os":
      return description.os;
    case "node.platform.arch":
      return architecture(description.architecture);
    case "node.labels":
      return labelOf(node, key.label);
    case "engine.labels":
      return own(description.engineLabels, key.label);
  }
}

/** The node's label, without making a table of all of them. */
export function labelOf(node: ConstraintNode, label: string): string | undefined {
  return own(node.spec.labels, label) ?? own(node.description.labels, label);
}

export function matchConstraint(constraint: Constraint, node: ConstraintNode): boolean {
  const { key, operator, values, pattern } = constraint;
  const found = nodeValue(key, node);
  switch (operator) {
    case "==":
    case "in":
      return values.some((value) => isSame(key, found, value));
    case "!=":
    case "notin":
      return !values.some((value) => isSame(key, found, value));
    case "~=":
      return found !== undefined && pattern?.test(found) === true;
    case "!~":
      return found === undefined || pattern?.test(found) !== true;
    case ">":
    case "<": {
      // What is no number is neither above nor below one.
      const [number, bound] = [numberOf(found), numberOf(constraint.value)];
      if (number === undefined || bound === undefined) return false;
      return operator === ">" ? number > bound : number < bound;
    }
  }
}

function isSame(key: ConstraintKey, found: string | undefined, wanted: string): boolean {
  if (key.kind === "node.platform.arch") return same(found, architecture(wanted));
  if (key.kind !== "node.ip") return same(found, wanted);
  const range = parseRange(wanted);
  const address = parseAddress(found ?? "");
  return range !== undefined && address !== undefined && (address & range.mask) >>> 0 === range.base;
}

function numberOf(text: string | undefined): number | undefined {
  return text !== undefined && /^[+-]?\d+(\.\d+)?$/.test(text) ? Number(text) : undefined;
}

function same(found: string | undefined, wanted: string): boolean {
  return found !== undefined && found.toLowerCase() === wanted.toLowerCase();
}

/** A label may be called "constructor": only the object's own keys count. */
function own(labels: Readonly<Record<string, string>>, label: string): string | undefined {
  return Object.hasOwn(labels, label) ? labels[label] : undefined;
}

/** The kernel's names for machines, as Docker's platforms call them. */
const architectures: ReadonlyMap<string, string> = new Map([
  ["x86_64", "amd64"],
  ["x86-64", "amd64"],
  ["aarch64", "arm64"],
  ["armv7l", "arm"],
  ["i386", "386"],
  ["i686", "386"],
]);

function architecture(name: string): string {
  return architectures.get(name.toLowerCase()) ?? name;
}

function parseAddress(text: string): number | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return undefined;
  let address = 0;
  for (const part of match.slice(1)) {
    if (Number(part) > 255) return undefined;
    address = address * 256 + Number(part);
  }
  return address;
}

function parseRange(text: string): { base: number; mask: number } | undefined {
  const [host = "", bits = "32", ...more] = text.split("/");
  const address = parseAddress(host);
  if (address === undefined || more.length > 0 || !/^\d{1,2}$/.test(bits) || Number(bits) > 32) return undefined;
  // A shift by 32 is a shift by 0 in JavaScript.
  const mask = bits === "0" ? 0 : (0xffffffff << (32 - Number(bits))) >>> 0;
  return { base: (address & mask) >>> 0, mask };
}
