// Whom to ask for names that are not ours: the host's own name servers, read from resolv.conf and read again when it
// changes. Addresses that lead back to us are left out: a query must not go round.

import { readFile, stat } from "node:fs/promises";
import { type Clock, type Logger, messageOf, parseIpv4 } from "../../lib/mod.js";

/** glibc reads three; more would only make the deadline shorter for each. */
const upstreamsMax = 3;
const checkEveryMs = 5_000;
/** systemd-resolved's stub: it answers for the host, and asks whoever is configured there; that may be us. */
const stub = "127.0.0.53";
/** What systemd-resolved itself asks, as a resolv.conf. */
const behindStub = "/run/systemd/resolve/resolv.conf";

/** The name servers of a resolv.conf, IPv4 only, in order. Pure. */
export function readNameservers(text: string): string[] {
  const servers: string[] = [];
  for (const line of text.split("\n")) {
    const match = /^nameserver\s+(\S+)/.exec(line);
    if (match?.[1] !== undefined && parseIpv4(match[1]) !== undefined) servers.push(match[1]);
  }
  return servers;
}

export class Upstreams {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #path: string;
  #own: ReadonlySet<string> = new Set();
  #configured: readonly string[] = [];
  #current: readonly string[] = [];
  #checkedMs = Number.NEGATIVE_INFINITY;
  #stamp = "";
  #reading: Promise<void> | undefined;

  constructor(options: { clock: Clock; log: Logger; path?: string }) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#path = options.path ?? "/etc/resolv.conf";
  }

  /** Addresses at which this very resolver answers. */
  setOwn(own: Iterable<string>): void {
    this.#own = new Set([...own, stub]);
    this.#choose();
  }

  /** In the order in which to ask; empty when there is nobody. */
  async list(): Promise<readonly string[]> {
    if (this.#clock.monotonic() >= this.#checkedMs + checkEveryMs) {
      this.#reading ??= this.#read().finally(() => (this.#reading = undefined));
      await this.#reading;
    }
    return this.#current;
  }

  async #read(): Promise<void> {
    this.#checkedMs = this.#clock.monotonic();
    try {
      const { mtimeMs, size, ino } = await stat(this.#path);
      const stamp = `${mtimeMs} ${size} ${ino}`;
      if (stamp === this.#stamp) return;
      let servers = readNameservers(await readFile(this.#path, "utf8"));
      if (servers.length > 0 && servers.every((server) => server === stub))
        // Unreadable, it is the same failure as the file above: told, and tried again.
        servers = readNameservers(await readFile(behindStub, "utf8"));
      this.#stamp = stamp;
      this.#configured = servers;
      this.#choose();
    } catch (failure) {
      // The last known servers stay.
      this.#log.warn({ path: this.#path, error: messageOf(failure) }, "name servers cannot be read");
    }
  }

  #choose(): void {
    const chosen = [...new Set(this.#configured)].filter((server) => !this.#own.has(server)).slice(0, upstreamsMax);
    if (chosen.join() === this.#current.join()) return;
    this.#current = chosen;
    this.#log.info({ upstreams: chosen, configured: this.#configured }, "name servers for other names");
  }
}
