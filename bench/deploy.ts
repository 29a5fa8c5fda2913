// Deploying 30 replicas on three engines, and updating them: Flotilla, Docker Swarm and plain `docker run` on the very
// same engines, one after the other in each round. What is timed is the same for all: from the command's start until
// the control plane says that all 30 run (`docker run`: until every command has returned).

import { type RunResult, Lab, BUSYBOX_IMAGE } from "../packaging/lab/mod.js";
import { spawn } from "node:child_process";
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

function flotilla(lab: Lab, args: readonly string[]): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [cli, "--host", lab.managers.join(","), ...args], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
    child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
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

async function dockerRun(lab: Lab): Promise<{ create: number }> {
  const create = await timed(async () => {
    await Promise.all(
      Array.from({ length: replicas }, (_, i) =>
        lab.mustDocker((i % lab.hosts.length) + 1, ["run", "-d", "--name", `plain-${i}`, BUSYBOX_IMAGE, ...command]),
      ),
    );
  });
  for (const n of lab.hosts) {
    const ids = (await lab.mustDocker(n, ["ps", "-aq"])).split("\n").filter(Boolean);
    await lab.mustDocker(n, ["rm", "-f", ...ids]);
  }
  return { create };
}

async function ours(lab: Lab): Promise<{ create: number; update: number }> {
  const create = await timed(async () => {
    const spec = ["--name", "bench", "--replicas", String(replicas), "--update-parallelism", String(parallelism)];
    await flotilla(lab, ["service", "create", "-q", ...spec, "--update-monitor", monitor, BUSYBOX_IMAGE, ...command]);
  });
  const update = await timed(async () => {
    await flotilla(lab, ["service", "update", "-q", "--env-add", "ROUND=2", "bench"]);
  });
  await flotilla(lab, ["service", "rm", "bench"]);
  await containersGone(lab);
  return { create, update };
}

/** Whether all tasks that Swarm wants run, run with the environment of `round`, and the update is over. */
async function swarmRuns(lab: Lab, round: string): Promise<boolean> {
  const inspected: unknown = JSON.parse(await lab.mustDocker(1, ["service", "inspect", "bench"]));
  const [service] = inspected as [{ UpdateStatus?: { State?: string } }];
  if (round !== "" && service.UpdateStatus?.State !== "completed") return false;
  const ids = await lab.mustDocker(1, ["service", "ps", "-q", "--no-trunc", "-f", "desired-state=running", "bench"]);
  const list = ids.split("\n").filter(Boolean);
  if (list.length !== replicas) return false;
  const states = await lab.mustDocker(1, ["inspect", "--format", "{{.Status.State}}", ...list]);
  return states.split("\n").filter((state) => state === "running").length === replicas;
}

async function swarm(lab: Lab): Promise<{ create: number; update: number }> {
  const create = await timed(async () => {
    const spec = ["--name", "bench", "--replicas", String(replicas), "--update-parallelism", String(parallelism)];
    await lab.mustDocker(1, [
      "service",
      "create",
      "-d",
      "-q",
      ...spec,
      "--no-resolve-image",
      "--update-monitor",
      monitor,
      BUSYBOX_IMAGE,
      ...command,
    ]);
    await until("Swarm's create", () => swarmRuns(lab, ""));
  });
  const update = await timed(async () => {
    await lab.mustDocker(1, ["service", "update", "-d", "-q", "--no-resolve-image", "--env-add", "ROUND=2", "bench"]);
    await until("Swarm's update", () => swarmRuns(lab, "2"));
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
      const [run, mine, theirs]: [number[], number[][], number[][]] = [[], [], []];
      for (let round = 0; round <= rounds; round += 1) {
        const figures = { run: await dockerRun(lab), mine: await ours(lab), theirs: await swarm(lab) };
        const { mine: m, theirs: t, run: r } = figures;
        const text = `docker run ${r.create.toFixed(2)} s; flotilla ${m.create.toFixed(2)} / ${m.update.toFixed(2)} s; swarm ${t.create.toFixed(2)} / ${t.update.toFixed(2)} s`;
        progress(`${round === 0 ? "warm-up" : `round ${round}`}: ${text}`);
        if (round === 0) continue;
        run.push(r.create);
        mine.push([m.create, m.update]);
        theirs.push([t.create, t.update]);
      }
      const column = (rows: readonly number[][], i: number) => median(rows.map((row) => row[i] ?? Number.NaN));
      const create = `create ${replicas} to running, s`;
      return [
        { name: create, ours: column(mine, 0), peerName: "docker swarm", peer: column(theirs, 0), goal: "<= 0.35" },
        { name: create, ours: column(mine, 0), peerName: "docker run", peer: median(run), goal: "<= 1.30" },
        {
          name: `update ${replicas}, parallelism ${parallelism}, s`,
          ours: column(mine, 1),
          peerName: "docker swarm",
          peer: column(theirs, 1),
          goal: "<= 0.50",
        },
      ];
    } finally {
      await lab.down();
    }
  },
};
