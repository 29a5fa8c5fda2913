// The command lines of everything that runs on a host, and how each shows that it is ready. Order matters at boot: an agent wants
// its engine, a manager its store.
import { ClusterError, messageOf, sleep, systemClock } from "../../lib/mod.js";
import { type Daemon, describeEnd, findDaemon, mustExecIn } from "./host.js";
import { call } from "./http.js";
import { type LabPlan, engineBridge, hostAddress, hostName } from "./options.js";
import {
  agentDataDir,
  dockerSocket,
  engineDataDir,
  etcdDataDir,
  hostCgroup,
  hostRunDir,
  mainProgram,
  managerDataDir,
} from "./paths.js";
import type { ProcessId } from "./proc.js";

export const DAEMON_NAMES = ["dockerd", "etcd", "manager", "agent", "ambassador"] as const;
export type DaemonName = (typeof DAEMON_NAMES)[number];

const ETCD_CLIENT = 2379;
const ETCD_PEER = 2380;
export const MANAGER_GRPC = 7400;
const MANAGER_HTTP = 7401;
const AGENT_HTTP = 7402;
const MIB = 1024 * 1024;
/** Agents run in a group of their own, by which a host's packet filter knows what they send: see network.ts. */
export const AGENT_GROUP = 7402;

/** What host `n` runs, in boot order. The ambassador is not among them: the agent starts it. */
export function daemonsOf(plan: LabPlan, n: number): readonly DaemonName[] {
  const here: DaemonName[] = ["dockerd"];
  if (n <= plan.etcdMembers) here.push("etcd");
  if (plan.processes && n <= plan.managers) here.push("manager");
  if (plan.processes) here.push("agent");
  return here;
}

export function daemon(plan: LabPlan, subnet: string, n: number, name: DaemonName): Daemon {
  switch (name) {
    case "dockerd":
      return { name, argv: dockerd(plan, n) };
    case "etcd":
      return { name, argv: etcd(plan, subnet, n) };
    case "manager":
      return { name, argv: manager(plan, subnet, n), env: plan.env };
    case "agent":
      return { name, argv: agent(plan, subnet, n), env: plan.env };
    case "ambassador":
      return {
        name,
        argv: [process.execPath, mainProgram(), "ambassador", "--data-dir", agentDataDir(plan.name, n)],
        env: plan.env,
      };
  }
}

/** Addresses for `--managers`, and for the CLI's context. */
export function managerAddresses(plan: LabPlan, subnet: string): readonly string[] {
  return Array.from({ length: plan.managers }, (_, i) => `${hostAddress(subnet, i + 1)}:${MANAGER_GRPC}`);
}

export function etcdEndpoints(plan: LabPlan, subnet: string): readonly string[] {
  return Array.from({ length: plan.etcdMembers }, (_, i) => `http://${hostAddress(subnet, i + 1)}:${ETCD_CLIENT}`);
}

export const dashboardAddress = (subnet: string, n: number): string =>
  `http://${hostAddress(subnet, n)}:${MANAGER_HTTP}`;

/** Resolves once the daemon answers as ready; fails at once where it ended, with its last words. */
export async function whenReady(
  plan: LabPlan,
  subnet: string,
  n: number,
  init: ProcessId,
  name: DaemonName,
  withinMs: number,
  signal?: AbortSignal,
): Promise<void> {
  const until = systemClock.monotonic() + withinMs;
  let last = "it did not answer";
  for (let round = 0; ; round++) {
    signal?.throwIfAborted();
    try {
      last = (await probe(plan, subnet, n, init, name)) ?? "";
      if (last === "") return;
    } catch (cause) {
      last = messageOf(cause);
    }
    // The daemon that has ended will never be ready: say why, instead of waiting for it. Looking at /proc each time would cost
    // more than the probe itself.
    if (round % 5 === 4 && findDaemon(plan.name, n, init, name) === null)
      throw new ClusterError("internal", describeEnd(plan.name, n, name));
    if (systemClock.monotonic() > until) {
      const message = `${name} ${n} of lab ${plan.name} was not ready within ${withinMs / 1000} s (${last}); see: flotilla lab logs ${name} ${n}`;
      throw new ClusterError("deadline_exceeded", message);
    }
    await sleep(systemClock, name === "agent" ? 200 : 40, signal);
  }
}

/** Running containers; null where the engine does not say. */
export async function countContainers(socketPath: string): Promise<number | null> {
  try {
    const answer = await call({ socketPath, path: "/containers/json", timeoutMs: 3_000 });
    const list: unknown = JSON.parse(answer.body);
    return Array.isArray(list) ? list.length : null;
  } catch {
    // An engine that is killed or paused answers nothing: unknown, which is what null says.
    return null;
  }
}

/** Null when ready, else what is missing. Throws where nobody answers. */
async function probe(
  plan: LabPlan,
  subnet: string,
  n: number,
  init: ProcessId,
  name: DaemonName,
): Promise<string | null> {
  switch (name) {
    case "dockerd":
      return expect200(await call({ socketPath: dockerSocket(plan.name, n), path: "/_ping", timeoutMs: 5_000 }));
    case "etcd": {
      const answer = await call({ host: hostAddress(subnet, n), port: ETCD_CLIENT, path: "/health", timeoutMs: 2_000 });
      return answer.body.includes('"health":"true"') ? null : answer.body;
    }
    case "manager":
      return expect200(
        await call({ host: hostAddress(subnet, n), port: MANAGER_HTTP, path: "/readyz", timeoutMs: 2_000 }),
      );
    case "agent":
      // `timeout`, because the -T of Debian's static busybox ends in a segmentation fault.
      await mustExecIn(init, [
        "timeout",
        "3",
        "busybox",
        "wget",
        "-q",
        "-O",
        "/dev/null",
        `http://127.0.0.1:${AGENT_HTTP}/readyz`,
      ]);
      return null;
    case "ambassador":
      return null;
  }
}

