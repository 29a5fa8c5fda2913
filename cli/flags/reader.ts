// What was given for each flag, as values. Everything that is wrong is gathered and reported at once.

import type { Violation } from "../../lib/errors.js";
import { UsageError } from "../exit.js";

/** A parsed value, or what is wrong with the text. */
export type Parsed<T> = { ok: T } | { rule: string; fix: string };
export type Parser<T> = (text: string) => Parsed<T>;

export class FlagReader {
  readonly #given: ReadonlyMap<string, readonly string[]>;
  readonly #violations: Violation[] = [];

  /** By long name; flags without a value have "true". */
  constructor(given: ReadonlyMap<string, readonly string[]>) {
    this.#given = given;
  }

  has(flag: string): boolean {
    return this.#given.has(flag);
  }

  /** Every value, in the order given. */
  all(flag: string): readonly string[] {
    return this.#given.get(flag) ?? [];
  }

  /** The last value. */
  text(flag: string): string | undefined {
    return this.#given.get(flag)?.at(-1);
  }

  get<T>(flag: string, parse: Parser<T>): T | undefined {
    const text = this.text(flag);
    return text === undefined ? undefined : this.parse(`--${flag}`, text, parse);
  }

  getAll<T>(flag: string, parse: Parser<T>): T[] {
    return this.all(flag).flatMap((text) => {
      const value = this.parse(`--${flag}`, text, parse);
      return value === undefined ? [] : [value];
    });
  }

  parse<T>(field: string, text: string, parse: Parser<T>): T | undefined {
    const parsed = parse(text);
    if ("ok" in parsed) return parsed.ok;
    this.report({ field, value: text, rule: parsed.rule, fix: parsed.fix });
    return undefined;
  }

  report(violation: Violation): void {
    this.#violations.push(violation);
  }

  /** Throws all that was reported; call it before anything is done. */
  check(): void {
    if (this.#violations.length > 0) throw new UsageError(this.#violations);
  }
}
