// Placement constraints, `node.labels.zone==eu`: parsed when a spec is checked, matched by the scheduler.
// Values compare without regard to case, as Swarm's do; a node without the label differs from every value.

import type { Node } from "../../proto/mod.js";
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
const keyList = [...plainKeys, "node.labels.NAME", "engine.labels.NAME"].join(", ");

export type ConstraintKey =
  | { kind: (typeof plainKeys)[number] }
  | { kind: "node.labels" | "engine.labels"; label: string };

export interface Constraint {
  /** As written, without white space around its parts. */
  text: string;
  key: ConstraintKey;
  operator: "==" | "!=";
  value: string;
}

export type ParsedConstraint = { constraint: Constraint } | { rule: string; fix: string };

export function parseConstraint(text: string): ParsedConstraint {
  if (text.length > limits.constraintLength)
    return { rule: `must have at most ${limits.constraintLength} characters`, fix: "shorten it" };
  const match = /^\s*([^\s=!]+)\s*(==|!=)\s*(.*?)\s*$/.exec(text);
  if (match === null) {
    const single = /^\s*([^\s=!]+)\s*=\s*([^=\s].*?)\s*$/.exec(text);
    return {
      rule: "must be KEY==VALUE or KEY!=VALUE",
      fix: single === null ? "write for example node.labels.zone==eu" : `write ${single[1]}==${single[2]}`,
    };
  }
  const [, name = "", operator, value = ""] = match;
  const key = parseKey(name);
  if ("rule" in key) return key;
  if (value === "") return { rule: "must have a value after the operator", fix: `write for example ${name}==eu` };
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
  return {
    constraint: { text: `${name}${operator}${value}`, key, operator: operator === "==" ? "==" : "!=", value },
  };
}

function parseKey(name: string): ConstraintKey | { rule: string; fix: string } {
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
export type ConstraintNode = Pick<Node, "meta" | "spec" | "description">;

/** The node's labels: those set by users go before those its agent was started with. */
export function labelsOf(node: ConstraintNode): Record<string, string> {
  return { ...node.description.labels, ...node.spec.labels };
}

export function matchConstraint(constraint: Constraint, node: ConstraintNode): boolean {
  return matches(constraint, node) === (constraint.operator === "==");
}

function matches({ key, value }: Constraint, node: ConstraintNode): boolean {
  const { description } = node;
  switch (key.kind) {
    case "node.id":
      return same(node.meta.id, value);
    case "node.hostname":
      return same(description.hostname, value);
    case "node.role":
      // Nodes are hosts with an agent; those that are managers as well say so once managers are nodes too.
      return same("worker", value);
    case "node.ip": {
      const range = parseRange(value);
      const address = parseAddress(description.advertiseAddress);
      return range !== undefined && address !== undefined && (address & range.mask) >>> 0 === range.base;
    }
    case "node.platform.os":
      return same(description.os, value);
    case "node.platform.arch":
      return same(architecture(description.architecture), architecture(value));
    case "node.labels":
      return same(own(labelsOf(node), key.label), value);
    case "engine.labels":
      return same(own(description.engineLabels, key.label), value);
  }
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
