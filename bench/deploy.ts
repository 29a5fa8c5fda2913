// Deploying 30 replicas on three engines, and updating them: Flotilla, Docker Swarm and plain `docker run` on the very
// same engines, one after the other in each round. Our services are found by name on every host and published, so
// Swarm's are too, on an overlay network, and beside that once without either. What is timed is the same for all: from
// the command's start until the control plane says that all 30 run (`docker run`: until every command has returned).

import { type RunResult, Lab, BUSYBOX_IMAGE } from "../packaging/lab/mod.js";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { type Benchmark, median } from "./figure.js";

const cli = fileURLToPath(new URL("../cli/main.js", import.meta.url));
const replicas = 30;
const parallelism = 10;
/** How long each new task is watched during an update, the same for both. */
const monitor = "1s";
/** Ends at once on SIGTERM, so that stopping costs everybody the same: nothing. */
const command = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"];
const pollMs = 25;
const deadlineMs = 300_000;

async function timed(work: () => Promise<void>): Promise<number> {
  const startMs = performance.now();
  await work();
  return (performance.now() - startMs) / 1000;
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + deadlineMs;
  while (!(await holds())) {
    if (performance.now() > endMs) throw new Error(`${what}: not within ${deadlineMs / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}

/** Runs the command line to its end; `onLine` hears each line that it prints. */
function flotilla(lab: Lab, args: readonly string[], onLine?: (line: string) => void): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [cli, "--host", lab.managers.join(","), ...args], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
    child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
    if (onLine !== undefined)
      for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on("line", onLine);
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve({ code, stdout, stderr });
      else reject(new Error(`flotilla ${args.join(" ")} exited with ${code}: ${stderr}`));
    });
  });
}

async function containersGone(lab: Lab): Promise<void> {
  await until("no container left", async () => {
    const left = await Promise.all(lab.hosts.map((n) => lab.mustDocker(n, ["ps", "-aq"])));
    return left.every((text) => text.trim() === "");
  });
}

/** The network that makes containers of a host know each other by name: what `docker run` needs for that. */
const plainNetwork = "bench-plain";
/** The same for Swarm: services on it are found by name across hosts. */
const overlayNetwork = "bench-overlay";

async function dockerRun(lab: Lab): Promise<number> {
  const create = await timed(async () => {
    await Promise.all(
      Array.from({ length: replicas }, (_, i) =>
        lab.mustDocker((i % lab.hosts.length) + 1, [
          ...["run", "-d", "--network", plainNetwork, "--name", `plain-${i}`],
          BUSYBOX_IMAGE,
          ...command,
        ]),
      ),
    );
  });
  for (const n of lab.hosts) {
    const ids = (await lab.mustDocker(n, ["ps", "-aq"])).split("\n").filter(Boolean);
    await lab.mustDocker(n, ["rm", "-f", ...ids]);
  }
  return create;
}

interface Times {
  create: number;
  update: number;
}

const options = [
  ...["--name", "bench", "--replicas", String(replicas)],
  ...["--update-parallelism", String(parallelism), "--update-monitor", monitor],
];

/** Swarm takes a task for good as soon as it runs; by default we wait a second more. */
const asSwarm = ["--update-min-healthy-time", "0s"];

async function ours(lab: Lab, more: readonly string[]): Promise<Times> {
  const startMs = performance.now();
  let create = Number.NaN;
  const flags = ["--progress", "json", ...options, ...asSwarm, ...more];
  // The command goes on watching for a while; what counts is when the managers say that all run.
  await flotilla(lab, ["service", "create", ...flags, BUSYBOX_IMAGE, ...command], (line) => {
    if (!line.startsWith("{")) return;
    const { type, running } = JSON.parse(line) as { type?: string; running?: number };
    if (type === "progress" && running === replicas && Number.isNaN(create))
      create = (performance.now() - startMs) / 1000;
  });
  const update = await timed(async () => {
    await flotilla(lab, ["service", "update", "-q", "--env-add", "ROUND=2", "bench"]);
  });
  await flotilla(lab, ["service", "rm", "bench"]);
  await containersGone(lab);
  return { create, update };
}

/** Whether all tasks that Swarm wants run, and the update, if there was one, is over. */
async function swarmRuns(lab: Lab, updated: boolean): Promise<boolean> {
  const inspected: unknown = JSON.parse(await lab.mustDocker(1, ["service", "inspect", "bench"]));
  const [service] = inspected as [{ UpdateStatus?: { State?: string } }];
  if (updated && service.UpdateStatus?.State !== "completed") return false;
  const ids = await lab.mustDocker(1, ["service", "ps", "-q", "--no-trunc", "-f", "desired-state=running", "bench"]);
  const list = ids.split("\n").filter(Boolean);
  if (list.length !== replicas) return false;
  const states = await lab.mustDocker(1, ["inspect", "--format", "{{.Status.State}}", ...list]);
  return states.split("\n").filter((state) => state === "running").length === replicas;
}

async function swarm(lab: Lab, more: readonly string[]): Promise<Times> {
  const create = await timed(async () => {
    const quiet = ["-d", "-q", "--no-resolve-image"];
    await lab.mustDocker(1, ["service", "create", ...quiet, ...options, ...more, BUSYBOX_IMAGE, ...command]);
    await until("Swarm's create", () => swarmRuns(lab, false));
  });
  const update = await timed(async () => {
    await lab.mustDocker(1, ["service", "update", "-d", "-q", "--no-resolve-image", "--env-add", "ROUND=2", "bench"]);
    await until("Swarm's update", () => swarmRuns(lab, true));
  });
  await lab.mustDocker(1, ["service", "rm", "bench"]);
  await containersGone(lab);
  return { create, update };
}

async function startSwarm(lab: Lab): Promise<void> {
  await lab.mustDocker(1, ["swarm", "init", "--advertise-addr", lab.address(1)]);
  const token = (await lab.mustDocker(1, ["swarm", "join-token", "-q", "worker"])).trim();
  for (const n of lab.hosts.slice(1))
    await lab.mustDocker(n, [
      "swarm",
      "join",
      "--token",
      token,
      "--advertise-addr",
      lab.address(n),
      `${lab.address(1)}:2377`,
    ]);
  await lab.mustDocker(1, ["network", "create", "-d", "overlay", overlayNetwork]);
  for (const n of lab.hosts) await lab.mustDocker(n, ["network", "create", plainNetwork]);
}

export const deploy: Benchmark = {
  name: "deploy",
  help: `${replicas} replicas on three engines, created and updated, beside Docker Swarm and docker run`,
  run: async ({ progress, rounds = 3 }) => {
    const name = "bench";
    await Lab.down(name);
    const lab = await Lab.up({ name, hosts: 3, store: "etcd", images: ["busybox"], progress });
    try {
      await startSwarm(lab);
      const published = ["--publish", "8090:80"];
      const measured: { run: number; own: Times; full: Times; bare: Times }[] = [];
      for (let round = 0; round <= rounds; round += 1) {
        const run = await dockerRun(lab);
        const own = await ours(lab, published);
        const full = await swarm(lab, ["--network", overlayNetwork, "--publish", "8091:80"]);
        const bare = await swarm(lab, []);
        const text = ({ create, update }: Times) => `${create.toFixed(2)} / ${update.toFixed(2)} s`;
        progress(
          `${round === 0 ? "warm-up" : `round ${round}`}: docker run ${run.toFixed(2)} s; flotilla ${text(own)}; swarm ${text(full)}; swarm, bare ${text(bare)}`,
        );
        // The first round warms every process and cache up, ours and theirs.
        if (round > 0) measured.push({ run, own, full, bare });
      }
      const of = (pick: (row: (typeof measured)[number]) => number) => median(measured.map(pick));
      const create = { name: `create ${replicas} to running, s`, ours: of(({ own }) => own.create) };
      const update = { name: `update ${replicas}, parallelism ${parallelism}, s`, ours: of(({ own }) => own.update) };
      // The same work: found by name on every host, and published. Swarm can also do without both; we can't.
      const same = "swarm, named and published";
      const bare = "swarm, neither";
      return [
        { ...create, peerName: same, peer: of(({ full }) => full.create), goal: "<= 0.35" },
        { ...create, peerName: bare, peer: of((row) => row.bare.create), goal: "" },
        { ...create, peerName: "docker run --network", peer: of(({ run }) => run), goal: "<= 1.30" },
        { ...update, peerName: same, peer: of(({ full }) => full.update), goal: "<= 0.50" },
        { ...update, peerName: bare, peer: of((row) => row.bare.update), goal: "" },
      ];
    } finally {
      await lab.down();
    }
  },
};
