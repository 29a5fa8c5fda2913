// Tries the lab for real, as root, with hosts and engines but without managers, and checks what README.md claims: containers on all
// hosts reach each other's published ports, cuts cut and heal, hosts lose power and come back, an `up` killed at any moment is
// cleaned up by the next, two labs stand side by side, and `down` leaves the machine as it was. Prints a line per check with its
// time; exits 1 if one failed. `node dist/packaging/lab/e2e/try.js [SEED]`
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { messageOf, seededRng, sleep, systemClock } from "../../../lib/mod.js";
import { BUSYBOX_IMAGE, DEMO_IMAGE, Lab } from "../mod.js";
import { DATA_ROOT, RUN_ROOT } from "../paths.js";
import { marked } from "../proc.js";
import { mustRun } from "../run.js";

const NAME = "try";
const SECOND = "try-too";
const KILLS = 12;
/** A killed `up` dies at a random moment of its first so many milliseconds; a whole one takes about 2 s. */
const KILL_WITHIN_MS = 2_500;
const seed = Number(process.argv[2] ?? process.pid);
let failed = 0;

async function check(what: string, work: () => Promise<unknown>): Promise<void> {
  const began = systemClock.monotonic();
  let verdict = "ok  ";
  let why = "";
  try {
    await work();
  } catch (cause) {
    failed += 1;
    verdict = "FAIL";
    why = `: ${messageOf(cause)}`;
  }
  console.log(`${verdict} ${((systemClock.monotonic() - began) / 1000).toFixed(2).padStart(6)} s  ${what}${why}`);
}

