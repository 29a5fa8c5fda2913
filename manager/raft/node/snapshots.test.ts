import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { SnapshotMeta } from "../core/mod.js";
import { realFileSystem } from "./file-system.js";
import { SnapshotFiles } from "./snapshots.js";

let directory = "";
beforeEach(() => {
  directory = fs.mkdtempSync(join(tmpdir(), "raft-ts-snapshots-"));
});
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));

const confState = { voters: [1, 2, 3], votersOutgoing: [], learners: [9], learnersNext: [], autoLeave: false };

function meta(index: number, term = 1): SnapshotMeta {
  return { index, term, confState };
}

const chunk = (n: number, size = 1000) => new Uint8Array(size).fill(n);

/** As text: comparing large arrays of numbers takes seconds. */
const text = (one: Uint8Array) => Buffer.from(one).toString("hex");

async function all(chunks: AsyncIterable<Uint8Array>): Promise<string[]> {
  const found: string[] = [];
  for await (const one of chunks) found.push(text(one));
  return found;
}

test("chunks come back as they were given, also empty ones and none, and the file knows what it is", async () => {
  const files = SnapshotFiles.open(directory);
  const chunks = [chunk(1), new Uint8Array(), chunk(2, 1 << 20), chunk(3, 1)];
  expect(await files.write(meta(7, 2), chunks)).toEqual({});
  expect(await files.write(meta(8, 2), [])).toEqual({});
  const again = SnapshotFiles.open(directory);
  expect(again.list()).toEqual([
    { index: 7, term: 2 },
    { index: 8, term: 2 },
  ]);
  expect(await all(again.read(meta(7, 2)))).toEqual(chunks.map(text));
  expect(await all(again.read(meta(8, 2)))).toEqual([]);
  expect(await again.meta(meta(7, 2))).toEqual(meta(7, 2));
  await expect(all(again.read(meta(9, 2)))).rejects.toMatchObject({ code: "missing" });
});

test("any flipped byte and any truncation is found before the chunk is handed out", async () => {
  const files = SnapshotFiles.open(directory);
  const chunks = [chunk(1, 50), chunk(2, 70), chunk(3, 5)];
  await files.write(meta(7), chunks);
  const path = join(directory, "snapshot-0000000000000007-0000000000000001");
  const bytes = fs.readFileSync(path);
  const damagedReads = async (damaged: Uint8Array) => {
    fs.writeFileSync(path, damaged);
    let n = 0;
    const reading = (async () => {
      for await (const one of files.read(meta(7))) expect(one).toEqual(chunks[n++]);
    })();
    await expect(reading).rejects.toMatchObject({ code: "damaged", message: expect.stringContaining(path) });
  };
  for (let at = 0; at < bytes.length; at++) {
    const damaged = Uint8Array.from(bytes);
    damaged[at] = (damaged[at] ?? 0) ^ 0x10;
    await damagedReads(damaged);
    await damagedReads(bytes.subarray(0, at));
  }
  await damagedReads(Buffer.concat([bytes, Buffer.of(0)]));
});

test("an interrupted write leaves nothing, and what a crash left is removed at the next start", async () => {
  const files = SnapshotFiles.open(directory);
  await files.write(meta(5), [chunk(5)]);
  const stop = new AbortController();
  const writing = files.write(
    meta(6),
    (async function* () {
      yield chunk(1);
      stop.abort(new Error("enough"));
      yield chunk(2);
    })(),
    stop.signal,
  );
  await expect(writing).rejects.toThrow("enough");
  const broken = files.write(
    meta(6),
    (function* () {
      yield chunk(1);
      throw new Error("the machine's");
    })(),
  );
  await expect(broken).rejects.toThrow("the machine's");
  expect(fs.readdirSync(directory)).toEqual(["snapshot-0000000000000005-0000000000000001"]);
  fs.writeFileSync(join(directory, "snapshot-0000000000000006-0000000000000001.tmp-3"), "half");
  fs.writeFileSync(join(directory, "somebody-elses"), "");
  const again = SnapshotFiles.open(directory);
  expect(again.list()).toEqual([{ index: 5, term: 1 }]);
  expect(fs.readdirSync(directory)).toEqual(["snapshot-0000000000000005-0000000000000001", "somebody-elses"]);
});

test("the current one and the newest before it stay; newer ones without a marker go at a start only", async () => {
  const files = SnapshotFiles.open(directory);
  for (const index of [1, 2, 3, 4, 5]) await files.write(meta(index), [chunk(index)]);
  files.keep(meta(4));
  expect(files.list().map(({ index }) => index)).toEqual([3, 4, 5]);
  files.keep(meta(4), { removeNewer: true });
  expect(files.list().map(({ index }) => index)).toEqual([3, 4]);
});

test("a snapshot that is removed while it is read is read to its end", async () => {
  const files = SnapshotFiles.open(directory);
  await files.write(meta(1), [chunk(1), chunk(2)]);
  const reading = files.read(meta(1));
  expect((await reading.next()).value).toEqual(chunk(1));
  for (const index of [2, 3]) await files.write(meta(index), []);
  files.keep(meta(3));
  expect(files.has(meta(1))).toBe(false);
  expect(await all(reading)).toEqual([text(chunk(2))]);
});

test("on a full disk the old snapshot stays, and there is room again", async () => {
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", directory]);
  try {
    const files = SnapshotFiles.open(directory);
    expect(await files.write(meta(1), [chunk(1, 500_000)])).toEqual({});
    const big = Array.from({ length: 4 }, (_, n) => chunk(n, 500_000));
    const { full } = await files.write(meta(2), big);
    expect(full).toMatch(/^ENOSPC: no room for .*snapshot-0+2-0+1; the older snapshot and the log stay$/);
    expect(files.list()).toEqual([{ index: 1, term: 1 }]);
    expect(await all(files.read(meta(1)))).toEqual([text(chunk(1, 500_000))]);
    expect(await files.write(meta(3), big.slice(0, 2))).toEqual({});
  } finally {
    execFileSync("umount", ["--lazy", directory]);
  }
});

test("a disk that fails is told with file, operation and what to do", async () => {
  const files = SnapshotFiles.open(directory, {
    ...realFileSystem,
    fdatasync: Object.assign(
      (_fd: number, done: (error: NodeJS.ErrnoException | null) => void) =>
        done(Object.assign(new Error("EIO: i/o error, fdatasync"), { code: "EIO" })),
      { __promisify__: fs.fdatasync.__promisify__ },
    ),
  });
  await expect(files.write(meta(1), [chunk(1)])).rejects.toMatchObject({
    name: "DiskError",
    operation: "fdatasync",
    code: "EIO",
    message: expect.stringContaining("under a new id"),
  });
  expect(fs.readdirSync(directory)).toEqual([]);
});
