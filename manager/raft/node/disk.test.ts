import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Entry } from "../core/mod.js";
import { Wal } from "../wal/mod.js";
import { NodeDisk } from "./disk.js";
import { type FileSystem, realFileSystem } from "./file-system.js";

let directory = "";
beforeEach(() => {
  directory = fs.mkdtempSync(join(tmpdir(), "raft-ts-disk-"));
});
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));

/** As fast, or as slow, as told. */
class TestClock {
  #at = 0;
  stepMs = 0;
  now = () => (this.#at += this.stepMs);
}

const conf = { voters: [1], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };

function entry(index: number, size = 100): Entry {
  return { index, term: 1, type: "normal", data: new Uint8Array(size).fill(index & 0xff) };
}

function open(options: { fs?: FileSystem; clock?: TestClock } = {}): NodeDisk {
  const clock = options.clock ?? new TestClock();
  return NodeDisk.open(directory, { now: clock.now, ...(options.fs === undefined ? {} : { fs: options.fs }) });
}

function recovered(disk: NodeDisk) {
  const found = Wal.recover(disk.readImage(), { segmentBytes: 65_536, snapshotExists: () => true });
  if ("refusal" in found) throw new Error(found.refusal.reason);
  return found;
}

function errno(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: by the test`), { code });
}

test("a log on real files comes back: many parts, large batches, several segments, spares", async () => {
  const disk = open();
  expect(Wal.isEmpty(disk.readImage())).toBe(true);
  const { wal, ops } = Wal.create({ segmentBytes: 65_536, bootstrap: conf });
  await disk.run(ops);
  let index = 0;
  for (const [count, size] of [
    [1, 10],
    [3000, 12],
    [3, 400_000],
    [1, 0],
    [50, 3000],
  ]) {
    const entries = Array.from({ length: count ?? 0 }, () => entry(++index, size));
    await disk.run(
      wal.append({ entries, hardState: { term: 1, vote: 1, commit: index - entries.length }, mustSync: true }),
    );
    const spare = wal.spareWanted();
    if (spare !== undefined) {
      expect(await disk.prepare(spare)).toEqual({});
      wal.spareMade();
    }
  }
  await disk.close();
  await disk.close();

  const again = open();
  const found = recovered(again);
  expect(found.notes).toEqual([]);
  await again.run(found.repairs);
  expect(found.wal.lastIndex()).toBe(index);
  for (const log of [wal, found.wal]) {
    const entries = log.entries(1, index + 1, Number.MAX_SAFE_INTEGER);
    if (typeof entries === "string") throw new Error(entries);
    expect(entries.length).toBe(index);
    for (const one of entries) {
      const { data } = entry(one.index, one.data.length);
      expect(Buffer.compare(one.data, data)).toBe(0);
    }
  }
  await again.run(found.wal.createSnapshot(3004, conf).ops);
  const before = fs.readdirSync(directory).length;
  await again.run(found.wal.compact(3004));
  expect(fs.readdirSync(directory).length).toBeLessThan(before);
  await again.close();
});

test("op lists given at once are carried out one after another, in their order", async () => {
  const order: string[] = [];
  const disk = open({
    fs: {
      ...realFileSystem,
      writevSync: (fd, parts, at) => {
        order.push(`write ${at}`);
        return fs.writevSync(fd, parts, at);
      },
      fdatasync: Object.assign(
        (fd: number, done: (error: NodeJS.ErrnoException | null) => void) => {
          order.push("sync begins");
          fs.fdatasync(fd, (error) => {
            order.push("sync ends");
            done(error);
          });
        },
        { __promisify__: fs.fdatasync.__promisify__ },
      ),
    },
  });
  await disk.run([{ op: "create", file: "spare.wal", bytes: 0 }]);
  const write = (at: number) => [
    { op: "write" as const, file: "spare.wal", at, parts: [Uint8Array.of(1)] },
    { op: "sync" as const, file: "spare.wal" },
  ];
  await Promise.all([disk.run(write(1)), disk.run(write(2)), disk.run(write(3))]);
  expect(order).toEqual([1, 2, 3].flatMap((at) => [`write ${at}`, "sync begins", "sync ends"]));
  await disk.close();
});

test("a fast disk is waited for in place once it has shown that it is, a slow one never", async () => {
  const clock = new TestClock();
  const disk = open({ clock });
  await disk.run([{ op: "create", file: "spare.wal", bytes: 4096 }]);
  const writeSync = () =>
    disk.run([
      { op: "write", file: "spare.wal", at: 0, parts: [Uint8Array.of(1)] },
      { op: "sync", file: "spare.wal" },
    ]);
  clock.stepMs = 0.1;
  for (let n = 0; n < 64; n++) {
    expect(disk.health.inPlace).toBe(false);
    await writeSync();
  }
  expect(disk.health.inPlace).toBe(true);
  for (let n = 0; n < 20; n++) await writeSync();
  expect(disk.health).toMatchObject({ inPlace: true, syncs: 84 });
  clock.stepMs = 20;
  await writeSync();
  expect(disk.health.inPlace).toBe(false);
  for (let n = 0; n < 200; n++) await writeSync();
  expect(disk.health.inPlace).toBe(false);
  await disk.close();
});

test("a process that was killed and that nobody asked about has no directory any more", async () => {
  // A child that ends at once, of a parent that never asks.
  const parent = spawn("sh", ["-c", "sleep 0.1 & echo $!; exec sleep 60"], { stdio: ["ignore", "pipe", "ignore"] });
  try {
    const [line] = (await once(parent.stdout, "data")) as [Buffer];
    const pid = Number(line.toString());
    const fields = () =>
      fs
        .readFileSync(`/proc/${pid}/stat`, "utf8")
        .replace(/^.*\) /s, "")
        .split(" ");
    while (fields()[0] !== "Z") await new Promise((resolve) => setTimeout(resolve, 10));
    expect(process.kill(pid, 0)).toBe(true);
    const boot = fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    const left = `pid ${pid} started ${fields()[19]} boot ${boot}\n`;
    fs.writeFileSync(join(directory, "lock"), left);
    // One whose threads go on may still write.
    const threads: FileSystem = {
      ...realFileSystem,
      readFileSync: ((path: string, ...more: ["utf8"]) =>
        path === `/proc/${pid}/stat`
          ? `${pid} (sh) ${fields().with(17, "2").join(" ")}`
          : realFileSystem.readFileSync(path, ...more)) as FileSystem["readFileSync"],
    };
    expect(() => open({ fs: threads })).toThrow(`in use by process ${pid}`);
    expect(fs.readFileSync(join(directory, "lock"), "utf8")).toBe(left);
    await open().close();
  } finally {
    parent.kill("SIGKILL");
  }
});

test("one process at a time: a living owner is named, a dead one's lock is taken over", async () => {
  const disk = open();
  expect(() => open()).toThrow(`${directory} is in use by process ${process.pid}`);
  await disk.close();
  expect(fs.readdirSync(directory)).toEqual([]);

  const other = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "ignore" });
  await once(other, "spawn");
  const stat = fs.readFileSync(`/proc/${other.pid}/stat`, "utf8");
  const started = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  const boot = fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  const lock = join(directory, "lock");
  fs.writeFileSync(lock, `pid ${other.pid} started ${started} boot ${boot}\n`);
  expect(() => open()).toThrow(`is in use by process ${other.pid}`);
  // The same pid, but another process: of an earlier boot, or of another container.
  fs.writeFileSync(lock, `pid ${other.pid} started 1 boot ${boot}\n`);
  await open().close();
  fs.writeFileSync(lock, `pid ${other.pid} started ${started} boot ${boot}\n`);
  other.kill("SIGKILL");
  await once(other, "exit");
  await open().close();
  // A crash before the owner was written.
  fs.writeFileSync(lock, "");
  await open().close();
  expect(fs.readdirSync(directory)).toEqual([]);
});

test.each(["EIO", "ENOSPC"])(
  "a sync that fails with %s is told once with what to do, and never tried again",
  async (code) => {
    let syncs = 0;
    let broken = false;
    const disk = open({
      fs: {
        ...realFileSystem,
        fdatasync: Object.assign(
          (fd: number, done: (error: NodeJS.ErrnoException | null) => void) => {
            syncs++;
            if (broken) done(errno(code));
            else fs.fdatasync(fd, done);
          },
          { __promisify__: fs.fdatasync.__promisify__ },
        ),
      },
    });
    const { wal, ops } = Wal.create({ segmentBytes: 65_536, bootstrap: conf });
    await disk.run(ops);
    broken = true;
    const append = (index: number) => disk.run(wal.append({ entries: [entry(index)], mustSync: true }));
    const first = append(1);
    const second = append(2);
    await expect(first).rejects.toMatchObject({ name: "DiskError", operation: "fdatasync", code });
    const error = disk.failure;
    expect(error?.message).toMatch(code === "EIO" ? /replace it, .* under a new id/ : /The disk is full .* free space/);
    expect(error?.message).toContain(join(directory, "wal-"));
    await expect(second).rejects.toBe(error);
    const before = syncs;
    broken = false;
    await expect(append(3)).rejects.toBe(error);
    expect(syncs).toBe(before);
    await disk.close();
  },
);

test("a write that fails is fatal, one that is cut short goes on", async () => {
  let fail = false;
  const disk = open({
    fs: {
      ...realFileSystem,
      writevSync: (fd, parts, at) => {
        if (fail) throw errno("EIO");
        const [first] = parts;
        return fs.writeSync(fd, first as Uint8Array, 0, Math.min(7, first?.byteLength ?? 0), at);
      },
    },
  });
  const { wal, ops } = Wal.create({ segmentBytes: 65_536, bootstrap: conf });
  await disk.run(ops);
  await disk.run(wal.append({ entries: [entry(1), entry(2)], mustSync: true }));
  expect(recovered(disk).wal.lastIndex()).toBe(2);
  fail = true;
  await expect(disk.run(wal.append({ entries: [entry(3)], mustSync: true }))).rejects.toMatchObject({
    operation: "write",
    code: "EIO",
  });
  await disk.close();
});

test("on a full disk there is no spare, the log goes on in its reserve, and all is well when there is room", async () => {
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=8m", "tmpfs", directory]);
  try {
    const disk = open();
    const { wal, ops } = Wal.create({ segmentBytes: 3 << 20, bootstrap: conf });
    await disk.run(ops);
    const ballast = join(directory, "ballast");
    fs.writeFileSync(ballast, new Uint8Array(3 << 20));
    const spare = wal.spareWanted() ?? [];
    const { full } = await disk.prepare(spare);
    expect(full).toMatch(/^ENOSPC while .*spare-0+2\.wal was made$/);
    wal.spareFailed(full ?? "");
    expect(wal.diskFull).toBe(full);
    expect(fs.readdirSync(directory).sort()).toEqual(["ballast", "lock", expect.stringMatching(/^wal-/)]);
    // Nothing left at all: what is written now goes into what was taken before.
    const filler = fs.openSync(join(directory, "filler"), "w");
    expect(() => {
      for (;;) fs.writeSync(filler, new Uint8Array(65_536));
    }).toThrow("ENOSPC");
    fs.closeSync(filler);
    for (let term = 1; term <= 1000; term++) {
      await disk.run(wal.append({ entries: [], hardState: { term, vote: 1, commit: 0 }, mustSync: true }));
    }
    expect(recovered(disk).wal.initialState().hardState.term).toBe(1000);
    expect(wal.reserveBytes).toBeGreaterThan(2 << 20);
    fs.unlinkSync(join(directory, "filler"));
    fs.unlinkSync(ballast);
    expect(await disk.prepare(wal.spareWanted() ?? [])).toEqual({});
    wal.spareMade();
    expect(wal.diskFull).toBeUndefined();
    await disk.close();
  } finally {
    execFileSync("umount", ["--lazy", directory]);
  }
});

test("the reserve used up is fatal, and says so", async () => {
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", directory]);
  try {
    const disk = open();
    const { wal, ops } = Wal.create({ segmentBytes: 512 << 10, bootstrap: conf });
    await disk.run(ops);
    fs.writeFileSync(join(directory, "ballast"), new Uint8Array(480 << 10));
    wal.spareFailed("no room");
    const append = async () => {
      for (let index = 1; ; index++) await disk.run(wal.append({ entries: [entry(index, 50_000)], mustSync: true }));
    };
    await expect(append()).rejects.toMatchObject({
      name: "DiskError",
      code: "ENOSPC",
      message: expect.stringContaining("the reserve is used up: free space there"),
    });
    await disk.close();
    fs.unlinkSync(join(directory, "ballast"));
    const again = open();
    const found = recovered(again);
    await again.run(found.repairs);
    expect(found.wal.lastIndex()).toBeGreaterThanOrEqual(9);
    await again.close();
  } finally {
    execFileSync("umount", ["--lazy", directory]);
  }
});
