// Joins the hosts by a bridge in a namespace of its own, to which the machine is plugged like one more host. Cuts are made in the
// receiving host's raw table, before Docker's own rules and before connection tracking: what comes from the other is dropped.
import { ClusterError } from "../../lib/mod.js";
import { AGENT_GROUP, MANAGER_GRPC } from "./daemons.js";
import { NAME_SERVER, enter, mustExecIn, spawnHolder } from "./host.js";
import { lock } from "./lock.js";
import { hostAddress, hostName, overlaps, rootAddress, subnetCandidates } from "./options.js";
import { rootInterface } from "./paths.js";
import { type ProcessId, identify } from "./proc.js";
import { mustRun, run } from "./run.js";

/** Traffic from host `from` to host `to` is dropped. */
export interface Cut {
  readonly from: number;
  readonly to: number;
}

export interface Switch {
  readonly init: ProcessId;
  readonly subnet: string;
}

const BRIDGE = "br0";
const CUT_CHAIN = "FLOTILLA-LAB-CUT";
const AGENT_CHAIN = "FLOTILLA-LAB-AGENT";

/** Starts the switch and plugs the machine into it. `subnet` null: the first free one. */
export async function raiseSwitch(lab: string, subnet: string | null, signal?: AbortSignal): Promise<Switch> {
  const pid = await spawnHolder(
    "unshare",
    ["--net", "sh", "-c", "echo ready; exec sleep infinity >/dev/null 2>&1"],
    `${lab}/switch`,
    signal,
  );
  const init = identify(pid);
  if (init === null) throw new ClusterError("internal", `the switch of lab ${lab} ended as soon as it had started`);
  await batch(init, ["link set lo up", `link add ${BRIDGE} type bridge`, `link set ${BRIDGE} up`]);
  // Two labs that choose at the same time would choose the same subnet.
  await using _ = await lock("subnets", "the network of a lab", 30_000, signal);
  const chosen = await chooseSubnet(lab, subnet);
  const name = rootInterface(lab);
  await mustRun("ip", ["link", "add", name, "type", "veth", "peer", "name", "root", "netns", String(pid)]);
  await mustRun("ip", ["link", "set", name, "alias", alias(lab)]);
  await mustRun("ip", ["address", "add", `${rootAddress(chosen)}/24`, "dev", name]);
  await mustRun("ip", ["link", "set", name, "up"]);
  await batch(init, [`link set root master ${BRIDGE}`, "link set root up"]);
  return { init, subnet: chosen };
}

/** Gives host `n` its cable and address. Its former cable goes first: the kernel removes it only some time after the host. */
export async function plugHost(lab: string, n: number, host: ProcessId, net: Switch): Promise<void> {
  const port = hostName(n);
  await run("nsenter", ["-t", String(net.init.pid), "--net", "ip", "link", "delete", port]);
  await batch(net.init, [
    `link add ${port} type veth peer name eth0 netns ${host.pid}`,
    `link set ${port} master ${BRIDGE}`,
    `link set ${port} up`,
  ]);
  await batch(host, [
    "link set lo up",
    `address add ${hostAddress(net.subnet, n)}/24 dev eth0`,
    "link set eth0 up",
    // No route at all would fail at once on the host, but a container's resolver would wait 5 s per try: Linux tells an UDP
    // socket of "net unreachable" only if it asks (IP_RECVERR), of "prohibited" always. The ambassador's own address on a
    // local interface goes before this route.
    `route add prohibit ${NAME_SERVER} metric 4294967295`,
  ]);
}

/** Removes the machine's plug; whatever else there was goes with the switch's process. */
export async function removeRootInterface(lab: string): Promise<void> {
  const name = rootInterface(lab);
  const shown = await run("ip", ["link", "show", "dev", name]);
  if (shown.code !== 0) return;
  if (!shown.stdout.includes(`alias ${alias(lab)}`)) {
    throw new ClusterError(
      "failed_precondition",
      `the interface ${name} is not of this lab; rename or remove it: ip link delete ${name}`,
    );
  }
  const removed = await run("ip", ["link", "delete", "dev", name]);
  // The kernel may have removed it meanwhile, with the switch at its other end.
  if (removed.code !== 0 && (await run("ip", ["link", "show", "dev", name])).code === 0) {
    throw new ClusterError("internal", `cannot remove the interface ${name}: ${removed.stderr.trim()}`);
  }
}

/** Makes host `n` drop what comes from the given hosts, and nothing else. */
export async function applyCuts(n: number, host: ProcessId, subnet: string, cuts: readonly Cut[]): Promise<void> {
  const from = cuts.filter((cut) => cut.to === n).map((cut) => cut.from);
  const rules = [
    "*raw",
    `:${CUT_CHAIN} - [0:0]`,
    ...from.map((other) => `-A ${CUT_CHAIN} -s ${hostAddress(subnet, other)}/32 -j DROP`),
    "COMMIT",
    "",
  ];
  await setChain(host, "PREROUTING", CUT_CHAIN, rules);
}

/** Makes the host drop what its agent sends to any manager, its own host's too; nothing that others send, or to others. */
export async function applyAgentCut(host: ProcessId, cut: boolean): Promise<void> {
  const rule = `-A ${AGENT_CHAIN} -p tcp --dport ${MANAGER_GRPC} -m owner --gid-owner ${AGENT_GROUP} -j DROP`;
  const rules = ["*raw", `:${AGENT_CHAIN} - [0:0]`, ...(cut ? [rule] : []), "COMMIT", ""];
  await setChain(host, "OUTPUT", AGENT_CHAIN, rules);
}

async function setChain(host: ProcessId, hook: string, chain: string, rules: readonly string[]): Promise<void> {
  await mustExecIn(host, ["iptables-restore", "--noflush"], { input: rules.join("\n") });
  const jump = [hook, "-j", chain];
  const present = await run("nsenter", enter(host, ["iptables", "-w", "-t", "raw", "-C", ...jump]));
  if (present.code !== 0) await mustExecIn(host, ["iptables", "-w", "-t", "raw", "-I", ...jump]);
}

async function chooseSubnet(lab: string, wanted: string | null): Promise<string> {
  const routes = (await mustRun("ip", ["-4", "route", "show", "table", "all"])).split("\n");
  const taken = routes.map((line) => line.replace(/^(local|broadcast|unreachable|blackhole) /, "").split(" ")[0] ?? "");
  const free = (subnet: string): boolean => !taken.some((route) => overlaps(route, subnet));
  for (const candidate of wanted === null ? subnetCandidates(lab) : [wanted]) {
    if (free(candidate)) return candidate;
  }
  const what = wanted === null ? "no /24 in 10.77.0.0/16 is free" : `${wanted}.0/24 meets a route of this machine`;
  throw new ClusterError("failed_precondition", `${what}; choose another with --subnet, such as --subnet 10.200.0`);
}

async function batch(init: ProcessId, lines: readonly string[]): Promise<void> {
  await mustRun("nsenter", ["-t", String(init.pid), "--net", "ip", "-batch", "-"], { input: `${lines.join("\n")}\n` });
}

const alias = (lab: string): string => `flotilla-lab:${lab}`;
