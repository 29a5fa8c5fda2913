// Cron expressions: which are taken, and what is wrong with the others, by field and position. The grammar is that of
// crontab(5): five fields of *, numbers, names, ranges, steps and lists. What its successors added (seconds, L, W, #,
// ?) is refused: it does not mean the same everywhere.

import { limits } from "./limits.js";
import { closest } from "./suggest.js";

interface Field {
  name: string;
  min: number;
  max: number;
  /** Three letters each, standing for min, min + 1, … */
  names: readonly string[];
}

const months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const weekdays = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const fields: readonly Field[] = [
  { name: "minute", min: 0, max: 59, names: [] },
  { name: "hour", min: 0, max: 23, names: [] },
  { name: "day of month", min: 1, max: 31, names: [] },
  { name: "month", min: 1, max: 12, names: months },
  // 7 is Sunday as well.
  { name: "day of week", min: 0, max: 7, names: weekdays },
];

const nicknames: Readonly<Record<string, string>> = {
  "@hourly": "0 * * * *",
  "@daily": "0 0 * * *",
  "@weekly": "0 0 * * 0",
  "@monthly": "0 0 1 * *",
  "@yearly": "0 0 1 1 *",
};
const nicknameList = Object.keys(nicknames).join(", ");
const synonyms: Readonly<Record<string, string>> = { "@midnight": "@daily", "@annually": "@yearly" };

interface Refusal {
  rule: string;
  fix: string;
}

/** The longest that each month is; February's 29th comes every few years. */
const monthDays = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/**
 * The expression without white space that means nothing, and as five fields; or which rule it breaks and what to
 * write. One that never comes due is refused.
 */
export function parseSchedule(schedule: string): { text: string; fields: string } | Refusal {
  const example = "write for example 0 3 * * * for every day at three";
  if (schedule.length > limits.cronLength)
    return { rule: `must have at most ${limits.cronLength} characters`, fix: "shorten it" };
  const parts = schedule.trim().split(/\s+/);
  const [first = ""] = parts;
  if (first === "") return { rule: "must say when the job runs", fix: example };
  if (first.startsWith("@")) return parseNickname(parts);
  if (parts.length !== fields.length)
    return {
      rule: `must have five fields (${fields.map(({ name }) => name).join(", ")}), has ${parts.length}`,
      fix: parts.length === 6 ? `leave out the seconds: write for example ${parts.slice(1).join(" ")}` : example,
    };
  const sets: Set<number>[] = [];
  for (const [i, field] of fields.entries()) {
    const set = parseField(parts[i] ?? "", field);
    if ("rule" in set) return { rule: `has in field ${i + 1} (${field.name}) ${set.rule}`, fix: set.fix };
    sets.push(set);
  }
  const [, , days = new Set<number>(), chosen = new Set<number>()] = sets;
  // Days of the week are taken besides days of the month when both are given: those always come.
  const earliest = Math.min(...days);
  if (parts[4] === "*" && ![...chosen].some((month) => earliest <= (monthDays[month - 1] ?? 0)))
    return {
      rule: `must come due at some time: no month of "${parts[3]}" has a day ${earliest}`,
      fix: "use a day that the month has",
    };
  const text = parts.join(" ");
  return { text, fields: text };
}

function parseNickname([name = "", ...rest]: readonly string[]): { text: string; fields: string } | Refusal {
  const expression = Object.hasOwn(nicknames, name) ? nicknames[name] : undefined;
  if (expression !== undefined && rest.length === 0) return { text: name, fields: expression };
  if (expression !== undefined) return { rule: `must have nothing after ${name}`, fix: `write ${name}` };
  const meant = synonyms[name.toLowerCase()] ?? closest(name, Object.keys(nicknames));
  return {
    rule: `must be five fields or one of ${nicknameList}`,
    fix: meant === undefined ? "write for example @daily" : `did you mean ${meant}?`,
  };
}

/** The numbers that a field stands for; rules go on after "has in field 2 (hour) …". */
function parseField(text: string, field: Field): Set<number> | Refusal {
  const found = new Set<number>();
  for (const item of text.split(",")) {
    const range = parseItem(item, field);
    if ("rule" in range) return range;
    for (let value = range.from; value <= range.to; value += range.step) found.add(value);
  }
  return found;
}

function parseItem(item: string, field: Field): { from: number; to: number; step: number } | Refusal {
  const spanned = `${field.min}-${field.max}`;
  if (item === "") return { rule: "an empty place in its list", fix: "leave out the comma" };
  const [span = "", stepText, ...more] = item.split("/");
  const [fromText = "", toText, ...moreEnds] = span.split("-");
  if (more.length > 0 || moreEnds.length > 0)
    return { rule: `"${item}", which is no number, range or step`, fix: `write for example ${spanned}/5` };
  const from = span === "*" ? field.min : parseValue(fromText, field);
  if (typeof from === "object") return from;
  const to = span === "*" ? field.max : toText === undefined ? from : parseValue(toText, field);
  if (typeof to === "object") return to;
  // Sunday is 0 and 7: after Saturday it is 7.
  const end = field.names === weekdays && to === 0 && from > 0 ? 7 : to;
  if (end < from)
    return {
      rule: `"${span}", which ends before it begins`,
      fix: `write ${fromText}-${field.max},${field.min}-${toText}`,
    };
  if (stepText === undefined) return { from, to: end, step: 1 };
  const step = /^\d{1,3}$/.test(stepText) ? Number(stepText) : 0;
  if (step < 1 || step > field.max)
    return {
      rule: `the step "${stepText}", which is not a number from 1 to ${field.max}`,
      fix: "write for example */5",
    };
  if (span !== "*" && toText === undefined)
    return { rule: `"${item}", a step without a range`, fix: `write ${span}-${field.max}/${stepText}` };
  return { from, to: end, step };
}

function parseValue(text: string, { min, max, names }: Field): number | Refusal {
  if (/^\d{1,9}$/.test(text)) {
    const value = Number(text);
    if (value >= min && value <= max) return value;
    return { rule: `${text}, which is not from ${min} to ${max}`, fix: `use a number from ${min} to ${max}` };
  }
  const known = names.indexOf(text.toLowerCase());
  if (known >= 0) return min + known;
  const meant = closest(text.slice(0, 3), names);
  return {
    rule: `"${text}", which is no number from ${min} to ${max}${names.length === 0 ? "" : ` and none of ${names.join(", ")}`}`,
    fix: meant === undefined ? `use a number from ${min} to ${max}, or *` : `did you mean ${meant}?`,
  };
}
