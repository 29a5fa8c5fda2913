// Gathers what is wrong with a spec, so that a user sees everything at once and not one mistake per attempt.

import { formatDurationMs, type Violation } from "../../lib/mod.js";
import { limits } from "./limits.js";

/** The longest value that a violation repeats; the rest is cut, so that an answer stays readable. */
const shownLength = 120;

export function shown(value: string): string {
  return value.length <= shownLength ? value : `${value.slice(0, shownLength)}…`;
}

export class Problems {
  readonly #found: Violation[] = [];
  #total = 0;

  add(field: string, value: string | number, rule: string, fix: string): void {
    this.#total += 1;
    if (this.#found.length < limits.violations) this.#found.push({ field, value: shown(String(value)), rule, fix });
  }

  get any(): boolean {
    return this.#total > 0;
  }

  /** At most `limits.violations`, and one more that says how many were left out. */
  list(): Violation[] {
    const left = this.#total - this.#found.length;
    if (left === 0) return [...this.#found];
    return [
      ...this.#found,
      {
        field: "spec",
        value: `${this.#total} problems`,
        rule: `has ${left} more problems`,
        fix: "correct these first",
      },
    ];
  }

  /** `value`, or `fallback` when it is absent; a value outside [min, max] or not whole is a problem. */
  whole(field: string, value: number | undefined, fallback: number, min: number, max: number): number {
    if (value === undefined) return fallback;
    if (!Number.isInteger(value) || value < min || value > max)
      this.add(field, value, `must be a whole number from ${min} to ${max}`, `use for example ${fallback}`);
    return value;
  }

  /** As `whole`, in milliseconds, told as durations. */
  duration(
    field: string,
    value: number | undefined,
    fallback: number,
    maxMs: number = limits.durationMs,
    minMs = 0,
  ): number {
    if (value === undefined) return fallback;
    if (!Number.isInteger(value) || value < minMs || value > maxMs)
      this.add(
        field,
        Number.isFinite(value) && value >= 0 ? formatDurationMs(value) : value,
        `must be a duration from ${formatDurationMs(minMs)} to ${formatDurationMs(maxMs)}`,
        `use for example ${formatDurationMs(fallback)}`,
      );
    return value;
  }

  /**
   * One of the words that an enumeration has; `fallback` when it is not said. A newer client may send one that this
   * manager does not know.
   */
  choice<T extends number>(field: string, value: number, fallback: T, words: ReadonlyMap<T, string>): T {
    if (value === 0) return fallback;
    for (const known of words.keys()) if (known === value) return known;
    const names = [...words.values()].filter((name) => name !== "");
    this.add(field, value, `must be one of ${names.join(", ")}`, `use ${words.get(fallback) || (names[0] ?? "")}`);
    return fallback;
  }

  /** Whether a list has at most `max` entries; more is a problem, and its entries need no look. */
  fits(field: string, count: number, max: number, what: string): boolean {
    if (count <= max) return true;
    this.add(field, count, `must have at most ${max} ${what}`, `leave out ${count - max}`);
    return false;
  }

  /** Text without NUL, which no kernel takes in a path, an argument or a variable, and not beyond `max` characters. */
  text(field: string, value: string, max: number): boolean {
    if (value.length > max)
      this.add(field, value, `must have at most ${max} characters, has ${value.length}`, "shorten it");
    else if (value.includes("\0")) this.add(field, value, "must not contain a NUL character", "leave it out");
    else return true;
    return false;
  }
}
