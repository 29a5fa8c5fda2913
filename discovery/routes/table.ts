// The routes in force. Takes complete and incremental updates and answers in constant time what DNS, the listeners
// and the balancer ask. No I/O: what a change means for sockets is told by `claims`.

import { type Clock, parseIpv4 } from "../../lib/mod.js";
import type { HostConfig } from "../../proto/gen/flotilla/ambassador/v1/ambassador.js";
import { type Endpoint, PublishMode, type Route } from "../../proto/mod.js";
import { Backend, type Candidate } from "./backend.js";
import { type HostView, checkHost, dnsName, endpointFault, routeFault } from "./check.js";
import { EndpointState } from "./endpoint.js";

/** An address that a route wants to be answered on. */
export interface Claim {
  readonly kind: "vip" | "published" | "task";
  /** Undefined: every address of the host. */
  readonly address: string | undefined;
  readonly port: number;
  readonly serviceName: string;
  readonly backend: Backend;
  /** The one endpoint that connections here go to; undefined when any of the backend's will do. */
  readonly only: Candidate | undefined;
}

/** A service as DNS sees it. Addresses are unsigned 32-bit numbers. */
export interface ServiceNames {
  readonly name: string;
  readonly vip: number | undefined;
  /** Of ready tasks. */
  readonly addresses: readonly number[];
  /** Ready tasks' addresses by slot; a slot that is only draining is there, with none. */
  readonly slots: ReadonlyMap<number, readonly number[]>;
  readonly ports: readonly { readonly name: string; readonly targetPort: number }[];
}

export interface RouteUpdate {
  readonly complete: boolean;
  readonly host: HostConfig | undefined;
  readonly routes: readonly Route[];
  readonly removedRouteIds: readonly string[];
}

export interface RouteChange {
  /** Ids of the routes that came, changed or went. */
  readonly changed: readonly string[];
  /** Whether the host's configuration is another one now. */
  readonly hostChanged: boolean;
}

interface Entry {
  readonly route: Route;
  readonly names: ServiceNames;
  readonly backends: ReadonlyMap<number, Backend>;
  readonly endpoints: ReadonlyMap<string, EndpointState>;
  readonly claims: readonly Claim[];
  readonly faults: readonly string[];
}

export class RouteTable {
  readonly #clock: Clock;
  readonly #onDrain: () => void;
  readonly #entries = new Map<string, Entry>();
  readonly #byName = new Map<string, Entry>();
  readonly #byVip = new Map<number, Entry>();
  readonly #byTaskAddress = new Map<number, { entry: Entry; slot: number }>();
  /** How many service names lie below a name that is none itself, such as "shop" of "web.shop". */
  readonly #parents = new Map<string, number>();
  /** Routes that cannot be used, and why. */
  readonly #refused = new Map<string, { readonly route: Route; readonly fault: string }>();
  #carriedSinceMs: number;
  #host: HostView | undefined;
  #hostFaults: readonly string[] = [];

  /** `onDrain` is called when the number of connections of a draining endpoint changes. */
  constructor(clock: Clock, onDrain: () => void) {
    this.#clock = clock;
    this.#onDrain = onDrain;
    this.#carriedSinceMs = clock.monotonic();
  }

  /** Undefined until the first update: nothing is known yet. */
  get host(): HostView | undefined {
    return this.#host;
  }

