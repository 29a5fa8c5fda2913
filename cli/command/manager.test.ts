import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FakeIo } from "../../test/kit/cli/io.js";
import { fakeProcesses, optionsOf as options, refused } from "../../test/kit/cli/processes.js";
import { exits } from "../exit.js";
import { run } from "../program.js";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "flotilla-cli-"));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

async function init(...words: string[]): Promise<void> {
  const all = ["cluster", "init", "--data-dir", dir, "--advertise-addr", "10.0.0.1:7400", "--name", "h1", ...words];
  expect(await run(all, new FakeIo())).toBe(0);
}

/** A line that is right in itself, and cannot be done on this directory. */
async function stopped(...words: string[]): Promise<string> {
  const io = new FakeIo();
  const { processes, started } = fakeProcesses();
  expect(await run(["manager", "--data-dir", dir, ...words], io, { processes })).toBe(exits.error);
  expect(started).toEqual([]);
  return io.stderr;
}

describe("flotilla manager", () => {
  it("runs on what cluster init prepared, and listens where it is advertised", async () => {
    await init();
    expect(await options("manager", "--data-dir", dir, "--log-level", "debug")).toEqual({
      dataDir: dir,
      listen: "10.0.0.1:7400",
      httpListen: "10.0.0.1:7401",
      advertise: "10.0.0.1:7400",
      join: [],
      name: "h1",
      store: undefined,
      etcd: [],
      logLevel: "debug",
    });
  });

  it("joins a cluster when its directory is empty", async () => {
    expect(
      await options("manager", "--data-dir", dir, "--listen", "10.0.0.2", "--join", "10.0.0.1,10.0.0.3:7500"),
    ).toMatchObject({
      listen: "10.0.0.2:7400",
      httpListen: "127.0.0.1:7401",
      advertise: "10.0.0.2:7400",
      join: ["10.0.0.1:7400", "10.0.0.3:7500"],
      name: hostname(),
      store: undefined,
    });
    const natted = ["--listen", "0.0.0.0:7400", "--advertise-addr", "192.0.2.7:17400", "--http-listen", "0.0.0.0:7401"];
    expect(await options("manager", "--data-dir", dir, "--join", "h1", ...natted)).toMatchObject({
      listen: "0.0.0.0:7400",
      httpListen: "0.0.0.0:7401",
      advertise: "192.0.2.7:17400",
    });
  });

  it("takes an empty --join for none, and another place for etcd", async () => {
    await init("--store", "etcd", "--etcd", "http://a:2379");
    expect(await options("manager", "--data-dir", dir, "--join", "", "--etcd", "http://b:2379")).toMatchObject({
      join: [],
      etcd: ["http://b:2379"],
    });
  });

  it("on an empty directory names both ways, as lines to type", async () => {
    const text = await stopped("--listen", "10.0.0.2:7400");
    expect(text).toContain(`error: ${dir} holds no manager yet: begin a cluster on it, or join one\n`);
    expect(text).toContain(`next: flotilla cluster init --data-dir ${dir} --advertise-addr 10.0.0.2:7400 `);
    expect(text).toContain(`      flotilla manager --data-dir ${dir} --advertise-addr 10.0.0.2:7400 --join HOST:7400 `);
  });

  it("does not run on the directory of another manager, or of one that was taken out", async () => {
    await init();
    expect(await stopped("--name", "h2")).toMatch(/manager 1 of cluster flotilla, whose name is h1 and not h2\n/);
    const moved = await stopped("--advertise-addr", "10.0.0.9:7400");
    expect(moved).toContain("which the other managers know at 10.0.0.1:7400 and not at 10.0.0.9:7400\n");
    expect(moved).toContain("flotilla cluster leave h1");
    expect(await stopped("--etcd", "http://a:2379")).toContain("it has no etcd\n");
    await writeFile(join(dir, "removed"), "taken out by the others\n");
    expect(await stopped()).toContain("--join");
  });

  it("does not tell others of an address that means something else to them", async () => {
    const at = (...words: string[]) => refused("manager", "--data-dir", dir, "--join", "10.0.0.1", ...words);
    expect(await at()).toContain(
      "error: --advertise-addr is needed: the managers at 10.0.0.1:7400 could not reach this one at 127.0.0.1:7400;",
    );
    expect(await at("--listen", "0.0.0.0:7400")).toContain("--advertise-addr is needed: --listen 0.0.0.0:7400 is no");
    expect(await at("--listen", "10.0.0.2:0")).toContain("--advertise-addr is needed: --listen has no port");
    for (const nowhere of ["0.0.0.0:7400", "[::]:7400", "10.0.0.2:0"])
      expect(await at("--advertise-addr", nowhere), nowhere).toMatch(/^error: --advertise-addr: .* must /m);
    // All on one machine is fine.
    await options("manager", "--data-dir", dir, "--listen", "127.0.0.1:7500", "--join", "127.0.0.1:7400");
  });

  it("--store memory is alone, and needs no directory of a cluster", async () => {
    expect(await options("manager", "--store", "memory")).toMatchObject({
      store: "memory",
      listen: "127.0.0.1:7400",
      httpListen: "127.0.0.1:7401",
      advertise: "127.0.0.1:7400",
      dataDir: "/var/lib/flotilla/manager",
    });
    expect(await refused("manager", "--store", "memory", "--join", "h1")).toContain("leave --join and --etcd out");
  });

  it("refuses what cannot be, all at once", async () => {
    const text = await refused("manager", "--listen", "nowhere:port", "--log-level", "loud", "--name", "a b");
    for (const field of ["--listen", "--log-level", "--name"])
      expect(text).toMatch(new RegExp(`^error: ${field}:? `, "m"));
    expect(await refused("manager", "--store", "constructor")).toContain("must be one of memory");
    expect(await refused("manager", "--store", "raft")).toContain("flotilla cluster init --store raft");
    expect(await refused("manager", "extra")).toContain("too many arguments");
  });
});
