// `--filter key=value`: values of the same key are alternatives, different keys must all match, as in Docker.

import type { FlagReader } from "./reader.js";

export type Filters<T> = Readonly<Record<string, (item: T, value: string) => boolean>>;

/** `words`: the values that a key can have, where they are few: another one would match nothing, and say nothing. */
export function readFilters<T>(
  flags: FlagReader,
  filters: Filters<T>,
  words: Readonly<Record<string, readonly string[]>> = {},
): (item: T) => boolean {
  const wanted = new Map<string, string[]>();
  for (const text of flags.all("filter")) {
    const at = text.indexOf("=");
    const key = at < 0 ? text : text.slice(0, at);
    if (at <= 0 || !Object.hasOwn(filters, key))
      flags.report({
        field: "--filter",
        value: text,
        rule: `must be KEY=VALUE with a key of ${Object.keys(filters).join(", ")}`,
        fix: `write for example --filter ${Object.keys(filters)[0] ?? "name"}=…`,
      });
    else if (words[key]?.includes(text.slice(at + 1)) === false)
      flags.report({
        field: "--filter",
        value: text,
        rule: `must have a ${key} of ${words[key].join(", ")}`,
        fix: `write for example --filter ${key}=${words[key][0] ?? ""}`,
      });
    else wanted.set(key, [...(wanted.get(key) ?? []), text.slice(at + 1)]);
  }
  return (item) => [...wanted].every(([key, values]) => values.some((value) => filters[key]?.(item, value) ?? false));
}