  get routes(): readonly Route[] {
    return [...this.#entries.values()].map((entry) => entry.route);
  }

  service(name: string): ServiceNames | undefined {
    return this.#byName.get(name)?.names;
  }

  serviceOfVip(address: number): string | undefined {
    return this.#byVip.get(address)?.names.name;
  }

  taskAt(address: number): { readonly service: string; readonly slot: number } | undefined {
    const found = this.#byTaskAddress.get(address);
    return found === undefined ? undefined : { service: found.entry.names.name, slot: found.slot };
  }

  /** Whether there are services below this name. */
  isParent(name: string): boolean {
    return this.#parents.has(name);
  }

  claims(routeId: string): readonly Claim[] {
    return this.#entries.get(routeId)?.claims ?? [];
  }

  /** Connections open per endpoint that is draining, zero included, in the order of the task ids. */
  drains(): { taskId: string; activeConnections: number }[] {
    const drains: { taskId: string; activeConnections: number }[] = [];
    for (const { endpoints } of this.#entries.values())
      for (const endpoint of endpoints.values())
        if (endpoint.draining) drains.push({ taskId: endpoint.taskId, activeConnections: endpoint.active });
    return drains.sort((a, b) => (a.taskId < b.taskId ? -1 : 1));
  }

  /** What each endpoint was given since this was asked last; those with nothing are left out. For one reader. */
  takeCarried(): { overMs: number; counts: { taskId: string; connections: number }[] } {
    const nowMs = this.#clock.monotonic();
    const overMs = Math.round(nowMs - this.#carriedSinceMs);
    this.#carriedSinceMs = nowMs;
    const counts: { taskId: string; connections: number }[] = [];
    for (const { endpoints } of this.#entries.values())
      for (const endpoint of endpoints.values()) {
        const connections = endpoint.takeCarried();
        if (connections > 0) counts.push({ taskId: endpoint.taskId, connections });
      }
    return { overMs, counts };
  }

  endpoints(): readonly EndpointState[] {
    return [...this.#entries.values()].flatMap((entry) => [...entry.endpoints.values()]);
  }

  /** What cannot be used of what was sent, in words. */
  faults(): readonly string[] {
    return [
      ...this.#hostFaults,
      ...[...this.#refused.values()].map((refused) => refused.fault),
      ...[...this.#entries.values()].flatMap((entry) => entry.faults),
    ];
  }

  apply(update: RouteUpdate): RouteChange {
    const hostChanged = update.host !== undefined && this.#takeHost(update.host);
    const host = this.#host;
    if (host === undefined) return { changed: [], hostChanged };
    const changed = new Set<string>();
    const gone = new Set(update.removedRouteIds);
    if (update.complete) {
      const kept = new Set(update.routes.map((route) => route.id));
      for (const id of [...this.#entries.keys(), ...this.#refused.keys()]) if (!kept.has(id)) gone.add(id);
    }
    for (const id of gone) if (this.#remove(id)) changed.add(id);
    const incoming = new Map(update.routes.map((route) => [route.id, route]));
    const incomingIds = new Set(incoming.keys());
    // Which endpoints are remote, and which VIPs are valid, depends on the host: then every route is looked at again.
    if (hostChanged)
      for (const { route } of this.#entries.values()) if (!incoming.has(route.id)) incoming.set(route.id, route);
    // What was refused may be right now that a name or an address is free, or the host another one.
    const again = [...this.#refused.values()].map((refused) => refused.route).filter(({ id }) => !incomingIds.has(id));
    for (const route of [...incoming.values(), ...again]) {
      this.#put(route, host);
      changed.add(route.id);
    }
    return { changed: [...changed], hostChanged };
  }

  #takeHost(config: HostConfig): boolean {
    const checked = checkHost(config);
    if ("problems" in checked) {
      // The last good configuration stays in force.
      this.#hostFaults = checked.problems;
      return false;
    }
    this.#hostFaults = [];
    const same = this.#host !== undefined && canonical(this.#host.config) === canonical(config);
    this.#host = checked;
    return !same;
  }

  #put(route: Route, host: HostView): void {
    const fault = routeFault(route, host) ?? this.#clash(route);
    if (fault !== undefined) {
      // Better the last good route than none: what runs goes on.
      this.#refused.set(route.id, { route, fault });
      return;
    }
    this.#refused.delete(route.id);
    const before = this.#entries.get(route.id);
    if (before !== undefined) this.#unindex(before);
    const entry = this.#build(route, host, before);
    this.#entries.set(route.id, entry);
    this.#index(entry);
  }

  /** Two services with one name or address: the first stays. */
  #clash(route: Route): string | undefined {
    const name = dnsName(route.serviceName) ?? "";
    const other = this.#byName.get(name) ?? this.#byVip.get(parseIpv4(route.vip) ?? -1);
    if (other === undefined || other.route.id === route.id) return undefined;
    return `service ${name}: its name or its virtual IP ${route.vip} is that of service ${other.names.name}`;
  }

  #build(route: Route, host: HostView, before: Entry | undefined): Entry {
    const now = this.#clock.monotonic();
    const name = dnsName(route.serviceName) ?? route.serviceName;
    const faults: string[] = [];
    const usable: Endpoint[] = [];
    const endpoints = new Map<string, EndpointState>();
    for (const endpoint of route.endpoints) {
      const fault = endpointFault(endpoint);
      if (fault !== undefined) {
        faults.push(`service ${name}: ${fault}`);
        continue;
      }
      const old = before?.endpoints.get(endpoint.taskId);
      const state =
        old ??
        new EndpointState(
          { taskId: endpoint.taskId, serviceName: name, slot: endpoint.slot, revision: endpoint.revision },
          this.#onDrain,
        );
      const was = before?.route.endpoints.find((e) => e.taskId === endpoint.taskId);
      if (was !== undefined && (was.address !== endpoint.address || !sameHostPorts(was, endpoint))) state.forgive();
      state.draining = endpoint.draining;
      endpoints.set(endpoint.taskId, state);
      usable.push(endpoint);
    }
    const backends = new Map<number, Backend>();
    const claims: Claim[] = [];
    for (const { targetPort, publishedPort, mode } of route.ports) {
      let backend = backends.get(targetPort);
      if (backend === undefined) {
        backend = before?.backends.get(targetPort) ?? new Backend(name, targetPort);
        backends.set(targetPort, backend);
        const candidates: Candidate[] = [];
        for (const endpoint of usable) {
          const state = endpoints.get(endpoint.taskId);
          if (state === undefined || endpoint.draining) continue;
          const candidate = candidateOf(endpoint, state, targetPort, host);
          if (candidate === undefined) {
            faults.push(`service ${name}: task ${endpoint.taskId} on another node has no host port for ${targetPort}`);
            continue;
          }
          candidates.push(candidate);
          if (endpoint.nodeId !== host.config.nodeId)
            claims.push({
              kind: "task",
              address: endpoint.address,
              port: targetPort,
              serviceName: name,
              backend,
              only: candidate,
            });
        }
        backend.replace(candidates, now);
        claims.push({ kind: "vip", address: route.vip, port: targetPort, serviceName: name, backend, only: undefined });
      }
      // The engine has that port on the task's own host, and no other host has it.
      if (publishedPort !== 0 && mode !== PublishMode.HOST)
        claims.push({
          kind: "published",
          address: undefined,
          port: publishedPort,
          serviceName: name,
          backend,
          only: undefined,
        });
    }
    // A port that is gone: connections that still wait for it must not get an endpoint of it.
    for (const [port, backend] of before?.backends ?? []) if (!backends.has(port)) backend.replace([], now);
    return { route, names: namesOf(name, route, usable), backends, endpoints, claims, faults };
  }

  #remove(id: string): boolean {
    const refused = this.#refused.delete(id);
    const entry = this.#entries.get(id);
    if (entry === undefined) return refused;
    this.#unindex(entry);
    this.#entries.delete(id);
    for (const backend of entry.backends.values()) backend.replace([], this.#clock.monotonic());
    return true;
  }

  #index(entry: Entry): void {
    const { names, route } = entry;
    this.#byName.set(names.name, entry);
    if (names.vip !== undefined) this.#byVip.set(names.vip, entry);
    for (const endpoint of route.endpoints) {
      const address = parseIpv4(endpoint.address);
      if (address !== undefined) this.#byTaskAddress.set(address, { entry, slot: endpoint.slot });
    }
    for (const parent of parentsOf(names.name)) this.#parents.set(parent, (this.#parents.get(parent) ?? 0) + 1);
  }

  #unindex(entry: Entry): void {
    const { names, route } = entry;
    this.#byName.delete(names.name);
    if (names.vip !== undefined) this.#byVip.delete(names.vip);
    for (const endpoint of route.endpoints) {
      const address = parseIpv4(endpoint.address);
      // The address may have gone over to another service's task meanwhile.
      if (address !== undefined && this.#byTaskAddress.get(address)?.entry === entry)
        this.#byTaskAddress.delete(address);
    }
    for (const parent of parentsOf(names.name)) {
      const left = (this.#parents.get(parent) ?? 0) - 1;
      if (left > 0) this.#parents.set(parent, left);
      else this.#parents.delete(parent);
    }
  }
}

function candidateOf(
  endpoint: Endpoint,
  state: EndpointState,
  targetPort: number,
  host: HostView,
): Candidate | undefined {
  if (endpoint.nodeId === host.config.nodeId) return { endpoint: state, host: endpoint.address, port: targetPort };
  const hostPort = endpoint.hostPorts.find((port) => port.targetPort === targetPort)?.hostPort;
  if (hostPort === undefined || endpoint.hostAddress === "") return undefined;
  return { endpoint: state, host: endpoint.hostAddress, port: hostPort };
}

function namesOf(name: string, route: Route, endpoints: readonly Endpoint[]): ServiceNames {
  const slots = new Map<number, number[]>();
  const addresses: number[] = [];
  for (const endpoint of endpoints) {
    const address = parseIpv4(endpoint.address);
    const slot = slots.get(endpoint.slot) ?? [];
    slots.set(endpoint.slot, slot);
    if (address === undefined || endpoint.draining) continue;
    slot.push(address);
    addresses.push(address);
  }
  const ports = route.ports
    .filter((port) => port.name !== "")
    .map((port) => ({ name: port.name.toLowerCase(), targetPort: port.targetPort }));
  return { name, vip: parseIpv4(route.vip), addresses, slots, ports };
}

/** "a.b.c" → "b.c", "c". */
function parentsOf(name: string): string[] {
  const parents: string[] = [];
  for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1)) parents.push(name.slice(dot + 1));
  return parents;
}

function sameHostPorts(a: Endpoint, b: Endpoint): boolean {
  const key = (endpoint: Endpoint) => endpoint.hostPorts.map((port) => `${port.targetPort}:${port.hostPort}`).join();
  return key(a) === key(b);
}

function canonical(config: HostConfig): string {
  const { gateway, subnet, vipPool, nodePool, domain, dnsAddress, nodeId } = config;
  const nodes = Object.entries(config.nodeAddresses).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([nodeId, gateway, subnet, vipPool, nodePool, domain, dnsAddress, nodes]);
}
