// Three managers with the embedded store, as their users start them, on one machine; and what they cost, from /proc.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { systemClock, systemRng } from "../../lib/mod.js";
import { ControlApi } from "../../cli/client/mod.js";
import { freePorts, untilUp } from "../wait.js";

const members = 3;
const readyMs = 60_000;
const cli = fileURLToPath(new URL("../../cli/main.js", import.meta.url));
const preload = new URL("./preload.js", import.meta.url).href;
const profiles = process.env["FLOTILLA_BENCH_PROFILES"];
/** Clock ticks per second, which /proc counts in: fixed in every Linux ABI that Node.js runs on. */
const ticksPerSecond = 100;

export interface Usage {
  /** Of a core, since the process began. */
  cpuS: number;
  rssMB: number;
}

export class Managers implements AsyncDisposable {
  readonly addresses: readonly string[];
  readonly #processes: ReadonlyMap<string, ChildProcess>;
  readonly api: ControlApi;

  private constructor(processes: ReadonlyMap<string, ChildProcess>) {
    this.#processes = processes;
    this.addresses = [...processes.keys()];
    this.api = new ControlApi({
      managers: { addresses: this.addresses, source: "the benchmark" },
      clock: systemClock,
      rng: systemRng,
      limits: { answerMs: 60_000, answerFirstMs: 60_000, repeatMs: 60_000 },
    });
  }

  static async start(directory: string): Promise<Managers> {
    const ports = (await freePorts(members * 2)).map((port) => `127.0.0.1:${port}`);
    const processes = new Map<string, ChildProcess>();
    const [first = ""] = ports;
    const at = (i: number) => ["--data-dir", join(directory, `m${i}`), "--name", `m${i}`];
    await promisify(execFile)(process.execPath, [cli, "cluster", "init", "--advertise-addr", first, ...at(0)]);
    for (let i = 0; i < members; i += 1) {
      const address = ports[i] ?? "";
      const output = openSync(join(directory, `m${i}.log`), "a", 0o600);
      const more = i === 0 ? [] : ["--join", first];
      const args = ["--listen", address, "--http-listen", ports[members + i] ?? "", "--log-level", "warn", ...more];
      processes.set(
        address,
        spawn(process.execPath, ["--import", preload, cli, "manager", ...at(i), ...args], {
          stdio: ["ignore", output, output, "ipc"],
        }),
      );
      closeSync(output);
    }
    const managers = new Managers(processes);
    try {
      await untilUp("three managers that vote", readyMs, async () => {
        const status = await managers.api.clusterStatus();
        const voters = status.managers.filter(({ voter, reachable }) => voter && reachable);
        return status.writable && voters.length === members ? true : undefined;
      });
      return managers;
    } catch (failure) {
      await managers[Symbol.asyncDispose]();
      throw failure;
    }
  }

  async leader(): Promise<string> {
    const status = await this.api.clusterStatus();
    const address = status.managers.find(({ leader }) => leader)?.address;
    if (address === undefined) throw new Error("there is no leader");
    return address;
  }

  /** As a power cut of its process. */
  async kill(address: string): Promise<void> {
    const child = this.#child(address);
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  }

  usage(address: string): Usage {
    const { pid } = this.#child(address);
    // Behind the name, which may have anything in it.
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
    const rss = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    const ticks = Number(fields[11]) + Number(fields[12]);
    return { cpuS: ticks / ticksPerSecond, rssMB: Number(rss) / 1_024 };
  }

  /** Begins a profile of the process, or ends it and writes it: only where profiles were asked for. */
  profile(address: string): void {
    if (profiles !== undefined) this.#child(address).kill("SIGUSR2");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.api[Symbol.dispose]();
    await Promise.all(
      [...this.#processes.values()].map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const gone = once(child, "exit");
        child.kill("SIGKILL");
        await gone;
      }),
    );
  }

  #child(address: string): ChildProcess {
    const child = this.#processes.get(address);
    if (child === undefined) throw new Error(`no manager at ${address}`);
    return child;
  }
}
