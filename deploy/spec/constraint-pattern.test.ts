import * as fc from "fast-check";
import { expect, test } from "vitest";
import { parsePattern } from "./constraint-pattern.js";

function matcher(text: string) {
  const pattern = parsePattern(text);
  if ("rule" in pattern) throw new Error(`${text}: ${pattern.rule}`);
  return pattern;
}

const atom = fc.constantFrom("a", "b", "c", ".", "[ab]", "[^a]", "[a-c]", "\\w", "\\d", "^", "$");
const { tree } = fc.letrec<{ tree: string }>((tie) => ({
  tree: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    atom,
    fc.tuple(tie("tree"), tie("tree")).map(([a, b]) => a + b),
    fc.tuple(tie("tree"), tie("tree")).map(([a, b]) => `(${a}|${b})`),
    fc.tuple(tie("tree"), fc.constantFrom("*", "+", "?", "{2}", "{1,3}", "{0,}")).map(([a, times]) => `(${a})${times}`),
  ),
}));

test("it matches what a regular expression of the language matches", () => {
  fc.assert(
    fc.property(tree, fc.array(fc.constantFrom("a", "b", "c", "1"), { maxLength: 8 }), (text, chars) => {
      const pattern = parsePattern(text);
      fc.pre(!("rule" in pattern));
      const value = chars.join("");
      if (!("rule" in pattern)) expect(pattern.test(value)).toBe(new RegExp(text, "i").test(value));
    }),
  );
});

test("a pattern that makes others go back for ages is an ordinary one here", () => {
  expect(matcher("^(a+)+$").test(`${"a".repeat(4_000)}b`)).toBe(false);
  expect(matcher("^(a|aa)*b$").test(`${"a".repeat(4_000)}B`)).toBe(true);
});

test.each([
  ["[a-", /a \] for each/],
  ["a)", /a \( for each/],
  ["*a", /something before \*/],
  ["a\\", /not end/],
  ["\\1", /not \\1/],
  ["[z-a]", /in order/],
])("%s is refused", (text, rule) => {
  expect(parsePattern(text)).toMatchObject({ rule: expect.stringMatching(rule) });
});
