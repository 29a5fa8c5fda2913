// The ambassador without its control socket: routes in, names and connections out. Each part is told of each change
// here and nowhere else.

import type { Clock, Logger, Rng } from "../lib/mod.js";
import type { SteerRequest } from "../proto/gen/flotilla/ambassador/v1/ambassador.js";
import { Carrier, Listeners } from "./ambassador/mod.js";
import { DnsServer, Forwarder, Gate, Resolver, Upstreams } from "./dns/mod.js";
import { AddressWatch, type HostAddresses, type Pools, type Run, cleanup, runCommand, setUp } from "./host/mod.js";
import { Metrics } from "./metrics.js";
import { type HostView, RouteTable, type RouteUpdate } from "./routes/mod.js";

const dnsPort = 53;
/** Lines of problems told at once. */
const problemsMax = 100;
/** The kernel's routes are checked this often: somebody may have flushed them. */
const setUpEveryMs = 30_000;

export interface AmbassadorParts {
  clock: Clock;
  rng: Rng;
  log: Logger;
  /** Connections carried at once. */
  connectionsMax: number;
  /** Tests: another port than 53, no change to the host's network, another resolv.conf, another port upstream. */
  dnsPort?: number;
  leaveNetwork?: boolean;
  resolvConf?: string;
  upstreamPort?: number;
  run?: Run;
}

export class Ambassador {
  readonly table: RouteTable;
  readonly metrics: Metrics;
  readonly #parts: AmbassadorParts;
  readonly #run: Run;
  readonly #carrier: Carrier;
  readonly #listeners: Listeners;
  readonly #dns: DnsServer;
  readonly #gate = new Gate();
  readonly #upstreams: Upstreams;
  readonly #watch: AddressWatch;
  readonly #onDrain: Set<() => void> = new Set();
  readonly #onProblems: Set<() => void> = new Set();
  #host: HostAddresses = { addresses: [], bridges: [] };
  #networkProblems: readonly string[] = [];
  #ownsNodePool = true;
  #pools: Pools | undefined;
  #cancelSetUp: (() => void) | undefined;
  #stopped = false;

