// Keeps the manager of a promoted node running. It never ends one: a demoted manager is taken out by the others, hears
// of it from them and ends by itself, so that no agent's mistake can cost the managers their quorum. Nor does it start
// one in the place of a member that somebody else runs on this host: that one would be taken out for it.

import { type ChildProcess, spawn } from "node:child_process";
import { access, mkdir, rename, rm } from "node:fs/promises";
import { closeSync, openSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { type Backoff, type Clock, type Logger, type Rng, backoffMs, messageOf, pause } from "../../lib/mod.js";
import { NodeRole } from "../../proto/mod.js";

export interface ManagerKeeperOptions {
  /** Starts a manager when its flags are added. */
  command: readonly string[];
  /** The agent's; the manager's is a folder in it. */
  dataDir: string;
  hostname: string;
  /** Where the manager listens: gRPC and HTTP, "host:port". */
  address: string;
  httpAddress: string;
  /** Where the cluster's managers are now. */
  managers: () => readonly string[];
  clock: Clock;
  rng: Rng;
  log: Logger;
}

const lookMs = 2_000;
const connectMs = 1_000;
const retry: Backoff = { firstMs: 500, maxMs: 30_000, jitter: 0.5 };
/** One that lived so long was a good one: the next start is not held back. */
const goodMs = 60_000;

export class ManagerKeeper {
  readonly #options: ManagerKeeperOptions;
  #role: NodeRole = NodeRole.UNSPECIFIED;
  /** As the last session message named them. */
  #members: readonly string[] = [];
  /** Whether it was said that this host's manager is another's. */
  #said = false;
  #child: ChildProcess | undefined;
  #wake: () => void = () => undefined;

  constructor(options: ManagerKeeperOptions) {
    this.#options = options;
  }

  /** What the managers want this node to be, and where they are, as each session says. */
  assign(role: NodeRole, members: readonly string[]): void {
    this.#members = members;
    if (role === this.#role) return;
    this.#role = role;
    this.#wake();
  }

  /** Looks after the manager until the signal aborts, and then leaves it alone. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, rng, log, address } = this.#options;
    let failures = 0;
    let startedMs = 0;
    while (!signal.aborted) {
      let waitMs = lookMs;
      // One that listens there is the manager of this host, whoever started it.
      const isMissing = this.#role === NodeRole.MANAGER && this.#child === undefined && !(await listens(address));
      if (isMissing && (await this.#isAnothers())) {
        if (!this.#said)
          log.warn(
            { address },
            "the manager of this host is down, and was not started here: whoever runs it has to start it; " +
              "to have one started here instead, take it out first with flotilla cluster leave ADDRESS",
          );
        this.#said = true;
      } else if (isMissing) {
        this.#said = false;
        if (startedMs !== 0 && clock.monotonic() - startedMs < goodMs) failures += 1;
        else failures = 0;
        if (failures > 0) await pause(clock, backoffMs(retry, failures, rng), signal);
        if (signal.aborted) return;
        try {
          startedMs = clock.monotonic();
          await this.#start();
        } catch (failure) {
          log.warn({ error: messageOf(failure) }, "the manager could not be started: trying again");
        }
      } else if (this.#role !== NodeRole.MANAGER) {
        failures = 0;
        startedMs = 0;
        waitMs = 3_600_000;
      }
      await this.#woken(waitMs, signal);
    }
  }

  /** Whether a member has this address whose directory is not the one that is kept here. */
  async #isAnothers(): Promise<boolean> {
    const { address, dataDir } = this.#options;
    const directory = join(dataDir, "manager");
    if (!this.#members.includes(address)) return false;
    return !(await isThere(join(directory, "manager.json"))) || (await isThere(join(directory, "removed")));
  }

  async #start(): Promise<void> {
    const { command, dataDir, hostname, address, httpAddress, managers, log } = this.#options;
    const directory = join(dataDir, "manager");
    await this.#setAside(directory);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const [program = "", ...args] = command;
    const flags = ["--data-dir", directory, "--listen", address, "--http-listen", httpAddress, "--name", hostname];
    const others = managers().filter((manager) => manager !== address);
    const output = openSync(join(dataDir, "manager.log"), "a", 0o600);
    try {
      const child = spawn(program, [...args, ...flags, "--join", others.join(",")], {
        detached: true,
        stdio: ["ignore", output, output],
      });
      this.#child = child;
      const gone = (how: object) => {
        if (this.#child !== child) return;
        this.#child = undefined;
        log.warn({ pid: child.pid, ...how }, "the manager ended");
        this.#wake();
      };
      child.on("exit", (code, by) => gone({ code, by }));
      child.on("error", (failure) => gone({ error: failure.message }));
      child.unref();
      log.info({ pid: child.pid, address }, "the manager was started: this node is to be one");
    } finally {
      closeSync(output);
    }
  }

  /** What a removed manager left can never be used again; the last one's is kept, should somebody want to look. */
  async #setAside(directory: string): Promise<void> {
    // Without the mark it is a manager's directory, or none.
    if (!(await isThere(join(directory, "removed")))) return;
    const aside = `${directory}.removed`;
    await rm(aside, { recursive: true, force: true });
    await rename(directory, aside);
  }

  #woken(ms: number, signal: AbortSignal): Promise<void> {
    const controller = new AbortController();
    const stop = () => controller.abort();
    this.#wake = stop;
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    return pause(this.#options.clock, ms, controller.signal).finally(() => signal.removeEventListener("abort", stop));
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    // One that cannot be looked at is none that can be used.
    return false;
  }
}

/** Whether somebody takes connections there. */
function listens(address: string): Promise<boolean> {
  const at = address.lastIndexOf(":");
  return new Promise((resolve) => {
    const socket = connect({ host: address.slice(0, at), port: Number(address.slice(at + 1)), timeout: connectMs });
    const done = (is: boolean) => {
      socket.destroy();
      resolve(is);
    };
    socket.on("connect", () => done(true));
    socket.on("timeout", () => done(false));
    // Refused: nobody is there.
    socket.on("error", () => done(false));
  });
}
