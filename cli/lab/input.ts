// Texts of the command line to the lab's values. Pure; each refusal names field, value, rule and fix.
import { UsageError } from "../exit.js";

export function wholeNumber(field: string, text: string, min: number, max: number): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw refuse(
    `--${field}`,
    text,
    `must be a whole number from ${min} to ${max}`,
    `write for example --${field} ${min}`,
  );
}

/** `2` or `h2`, of a lab's hosts. */
export function hostArgument(lab: { readonly name: string; readonly hosts: readonly number[] }, text: string): number {
  const value = Number(/^h?(\d{1,3})$/.exec(text)?.[1] ?? Number.NaN);
  if (lab.hosts.includes(value)) return value;
  const rule = `must be a host of lab ${lab.name}: 1 to ${lab.hosts.length}`;
  throw refuse("host", text, rule, "see them: flotilla lab status");
}

export function oneOf<T extends string>(field: string, text: string, allowed: readonly T[]): T {
  const found = allowed.find((word) => word === text);
  if (found !== undefined) return found;
  throw refuse(field, text, `must be one of ${allowed.join(", ")}`, `write for example ${allowed[0] ?? ""}`);
}

/** A list with commas between; `none` is the empty one. */
export function words<T extends string>(field: string, text: string, allowed: readonly T[]): readonly T[] {
  return text === "none" ? [] : text.split(",").map((word) => oneOf(`--${field}`, word.trim(), allowed));
}

/** `zone=a` is for all hosts, `2:zone=b` for host 2. */
export function hostLabels(
  texts: readonly string[],
  hosts: number,
): { everywhere: string[]; byHost: Record<number, string[]> } {
  const everywhere: string[] = [];
  const byHost: Record<number, string[]> = {};
  for (const text of texts) {
    const [, host, label] = /^(?:h?(\d+):)?(.*)$/s.exec(text) ?? [];
    if (host === undefined) everywhere.push(text);
    else if (Number(host) >= 1 && Number(host) <= hosts) (byHost[Number(host)] ??= []).push(label ?? "");
    else
      throw refuse(
        "--label",
        text,
        `must name a host from 1 to ${hosts} before the colon`,
        "write for example --label 1:zone=a",
      );
  }
  return { everywhere, byHost };
}

function refuse(field: string, value: string, rule: string, fix: string): UsageError {
  return new UsageError([{ field, value, rule, fix }]);
}
