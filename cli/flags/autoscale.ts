// `--autoscale min=2,max=10,cpu=60,…`.

import type { AutoscaleSpec } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { fieldsOf } from "./fields.js";
import { duration, integer, replicas } from "./parsers.js";
import type { Parser } from "./reader.js";

const fix = "write for example min=2,max=10,cpu=60";

const parts: Readonly<Record<string, readonly [keyof AutoscaleSpec, Parser<number>]>> = {
  min: ["min", replicas],
  max: ["max", replicas],
  cpu: ["cpuPercent", integer(1, 1000, "60")],
  memory: ["memoryPercent", integer(1, 1000, "80")],
  requests: ["requestsPerReplica", integer(1, 1_000_000_000, "100")],
  "up-cool-down": ["upCoolDownMs", duration],
  "down-cool-down": ["downCoolDownMs", duration],
};

/** Only what was named: an update leaves the rest as it is. */
export const autoscale: Parser<Partial<AutoscaleSpec>> = (text) => {
  const fields = fieldsOf(text, Object.keys(parts));
  if (!("ok" in fields)) return { rule: fields.rule, fix };
  const given: Partial<AutoscaleSpec> = {};
  for (const [key, value] of Object.entries(fields.ok)) {
    const part = parts[key];
    if (part === undefined) continue;
    const [field, parse] = part;
    // "60%" is what many write.
    const parsed = parse(key === "cpu" || key === "memory" ? value.replace(/%$/, "") : value);
    if (!("ok" in parsed)) return { rule: `has ${key}=${value}, which ${parsed.rule}`, fix: parsed.fix };
    Object.assign(given, { [field]: parsed.ok });
  }
  if (given.min !== undefined && given.max !== undefined && given.min > given.max)
    return { rule: `has min=${given.min} above max=${given.max}`, fix: "write a min that is at most max" };
  return { ok: given };
};
