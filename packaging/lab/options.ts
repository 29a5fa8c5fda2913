// What a lab is made of, as its user says it: checks every value before anything on the machine is touched, so that a wrong
// option costs one clear message and no clean-up. Pure; addresses are derived here and nowhere else.
import { ClusterError } from "../../lib/mod.js";

export type StoreKind = "raft" | "etcd" | "memory";
export const STORE_KINDS: readonly StoreKind[] = ["raft", "etcd", "memory"];
export type ImageSet = "busybox" | "demo";
export const IMAGE_SETS: readonly ImageSet[] = ["busybox", "demo"];

/** Bridged ports, addresses (.1 to .N) and dockerd's own needs bound this; more hosts than cores helps nobody. */
export const HOSTS_MAX = 32;
export const MANAGERS_MAX = 7;
export const DEFAULT_NAME = "default";

/** Everything may be left out; `resolve` fills in the defaults. */
export interface LabOptions {
  /** Names its folders, interface, cgroups: 1 to 20 characters a-z 0-9 -, a letter first. Default `default`. */
  readonly name?: string;
  /** Default 3. */
  readonly hosts?: number;
  /** Where the managers keep the cluster's objects. `etcd` starts real etcd members; `memory` has one manager. Default `raft`. */
  readonly store?: StoreKind;
  /** Members of etcd, on hosts 1 to n: 1, 3 or 5, at most `hosts`. Default 3 with 3 hosts or more, else 1. */
  readonly etcdMembers?: number;
  /** On hosts 1 to n. Default 1. */
  readonly managers?: number;
  /** False leaves manager and agents out: hosts, engines, etcd and images only. Default true. */
  readonly processes?: boolean;
  /** `key=value`, given to every agent. */
  readonly labels?: readonly string[];
  /** `key=value` for single hosts, by host number; added to `labels`. */
  readonly hostLabels?: Readonly<Record<number, readonly string[]>>;
  /** Which images every engine gets. Default both. */
  readonly images?: readonly ImageSet[];
  /** First three bytes of the lab's /24, such as `10.77.0`. Default: the first free one. */
  readonly subnet?: string;
  /** Containers survive a killed dockerd. Off by default, as in Docker, since Swarm mode refuses it. */
  readonly liveRestore?: boolean;
  /** Added to the environment of managers and agents. */
  readonly env?: Readonly<Record<string, string>>;
  /** Added to the command line of every manager, and of every agent. */
  readonly managerArgs?: readonly string[];
  readonly agentArgs?: readonly string[];
}

/** The same with nothing left open but the subnet, which depends on the machine. Stored in state.json. */
export interface LabPlan {
  readonly name: string;
  readonly hosts: number;
  readonly store: StoreKind;
  readonly etcdMembers: number;
  readonly managers: number;
  readonly processes: boolean;
  readonly labels: readonly string[];
  readonly hostLabels: Readonly<Record<number, readonly string[]>>;
  readonly images: readonly ImageSet[];
  readonly subnet: string | null;
  readonly liveRestore: boolean;
  readonly env: Readonly<Record<string, string>>;
  readonly managerArgs: readonly string[];
  readonly agentArgs: readonly string[];
}

const NAME_RULE = /^[a-z][a-z0-9-]{0,19}$/;
const LABEL_RULE = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}=[^\s,]{0,128}$/;
const PREFIX_RULE = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/;

export function checkName(name: string): string {
  if (NAME_RULE.test(name)) return name;
  throw refuse("name", name, "must be 1 to 20 of a-z, 0-9 and -, a letter first", "try --name try-1");
}

