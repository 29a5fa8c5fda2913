// `--filter key=value`: values of the same key are alternatives, different keys must all match, as in Docker.

import type { FlagReader } from "./reader.js";

export type Filters<T> = Readonly<Record<string, (item: T, value: string) => boolean>>;

export function readFilters<T>(flags: FlagReader, filters: Filters<T>): (item: T) => boolean {
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
    else wanted.set(key, [...(wanted.get(key) ?? []), text.slice(at + 1)]);
  }
  return (item) => [...wanted].every(([key, values]) => values.some((value) => filters[key]?.(item, value) ?? false));
}
