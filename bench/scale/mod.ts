// A cluster of 5,000 hosts as its managers see it: real sessions, each with a connection of its own, from agents whose
// tasks run by timers. What the managers cost at rest, what change they take, and what the loss of a host and of the
// leader come to. All of it shares this machine's cores: the agents and this program too.

import type { ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { messageOf } from "../../lib/mod.js";
import { NodeState, TaskState } from "../../proto/mod.js";
import { ServiceSpec } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { type Benchmark, type Figure, median } from "../figure.js";
import { until } from "../wait.js";
import { Fleet } from "./fleet.js";
import { Managers } from "./managers.js";

const agents = Number(process.env["FLOTILLA_BENCH_AGENTS"] ?? 5_000);
/** Two, so that they share no core with the leader when there are three. */
const agentProcesses = 2;
/** Hosts that the service whose host is lost may run on; the lost one has a process of its own. */
const spares = 9;
const services = 50;
const steadyMs = 60_000;
/** Tasks begun per second, and as many stopped. */
const churnRates = [100, 250, 500, 1_000];
const churnTicks = 10;
const churnServices = 10;
const joinMs = 300_000;
const settleMs = 180_000;
/** A machine like the agents' cannot start them all in one moment either. */
const startPerSecond = 60;
const quietMs = 5_000;

interface Bench {
  managers: Managers;
  fleet: Fleet;
  progress: (line: string) => void;
}

function specOf(name: string, replicas: number, constraints: string[] = []): ServiceSpec {
  return ServiceSpec.fromPartial({
    name,
    mode: { $case: "replicated", value: { replicas } },
    task: { container: { image: "simulated:1" }, placement: { constraints } },
    ports: [{ protocol: 1, targetPort: 80, mode: 1 }],
  });
}

function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

const seconds = (ms: number) => (ms / 1_000).toFixed(2);

async function running({ fleet }: Bench, count: number, what: string): Promise<void> {
  await until(what, settleMs, async () => ((await fleet.figures()).running === count ? true : undefined));
}

/** Starts all agents; answers the process of the host that is to be lost. */
async function joinAll(bench: Bench): Promise<{ victim: ChildProcess; cpuMs: number }> {
  const { managers, fleet, progress } = bench;
  const addresses = managers.addresses;
  const startMs = performance.now();
  const leader = await managers.leader();
  const cpuBefore = managers.usage(leader).cpuS;
  managers.profile(leader);
  const victim = fleet.start({
    ...{ first: 0, count: 1, managers: addresses, labels: { pool: "spare" }, observes: false, startOverMs: 1 },
  });
  fleet.start({
    ...{ first: 1, count: 1, managers: addresses, labels: { pool: "spare" }, observes: true, startOverMs: 1 },
  });
  fleet.start({
    ...{ first: 2, count: spares - 1, managers: addresses, labels: { pool: "spare" }, observes: false, startOverMs: 1 },
  });
  const rest = agents - spares - 1;
  let first = spares + 1;
  for (let i = 0; i < agentProcesses; i += 1) {
    const count = Math.floor(rest / agentProcesses) + (i < rest % agentProcesses ? 1 : 0);
    const startOverMs = ((count * agentProcesses) / startPerSecond) * 1_000;
    fleet.start({ first, count, managers: addresses, labels: { pool: "main" }, observes: false, startOverMs });
    first += count;
  }
  let saidMs = startMs;
  await until(`${agents} agents with a session`, joinMs, async () => {
    const { connected } = await fleet.figures();
    if (performance.now() - saidMs > 10_000) {
      saidMs = performance.now();
      progress(`${connected} agents connected`);
    }
    return connected === agents ? true : undefined;
  });
  managers.profile(leader);
  const cpuS = managers.usage(leader).cpuS - cpuBefore;
  const same = (await managers.leader()) === leader ? "" : ", and it leads no more";
  progress(
    `${agents} agents joined in ${seconds(performance.now() - startMs)} s; the leader used ${cpuS.toFixed(1)} s${same}`,
  );
  return { victim, cpuMs: (cpuS * 1_000) / agents };
}

async function fill(bench: Bench): Promise<void> {
  const { managers, progress } = bench;
  const startMs = performance.now();
  const replicas = Math.ceil(agents / services);
  for (let i = 0; i < services; i += 1)
    await managers.api.createService(specOf(`base-${i}`, replicas, ["node.labels.pool==main"]));
  await running(bench, services * replicas, "all tasks of the base services run");
  const perSecond = (services * replicas) / ((performance.now() - startMs) / 1_000);
  progress(
    `${services * replicas} tasks run after ${seconds(performance.now() - startMs)} s (${perSecond.toFixed(0)}/s)`,
  );
}

/** Cores in use by each manager over a while, the leader's first. */
async function load({ managers }: Bench, leader: string, forMs: number): Promise<{ leader: number; others: number }> {
  const before = new Map(managers.addresses.map((address) => [address, managers.usage(address)]));
  const startMs = performance.now();
  managers.profile(leader);
  await delay(forMs);
  const tookS = (performance.now() - startMs) / 1_000;
  const cores = (address: string) => (managers.usage(address).cpuS - (before.get(address)?.cpuS ?? Number.NaN)) / tookS;
  const others = managers.addresses.filter((address) => address !== leader).map(cores);
  const own = cores(leader);
  managers.profile(leader);
  return { leader: own, others: others.reduce((sum, one) => sum + one, 0) };
}

interface Churn {
  rate: number;
  changesPerSecond: number;
  p50Ms: number;
  p99Ms: number;
  placedP99Ms: number;
  routedP99Ms: number;
  settledMs: number;
  cores: number;
}

/** Every second one service gets `rate` tasks, and the one that got its tasks half a round ago gives them up. */
async function churn(bench: Bench, rate: number, base: number): Promise<Churn> {
  const { managers, fleet } = bench;
  const leader = await managers.leader();
  await fleet.figures("times");
  const before = await fleet.figures();
  const cpuBefore = managers.usage(leader).cpuS;
  const startMs = performance.now();
  managers.profile(leader);
  const calls: Promise<unknown>[] = [];
  const scale = (i: number, replicas: number) =>
    void calls.push(
      managers.api.scaleService(`churn-${((i % churnServices) + churnServices) % churnServices}`, replicas),
    );
  const half = churnServices / 2;
  for (let tick = 0; tick < churnTicks; tick += 1) {
    scale(tick, rate);
    if (tick >= half) scale(tick - half, 0);
    await delay(Math.max(0, startMs + (tick + 1) * 1_000 - performance.now()));
  }
  await Promise.all(calls);
  const calledMs = performance.now();
  await running(bench, base + half * rate, `what is left of ${rate} tasks/s runs, and nothing else`);
  const settledMs = performance.now() - calledMs;
  managers.profile(leader);
  const cores = (managers.usage(leader).cpuS - cpuBefore) / ((performance.now() - startMs) / 1_000);
  await delay(quietMs);
  const after = await fleet.figures("times");
  const routed = new Map(after.routed);
  const changes = after.statuses + after.assignments - before.statuses - before.assignments;
  // Who was told to stop before the route was made again never was in it: then its route was late by its whole life.
  const endMs = Date.now();
  const ready = after.begun.map(([id, times]) => ({ ...times, routedMs: routed.get(id) ?? endMs }));
  for (let i = 0; i < churnServices; i += 1) scale(i, 0);
  await Promise.all(calls);
  await running(bench, base, "the churn's tasks are gone");
  const whole = ready.map(({ createdAtMs, routedMs }) => routedMs - createdAtMs);
  return {
    rate,
    changesPerSecond: changes / ((calledMs + settledMs - startMs) / 1_000),
    p50Ms: median(whole),
    p99Ms: quantile(whole, 0.99),
    placedP99Ms: quantile(
      ready.map(({ createdAtMs, arrivedAtMs }) => arrivedAtMs - createdAtMs),
      0.99,
    ),
    routedP99Ms: quantile(
      ready.map(({ runningAtMs, routedMs }) => routedMs - runningAtMs),
      0.99,
    ),
    settledMs,
    cores,
  };
}

async function loseNode(bench: Bench, victim: ChildProcess): Promise<{ detectedS: number; placedS: number }> {
  const { managers, fleet } = bench;
  const replicas = (spares + 1) * 2;
  await managers.api.createService(specOf("spread", replicas, ["node.labels.pool==spare"]));
  const hosts = async () => {
    const { tasks, nodeNames } = await managers.api.service("spread");
    const ready = tasks.filter(
      ({ readySinceMs, desiredState }) => readySinceMs > 0 && desiredState <= TaskState.RUNNING,
    );
    return ready.map(({ nodeId }) => nodeNames[nodeId] ?? "");
  };
  await until("the service runs on the host that is to be lost", settleMs, async () => {
    const names = await hosts();
    return names.length === replicas && names.includes("sim-0") ? true : undefined;
  });
  // Silence, and no connection that breaks: as a host without power.
  victim.kill("SIGSTOP");
  const startMs = performance.now();
  const detected = await until("the host is called lost", settleMs, async () => {
    const { node } = await managers.api.node("sim-0");
    return node?.status?.state === NodeState.DOWN ? performance.now() : undefined;
  });
  const placed = await until("its tasks run elsewhere", settleMs, async () => {
    const names = await hosts();
    return names.length === replicas && !names.includes("sim-0") ? performance.now() : undefined;
  });
  fleet.forget(victim);
  return { detectedS: (detected - startMs) / 1_000, placedS: (placed - startMs) / 1_000 };
}

interface LeaderLoss {
  writtenS: number;
  sessionsS: number;
  cores: number;
  rssMB: number;
  down: number;
}

async function killLeader(bench: Bench, sessions: number): Promise<LeaderLoss> {
  const { managers, fleet, progress } = bench;
  const dead = await managers.leader();
  const others = managers.addresses.filter((address) => address !== dead);
  const cpuOf = () => others.reduce((sum, address) => sum + managers.usage(address).cpuS, 0);
  const before = cpuOf();
  for (const address of others) managers.profile(address);
  await managers.kill(dead);
  const startMs = performance.now();
  await managers.api.createService(specOf("after", 0));
  const writtenS = (performance.now() - startMs) / 1_000;
  await until("the agents have noticed", settleMs, async () =>
    (await fleet.figures()).connected < sessions ? true : undefined,
  );
  let saidMs = startMs;
  await until("all sessions are back", settleMs, async () => {
    const { connected } = await fleet.figures();
    if (performance.now() - saidMs > 5_000) {
      saidMs = performance.now();
      progress(`${connected} agents connected`);
    }
    return connected === sessions ? true : undefined;
  });
  const sessionsS = (performance.now() - startMs) / 1_000;
  for (const address of others) managers.profile(address);
  const cores = (cpuOf() - before) / sessionsS;
  const rssMB = Math.max(...others.map((address) => managers.usage(address).rssMB));
  // Long enough that whoever was not heard in time would have been called lost.
  await delay(25_000);
  const nodes = await managers.api.nodes();
  const down = nodes.filter(({ node }) => node?.status?.state !== NodeState.READY).length;
  return { writtenS, sessionsS, cores, rssMB, down };
}

export const scale: Benchmark = {
  name: "scale",
  help: `${agents} simulated agents on three managers: cost at rest, change, a lost host, a killed leader`,
  run: async ({ progress }) => {
    const directory = await mkdtemp(join(tmpdir(), "flotilla-bench-scale-"));
    try {
      await using managers = await Managers.start(directory);
      await using fleet = new Fleet();
      const bench = { managers, fleet, progress };
      const { victim, cpuMs } = await joinAll(bench);
      await fill(bench);
      await delay(quietMs);
      const leader = await managers.leader();
      const rest = await load(bench, leader, steadyMs);
      const rssMB = managers.usage(leader).rssMB;
      progress(
        `at rest: leader ${rest.leader.toFixed(3)} cores, others ${rest.others.toFixed(3)}, leader's memory ${rssMB.toFixed(0)} MB`,
      );
      const lost = await loseNode(bench, victim);
      progress(
        `a host lost: noticed after ${lost.detectedS.toFixed(1)} s, placed again after ${lost.placedS.toFixed(1)} s`,
      );
      const died = await killLeader(bench, agents - 1);
      progress(JSON.stringify(died));
      const figure = (name: string, ours: number, peerName: string, peer: number, goal: string): Figure => ({
        ...{ name, ours, peerName, peer, goal },
      });
      for (let i = 0; i < churnServices; i += 1)
        await managers.api.createService(specOf(`churn-${i}`, 0, ["node.labels.pool==main"]));
      const base = (await fleet.figures()).running;
      const rounds: Churn[] = [];
      for (const rate of churnRates) {
        const round = await churn(bench, rate, base).catch((failure: unknown) => messageOf(failure));
        if (typeof round === "string") {
          progress(`${rate} tasks/s: ${round}`);
          break;
        }
        rounds.push(round);
        progress(JSON.stringify(round));
        // More than that would only measure how long the queue has become.
        if (round.settledMs > 20_000) break;
      }
      const perAgentMs = (died.cores * died.sessionsS * 1_000) / (agents - 1);
      return [
        figure("leader's time per agent that joins, ms", cpuMs, "", Number.NaN, ""),
        figure("leader at rest, cores", rest.leader, "one core", 1, "< 1"),
        figure("two followers at rest, cores", rest.others, "one core", 1, ""),
        figure("leader's memory at rest, MB", rssMB, "", Number.NaN, ""),
        ...rounds.flatMap((round) => [
          figure(`${round.rate} tasks/s: state changes/s`, round.changesPerSecond, "", round.rate, ">= 1"),
          figure(`${round.rate} tasks/s: created to routed, p99 ms`, round.p99Ms, "", Number.NaN, "bounded"),
          figure(`${round.rate} tasks/s: created to assigned, p99 ms`, round.placedP99Ms, "", Number.NaN, ""),
          figure(`${round.rate} tasks/s: running to routed, p99 ms`, round.routedP99Ms, "", Number.NaN, ""),
          figure(`${round.rate} tasks/s: settled after, ms`, round.settledMs, "", Number.NaN, ""),
          figure(`${round.rate} tasks/s: leader, cores`, round.cores, "one core", 1, ""),
        ]),
        figure("host lost: noticed, s", lost.detectedS, "by default", 15, ""),
        figure("host lost: tasks run elsewhere, s", lost.placedS, "the goal, s", 20, "<= 1.00"),
        figure("leader killed: next write, s", died.writtenS, "the goal, s", 2, "<= 1.00"),
        figure("leader killed: all sessions back, s", died.sessionsS, "grace of a new leader, s", 20, "<= 1.00"),
        figure("leader killed: managers' time per agent, ms", perAgentMs, "", Number.NaN, ""),
        figure("leader killed: new leader's memory, MB", died.rssMB, "at rest", rssMB, ""),
        figure("leader killed: nodes that were lost by it", died.down - 1, "", 0, "0"),
      ];
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  },
};
