// Texts of the command line to values: quantities, words, labels, addresses. Each answer says the rule and the fix;
// what has several parts, as ports and mounts, has a file of its own.

import { isIPv6 } from "node:net";
import { parseBytes, parseDurationMs, parseNanoCpus } from "../../lib/units.js";
import type { Parser } from "./reader.js";

/** Protobuf's uint32 and, for durations, about 49 days. */
const uint32Max = 4_294_967_295;

export function integer(min: number, max: number, example: string): Parser<number> {
  return (text) => {
    const value = (min < 0 ? /^-?\d{1,15}$/ : /^\d{1,15}$/).test(text) ? Number(text) : Number.NaN;
    return value >= min && value <= max
      ? { ok: value }
      : { rule: `must be a whole number from ${min} to ${max}`, fix: `write for example ${example}` };
  };
}

export const replicas = integer(0, 10_000, "3");
export const uint32 = (example: string) => integer(0, uint32Max, example);
export const port = integer(1, 65_535, "8080");

export const duration: Parser<number> = (text) => {
  const ms = parseDurationMs(text);
  if (ms === undefined)
    return {
      rule: "must be a duration: numbers with the units ms, s, m or h",
      fix: "write for example 10s, 1m30s or 500ms",
    };
  return ms <= uint32Max
    ? { ok: ms }
    : { rule: "must be at most 49 days", fix: "write a shorter duration, for example 24h" };
};

export const bytes: Parser<number> = (text) => {
  const value = parseBytes(text);
  if (value !== undefined) return { ok: value };
  const fix = "write for example 512m or 1.5g";
  // Well-formed, but more than can be counted: the rule is another one.
  return /^\d+(\.\d+)? ?[kmgt]?(i?b)?$/i.test(text)
    ? { rule: "must be a size of at most 8191 TiB", fix }
    : { rule: "must be a size: a number with the unit b, k, m, g or t", fix };
};

export const cpus: Parser<number> = (text) => {
  const value = parseNanoCpus(text);
  return value === undefined
    ? { rule: "must be a number of cores with at most nine decimals", fix: "write for example 0.5 or 2" }
    : { ok: value };
};

export const ratio: Parser<number> = (text) => {
  const value = /^(\d+(\.\d*)?|\.\d+)$/.test(text) ? Number(text) : Number.NaN;
  return value >= 0 && value <= 1
    ? { ok: value }
    : { rule: "must be a number from 0 to 1", fix: "write for example 0.2" };
};

/** One of some words, each with its value. */
export function oneOf<T>(words: Readonly<Record<string, T>>): Parser<T> {
  return (text) =>
    Object.hasOwn(words, text)
      ? { ok: words[text] as T }
      : {
          rule: `must be one of ${Object.keys(words).join(", ")}`,
          fix: `write for example ${Object.keys(words)[0] ?? ""}`,
        };
}

export const nonEmpty: Parser<string> = (text) =>
  text.trim() === "" ? { rule: "must not be empty", fix: "leave the flag out, or give it a value" } : { ok: text };

/** `key=value`; a bare `key` has the empty value, as Docker takes labels. */
export const label: Parser<[string, string]> = (text) => {
  const at = text.indexOf("=");
  const key = at < 0 ? text : text.slice(0, at);
  return /^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$/.test(key)
    ? { ok: [key, at < 0 ? "" : text.slice(at + 1)] }
    : {
        rule: "must be KEY=VALUE, the key of letters, digits, '.', '_', '/' and '-', a letter or digit at both ends",
        fix: "write for example zone=eu",
      };
};

export const labelKey: Parser<string> = (text) => {
  const parsed = label(text);
  if (!("ok" in parsed)) return parsed;
  return text.includes("=") ? { rule: "must be a key without a value", fix: `write ${parsed.ok[0]}` } : { ok: text };
};

