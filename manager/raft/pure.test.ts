// The rooms that the simulator replays must depend on nothing but their arguments. The linter forbids imports of node:
// modules, clocks and Math.random there; what it cannot express is forbidden here.

import { readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const rooms = ["core", "wire", "wal", "driver"] as const;
const forbidden: readonly [RegExp, string][] = [
  [/\basync\b|\bawait\b|\bPromise\b/, "waits: the caller calls back instead"],
  [/\bqueueMicrotask\b|\bset(Timeout|Interval|Immediate)\b/, "schedules itself: time passes by tick()"],
  [/\bnew Date\b|\bDate\.now\b|\bperformance\b/, "reads a clock: time passes by tick()"],
  [/\bMath\.random\b|\bcrypto\b/, "takes chance from outside: use the config's random(n)"],
  [/\bprocess\b\.|\bglobalThis\b/, "reaches for the process"],
];

test.each(rooms)("%s is deterministic", (room) => {
  const folder = fileURLToPath(new URL(room, import.meta.url));
  const files = readdirSync(folder).filter((name) => name.endsWith(".ts") && !/\.test(-kit)?\.ts$/.test(name));
  expect(files.length).toBeGreaterThan(2);
  const found: string[] = [];
  for (const file of files) {
    const lines = readFileSync(`${folder}/${file}`, "utf8").split("\n");
    for (const [i, line] of lines.entries()) {
      // Comments may speak of what code may not do.
      const code = line.replace(/\/\/.*$/, "").replace(/^\s*\/?\*.*$/, "");
      for (const [pattern, why] of forbidden)
        if (pattern.test(code)) found.push(`${room}/${file}:${i + 1}: ${line.trim()} (${why})`);
    }
  }
  expect(found).toEqual([]);
});
