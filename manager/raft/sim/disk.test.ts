import { expect, it } from "vitest";
import { SimDisk } from "./disk.js";
import { Rng } from "./rng.js";

const part = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);

/** A file of 2 KiB of ones, all durable. */
function settled(): SimDisk {
  const disk = new SimDisk();
  disk.apply({ op: "create", file: "a", bytes: 2_048 });
  disk.apply({ op: "write", file: "a", at: 0, parts: [part(2_048, 1)] });
  disk.apply({ op: "sync", file: "a" });
  disk.apply({ op: "sync-directory" });
  return disk;
}

it("keeps what was synced through any power cut", () => {
  const disk = settled();
  disk.powerCut(new Rng(1), { keep: 0, tear: 0 });
  expect(disk.read("a")).toEqual(part(2_048, 1));
});

it("loses any subset of unsynced sectors, and nothing beside them", () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 200; seed += 1) {
    const disk = settled();
    disk.apply({ op: "write", file: "a", at: 256, parts: [part(512, 2), part(512, 2)] });
    disk.powerCut(new Rng(seed), { keep: 0.5, tear: 0 });
    const bytes = disk.read("a")!;
    expect([...bytes.subarray(0, 256), ...bytes.subarray(1_280)].every((byte) => byte === 1)).toBe(true);
    // The write touches three sectors: from 256, from 512, from 1024.
    const kept = [bytes.subarray(256, 512), bytes.subarray(512, 1_024), bytes.subarray(1_024, 1_280)];
    seen.add(kept.map((sector) => new Set(sector).size === 1 && sector[0]).join());
  }
  expect(seen.size).toBe(8);
});

it("tears a sector in the middle, at times", () => {
  const torn = Array.from({ length: 50 }, (_, seed) => {
    const disk = settled();
    disk.apply({ op: "write", file: "a", at: 0, parts: [part(512, 2)] });
    disk.powerCut(new Rng(seed), { keep: 1, tear: 1 });
    return disk
      .read("a")!
      .subarray(0, 512)
      .filter((byte) => byte === 2).length;
  });
  expect(torn.some((bytes) => bytes > 0 && bytes < 512)).toBe(true);
});

it("forgets creations, renames and removals that no directory sync followed, in any subset", () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 200; seed += 1) {
    const disk = settled();
    disk.apply({ op: "create", file: "b", bytes: 0 });
    disk.apply({ op: "rename", from: "b", to: "c" });
    disk.apply({ op: "remove", file: "a" });
    expect(disk.names()).toEqual(["c"]);
    disk.powerCut(new Rng(seed), { keep: 0.5, tear: 0 });
    seen.add(disk.names().join());
  }
  expect([...seen].sort()).toEqual(["", "a", "a,b", "a,c", "b", "c"]);
});

it("keeps a name whose contents were not synced, without the contents", () => {
  const disk = new SimDisk();
  disk.apply({ op: "create", file: "a", bytes: 0 });
  disk.apply({ op: "write", file: "a", at: 0, parts: [part(10, 7)] });
  disk.apply({ op: "sync-directory" });
  disk.powerCut(new Rng(1), { keep: 0, tear: 0 });
  expect(disk.read("a")).toEqual(new Uint8Array(0));
});

it("has the old contents or the new ones of a file that was made anew, until it is synced", () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 100; seed += 1) {
    const disk = settled();
    disk.apply({ op: "create", file: "a", bytes: 0 });
    expect(disk.read("a")).toHaveLength(0);
    disk.apply({ op: "write", file: "a", at: 0, parts: [part(100, 2)] });
    disk.powerCut(new Rng(seed), { keep: 0.5, tear: 0 });
    const bytes = disk.read("a")!;
    seen.add(`${bytes.length} ${bytes[0]}`);
  }
  expect(seen).toContain("2048 1");
  expect(seen).toContain("2048 2");
  expect(seen).toContain("0 undefined");
  expect(seen).toContain("100 2");
  const disk = settled();
  disk.apply({ op: "create", file: "a", bytes: 10 });
  disk.apply({ op: "sync", file: "a" });
  disk.powerCut(new Rng(1), { keep: 0, tear: 0 });
  expect(disk.read("a")).toEqual(new Uint8Array(10));
});

it("turns exactly one bit, never of what a log wrote last", () => {
  for (let seed = 0; seed < 100; seed += 1) {
    const disk = settled();
    disk.apply({ op: "write", file: "a", at: 1_024, parts: [part(100, 3)] });
    disk.apply({ op: "sync", file: "a" });
    const before = disk.read("a")!;
    expect(
      disk.flip(
        new Rng(seed),
        () => true,
        () => true,
      ),
    ).toMatch(/^a byte \d+$/);
    const after = disk.read("a")!;
    const changed = [...after].flatMap((byte, at) => (byte === before[at] ? [] : [{ at, bits: byte ^ before[at]! }]));
    expect(changed).toHaveLength(1);
    expect(changed[0]!.at).toBeLessThan(1_024);
    expect(Math.log2(changed[0]!.bits) % 1).toBe(0);
    disk.powerCut(new Rng(1), { keep: 0, tear: 0 });
    expect(disk.read("a")).toEqual(after);
  }
});

it("tells of operations that a real disk refuses", () => {
  expect(() => new SimDisk().apply({ op: "sync", file: "a" })).toThrow(/sync of a, which is not there/);
  expect(() => new SimDisk().apply({ op: "rename", from: "a", to: "b" })).toThrow(/rename of a/);
});
