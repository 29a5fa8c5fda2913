// The keeper with a small real program in the manager's place.

import { mkdtemp, readFile, readdir, rm, writeFile, mkdir } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { silentLogger, systemClock, systemRng } from "../../lib/mod.js";
import { NodeRole } from "../../proto/mod.js";
import { eventually } from "../../test/kit/lab.js";
import { ManagerKeeper } from "./mod.js";

let dir: string;
let controller: AbortController;
let running: Promise<void>;
let port: number;
const members = ["10.0.0.1:7400", "10.0.0.2:7400"];

/** Writes its flags down, listens, and ends when asked to by a file. */
const program = `
const { appendFileSync, existsSync } = require("node:fs");
const { createServer } = require("node:net");
const [dir, ...args] = process.argv.slice(1);
appendFileSync(dir + "/starts", JSON.stringify(args) + "\\n");
const at = args[args.indexOf("--listen") + 1].split(":");
const server = createServer((socket) => socket.end()).listen(Number(at[1]), at[0]);
const timer = setInterval(() => {
  if (!existsSync(dir + "/live")) { clearInterval(timer); server.close(); }
}, 20);
`;

const starts = async (): Promise<string[][]> =>
  (await readFile(join(dir, "starts"), "utf8").catch(() => ""))
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as string[]);

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "flotilla-keeper-"));
  await writeFile(join(dir, "live"), "");
  controller = new AbortController();
  const server = createServer();
  port = await new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve((server.address() as { port: number }).port));
  });
  await new Promise((resolve) => server.close(resolve));
});

afterEach(async () => {
  await rm(join(dir, "live"), { force: true });
  controller.abort();
  await running;
  await eventually("the program has ended", async () => !(await listening()));
  await rm(dir, { recursive: true, force: true });
});

async function listening(): Promise<boolean> {
  const { connect } = await import("node:net");
  return await new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("connect", () => resolve(true));
    socket.on("error", () => resolve(false));
    socket.on("close", () => socket.destroy());
  });
}

function begin(): ManagerKeeper {
  const keeper = new ManagerKeeper({
    command: [process.execPath, "-e", program, dir],
    dataDir: dir,
    hostname: "h9",
    address: `127.0.0.1:${port}`,
    httpAddress: "127.0.0.1:1",
    managers: () => members,
    clock: systemClock,
    rng: systemRng,
    log: silentLogger,
  });
  running = keeper.run(controller.signal);
  return keeper;
}

test("a promoted node gets a manager that joins the others, and it outlives the agent", async () => {
  const keeper = begin();
  expect(await starts()).toEqual([]);
  keeper.assign(NodeRole.MANAGER, members);
  await eventually("it runs", listening);
  expect(await starts()).toEqual([
    [
      ...["--data-dir", join(dir, "manager"), "--listen", `127.0.0.1:${port}`, "--http-listen", "127.0.0.1:1"],
      ...["--name", "h9", "--join", "10.0.0.1:7400,10.0.0.2:7400"],
    ],
  ]);
  controller.abort();
  await running;
  expect(await listening()).toBe(true);
  // The next agent finds it and starts no second one.
  controller = new AbortController();
  begin().assign(NodeRole.MANAGER, members);
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(await starts()).toHaveLength(1);
});

test("a manager that ends is started again; a removed one begins with an empty directory", async () => {
  const keeper = begin();
  keeper.assign(NodeRole.MANAGER, members);
  await eventually("it runs", listening);
  await mkdir(join(dir, "manager"), { recursive: true });
  await writeFile(join(dir, "manager", "removed"), "");
  await rm(join(dir, "live"));
  await eventually("it ended", async () => !(await listening()));
  await writeFile(join(dir, "live"), "");
  await eventually("it runs again", async () => (await starts()).length === 2 && (await listening()));
  expect(await readdir(join(dir, "manager"))).toEqual([]);
  expect(await readdir(join(dir, "manager.removed"))).toEqual(["removed"]);
});

test("a demoted node's manager is not started again", async () => {
  const keeper = begin();
  keeper.assign(NodeRole.MANAGER, members);
  await eventually("it runs", listening);
  keeper.assign(NodeRole.WORKER, members);
  await rm(join(dir, "live"));
  await eventually("it ended", async () => !(await listening()));
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(await starts()).toHaveLength(1);
});

test("a member of this address that somebody else runs is not replaced while it is down, as at a reboot", async () => {
  const keeper = begin();
  const all = [...members, `127.0.0.1:${port}`];
  keeper.assign(NodeRole.MANAGER, all);
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(await starts()).toEqual([]);
  // The one that was started here is: its directory is here.
  await mkdir(join(dir, "manager"));
  await writeFile(join(dir, "manager", "manager.json"), "{}");
  keeper.assign(NodeRole.WORKER, all);
  keeper.assign(NodeRole.MANAGER, all);
  await eventually("it runs", listening);
  expect(await starts()).toHaveLength(1);
});
