// Values with several parts, `a=1,b=2`.

import type { Parsed } from "./reader.js";

/** `a=1,b=2` with known keys; `bare` ones may stand without a value. */
export function fieldsOf(
  text: string,
  known: readonly string[],
  bare: readonly string[] = [],
): Parsed<Record<string, string>> {
  const fields: Record<string, string> = {};
  for (const part of text.split(",")) {
    const at = part.indexOf("=");
    const key = (at < 0 ? part : part.slice(0, at)).trim().toLowerCase();
    if (!known.includes(key))
      return { rule: `has ${JSON.stringify(key)}, which is none of ${known.join(", ")}`, fix: "" };
    if (at < 0 && !bare.includes(key)) return { rule: `has ${key} without a value`, fix: "" };
    if (fields[key] !== undefined) return { rule: `says ${key} twice`, fix: "" };
    fields[key] = at < 0 ? "true" : part.slice(at + 1);
  }
  return { ok: fields };
}
