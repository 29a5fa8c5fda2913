import { expect, test } from "vitest";
import { makeNode } from "../../test/kit/objects.js";
import { type Constraint, matchConstraint, parseConstraint } from "./mod.js";

function parsed(text: string): Constraint {
  const result = parseConstraint(text);
  if ("rule" in result) throw new Error(`${text}: ${result.rule}`);
  return result.constraint;
}

const plain = makeNode("h1");
const node = {
  ...plain,
  spec: { ...plain.spec, labels: { zone: "eu", disk: "ssd", cores: "16" } },
  description: {
    ...plain.description,
    advertiseAddress: "10.77.0.1",
    architecture: "x86_64",
    engineLabels: { gpu: "none" },
    labels: { zone: "us", rack: "r1" },
  },
};

test.each([
  ["node.id==h1", true],
  ["node.id!=h1", false],
  ["node.hostname==H1", true],
  ["node.role==worker", true],
  ["node.role==manager", false],
  ["node.ip==10.77.0.1", true],
  ["node.ip==10.77.0.0/16", true],
  ["node.ip!=10.77.0.0/16", false],
  ["node.ip==0.0.0.0/0", true],
  ["node.ip==10.78.0.0/16", false],
  ["node.platform.os==linux", true],
  ["node.platform.arch==amd64", true],
  ["node.platform.arch==arm64", false],
  // A label set by a user goes before the agent's own.
  ["node.labels.zone==eu", true],
  ["node.labels.rack==r1", true],
  ["node.labels.missing==x", false],
  ["node.labels.missing!=x", true],
  // Not found on every object.
  ["node.labels.constructor==x", false],
  ["engine.labels.gpu==none", true],
  ["  node.labels.disk  ==  SSD ", true],
  ["node.labels.zone in (us, EU)", true],
  ["node.labels.zone in (us)", false],
  ["node.labels.zone notin (us,ap)", true],
  ["node.labels.missing notin (us)", true],
  ["node.labels.missing in (us)", false],
  ["node.ip in (10.78.0.0/16,10.77.0.0/24)", true],
  ["node.labels.cores>8", true],
  ["node.labels.cores > 16", false],
  ["node.labels.cores<16.5", true],
  // Neither above nor below a number.
  ["node.labels.zone>1", false],
  ["node.labels.missing<1", false],
  ["node.hostname~=^H[0-9]+$", true],
  ["node.labels.rack~=^(a|r)[1-3]$", true],
  ["node.labels.rack !~ ^r2", true],
  ["node.labels.rack!~r", false],
  ["node.labels.missing~=.*", false],
  ["node.labels.missing!~.*", true],
])("%s: %s", (text, expected) => {
  expect(matchConstraint(parsed(text), node)).toBe(expected);
});

test.each([
  ["zone", /KEY==VALUE/, /node\.labels\.zone==eu/],
  ["node.labels.zone=eu", /KEY==VALUE/, /write node\.labels\.zone==eu/],
  ["node.labels.zone==", /a value/, /zone==eu/],
  ["node.hostnam==x", /node\.id, node\.hostname.*engine\.labels\.NAME/, /did you mean node\.hostname\?/],
  ["node.label.zone==eu", /must begin with/, /did you mean node\.labels\.zone\?/],
  ["foo==x", /must begin with/, /example/],
  ["node.labels.==x", /name a label/, /zone/],
  ["node.role==managr", /manager or worker/, /manager/],
  ["node.ip==10.0.0.0/33", /address or range/, /10\.0\.0\.0\/8/],
  ["node.ip==300.0.0.1", /address or range/, /10\.0\.0\.0\/8/],
  ["node.labels.zone==a;b", /letters/, /eu-1/],
  ["node.hostname>3", /label/, /cores>8/],
  ["node.labels.cores>many", /a number/, /cores>8/],
  ["node.labels.zone in ()", /each comma/, /in \(a,b\)/],
  ["node.role in (manager,boss)", /manager or worker/, /role==/],
  ["node.labels.zone~=(", /a \) for each \(/, /\[0-9\]/],
  ["node.labels.zone~=a**+?{9,2}", /in order/, /\[0-9\]/],
  ["node.labels.zone~=(a{99}){99}", /shorter pattern/, /\[0-9\]/],
  ["node.labels.zone~=(?=a)", /do without/, /\[0-9\]/],
  [`node.labels.zone~=${"x".repeat(200)}`, /128/, /shorten/],
  [`node.labels.zone==${"x".repeat(600)}`, /512/, /shorten/],
])("%s is refused with rule and fix", (text, rule, fix) => {
  expect(parseConstraint(text)).toMatchObject({ rule: expect.stringMatching(rule), fix: expect.stringMatching(fix) });
});

test("a node is a manager when a manager has its name", () => {
  const manager = { ...node, manager: true };
  expect(matchConstraint(parsed("node.role==manager"), manager)).toBe(true);
  expect(matchConstraint(parsed("node.role!=manager"), manager)).toBe(false);
});