function expect200(answer: { status: number; body: string }): string | null {
  return answer.status === 200 ? null : `it answered ${answer.status}: ${answer.body.slice(0, 200)}`;
}

function dockerd(plan: LabPlan, n: number): readonly string[] {
  const dir = hostRunDir(plan.name, n);
  return [
    "dockerd",
    // An empty one: what the user wrote in /etc/docker/daemon.json is about another engine.
    "--config-file",
    `${dir}/daemon.json`,
    "--data-root",
    engineDataDir(plan.name, n),
    // In the host's own /run, which is empty after a power cut.
    "--exec-root",
    "/run/docker",
    "--pidfile",
    "/run/docker.pid",
    "--host",
    `unix://${dockerSocket(plan.name, n)}`,
    "--bip",
    engineBridge(n),
    // systemd is not in the host, so its cgroup driver would fail; this one works on cgroup v1 and v2.
    "--exec-opt",
    "native.cgroupdriver=cgroupfs",
    "--cgroup-parent",
    hostCgroup(plan.name, n),
    "--shutdown-timeout",
    "10",
    ...(plan.liveRestore ? ["--live-restore"] : []),
  ];
}

function etcd(plan: LabPlan, subnet: string, n: number): readonly string[] {
  const peer = (i: number): string => `http://${hostAddress(subnet, i)}:${ETCD_PEER}`;
  const client = `http://${hostAddress(subnet, n)}:${ETCD_CLIENT}`;
  const members = Array.from({ length: plan.etcdMembers }, (_, i) => `${hostName(i + 1)}=${peer(i + 1)}`);
  return [
    "etcd",
    "--name",
    hostName(n),
    "--data-dir",
    etcdDataDir(plan.name, n),
    "--listen-client-urls",
    `${client},http://127.0.0.1:${ETCD_CLIENT}`,
    "--advertise-client-urls",
    client,
    "--listen-peer-urls",
    peer(n),
    "--initial-advertise-peer-urls",
    peer(n),
    "--initial-cluster",
    members.join(","),
    "--initial-cluster-token",
    `flotilla-lab-${plan.name}`,
    "--initial-cluster-state",
    "new",
    // Half an hour of history to resume watches from; a cluster of the lab's size never fills the quota in that time.
    "--auto-compaction-mode",
    "periodic",
    "--auto-compaction-retention",
    "30m",
    "--quota-backend-bytes",
    String(2048 * MIB),
    "--snapshot-count",
    "10000",
    "--logger",
    "zap",
    "--log-outputs",
    "stderr",
  ];
}

/** What makes the cluster, once in a lab's life, on host 1; null where there is none to make. */
export function clusterInit(plan: LabPlan, subnet: string): readonly string[] | null {
  if (plan.store === "memory") return null;
  return [
    process.execPath,
    mainProgram(),
    "cluster",
    "init",
    "--data-dir",
    managerDataDir(plan.name, 1),
    "--cluster",
    plan.name,
    "--name",
    hostName(1),
    "--advertise-addr",
    `${hostAddress(subnet, 1)}:${MANAGER_GRPC}`,
    "--store",
    plan.store,
    ...(plan.store === "etcd" ? ["--etcd", etcdEndpoints(plan, subnet).join(",")] : []),
  ];
}

function manager(plan: LabPlan, subnet: string, n: number): readonly string[] {
  const address = hostAddress(subnet, n);
  const others = managerAddresses(plan, subnet).filter((other) => other !== `${address}:${MANAGER_GRPC}`);
  return [
    process.execPath,
    mainProgram(),
    "manager",
    "--data-dir",
    managerDataDir(plan.name, n),
    "--listen",
    `${address}:${MANAGER_GRPC}`,
    "--http-listen",
    `${address}:${MANAGER_HTTP}`,
    "--name",
    hostName(n),
    ...(plan.store === "memory" ? ["--store", "memory"] : []),
    // Without effect on a manager that has its cluster; one whose disk was lost comes back by it.
    ...(others.length > 0 ? ["--join", others.join(",")] : []),
    ...plan.managerArgs,
  ];
}

function agent(plan: LabPlan, subnet: string, n: number): readonly string[] {
  const labels = [...plan.labels, ...(plan.hostLabels[n] ?? [])];
  return [
    "setpriv",
    "--regid",
    String(AGENT_GROUP),
    "--keep-groups",
    process.execPath,
    mainProgram(),
    "agent",
    "--data-dir",
    agentDataDir(plan.name, n),
    "--managers",
    managerAddresses(plan, subnet).join(","),
    "--hostname",
    hostName(n),
    "--advertise-addr",
    hostAddress(subnet, n),
    "--docker",
    `unix://${dockerSocket(plan.name, n)}`,
    "--http-listen",
    `127.0.0.1:${AGENT_HTTP}`,
    ...labels.flatMap((label) => ["--label", label]),
    ...plan.agentArgs,
  ];
}
