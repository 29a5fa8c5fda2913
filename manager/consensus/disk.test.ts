import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { DiskError, SnapshotError } from "raft-ts/node";
import { ClusterError, seededRng, silentLogger, systemClock } from "../../lib/mod.js";
import { initCluster } from "./data-dir.js";
import { explained, isDiskFailure } from "./disk.js";
import { readIdentity } from "./identity.js";
import { RaftConsensus } from "./raft-consensus.js";

let dataDir = "";
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "flotilla-disk-"));
});
afterEach(() => rm(dataDir, { recursive: true, force: true }));

const failed = (code: string) => Object.assign(new Error(`${code}: it failed`), { code });

test("what fails is told apart from what to do about it", () => {
  const full = explained(new DiskError("write", "/d/raft/wal", failed("ENOSPC")), "/d");
  expect(full).toMatchObject({
    message: "write of /d/raft/wal failed with ENOSPC (ENOSPC: it failed)",
    details: { next: "The disk is full and the reserve is used up: free space there, then start the process again." },
  });
  const dying = explained(new DiskError("fdatasync", "/d/raft/wal", failed("EIO")), "/d");
  expect(dying).toBeInstanceOf(ClusterError);
  const next = dying instanceof ClusterError ? (dying.details["next"] ?? "") : "";
  expect(next.split("\n").map((line) => line.split("    #")[0])).toEqual([
    "see the kernel's log (dmesg); on a disk that fails, do not go on. On another one:",
    "mv /d /d.damaged",
    "flotilla manager --data-dir /d --join HOST:7400",
    "flotilla cluster restore FILE --data-dir /d",
  ]);
  expect(explained(new SnapshotError("missing", "it is not there"), "/d")).toMatchObject({
    message: "it is not there",
    details: { next: expect.stringContaining("mv /d /d.damaged") },
  });
});

test("anything else stays what it is", () => {
  const invariant = new Error("commit went back");
  expect(explained(invariant, "/d")).toBe(invariant);
  expect(isDiskFailure(invariant)).toBe(false);
  expect(isDiskFailure(new DiskError("write", "/d/raft/wal", failed("EIO")))).toBe(true);
});

test("a manager without its log is a new one only if it never had one", async () => {
  await initCluster({
    dataDir,
    name: "h1",
    address: "127.0.0.1:7400",
    httpAddress: "127.0.0.1:7401",
    cluster: "test",
    store: "raft",
    etcd: [],
    rng: seededRng(1),
  });
  const open = async () => {
    const identity = await readIdentity(dataDir);
    if (identity === undefined) throw new Error("there is no manager.json");
    return await RaftConsensus.open({
      identity,
      dataDir,
      clock: systemClock,
      rng: seededRng(2),
      log: silentLogger,
      onFatal: (error) => {
        throw error;
      },
      onRemoved: () => undefined,
    });
  };
  expect(await readFile(join(dataDir, "manager.json"), "utf8")).toContain('"begun": false');
  await (await open())[Symbol.asyncDispose]();
  expect(await readFile(join(dataDir, "manager.json"), "utf8")).toContain('"begun": true');
  await (await open())[Symbol.asyncDispose]();
  await rm(join(dataDir, "raft"), { recursive: true });
  await expect(open()).rejects.toMatchObject({
    code: "failed_precondition",
    message: `the log in ${dataDir}/raft is refused: it is gone, and this node has taken part before`,
  });
});
