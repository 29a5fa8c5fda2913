import { expect, test } from "vitest";
import { makeNode } from "../../test/kit/objects.js";
import { branchOf, checkAffinityWeight, parseAffinity, parsePreference } from "./mod.js";

test("an expression is a rule for services or for nodes", () => {
  expect(parseAffinity(" service == cache ")).toEqual({
    affinity: { kind: "service", text: "service==cache", name: "cache", has: true },
  });
  expect(parseAffinity("service!=cache")).toMatchObject({ affinity: { has: false } });
  expect(parseAffinity("node.labels.disk==ssd")).toMatchObject({
    affinity: { kind: "node", text: "node.labels.disk==ssd" },
  });
});

test.each([
  ["service=cache", /== or !=/, /service==cache/],
  ["service==", /name a service/, /service==cache/],
  ["service==Not A Name", /name a service/, /service==cache/],
  ["near cache", /constraint on the node, service==NAME/, /ssd/],
  ["node.label.zone==eu", /must begin with/, /did you mean node\.labels\.zone/],
])("%s is refused with rule and fix", (text, rule, fix) => {
  expect(parseAffinity(text)).toMatchObject({ rule: expect.stringMatching(rule), fix: expect.stringMatching(fix) });
});

test("a weight is needed where the expression need not hold", () => {
  const affinity = { expression: "service==a", weight: 0, required: false };
  for (const weight of [0, 101, -101, 1.5])
    expect(checkAffinityWeight({ ...affinity, weight })?.rule).toMatch(/-100 to 100/);
  for (const weight of [1, 100, -100]) expect(checkAffinityWeight({ ...affinity, weight })).toBeUndefined();
  expect(checkAffinityWeight({ ...affinity, required: true })).toBeUndefined();
});

test("a preference names what to spread over, and every node has a branch", () => {
  const parsed = parsePreference(" spread = node.labels.zone ");
  if ("rule" in parsed) throw new Error(parsed.rule);
  const node = makeNode("h1");
  expect(branchOf(parsed.preference, node)).toBe("");
  expect(branchOf(parsed.preference, { ...node, spec: { ...node.spec, labels: { zone: "eu" } } })).toBe("eu");
  expect(parsePreference("pack=node.labels.zone")).toMatchObject({ rule: expect.stringMatching(/spread=KEY/) });
  expect(parsePreference("spread=node.label.zone")).toMatchObject({ fix: expect.stringMatching(/labels\.zone/) });
});
