// Builds a lab's hosts and starts what runs on them, for `up` and for a host that gets its power back. Each step is noted in the
// state as soon as it is done; what a step needs is in the state or on the machine, never in a variable of an earlier step.
import { ClusterError } from "../../lib/mod.js";
import { type DaemonName, clusterInit, daemon, daemonsOf, whenReady } from "./daemons.js";
import { bootHost, findDaemon, hostIsUp, mustExecIn, startDaemon } from "./host.js";
import { call } from "./http.js";
import { buildImages } from "./images/catalog.js";
import { applyAgentCut, applyCuts, plugHost, raiseSwitch } from "./network.js";
import { hostName } from "./options.js";
import { dockerSocket } from "./paths.js";
import { type LabMemory, writeState } from "./state.js";

export interface BringUp {
  /** One line per step. */
  readonly progress: (line: string) => void;
  readonly signal?: AbortSignal;
  /** False: start, and don't wait until it is ready. */
  readonly wait?: boolean;
}

/** What a daemon may take to be ready before `up` gives up on it. */
const READY_MS = 60_000;
const LOAD_MS = 180_000;

/** From nothing to a lab that is up. */
export async function build(lab: LabMemory, how: BringUp): Promise<void> {
  const { plan } = lab;
  writeState(lab.state);
  // Building the images keeps one core busy while the engines start on the other.
  const images = buildImages(plan.name, plan.images);
  const built = images.then(
    () => undefined,
    () => undefined, // Reported where `images` is awaited.
  );
  try {
    const net = await raiseSwitch(plan.name, plan.subnet, how.signal);
    lab.update((state) => ({ ...state, subnet: net.subnet, switchInit: net.init }));
    how.progress(
      `network ${net.subnet}.0/24: ${hostName(1)} to ${hostName(plan.hosts)} at ${net.subnet}.1 to .${plan.hosts}`,
    );
    await settled(lab.hosts.map((n) => boot(lab, n, how.signal)));
    await startDaemons(lab, lab.hosts, how, async () => {
      const { file } = await images;
      if (plan.images.length === 0) return;
      await settled(lab.hosts.map((n) => load(lab, n, file, how.signal)));
      how.progress(`images loaded: ${plan.images.join(", ")}`);
    });
    lab.update((state) => ({ ...state, phase: "up" }));
  } finally {
    // A clean-up after us must not race with somebody who still writes.
    await built;
  }
}

/** Starts what does not run of a lab that is up. */
export async function complete(lab: LabMemory, how: BringUp): Promise<void> {
  const dark = lab.hosts.filter((n) => lab.init(n) === null);
  if (dark.length > 0) how.progress(`starting ${dark.map((n) => `host ${n}`).join(", ")}`);
  await settled(dark.map((n) => boot(lab, n, how.signal)));
  const ended = lab.hosts
    .filter((n) => !dark.includes(n))
    .flatMap((n) => {
      const init = lab.poweredInit(n);
      return daemonsOf(lab.plan, n)
        .filter((name) => findDaemon(lab.name, n, init, name) === null)
        .map((name) => `${name} ${n}`);
    });
  if (ended.length > 0) how.progress(`starting ${ended.join(", ")}`);
  await startDaemons(lab, lab.hosts, { ...how, progress: () => undefined });
}

/** Gives a host power and its cable, and the cuts that it had. */
export async function boot(lab: LabMemory, n: number, signal?: AbortSignal): Promise<void> {
  const { plan, switchInit, cuts, agentCuts } = lab.state;
  if (!hostIsUp(switchInit)) {
    throw new ClusterError(
      "failed_precondition",
      `the network of lab ${lab.name} is gone; run: flotilla lab up --name ${lab.name}`,
    );
  }
  const init = await bootHost(plan.name, n, plan.hosts, lab.subnet, signal);
  lab.setInit(n, init);
  await plugHost(plan.name, n, init, { init: switchInit, subnet: lab.subnet });
  if (cuts.some((cut) => cut.to === n)) await applyCuts(n, init, lab.subnet, cuts);
  if (agentCuts?.includes(n) === true) await applyAgentCut(init, true);
}

/** In the order that they need each other: engines (`then` what wants engines) beside etcd, then managers, then agents. */
export async function startDaemons(
  lab: LabMemory,
  hosts: readonly number[],
  how: BringUp,
  then: () => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  const wave = async (name: DaemonName): Promise<void> => {
    const where = hosts.filter((n) => daemonsOf(lab.plan, n).includes(name));
    await settled(where.map((n) => startOne(lab, name, n, how)));
    if (where.length > 0) how.progress(`${name} ready on ${where.map(hostName).join(", ")}`);
  };
  await settled([wave("dockerd").then(then), wave("etcd")]);
  await wave("manager");
  await wave("agent");
}

export async function startOne(lab: LabMemory, name: DaemonName, n: number, how: BringUp): Promise<void> {
  const { plan, subnet } = lab;
  const init = lab.poweredInit(n);
  if (name === "manager" && n === 1 && !lab.state.clusterMade) await makeCluster(lab);
  await startDaemon(plan.name, n, init, daemon(plan, subnet, n, name));
  // What needs the others may never get ready on a host that is cut off from some; its engine needs nobody.
  const isCut =
    lab.state.cuts.some(({ from, to }) => from === n || to === n) ||
    (name === "agent" && lab.state.agentCuts?.includes(n) === true);
  if (how.wait !== false && (name === "dockerd" || !isCut))
    await whenReady(plan, subnet, n, init, name, READY_MS, how.signal);
}

async function makeCluster(lab: LabMemory): Promise<void> {
  const command = clusterInit(lab.plan, lab.subnet);
  if (command !== null) await mustExecIn(lab.poweredInit(1), command);
  lab.update((state) => ({ ...state, clusterMade: true }));
}

async function load(lab: LabMemory, n: number, file: string, signal?: AbortSignal): Promise<void> {
  const answer = await call({
    socketPath: dockerSocket(lab.name, n),
    method: "POST",
    path: "/images/load?quiet=1",
    bodyFile: file,
    timeoutMs: LOAD_MS,
    ...(signal === undefined ? {} : { signal }),
  });
  if (answer.status !== 200 || answer.body.includes('"errorDetail"')) {
    throw new ClusterError("internal", `host ${n} could not load ${file}: ${answer.body.trim().slice(0, 500)}`);
  }
}

/** Like Promise.all, but nothing is still at work when it fails: a clean-up may begin at once. */
async function settled(work: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(work)).find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}