/** `host:port`, `[v6]:port`; without a port the default one is meant, if there is one. */
export function address(defaultPort?: number): Parser<string> {
  return (text) => {
    const match = /^(?:\[([0-9A-Fa-f:.%]+)\]|([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?))(?::(\d{1,5}))?$/.exec(text);
    const portText = match?.[4] ?? (defaultPort === undefined ? undefined : String(defaultPort));
    const v6 = match?.[1];
    if (match === null || portText === undefined || Number(portText) > 65_535 || (v6 !== undefined && !isIPv6(v6)))
      return {
        rule: `must be HOST:PORT${defaultPort === undefined ? "" : ` or HOST`}, the port at most 65535`,
        fix: `write for example 10.0.0.1:${defaultPort ?? 7400}, or [fd00::1]:${defaultPort ?? 7400} for IPv6`,
      };
    return { ok: `${v6 === undefined ? match[2] : `[${v6}]`}:${portText}` };
  };
}

/** Comma-separated, without repetitions. */
export function listOf<T>(item: Parser<T>, fix: string): Parser<T[]> {
  return (text) => {
    const values: T[] = [];
    const seen = new Set<string>();
    for (const part of text.split(",").map((piece) => piece.trim())) {
      if (part === "") return { rule: "must be a comma-separated list without empty places", fix };
      const parsed = item(part);
      if (!("ok" in parsed)) return { rule: `has ${JSON.stringify(part)}, which ${parsed.rule}`, fix: parsed.fix };
      if (!seen.has(part)) values.push(parsed.ok);
      seen.add(part);
    }
    return { ok: values };
  };
}

export const url: Parser<string> = (text) => {
  let parsed: URL | undefined;
  try {
    parsed = new URL(text.includes("://") ? text : `http://${text}`);
  } catch {
    parsed = undefined;
  }
  return parsed !== undefined && /^https?:$/.test(parsed.protocol) && parsed.hostname !== ""
    ? { ok: parsed.href.replace(/\/$/, "") }
    : { rule: "must be an http or https URL", fix: "write for example http://10.0.0.1:2379" };
};

/** "NAME=value", or "NAME" for the value that it has in our own environment, as Docker takes it. */
export function env(environment: Readonly<Record<string, string | undefined>>): Parser<string | undefined> {
  return (text) => {
    const at = text.indexOf("=");
    const name = at < 0 ? text : text.slice(0, at);
    if (name === "" || /[\s\0]/.test(name) || text.includes("\0"))
      return { rule: "must be NAME=VALUE with a name without spaces", fix: "write for example LOG_LEVEL=debug" };
    if (at >= 0) return { ok: text };
    const value = environment[name];
    return { ok: value === undefined ? undefined : `${name}=${value}` };
  };
}

/** The key of "KEY=value". */
export function keyOf(entry: string): string {
  const at = entry.indexOf("=");
  return at < 0 ? entry : entry.slice(0, at);
}

/** Words as a shell splits them: blanks, quotes and backslashes; no expansion. */
export const words: Parser<string[]> = (text) => {
  const found: string[] = [];
  let word: string | undefined;
  let quote = "";
  for (let i = 0; i < text.length; i += 1) {
    const char = text[i] ?? "";
    if (quote === "'" && char !== "'") word = (word ?? "") + char;
    else if (char === quote) quote = "";
    else if (quote === "" && (char === "'" || char === '"')) {
      quote = char;
      word ??= "";
    } else if (char === "\\" && (quote === "" || '"\\$`'.includes(text[i + 1] ?? " "))) {
      i += 1;
      if (i >= text.length) return { rule: "ends in a backslash", fix: "double it, or leave it out" };
      word = (word ?? "") + (text[i] ?? "");
    } else if (quote === "" && /\s/.test(char)) {
      if (word !== undefined) found.push(word);
      word = undefined;
    } else word = (word ?? "") + char;
  }
  if (quote !== "") return { rule: `has a ${quote} that is not closed`, fix: "close the quotation" };
  if (word !== undefined) found.push(word);
  return { ok: found };
};

/** A moment: RFC 3339, seconds since the epoch, or a duration before now. In milliseconds since the epoch. */
export function moment(nowMs: number): Parser<number> {
  return (text) => {
    if (/^\d{1,12}(\.\d{1,9})?$/.test(text) && text !== "0") return { ok: Math.round(Number(text) * 1000) };
    const back = parseDurationMs(text);
    if (back !== undefined) return { ok: Math.max(1, nowMs - back) };
    const date = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})?)?$/.test(text)
      ? Date.parse(text)
      : Number.NaN;
    return Number.isNaN(date)
      ? {
          rule: "must be a time (RFC 3339 or seconds since 1970) or a duration before now",
          fix: "write for example 10m, 2026-01-31T12:00:00Z or 1767225600",
        }
      : { ok: date };
  };
}
