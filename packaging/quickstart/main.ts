// The run: set-up, steps, and the end, whatever brings it. The lab goes down in every case but SIGKILL, and then in the next run.
import { ClusterError, messageOf, pause, sleep, systemClock } from "../../lib/mod.js";
import { Lab, lock } from "../lab/mod.js";
import { type Need, ensureSystem } from "../setup/mod.js";
import { Cluster, LAB_NAME, removeLab } from "./cluster.js";
import { type Report, list, reportTo, seconds } from "./report.js";
import { readyNodes, steps } from "./steps.js";

export interface QuickstartOptions {
  /** Check everything and leave, instead of staying until Ctrl-C. */
  readonly once: boolean;
  readonly need: readonly Need[];
}

const HOSTS = 3;
const DETACHED = 130;

/** Answers the exit code: 0 if all was seen, 130 if interrupted before, else 1. */
export async function quickstart({ once, need }: QuickstartOptions): Promise<number> {
  const report = reportTo(printer());
  const interruption = new AbortController();
  listen(interruption, report);
  await using _ = await lock("quickstart", "a quickstart; a machine has room for one");
  const { signal } = interruption;
  const beganMs = systemClock.monotonic();
  let code = 1;
  try {
    const cluster = await bringUp(need, report, signal);
    const missed = await runSteps(cluster, report, signal);
    code = missed.length === 0 ? 0 : 1;
    report.line();
    if (missed.length > 0) report.line(`NOT seen: ${missed.join("; ")}.`);
    else report.line(`All of it was seen, in ${seconds(systemClock.monotonic() - beganMs)}.`);
    if (!once && code === 0) {
      for (const line of howToGoOn(cluster)) report.line(line);
      await untilAborted(signal);
    }
  } catch (cause) {
    // What was under way fails in its own words when Ctrl-C reaches it before us.
    await sleep(systemClock, 100);
    if (signal.aborted) code = DETACHED;
    else report.notSeen(messageOf(cause));
  } finally {
    await takeDown(report);
  }
  return code;
}

async function bringUp(need: readonly Need[], report: Report, signal: AbortSignal): Promise<Cluster> {
  const of = steps.length + 2;
  report.line("Flotilla on three Docker hosts of its own, on this machine. Ctrl-C ends it, and nothing is left.");
  report.step(1, of, `what it needs: ${need.join(", ")}`);
  let installed = false;
  await ensureSystem({
    need,
    print: (line) => {
      installed = true;
      report.saw(line);
    },
  });
  report.saw(installed ? "installed" : "all there");
  signal.throwIfAborted();
  report.step(2, of, `a cluster: ${HOSTS} hosts with a Docker Engine, a manager and an agent each`);
  const beganMs = systemClock.monotonic();
  if (await removeLab()) report.saw("removed what an earlier run left");
  const lab = await Lab.up({ name: LAB_NAME, hosts: HOSTS, managers: HOSTS, signal });
  const cluster = new Cluster(lab, signal);
  report.saw(`up in ${seconds(systemClock.monotonic() - beganMs)}: ${await readyNodes(cluster)}`);
  return cluster;
}

/** Answers what was not seen. A step that fails does not keep the later ones from being tried, unless they build on it. */
async function runSteps(cluster: Cluster, report: Report, signal: AbortSignal): Promise<readonly string[]> {
  const missed: string[] = [];
  for (const [i, step] of steps.entries()) {
    const { name, command, vital } = step;
    report.step(i + 3, steps.length + 2, name, command);
    try {
      await step.run(cluster, (text) => report.saw(text), signal);
    } catch (cause) {
      await sleep(systemClock, 100);
      signal.throwIfAborted();
      report.notSeen(messageOf(cause));
      missed.push(name);
      if (vital === true) {
        const rest = steps.slice(i + 1).map(({ name }) => name);
        return rest.length === 0 ? missed : [...missed, `and so not tried: ${list(rest)}`];
      }
    }
  }
  return missed;
}

function howToGoOn({ lab, managers }: Cluster): readonly string[] {
  return [
    "The cluster stays until Ctrl-C. Try it from another terminal, in this folder, as root:",
    `  export FLOTILLA_HOST=${managers}`,
    "  npx flotilla service ls",
    "  npx flotilla service scale web=9",
    "  npx flotilla cluster status",
    "  npx flotilla service update --image flotilla/demo:3 web",
    `  npx flotilla lab docker --name ${lab.name} 2 ps             # the containers of host 2`,
    `  npx flotilla lab kill --name ${lab.name} host 3             # its manager too; its tasks move; "lab start" brings it back`,
    `  curl http://${lab.address(1)}:8080/`,
    `Metrics of a manager: http://${lab.address(1)}:7401/metrics`,
  ];
}

/** After an interrupted `Lab.up` there is nothing left to take down; it is said all the same. */
async function takeDown(report: Report): Promise<void> {
  const beganMs = systemClock.monotonic();
  await removeLab();
  report.line(`The cluster is down, in ${seconds(systemClock.monotonic() - beganMs)}; nothing of it is left.`);
}

/** Ctrl-C, kill, a closed terminal: the first ends the run, later ones must not end the clean-up. npm hands signals on, so they come twice. */
function listen(interruption: AbortController, report: Report): void {
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.on(name, () => {
      if (interruption.signal.aborted) return;
      report.line(`\n${name}: taking the cluster down …`);
      interruption.abort(new ClusterError("cancelled", `interrupted by ${name}`));
    });
}

/** Whoever reads along may leave, as `| head` or a closed terminal does; the clean-up goes on. */
function printer(): (text: string) => void {
  let gone = false;
  process.stdout.on("error", () => {
    gone = true;
  });
  return (text) => {
    if (!gone) process.stdout.write(text);
  };
}

/** Signal handlers alone do not keep a process alive. */
async function untilAborted(signal: AbortSignal): Promise<void> {
  while (!signal.aborted) await pause(systemClock, 3_600_000, signal);
}
