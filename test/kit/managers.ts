// Real managers without agents: processes of the built command line on 127.0.0.1, each with a directory of its own, for
// tests of what happens to a cluster's memory when managers, disks and networks fail.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { openSync, closeSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ControlApi } from "../../cli/client/mod.js";
import { systemClock, systemRng } from "../../lib/mod.js";
import type { ClusterStatus } from "../../proto/gen/flotilla/control/v1/control.js";
import { type CliResult, eventually } from "./lab.js";
import { freePorts } from "./ports.js";

const cliPath = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

export interface ManagersOptions {
  count: number;
  /** URLs of real etcd servers; without, the embedded store. */
  etcd?: readonly string[];
  /** Added to every manager's command line. */
  args?: readonly string[];
  env?: Readonly<Record<string, string>>;
  /** Where the directories are; default a new folder that goes at the end. */
  directory?: string;
  /** Whose addresses they have, one each: those run on them no more, or not yet. Default new ones. */
  inPlaceOf?: readonly Pick<ManagerProcess, "address" | "httpAddress">[];
}

export class ManagerProcess {
  readonly name: string;
  readonly address: string;
  readonly httpAddress: string;
  readonly dataDir: string;
  readonly logFile: string;
  readonly #args: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  #child: ChildProcess | undefined;
  #exit: Promise<number | null> | undefined;

  constructor(options: {
    name: string;
    address: string;
    httpAddress: string;
    directory: string;
    args: readonly string[];
    env: Readonly<Record<string, string>>;
  }) {
    this.name = options.name;
    this.address = options.address;
    this.httpAddress = options.httpAddress;
    this.dataDir = join(options.directory, options.name);
    this.logFile = join(options.directory, `${options.name}.log`);
    this.#args = options.args;
    this.#env = options.env;
  }

  get running(): boolean {
    return this.#child !== undefined;
  }