function expect(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

/** Whatever of a lab could be seen on the machine, but for other labs. */
async function traces(): Promise<string> {
  const links = (await mustRun("ip", ["-o", "link"])).split("\n").filter((line) => line.includes("flo-try")).length;
  const rules = await mustRun("iptables-save", []);
  const folders = [RUN_ROOT, DATA_ROOT]
    .flatMap((root) => (existsSync(root) ? readdirSync(root) : []))
    .filter((name) => name.startsWith(NAME));
  const mounts = readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .filter((line) => line.includes(`flotilla-lab/${NAME}`));
  const cgroups = await mustRun("find", ["/sys/fs/cgroup", "-path", `*/flotilla-lab/${NAME}*`]);
  const inits = marked().filter(({ mark }) => mark.startsWith(NAME)).length;
  // Counters and times differ from one listing of the rules to the next.
  return JSON.stringify({ links, folders, mounts, cgroups, inits, rules: rules.replace(/^#.*$|\[\d+:\d+\]/gm, "") });
}

async function web(lab: Lab, from: number, to: number): Promise<boolean> {
  const url = `http://${lab.address(to)}:8080/`;
  const answer = await lab.docker(from, ["exec", "web", "/bin/timeout", "2", "/bin/wget", "-q", "-O", "-", url]);
  return answer.code === 0 && answer.stdout.endsWith(" 1\n");
}

async function everyoneReaches(lab: Lab): Promise<void> {
  for (const from of lab.hosts)
    for (const to of lab.hosts) expect(await web(lab, from, to), `a container of h${from} gets no answer from h${to}`);
}

async function untilServing(lab: Lab, n: number): Promise<void> {
  for (let i = 0; i < 100; i++) {
    if (
      (await lab.docker(n, ["exec", "web", "/bin/wget", "-q", "-O", "/dev/null", "http://127.0.0.1/healthz"])).code ===
      0
    )
      return;
    await sleep(systemClock, 50);
  }
  throw new Error(`the web server of h${n} does not answer`);
}

const etcdPut = (lab: Lab) =>
  lab.mustExec(1, [
    "env",
    "ETCDCTL_API=3",
    "etcdctl",
    "--endpoints",
    lab.etcdEndpoints.slice(0, 2).join(","),
    "put",
    "key",
    "value",
  ]);

async function killedUps(): Promise<void> {
  const rng = seededRng(seed);
  const script = `import { Lab } from ${JSON.stringify(fileURLToPath(new URL("../mod.js", import.meta.url)))}; await Lab.up({ name: ${JSON.stringify(NAME)}, store: "etcd", processes: false });`;
  for (let i = 0; i < KILLS; i++) {
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: "inherit" });
    const gone = once(child, "exit");
    await Promise.race([gone, sleep(systemClock, rng.below(KILL_WITHIN_MS))]);
    child.kill("SIGKILL");
    await gone;
  }
}

async function main(): Promise<void> {
  console.log(`seed ${seed}`);
  const before = await traces();
  let lab: Lab | undefined;
  await check("up, three hosts, etcd, all images", async () => {
    lab = await Lab.up({ name: NAME, store: "etcd", processes: false });
  });
  if (lab === undefined) return;
  const it = lab;
  await check("a second up finds it", async () =>
    expect(!(await Lab.up({ name: NAME, store: "etcd", processes: false })).created, "it was made again"),
  );
  await check("a container on each host", async () => {
    await Promise.all(
      it.hosts.map((n) => it.mustDocker(n, ["run", "-d", "--name", "web", "-p", "8080:80", `${DEMO_IMAGE}:1`])),
    );
    await Promise.all(it.hosts.map((n) => untilServing(it, n)));
  });
  await check("all reach all", () => everyoneReaches(it));
  await check("the same image ids everywhere", async () => {
    const ids = await Promise.all(
      it.hosts.map((n) => it.mustDocker(n, ["images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"])),
    );
    expect(new Set(ids.map((list) => list.trim().split("\n").sort().join())).size === 1, ids.join("\n"));
  });
  await check("a lookup without an ambassador fails within 1 s", async () => {
    const began = systemClock.monotonic();
    await it.exec(1, ["getent", "hosts", "example.org"]);
    await it.docker(1, ["run", "--rm", BUSYBOX_IMAGE, "nslookup", "example.org"]);
    expect(systemClock.monotonic() - began < 1_000, "it took longer");
  });
  await check("cut 1 2, and heal", async () => {
    await it.cut(1, 2);
    expect(!(await web(it, 1, 2)) && !(await web(it, 2, 1)), "h1 and h2 still talk");
    expect((await web(it, 1, 3)) && (await web(it, 2, 3)), "others were cut too");
    await it.heal();
    await everyoneReaches(it);
  });
  await check("kill host 3: etcd goes on; start: it has its disk and its cuts", async () => {
    await it.cut(3, 1);
    await it.kill("host", 3);
    await sleep(systemClock, 2_000);
    await etcdPut(it);
    await it.start("host", 3);
    await it.mustDocker(3, ["start", "web"]);
    await untilServing(it, 3);
    expect(!(await web(it, 1, 3)), "the cut is forgotten");
    await it.heal();
    await everyoneReaches(it);
  });
  await check("pause host 2 with its containers, and resume", async () => {
    it.pause("host", 2);
    expect(!(await web(it, 1, 2)), "it still answers");
    it.resume("host", 2);
    expect(await web(it, 1, 2), "it does not answer again");
  });
  await check("kill dockerd 1 and start it", async () => {
    await it.kill("dockerd", 1);
    await it.start("dockerd", 1);
  });
  await check("sick gets unhealthy, broken exits with 1 and says why", async () => {
    await it.mustDocker(2, ["run", "-d", "--name", "sick", `${DEMO_IMAGE}:sick`]);
    const broken = await it.docker(2, ["run", "--rm", `${DEMO_IMAGE}:broken`]);
    expect(broken.code === 1 && broken.stderr.includes("refused the password"), JSON.stringify(broken));
    await sleep(systemClock, 5_000);
    expect(
      (await it.mustDocker(2, ["inspect", "-f", "{{.State.Health.Status}}", "sick"])).trim() === "unhealthy",
      "it is not unhealthy",
    );
  });
  await check("a second lab beside it, and down", async () => {
    const other = await Lab.up({ name: SECOND, hosts: 2, store: "etcd", processes: false, images: ["busybox"] });
    expect(other.subnet !== it.subnet, "both have the same subnet");
    await other.mustDocker(1, ["run", "--rm", BUSYBOX_IMAGE, "true"]);
    await other.down();
    expect(await web(it, 2, 3), "the first lab suffered");
  });
  await check("down", () => it.down());
  await check("nothing is left", async () =>
    expect((await traces()) === before, `before ${before}\nafter ${await traces()}`),
  );
  await check(`${KILLS} times up, killed within ${KILL_WITHIN_MS} ms`, killedUps);
  await check("up again", () => Lab.up({ name: NAME, store: "etcd", processes: false }));
  await check("down again", () => Lab.down(NAME));
  await check("nothing is left again", async () =>
    expect((await traces()) === before, `before ${before}\nafter ${await traces()}`),
  );
}

try {
  await main();
} finally {
  await Lab.down(NAME);
  await Lab.down(SECOND);
}
process.exitCode = failed === 0 ? 0 : 1;
