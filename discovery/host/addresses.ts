// The addresses that this host has now, watched: bridges come and go with Docker, and published ports follow.

import { networkInterfaces } from "node:os";
import { type Clock, ClusterError, type Logger, messageOf, type Cidr, parseRange } from "../../lib/mod.js";
import { type Run, runCommand } from "./network.js";

const pollMs = 2_000;
const recheckMs = 1_000;

export interface HostAddresses {
  /** IPv4 addresses of all interfaces, sorted. */
  readonly addresses: readonly string[];
  /** Subnets of the host's bridges: where its containers are. */
  readonly bridges: readonly Cidr[];
}

export class AddressWatch implements Disposable {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #run: Run;
  readonly #onChange: (now: HostAddresses) => void;
  #seen = "";
  #cancel: (() => void) | undefined;
  #closed = false;
  #rechecking: Promise<void> | undefined;
  #recheckedMs = Number.NEGATIVE_INFINITY;

  constructor(options: { clock: Clock; log: Logger; onChange: (now: HostAddresses) => void; run?: Run }) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#run = options.run ?? runCommand;
    this.#onChange = options.onChange;
  }

  /** Reads now, and calls `onChange` when anything differs from the last time; then goes on every 2 s. */
  async look(): Promise<void> {
    this.#cancel?.();
    await this.#read(false);
    if (!this.#closed) this.#cancel = this.#clock.after(pollMs, () => void this.look());
  }

  /** Reads the bridges anew, at most once a second: a bridge without containers shows no sign of having come. */
  async recheck(): Promise<void> {
    const now = this.#clock.monotonic();
    if (this.#rechecking === undefined) {
      if (now < this.#recheckedMs + recheckMs) return;
      this.#recheckedMs = now;
      this.#rechecking = this.#read(true).finally(() => (this.#rechecking = undefined));
    }
    await this.#rechecking;
  }

  async #read(force: boolean): Promise<void> {
    // Only interfaces with carrier are in this list, which costs nothing to read.
    let addresses: string[];
    try {
      addresses = Object.values(networkInterfaces()).flatMap((list) =>
        (list ?? []).filter((one) => one.family === "IPv4").map((one) => one.address),
      );
    } catch (failure) {
      // It takes a descriptor, and there may be none left: what was known stays, and the next look may succeed.
      this.#log.warn({ error: messageOf(failure) }, "this host's addresses cannot be listed");
      return;
    }
    const sorted = [...new Set(addresses)].sort();
    const seen = sorted.join();
    if (seen === this.#seen && !force) return;
    const bridges = await this.#bridges();
    this.#seen = seen;
    if (!this.#closed) this.#onChange({ addresses: sorted, bridges });
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#cancel?.();
  }

  /** Subnets of all bridges, those without carrier too. */
  async #bridges(): Promise<Cidr[]> {
    try {
      const { code, stdout, stderr } = await this.#run("ip", ["-4", "-json", "address", "show", "type", "bridge"]);
      if (code !== 0) throw new ClusterError("internal", `ip address show: ${stderr.trim()}`);
      return readSubnets(stdout);
    } catch (failure) {
      this.#log.warn(
        { error: messageOf(failure) },
        "bridges cannot be listed: only the cluster's own bridge may ask the resolver",
      );
      return [];
    }
  }
}

/** The subnets in what `ip -json address show` prints. Pure. */
export function readSubnets(json: string): Cidr[] {
  const links: unknown = json.trim() === "" ? [] : JSON.parse(json);
  if (!Array.isArray(links)) return [];
  // iproute2 prints an empty object for each link that a filter left out.
  return (links as { addr_info?: { local?: unknown; prefixlen?: unknown }[] }[])
    .flatMap((link) => link.addr_info ?? [])
    .map(({ local, prefixlen }) => parseRange(`${String(local)}/${String(prefixlen)}`))
    .filter((cidr) => cidr !== undefined);
}