  /** Starts the process; with `join` it becomes a member if it is none. `env` is for this run. */
  start(join: readonly string[] = [], env: Readonly<Record<string, string>> = {}): void {
    if (this.#child !== undefined) throw new Error(`${this.name} runs`);
    const output = openSync(this.logFile, "a", 0o600);
    try {
      const child = spawn(
        process.execPath,
        [
          ...[cliPath, "manager", "--data-dir", this.dataDir, "--name", this.name],
          ...["--listen", this.address, "--http-listen", this.httpAddress],
          ...(join.length > 0 ? ["--join", join.join(",")] : []),
          ...this.#args,
        ],
        { stdio: ["ignore", output, output], env: { ...process.env, ...this.#env, ...env } },
      );
      this.#child = child;
      this.#exit = new Promise((resolve) => {
        child.on("exit", (code) => {
          if (this.#child === child) this.#child = undefined;
          resolve(code);
        });
      });
    } finally {
      closeSync(output);
    }
  }

  /** As a power cut of the process: nothing is said to anybody. Resolves once it is gone. */
  async kill(signal: "SIGKILL" | "SIGTERM" = "SIGKILL"): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    const gone = once(child, "exit");
    child.kill(signal);
    // One that is stopped takes no other signal than this.
    if (signal === "SIGTERM") child.kill("SIGCONT");
    await gone;
  }

  /** The exit code of the process that was started last, once it ended by itself. */
  async ended(withinMs = 60_000): Promise<number | null> {
    if (this.#exit === undefined) throw new Error(`${this.name} was never started`);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${this.name} does not end:\n${this.log().slice(-2_000)}`)), withinMs);
    });
    try {
      return await Promise.race([this.#exit, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Whether it says so itself. */
  async ready(): Promise<boolean> {
    try {
      return (await fetch(`http://${this.httpAddress}/readyz`, { signal: AbortSignal.timeout(2_000) })).ok;
    } catch {
      // Nobody is there, or does not answer: not ready either.
      return false;
    }
  }

  pause(): void {
    this.#child?.kill("SIGSTOP");
  }

  resume(): void {
    this.#child?.kill("SIGCONT");
  }

  log(): string {
    return readFileSync(this.logFile, "utf8");
  }
}

export class Managers implements AsyncDisposable {
  readonly directory: string;
  readonly members: readonly ManagerProcess[];
  readonly #owned: boolean;

  private constructor(directory: string, members: readonly ManagerProcess[], owned: boolean) {
    this.directory = directory;
    this.members = members;
    this.#owned = owned;
  }

  /** Directories and addresses; nothing runs yet, and there is no cluster. */
  static async prepare(options: ManagersOptions): Promise<Managers> {
    const owned = options.directory === undefined;
    const directory = options.directory ?? (await mkdtemp(join(tmpdir(), "flotilla-managers-")));
    const ports = (await freePorts(options.count * 2)).map((port) => `127.0.0.1:${port}`);
    const members = Array.from({ length: options.count }, (_, i) => {
      const { address = ports[i * 2] ?? "", httpAddress = ports[i * 2 + 1] ?? "" } = options.inPlaceOf?.[i] ?? {};
      return new ManagerProcess({
        name: `m${i + 1}`,
        address,
        httpAddress,
        directory,
        args: options.args ?? [],
        env: options.env ?? {},
      });
    });
    return new Managers(directory, members, owned);
  }

  /** A cluster of `count` voters, with a leader. */
  static async start(options: ManagersOptions): Promise<Managers> {
    const managers = await Managers.prepare(options);
    try {
      await managers.init(options.etcd);
      const [first, ...others] = managers.members;
      if (first === undefined) throw new Error("a cluster has at least one manager");
      first.start();
      for (const other of others) other.start([first.address]);
      await managers.whole(options.count);
      return managers;
    } catch (failure) {
      await managers[Symbol.asyncDispose]();
      throw failure;
    }
  }

  /** Makes the cluster in the first one's directory. */
  async init(etcd?: readonly string[]): Promise<void> {
    const first = this.member(1);
    const store = etcd === undefined ? [] : ["--store", "etcd", "--etcd", etcd.join(",")];
    const args = ["--data-dir", first.dataDir, "--name", first.name, "--advertise-addr", first.address];
    const { code, stdout, stderr } = await this.cli(["cluster", "init", "--cluster", "test", ...args, ...store]);
    if (code !== 0) throw new Error(`cluster init exited with ${code}\n${stdout}${stderr}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.members.map((member) => member.kill()));
    if (this.#owned) await rm(this.directory, { recursive: true, force: true });
  }

  /** From 1. */
  member(n: number): ManagerProcess {
    const member = this.members[n - 1];
    if (member === undefined) throw new Error(`there is no manager ${n} of ${this.members.length}`);
    return member;
  }

  get addresses(): string[] {
    return this.members.map(({ address }) => address);
  }

  /** A client of its own, as the command line's; `to` are the managers that it knows. */
  api(to: readonly string[] = this.addresses, limits: { repeatMs?: number } = {}): ControlApi {
    return new ControlApi({
      managers: { addresses: to, source: "the test" },
      clock: systemClock,
      rng: systemRng,
      limits,
    });
  }

  async status(to: readonly string[] = this.addresses): Promise<ClusterStatus> {
    using api = this.api(to, { repeatMs: 500 });
    return await api.clusterStatus(false);
  }

  /** Waits until `count` voters are in touch with a leader, and answers its status. */
  async whole(count: number, withinMs = 60_000): Promise<ClusterStatus> {
    const running = this.members.filter((member) => member.running).map(({ address }) => address);
    let status: ClusterStatus | undefined;
    try {
      await eventually(
        `${count} managers that vote, with a leader`,
        async () => {
          status = await this.status(running);
          const voters = status.managers.filter(({ voter, reachable }) => voter && reachable);
          if (status.leaderId === 0 || voters.length !== count || !status.writable) return false;
          // Who was heard of a moment ago may have been killed since, and be starting again.
          const ready = await Promise.all(
            this.members.filter(({ running }) => running).map((member) => member.ready()),
          );
          return ready.every(Boolean);
        },
        withinMs,
      );
    } catch (failure) {
      const logs = this.members.map((member) => `${member.name}:\n${member.running ? member.log().slice(-2_000) : ""}`);
      throw new Error(`${JSON.stringify(status)}\n${logs.join("\n")}`, { cause: failure });
    }
    if (status === undefined) throw new Error("no status");
    return status;
  }

  /** The process that leads now. */
  async leader(): Promise<ManagerProcess> {
    const running = this.members.filter((member) => member.running).map(({ address }) => address);
    const { managers } = await this.status(running);
    const address = managers.find(({ leader }) => leader)?.address;
    const found = this.members.find((member) => member.address === address);
    if (found === undefined) throw new Error("there is no leader");
    return found;
  }

  /** The command line as a process, against these managers. */
  async cli(args: readonly string[], input = ""): Promise<CliResult> {
    const child = spawn(process.execPath, [cliPath, ...args], {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, FLOTILLA_HOST: this.addresses.join(","), NO_COLOR: "1" },
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
    child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
    child.stdin.end(input);
    const [code] = (await once(child, "close")) as [number | null];
    return { code: code ?? 1, stdout, stderr };
  }
}