  constructor(parts: AmbassadorParts) {
    const { clock, rng, log } = parts;
    this.#parts = parts;
    this.#run = parts.run ?? runCommand;
    this.table = new RouteTable(clock, () => this.#tell(this.#onDrain));
    this.metrics = new Metrics(this.table);
    const onProblems = () => this.#tell(this.#onProblems);
    this.#carrier = new Carrier({
      clock,
      rng,
      log,
      observer: this.metrics.carrier,
      connectionsMax: parts.connectionsMax,
    });
    this.#listeners = new Listeners({
      clock,
      rng,
      log,
      onProblems,
      carry: (client, claim) => this.#carrier.carry(client, claim),
    });
    this.#upstreams = new Upstreams({
      clock,
      log,
      ...(parts.resolvConf === undefined ? {} : { path: parts.resolvConf }),
    });
    const upstreamPort = parts.upstreamPort ?? dnsPort;
    const upstreams = this.#upstreams;
    const forwarder = new Forwarder({
      clock,
      rng,
      log,
      upstreams: { list: async () => (await upstreams.list()).map((host) => ({ host, port: upstreamPort })) },
      observe: (ms) => this.metrics.observeForward(ms),
    });
    const resolver = new Resolver({
      clock,
      rng,
      directory: this.table,
      gate: this.#gate,
      recheck: () => this.#watch.recheck(),
      forwarder,
      count: (rcode) => this.metrics.countQuery(rcode),
    });
    this.#dns = new DnsServer({
      clock,
      rng,
      log,
      port: parts.dnsPort ?? dnsPort,
      onProblems,
      resolve: (message, source, overTcp) => resolver.resolve(message, source, overTcp),
    });
    this.#watch = new AddressWatch({ clock, log, run: this.#run, onChange: (now) => this.#hostChanged(now) });
  }

  /** Connections open now. */
  get open(): number {
    return this.#carrier.open;
  }

  /** Addresses and ports listened on. */
  get listening(): readonly string[] {
    return this.#listeners.open;
  }

  /** Calls back when a draining endpoint's connections change, until the returned function is called. */
  onDrain(fn: () => void): () => void {
    this.#onDrain.add(fn);
    return () => this.#onDrain.delete(fn);
  }

  onProblems(fn: () => void): () => void {
    this.#onProblems.add(fn);
    return () => this.#onProblems.delete(fn);
  }

  async start(): Promise<void> {
    await this.#watch.look();
  }

  /** Puts an update in force: when it resolves, names are answered and listeners are open or reported. */
  async apply(update: RouteUpdate): Promise<void> {
    const { changed, hostChanged } = this.table.apply(update);
    const { host } = this.table;
    if (host === undefined) return;
    if (hostChanged) await this.#setUpHost(host);
    for (const id of changed) this.#claim(id);
    await Promise.all([this.#listeners.settled(), this.#dns.settled()]);
  }

  /** What is not as it should be, in words. */
  problems(): string[] {
    const all = [
      ...this.#networkProblems,
      ...this.#dns.problems(),
      ...this.#listeners.problems(),
      ...this.table.faults(),
    ];
    if (all.length <= problemsMax) return all;
    return [...all.slice(0, problemsMax - 1), `and ${all.length - problemsMax + 1} more`];
  }

  /** Everything in force as one complete update; undefined before the first. */
  snapshot(): SteerRequest | undefined {
    const { host } = this.table;
    if (host === undefined) return undefined;
    return { complete: true, host: host.config, routes: [...this.table.routes], removedRouteIds: [], sequence: 0 };
  }

  /** Stops listening, lets connections end by themselves until the deadline, then cuts them. */
  async stop(deadlineMs: number): Promise<void> {
    this.#stopped = true;
    this.#watch[Symbol.dispose]();
    this.#cancelSetUp?.();
    this.#listeners.close();
    this.#dns.close();
    await this.#carrier.drain(deadlineMs);
  }

  #claim(routeId: string): void {
    const claims = this.table.claims(routeId);
    // Without the node pool, other nodes' task addresses are not here to listen on; that is reported once, not per task.
    this.#listeners.set(routeId, this.#ownsNodePool ? claims : claims.filter((claim) => claim.kind !== "task"));
  }

  async #setUpHost(host: HostView): Promise<void> {
    const { clock, leaveNetwork } = this.#parts;
    if (leaveNetwork !== true) {
      const pools: Pools = {
        vipPool: host.vipPool,
        nodePool: host.nodePool,
        subnet: host.subnet,
        dnsAddress: host.dnsAddress,
      };
      if (this.#pools !== undefined && poolKey(this.#pools) !== poolKey(pools)) await cleanup(this.#pools, this.#run);
      this.#pools = pools;
      const { problems, ownsNodePool } = await setUp(pools, this.#run);
      const owned = this.#ownsNodePool;
      this.#ownsNodePool = ownsNodePool;
      if (owned !== ownsNodePool) for (const route of this.table.routes) this.#claim(route.id);
      if (problems.join("\n") !== this.#networkProblems.join("\n")) {
        this.#networkProblems = problems;
        if (problems.length > 0) this.#parts.log.error({ problems }, "host network");
        this.#tell(this.#onProblems);
      }
      this.#cancelSetUp?.();
      if (!this.#stopped)
        this.#cancelSetUp = clock.after(setUpEveryMs, () => {
          if (this.table.host !== undefined) void this.#setUpHost(this.table.host);
        });
    }
    this.#admit();
    const addresses = [host.config.dnsAddress, host.config.gateway];
    this.#upstreams.setOwn(new Set([...addresses, ...this.#host.addresses]));
    this.#dns.setAddresses([...new Set(addresses)]);
  }

  #hostChanged(now: HostAddresses): void {
    this.#host = now;
    const { host } = this.table;
    this.#listeners.setHostAddresses(now.addresses);
    if (host === undefined) return;
    this.#admit();
    this.#upstreams.setOwn(new Set([host.config.dnsAddress, host.config.gateway, ...now.addresses]));
    this.#dns.retryNow();
  }

  /** The resolver's public: this host, its VIPs, and its containers. */
  #admit(): void {
    const { host } = this.table;
    if (host === undefined) return;
    this.#gate.allow(
      [...this.#host.addresses, host.config.dnsAddress],
      [host.vipPool, host.subnet, ...this.#host.bridges],
    );
  }

  #tell(listeners: ReadonlySet<() => void>): void {
    for (const fn of listeners) fn();
  }
}

function poolKey(pools: Pools): string {
  return JSON.stringify([pools.vipPool, pools.nodePool, pools.subnet, pools.dnsAddress]);
}
