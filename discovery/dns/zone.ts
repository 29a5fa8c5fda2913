// Which names are ours and what stands at them. Pure: reads the directory of routes, knows nothing of messages.

import { cidrContains } from "../../lib/mod.js";
import type { HostView, ServiceNames } from "../routes/mod.js";

/** The part of the route table that names need. */
export interface Directory {
  readonly host: HostView | undefined;
  service(name: string): ServiceNames | undefined;
  serviceOfVip(address: number): string | undefined;
  taskAt(address: number): { readonly service: string; readonly slot: number } | undefined;
  isParent(name: string): boolean;
}

/** Seconds. Tasks come and go, a VIP stays for its service's life. */
export const ttlTask = 5;
export const ttlVip = 30;

export interface Srv {
  readonly port: number;
  /** Full name, dotted. */
  readonly target: string;
  /** The target's addresses, for the additional section. */
  readonly addresses: readonly number[];
}

/** What stands at a name: any set that is absent is NODATA. */
export interface NameData {
  readonly kind: "data";
  /** The zone whose SOA goes with negative answers, dotted. */
  readonly zone: string;
  readonly ttl: number;
  readonly a?: readonly number[];
  readonly srv?: readonly Srv[];
  readonly ptr?: string;
  /** The zone's own name: it has SOA and NS. */
  readonly apex?: true;
}

export type Found =
  | NameData
  | { readonly kind: "nxdomain"; readonly zone: string }
  | { readonly kind: "foreign" }
  | { readonly kind: "unsynced" };

const loopback = 0x7f00_0001;
/** The name of the resolver itself, below the domain, when no service has it. */
const resolverName = "ns";

/** Looks a name up. `labels` are in lower case. */
export function find(directory: Directory, labels: readonly string[]): Found {
  const { host } = directory;
  if (host === undefined) return { kind: "unsynced" };
  // A dot inside a label would read as two labels once joined; no name of ours has one.
  const plain = labels.every((label) => !label.includes("."));
  const name = labels.join(".");
  const zone = host.domain;
  const below = !plain
    ? undefined
    : name === zone
      ? ""
      : name.endsWith(`.${zone}`)
        ? name.slice(0, -zone.length - 1)
        : undefined;
  if (below === "") return { kind: "data", zone, ttl: ttlVip, apex: true };
  if (below !== undefined) return inside(directory, host, below) ?? { kind: "nxdomain", zone };
  if (labels.length === 0) return { kind: "foreign" };
  // RFC 6761, section 6.3.
  if (labels.at(-1) === "localhost") return { kind: "data", zone, ttl: ttlVip, a: [loopback] };
  if (plain) {
    const reverse = inReverse(directory, host, labels);
    if (reverse !== undefined) return reverse;
    // With ndots:1 a name with a dot is asked as it stands, before any search domain.
    const found = inside(directory, host, name);
    if (found !== undefined) return found;
  }
  // The world has no business with bare names, and whoever asks wants a short answer.
  return labels.length === 1 ? { kind: "nxdomain", zone } : { kind: "foreign" };
}

/** A name relative to the domain; undefined when nothing is there. */
function inside(directory: Directory, host: HostView, name: string): NameData | undefined {
  const zone = host.domain;
  const service = directory.service(name);
  if (service !== undefined)
    return { kind: "data", zone, ttl: ttlVip, ...(service.vip === undefined ? {} : { a: [service.vip] }) };
  const dot = name.indexOf(".");
  const first = dot < 0 ? name : name.slice(0, dot);
  const rest = dot < 0 ? "" : name.slice(dot + 1);
  if (rest !== "") {
    const owner = directory.service(rest);
    if (owner !== undefined && first === "tasks") return { kind: "data", zone, ttl: ttlTask, a: owner.addresses };
    const slot = owner === undefined || !/^[1-9]\d{0,8}$/.test(first) ? undefined : owner.slots.get(Number(first));
    if (slot !== undefined) return { kind: "data", zone, ttl: ttlTask, a: slot };
    // "_tcp.web" holds nothing itself, but names lie below it.
    if (owner !== undefined && first === "_tcp" && owner.ports.length > 0) return { kind: "data", zone, ttl: ttlTask };
    const found = portOf(directory, host, first, rest);
    if (found !== undefined) return found;
    if (name.endsWith(".node")) {
      const node = host.nodes.get(name.slice(0, -".node".length));
      if (node !== undefined) return { kind: "data", zone, ttl: ttlVip, a: [node] };
    }
  }
  if (name === resolverName) return { kind: "data", zone, ttl: ttlVip, a: [host.dnsAddress] };
  const parentOfNodes =
    (name === "node" && host.nodes.size > 0) ||
    (name.endsWith(".node") && [...host.nodes.keys()].some((node) => `${node}.node`.endsWith(`.${name}`)));
  if (parentOfNodes || directory.isParent(name)) return { kind: "data", zone, ttl: ttlTask };
  return undefined;
}

/** `_name._tcp.service`. */
function portOf(directory: Directory, host: HostView, first: string, rest: string): NameData | undefined {
  if (!first.startsWith("_") || !rest.startsWith("_tcp.")) return undefined;
  const owner = directory.service(rest.slice("_tcp.".length));
  const ports = owner?.ports.filter((port) => `_${port.name}` === first) ?? [];
  if (owner === undefined || ports.length === 0) return undefined;
  const srv: Srv[] = [];
  for (const { targetPort } of ports)
    for (const [slot, addresses] of owner.slots)
      if (addresses.length > 0)
        srv.push({ port: targetPort, target: `${slot}.${owner.name}.${host.domain}`, addresses });
  return { kind: "data", zone: host.domain, ttl: ttlTask, srv };
}

/** Reverse names of the cluster's ranges are answered here and nowhere else; undefined for all others. */
function inReverse(directory: Directory, host: HostView, labels: readonly string[]): Found | undefined {
  if (labels.at(-1) !== "arpa" || labels.at(-2) !== "in-addr") return undefined;
  const octets = labels.slice(0, -2).reverse();
  if (
    octets.length === 0 ||
    !octets.slice(0, 4).every((octet) => /^(0|[1-9]\d{0,2})$/.test(octet) && Number(octet) < 256)
  )
    return undefined;
  let address = 0;
  for (let i = 0; i < 4; i += 1) address = address * 256 + Number(octets[i] ?? 0);
  const pool = [host.vipPool, host.nodePool].find((one) => cidrContains(one, address));
  if (pool === undefined) return undefined;
  const cut = Math.max(1, Math.ceil(pool.prefix / 8));
  if (octets.length < cut) return undefined;
  const zone = `${octets.slice(0, cut).reverse().join(".")}.in-addr.arpa`;
  if (octets.length < 4)
    return { kind: "data", zone, ttl: ttlTask, ...(octets.length === cut ? { apex: true as const } : {}) };
  if (octets.length > 4) return { kind: "nxdomain", zone };
  const ptr = ptrName(directory, host, address);
  return ptr === undefined ? { kind: "nxdomain", zone } : { kind: "data", zone, ttl: ttlTask, ptr };
}

function ptrName(directory: Directory, host: HostView, address: number): string | undefined {
  const service = directory.serviceOfVip(address);
  if (service !== undefined) return `${service}.${host.domain}`;
  if (address === host.dnsAddress) return `${resolverName}.${host.domain}`;
  const task = directory.taskAt(address);
  return task === undefined ? undefined : `${task.slot}.${task.service}.${host.domain}`;
}
