import { expect, test } from "vitest";
import { crc32c } from "./crc.js";

const text = (s: string) => new TextEncoder().encode(s);

test("the check values of RFC 3720 and of the CRC catalogue", () => {
  expect(crc32c(text("123456789"))).toBe(0xe3069283);
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
  expect(crc32c(Uint8Array.from({ length: 32 }, (_, n) => n))).toBe(0x46dd794e);
  expect(crc32c(new Uint8Array())).toBe(0);
});

test("parts give what the whole gives, however they are cut", () => {
  const bytes = Uint8Array.from({ length: 100 }, (_, n) => (n * 37) & 0xff);
  const whole = crc32c(bytes);
  for (let cut = 0; cut <= bytes.length; cut++) {
    expect(crc32c(bytes, crc32c(bytes, 0, 0, cut), cut)).toBe(whole);
    expect(crc32c(bytes.subarray(cut), crc32c(bytes.subarray(0, cut)))).toBe(whole);
  }
});
