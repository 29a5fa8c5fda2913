import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseSchedule } from "./cron-fields.js";
import { dueTimes, nextDue } from "./cron.js";
import { instantOf, isTimeZone, wallOf } from "./zone.js";

const berlin = "Europe/Berlin";
const at = (text: string) => Date.parse(text);
const due = (schedule: string, timeZone: string, after: string, count: number) =>
  dueTimes({ schedule, timeZone }, at(after), Number.MAX_SAFE_INTEGER, count).map((ms) =>
    new Date(ms).toISOString().slice(0, 16),
  );

test.each<[string, string, string[]]>([
  ["0 3 * * *", "2026-01-01T03:00:00Z", ["2026-01-02T03:00", "2026-01-03T03:00"]],
  ["*/30 9-10 * * mon-fri", "2026-01-02T09:30:00Z", ["2026-01-02T10:00", "2026-01-02T10:30", "2026-01-05T09:00"]],
  ["@hourly", "2026-01-01T23:00:00.001Z", ["2026-01-02T00:00"]],
  ["@daily", "2026-01-01T12:00:00Z", ["2026-01-02T00:00"]],
  ["@weekly", "2026-01-01T12:00:00Z", ["2026-01-04T00:00", "2026-01-11T00:00"]],
  ["@monthly", "2026-01-01T12:00:00Z", ["2026-02-01T00:00"]],
  ["@yearly", "2026-01-01T12:00:00Z", ["2027-01-01T00:00"]],
  ["0 0 29 2 *", "2026-01-01T12:00:00Z", ["2028-02-29T00:00", "2032-02-29T00:00"]],
  // crontab(5): with both days given, either is enough.
  ["0 0 13 * 5", "2026-01-01T12:00:00Z", ["2026-01-02T00:00", "2026-01-09T00:00", "2026-01-13T00:00"]],
  ["0 0 * * 7", "2026-01-01T12:00:00Z", ["2026-01-04T00:00"]],
])("%s after %s is due at %j", (schedule, after, times) => {
  expect(due(schedule, "UTC", after, times.length)).toEqual(times);
});

describe("when the clock goes forward over a time", () => {
  // On 2026-03-29 Berlin's clock goes from 02:00 to 03:00, at 01:00 UTC.
  test.each([
    ["30 2 * * *", ["2026-03-29T01:00", "2026-03-30T00:30"]],
    ["*/10 2 * * *", ["2026-03-29T01:00", "2026-03-30T00:00", "2026-03-30T00:10"]],
    ["0 3 * * *", ["2026-03-29T01:00", "2026-03-30T01:00"]],
    ["0 2,3 * * *", ["2026-03-29T01:00", "2026-03-30T00:00", "2026-03-30T01:00"]],
    ["*/30 * * * *", ["2026-03-29T00:30", "2026-03-29T01:00", "2026-03-29T01:30"]],
  ])("%s is due when it jumps, once", (schedule, times) => {
    expect(due(schedule, berlin, "2026-03-29T00:10:00Z", times.length)).toEqual(times);
  });
});

describe("when the clock goes back over a time", () => {
  // On 2026-10-25 Berlin's clock goes from 03:00 back to 02:00, at 01:00 UTC.
  test.each([
    ["30 2 * * *", ["2026-10-25T00:30", "2026-10-26T01:30"]],
    ["0 * * * *", ["2026-10-25T00:00", "2026-10-25T02:00"]],
    ["*/30 * * * *", ["2026-10-25T00:00", "2026-10-25T00:30", "2026-10-25T02:00"]],
    ["0 3 * * *", ["2026-10-25T02:00"]],
  ])("%s is due the first time only", (schedule, times) => {
    expect(due(schedule, berlin, "2026-10-24T23:50:00Z", times.length)).toEqual(times);
  });

  test("a question from within the second time has no answer in the past", () => {
    expect(due("30 2 * * *", berlin, "2026-10-25T01:10:00Z", 1)).toEqual(["2026-10-26T01:30"]);
    expect(due("* * * * *", berlin, "2026-10-25T01:10:00Z", 2)).toEqual(["2026-10-25T02:00", "2026-10-25T02:01"]);
  });
});

test("a clock that goes by half an hour, and one that jumps at midnight", () => {
  // Lord Howe goes from 02:00 to 02:30 on 2026-10-04 at 15:30 UTC of the day before.
  expect(due("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", 2)).toEqual([
    "2026-10-03T15:30",
    "2026-10-04T15:15",
  ]);
  expect(due("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", 2)).toEqual([
    "2018-11-04T03:00",
    "2018-11-05T02:00",
  ]);
});

test("the end counts, and the limit is kept", () => {
  const schedule = { schedule: "*/5 * * * *", timeZone: "UTC" };
  const after = at("2026-01-01T00:00:00Z");
  expect(dueTimes(schedule, after, after + 600_000, 10)).toEqual([after + 300_000, after + 600_000]);
  expect(dueTimes(schedule, after, after + 599_999, 10)).toEqual([after + 300_000]);
  expect(dueTimes(schedule, after, after + 3_600_000, 3)).toHaveLength(3);
  expect(dueTimes(schedule, after, after + 3_600_000, 0)).toEqual([]);
});

test("an expression that was never checked is a broken invariant", () => {
  expect(() => nextDue({ schedule: "60 * * * *", timeZone: "UTC" }, 0)).toThrow(/unchecked cron expression/);
});

