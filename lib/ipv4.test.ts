import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cidrContains, formatCidr, cidrsOverlap, parseRange, parseIpv4, cidrWithout } from "./ipv4.js";

const cidr = (text: string) => parseRange(text) ?? expect.fail(`${text} is no range`);

describe("addresses", () => {
  it.each(["1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.4 ", "", "a.b.c.d", "1..2.3"])(
    "refuses %j",
    (text) => {
      expect(parseIpv4(text)).toBeUndefined();
    },
  );
  it.each(["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/08", "10.0.0.0/8/8"])("refuses the range %j", (text) => {
    expect(parseRange(text)).toBeUndefined();
  });
  it("drops bits beyond the prefix", () => {
    expect(formatCidr(cidr("10.127.3.4/16"))).toBe("10.127.0.0/16");
  });
});

describe("a range cidrWithout another", () => {
  it("covers every address but the hole's, once", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 24 }),
        fc.integer({ min: 0, max: 8 }),
        fc.nat(0xffff_ffff),
        fc.nat(0xffff_ffff),
        (prefix, more, base, probe) => {
          const hole = cidr(formatCidr({ base, prefix: Math.min(32, prefix + more) }));
          const outer = cidr(formatCidr({ base, prefix }));
          const parts = cidrWithout(outer, hole);
          const found = parts.filter((part) => cidrContains(part, probe)).length;
          expect(found).toBe(cidrContains(outer, probe) && !cidrContains(hole, probe) ? 1 : 0);
          expect(parts.some((part) => cidrsOverlap(part, hole))).toBe(false);
        },
      ),
    );
  });
  it("of a /10 and a /24 is 14 ranges", () => {
    expect(cidrWithout(cidr("10.128.0.0/10"), cidr("10.128.1.0/24"))).toHaveLength(14);
  });
});
