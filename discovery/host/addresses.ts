// The addresses that this host has now, watched: bridges come and go with Docker, and published ports follow.

import { networkInterfaces } from "node:os";
import { type Clock, type Logger, messageOf } from "../../lib/mod.js";
import { type Cidr, parseCidr } from "../ipv4.js";
import { type Run, runCommand } from "./network.js";

const pollMs = 2_000;

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

  constructor(options: { clock: Clock; log: Logger; onChange: (now: HostAddresses) => void; run?: Run }) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#run = options.run ?? runCommand;
    this.#onChange = options.onChange;
  }

  /** Reads now, and calls `onChange` when anything differs from the last time; then goes on every 2 s. */
  async look(): Promise<void> {
    this.#cancel?.();
    const interfaces = Object.entries(networkInterfaces()).flatMap(([name, list]) =>
      (list ?? [])
        .filter((one) => one.family === "IPv4")
        .map((one) => ({ name, address: one.address, cidr: one.cidr ?? "" })),
    );
    const seen = JSON.stringify(interfaces);
    if (seen !== this.#seen) {
      this.#seen = seen;
      const bridges = await this.#bridgeNames();
      if (!this.#closed)
        this.#onChange({
          addresses: [...new Set(interfaces.map((one) => one.address))].sort(),
          bridges: interfaces
            .filter((one) => bridges.has(one.name))
            .map((one) => parseCidr(one.cidr))
            .filter((cidr) => cidr !== undefined),
        });
    }
    if (!this.#closed) this.#cancel = this.#clock.after(pollMs, () => void this.look());
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#cancel?.();
  }

  async #bridgeNames(): Promise<ReadonlySet<string>> {
    try {
      const { code, stdout, stderr } = await this.#run("ip", ["-json", "link", "show", "type", "bridge"]);
      if (code !== 0) throw new Error(stderr.trim());
      const links: unknown = stdout.trim() === "" ? [] : JSON.parse(stdout);
      const names = Array.isArray(links) ? (links as { ifname?: unknown }[]).map((link) => link.ifname) : [];
      return new Set(names.filter((name) => typeof name === "string"));
    } catch (failure) {
      this.#log.warn(
        { error: messageOf(failure) },
        "bridges cannot be listed: only the cluster's own bridge may ask the resolver",
      );
      return new Set();
    }
  }
}