export function resolve(options: LabOptions): LabPlan {
  const name = checkName(options.name ?? DEFAULT_NAME);
  const hosts = wholeNumber("hosts", options.hosts ?? 3, 1, HOSTS_MAX);
  const store = options.store ?? "raft";
  if (!STORE_KINDS.includes(store))
    throw refuse("store", store, `must be one of ${STORE_KINDS.join(", ")}`, "use --store raft");
  const managers = wholeNumber("managers", options.managers ?? 1, 1, Math.min(MANAGERS_MAX, hosts));
  if (store === "memory" && managers > 1)
    throw refuse("managers", String(managers), "must be 1 with --store memory", "use --store raft for several");
  const etcdMembers = store === "etcd" ? (options.etcdMembers ?? (hosts >= 3 ? 3 : 1)) : 0;
  if (store === "etcd" && (![1, 3, 5].includes(etcdMembers) || etcdMembers > hosts)) {
    throw refuse(
      "etcd-members",
      String(etcdMembers),
      "must be 1, 3 or 5, and at most the number of hosts",
      `with ${hosts} hosts use ${hosts >= 3 ? 3 : 1}`,
    );
  }
  const hostLabels = options.hostLabels ?? {};
  for (const host of Object.keys(hostLabels)) wholeNumber("label host", Number(host), 1, hosts);
  for (const label of [...(options.labels ?? []), ...Object.values(hostLabels).flat()]) checkLabel(label);
  const images = options.images ?? IMAGE_SETS;
  for (const image of images) {
    if (!IMAGE_SETS.includes(image))
      throw refuse("images", image, `must be among ${IMAGE_SETS.join(", ")}`, "use --images busybox");
  }
  return {
    name,
    hosts,
    store,
    etcdMembers,
    managers,
    processes: options.processes ?? true,
    labels: [...(options.labels ?? [])],
    hostLabels,
    images: IMAGE_SETS.filter((set) => images.includes(set)),
    subnet: options.subnet === undefined ? null : checkSubnet(options.subnet),
    liveRestore: options.liveRestore ?? false,
    env: options.env ?? {},
    managerArgs: [...(options.managerArgs ?? [])],
    agentArgs: [...(options.agentArgs ?? [])],
  };
}

/** The options in which `running` differs from what is `wanted`, in words; empty when `up` has nothing to object to. */
export function differences(running: LabPlan, wanted: LabPlan): readonly string[] {
  const out: string[] = [];
  for (const key of Object.keys(wanted) as (keyof LabPlan)[]) {
    if (key === "subnet" && wanted.subnet === null) continue;
    const [has, wants] = [JSON.stringify(running[key]), JSON.stringify(wanted[key])];
    if (has !== wants) out.push(`${key} is ${has}, not ${wants}`);
  }
  return out;
}

export const hostName = (n: number): string => `h${n}`;
export const hostAddress = (subnet: string, n: number): string => `${subnet}.${n}`;
export const rootAddress = (subnet: string): string => `${subnet}.254`;
/** The engine's own bridge; distinct per host so that a packet's source tells where it comes from. */
export const engineBridge = (n: number): string => `172.30.${n}.1/24`;

/** Prefixes to try in turn: 10.77.0 for the default lab, for others a start that depends on the name. */
export function* subnetCandidates(name: string): Generator<string> {
  let hash = 0;
  if (name !== DEFAULT_NAME) for (const char of name) hash = (hash * 31 + char.charCodeAt(0)) % 255;
  const start = name === DEFAULT_NAME ? 0 : 1 + hash;
  for (let i = 0; i < 256; i++) yield `10.77.${(start + i) % 256}`;
}

/** Does a route such as `10.0.0.0/8` or `default` cover or meet the /24 of `subnet`? A default route does not count. */
export function overlaps(route: string, subnet: string): boolean {
  const [address, bits] = route.split("/");
  if (address === undefined || address === "default" || !/^\d+\.\d+\.\d+\.\d+$/.test(address)) return false;
  const length = Math.min(bits === undefined ? 32 : Number(bits), 24);
  const mask = length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0;
  return (toNumber(address) & mask) >>> 0 === (toNumber(`${subnet}.0`) & mask) >>> 0;
}

function toNumber(address: string): number {
  return address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
}

function wholeNumber(field: string, value: number, min: number, max: number): number {
  if (Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw refuse(field, String(value), `must be a whole number from ${min} to ${max}`, `use --${field} ${min}`);
}

function checkLabel(label: string): void {
  if (!LABEL_RULE.test(label))
    throw refuse("label", label, "must be key=value without spaces or commas", "try --label zone=a");
}

function checkSubnet(subnet: string): string {
  const parts = PREFIX_RULE.exec(subnet)?.slice(1).map(Number);
  if (parts !== undefined && parts[0] === 10 && parts.every((part) => part <= 255)) return subnet;
  throw refuse("subnet", subnet, "must be the first three bytes of a /24 in 10.0.0.0/8", "try --subnet 10.77.5");
}

function refuse(field: string, value: string, rule: string, fix: string): Error {
  return ClusterError.invalid([{ field, value, rule, fix }]);
}