const number = (min: number, max: number) => fc.integer({ min, max });
const field = (min: number, max: number) =>
  fc.oneof(
    fc.constant("*"),
    number(min, max).map(String),
    number(1, Math.min(max, 20)).map((step) => `*/${step}`),
    fc.tuple(number(min, max), number(min, max)).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`),
    fc.uniqueArray(number(min, max), { minLength: 1, maxLength: 3 }).map((list) => list.join(",")),
  );
const anySchedule = fc
  .tuple(field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6))
  .map((fields) => fields.join(" "));

test("what is due comes later than was asked, does not depend on from where one asks, and nothing lies between", () => {
  fc.assert(
    fc.property(
      anySchedule.filter((schedule) => !("rule" in parseSchedule(schedule))),
      fc.constantFrom("UTC", berlin, "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"),
      fc.integer({ min: at("2020-01-01T00:00:00Z"), max: at("2030-01-01T00:00:00Z") }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (schedule, timeZone, after, share) => {
        const cron = { schedule, timeZone };
        const [first, second] = dueTimes(cron, after, Number.MAX_SAFE_INTEGER, 2);
        if (first === undefined || second === undefined) throw new Error("a checked schedule must come due");
        expect(first).toBeGreaterThan(after);
        expect(second).toBeGreaterThan(first);
        const between = Math.floor(after + (first - after) * share);
        if (between < first) expect(nextDue(cron, between)).toBe(first);
        expect(nextDue(cron, first)).toBe(second);
      },
    ),
    { numRuns: 150 },
  );
});

test("clocks and instants agree", () => {
  fc.assert(
    fc.property(
      fc.constantFrom("UTC", berlin, "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"),
      fc.integer({ min: at("2005-01-01T00:00:00Z"), max: at("2035-01-01T00:00:00Z") }),
      (timeZone, instant) => {
        const wall = wallOf(timeZone, instant);
        const first = instantOf(timeZone, wall);
        expect(wallOf(timeZone, first)).toBe(wall);
        expect(first).toBeLessThanOrEqual(instant);
      },
    ),
  );
});

test("zones are names", () => {
  expect(["UTC", berlin, "Etc/GMT+3", "europe/berlin"].map(isTimeZone)).toEqual([true, true, true, true]);
  expect(["", "Berlin", "+01:00", "Europe/Berln", "x".repeat(100)].map(isTimeZone)).toEqual(Array(5).fill(false));
});

test.each<[string, RegExp, RegExp]>([
  ["", /say when/, /0 3 \* \* \*/],
  ["* * * *", /five fields .* has 4/, /0 3/],
  ["0 0 3 * * *", /has 6/, /leave out the seconds: write for example 0 3 \* \* \*$/],
  ["60 * * * *", /field 1 \(minute\) 60, which is not from 0 to 59/, /0 to 59/],
  ["* 24 * * *", /field 2 \(hour\) 24/, /0 to 23/],
  ["* * 0 * *", /field 3 \(day of month\) 0/, /1 to 31/],
  ["* * * 13 *", /field 4 \(month\) 13/, /1 to 12/],
  ["* * * * 8", /field 5 \(day of week\) 8/, /0 to 7/],
  ["* * * jax *", /field 4 \(month\) "jax".* none of jan/, /did you mean jan\?/],
  ["* * * * monday", /field 5 .* "monday"/, /did you mean mon\?/],
  ["* * L * *", /field 3 .* "L"/, /1 to 31/],
  ["a * * * *", /field 1 .* "a", which is no number/, /0 to 59, or \*/],
  ["*/0 * * * *", /step "0"/, /\*\/5/],
  ["*/x * * * *", /step "x"/, /\*\/5/],
  ["*/60 * * * *", /step "60", which is not a number from 1 to 59/, /\*\/5/],
  ["5/10 * * * *", /"5\/10", a step without a range/, /write 5-59\/10/],
  ["1,,2 * * * *", /an empty place/, /comma/],
  ["10-5 * * * *", /"10-5", which ends before it begins/, /write 10-59,0-5/],
  ["1-2-3 * * * *", /"1-2-3"/, /0-59\/5/],
  ["0 0 30 2 *", /come due at some time: no month of "2" has a day 30/, /a day that the month has/],
  ["0 0 31 2,4,jun *", /no month of "2,4,jun" has a day 31/, /day/],
  ["@midnight", /one of @hourly/, /did you mean @daily\?/],
  ["@dayly", /one of @hourly/, /did you mean @daily\?/],
  ["@reboot", /one of @hourly/, /@daily/],
  ["@daily 3", /nothing after @daily/, /write @daily/],
  [`* * * * ${"1,".repeat(200)}1`, /at most 200 characters/, /shorten/],
])("%j is refused", (schedule, rule, fix) => {
  const parsed = parseSchedule(schedule);
  expect("rule" in parsed && parsed.rule).toMatch(rule);
  expect("rule" in parsed && parsed.fix).toMatch(fix);
});

test.each([
  ["  0  3 * * *  ", "0 3 * * *"],
  ["0 0 31 2 mon", "0 0 31 2 mon"],
  ["0 0 30 2,3 *", "0 0 30 2,3 *"],
  ["0 22 * * fri-sun", "0 22 * * fri-sun"],
  ["0-59/7 1-3,5 * JAN-mar *", "0-59/7 1-3,5 * JAN-mar *"],
])("%j is taken as %j", (schedule, text) => {
  expect(parseSchedule(schedule)).toMatchObject({ text });
  expect(nextDue({ schedule, timeZone: "UTC" }, 0)).toBeGreaterThan(0);
});
