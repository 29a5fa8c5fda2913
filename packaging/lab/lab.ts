// A lab: up, down, and what one does to it in between. Everything that changes it is written to state.json before the next step,
// and every command works from that file and from /proc, so that a command may be killed anywhere and the next one carries on.
import { ClusterError, messageOf, sleep, systemClock } from "../../lib/mod.js";
import { type BringUp, boot, build, complete, startDaemons, startOne } from "./bring-up.js";
import {
  DAEMON_NAMES,
  type DaemonName,
  countContainers,
  daemonsOf,
  dashboardAddress,
  etcdEndpoints,
  managerAddresses,
} from "./daemons.js";
import { enter, execIn, findAmbassador, findDaemon, hostIsUp, mustExecIn, powerOff } from "./host.js";
import { lock } from "./lock.js";
import { type Cut, applyAgentCut, applyCuts } from "./network.js";
import { type LabOptions, type LabPlan, checkName, differences, hostAddress, hostName, resolve } from "./options.js";
import { dockerSocket, hostCgroup, logFile, runDir } from "./paths.js";
import { type ProcessId, cgroupProcesses, hostProcesses, killAll, signal } from "./proc.js";
import { hasTraces, removeLab } from "./removal.js";
import { type RunOptions, type RunResult, run, runInherited } from "./run.js";
import { LabMemory, freshState, labNames, readState } from "./state.js";

/** Something that can be killed, started, paused and resumed. `host` is all of a host: pulling its plug. */
export type Part = DaemonName | "host";
export const PARTS: readonly Part[] = [...DAEMON_NAMES, "host"];

export interface HostStatus {
  readonly number: number;
  readonly name: string;
  readonly address: string;
  readonly powered: boolean;
  readonly dockerSocket: string;
  /** What should run there, and does or does not. */
  readonly daemons: readonly { readonly name: DaemonName; readonly pid: number | null }[];
  readonly containers: number | null;
}

export interface LabStatus {
  readonly name: string;
  readonly phase: "starting" | "up";
  readonly subnet: string;
  readonly managers: readonly string[];
  readonly etcd: readonly string[];
  readonly dashboard: string | null;
  readonly cuts: readonly Cut[];
  /** Hosts whose agent is cut from every manager. */
  readonly agentCuts: readonly number[];
  readonly hosts: readonly HostStatus[];
  /** All that should run does. */
  readonly complete: boolean;
}

export interface UpOptions extends LabOptions {
  /** Aborting takes down what was begun. */
  readonly signal?: AbortSignal;
  /** One line per step. */
  readonly progress?: (line: string) => void;
}

export class Lab {
  readonly name: string;
  /** False where `up` found all of it running. */
  readonly created: boolean;
  readonly #memory: LabMemory;

  private constructor(memory: LabMemory, created: boolean) {
    this.name = memory.name;
    this.created = created;
    this.#memory = memory;
  }

  /**
   * Brings up a lab. One that runs with the same options is left alone, but for what is not running of it, which is started.
   * What a killed `up` left is removed first. Errors: `invalid_argument`, `failed_precondition` (other options, no root).
   */
  static async up(options: UpOptions = {}): Promise<Lab> {
    const plan = resolve(options);
    requireRoot();
    await using _ = await lock(`lab/${plan.name}`, `the lab ${plan.name}`);
    const progress = options.progress ?? (() => undefined);
    const how: BringUp = { progress, ...(options.signal === undefined ? {} : { signal: options.signal }) };
    const found = readState(plan.name);
    if (found?.phase === "up" && hostIsUp(found.switchInit)) {
      const other = differences(found.plan, plan);
      if (other.length > 0) {
        throw new ClusterError(
          "failed_precondition",
          `the lab ${plan.name} is up with other options (${other.join("; ")}); take it down first: flotilla lab down --name ${plan.name}`,
        );
      }
      const memory = new LabMemory(found);
      await complete(memory, how);
      return new Lab(memory, false);
    }
    if (hasTraces(plan.name)) {
      progress("removing what an interrupted lab left behind");
      await removeLab(plan.name);
    }
    const memory = new LabMemory(freshState(plan));
    try {
      await build(memory, how);
      return new Lab(memory, true);
    } catch (cause) {
      // A signal that has aborted must not stop the clean-up, so it is not handed on.
      await removeLab(plan.name).catch((second: unknown) => {
        throw new ClusterError("internal", `${messageOf(cause)}\nand the clean-up failed: ${messageOf(second)}`, {
          cause,
        });
      });
      // What was under way failed in its own words, because it was told to stop; the caller's reason is the clearer one.
      throw options.signal?.aborted === true ? options.signal.reason : cause;
    }
  }

  /** The lab of that name; `not_found` where none is up. */
  static attach(name = "default"): Lab {
    const state = readState(checkName(name));
    if (state?.phase === "up") return new Lab(new LabMemory(state), false);
    const others = labNames();
    const hint = others.length === 0 ? "start one: flotilla lab up" : `there is: ${others.join(", ")} (--name)`;
    throw new ClusterError("not_found", `no lab ${name} is up; ${hint}`);
  }

  /** Throws what `up` would say against these options, and does nothing else. */
  static check(options: LabOptions): void {
    resolve(options);
  }

  /** Where others may keep what shall vanish with the lab. */
  static folder(name: string): string {
    return runDir(checkName(name));
  }

  /** Labs of which there is anything, finished or not. */
  static names(): readonly string[] {
    return labNames();
  }

  /** Removes every trace of a lab, whatever its condition; false where there was none. */
  static async down(name = "default"): Promise<boolean> {
    checkName(name);
    requireRoot();
    await using _ = await lock(`lab/${name}`, `the lab ${name}`);
    const existed = hasTraces(name);
    await removeLab(name);
    return existed;
  }

  down(): Promise<boolean> {
    return Lab.down(this.name);
  }

  get plan(): LabPlan {
    return this.#memory.plan;
  }

  get hosts(): readonly number[] {
    return this.#memory.hosts;
  }

  get subnet(): string {
    return this.#memory.subnet;
  }

  /** `10.77.0.N`; the machine itself is .254. */
  address(n: number): string {
    return hostAddress(this.subnet, this.#memory.check(n));
  }

  get folder(): string {
    return runDir(this.name);
  }

  dockerSocket(n: number): string {
    return dockerSocket(this.name, this.#memory.check(n));
  }

  logFile(name: DaemonName, n: number): string {
    return logFile(this.name, this.#memory.check(n), name);
  }

  get managers(): readonly string[] {
    return managerAddresses(this.plan, this.subnet);
  }

  get etcdEndpoints(): readonly string[] {
    return etcdEndpoints(this.plan, this.subnet);
  }

  async status(): Promise<LabStatus> {
    this.#memory.reload();
    const hosts = await Promise.all(this.hosts.map((n) => this.#hostStatus(n)));
    const complete = hosts.every((host) => host.powered && host.daemons.every(({ pid }) => pid !== null));
    const dashboard = this.plan.processes ? dashboardAddress(this.subnet, 1) : null;
    const { phase, cuts, agentCuts = [] } = this.#memory.state;
    return {
      name: this.name,
      phase,
      subnet: this.subnet,
      managers: this.managers,
      etcd: this.etcdEndpoints,
      dashboard,
      cuts,
      agentCuts,
      hosts,
      complete,
    };
  }

  /** Runs a command inside the host and captures what it prints; a code other than 0 is no error here. */
  exec(n: number, argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return execIn(this.#memory.poweredInit(n), argv, options);
  }

  /** The same, but a code other than 0 is an error; answers stdout. */
  mustExec(n: number, argv: readonly string[], options: RunOptions = {}): Promise<string> {
    return mustExecIn(this.#memory.poweredInit(n), argv, options);
  }

  /** The program and arguments that run `argv` inside the host, for who wants to hold the process itself. */
  command(n: number, argv: readonly string[]): readonly [program: string, args: readonly string[]] {
    return ["nsenter", enter(this.#memory.poweredInit(n), argv)];
  }

  /** Runs a command inside the host with the caller's terminal; answers its exit code. */
  execInherit(n: number, argv: readonly string[]): Promise<number> {
    return runInherited("nsenter", enter(this.#memory.poweredInit(n), argv));
  }

  /** The docker client against the host's engine. */
  docker(n: number, argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return run("docker", this.#dockerArgs(n, argv), { env: dockerEnv(), ...options });
  }

  async mustDocker(n: number, argv: readonly string[], options: RunOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.docker(n, argv, options);
    if (code !== 0)
      throw new ClusterError("internal", `docker ${argv.join(" ")} on host ${n} exited with ${code}: ${stderr.trim()}`);
    return stdout;
  }

  dockerInherit(n: number, argv: readonly string[]): Promise<number> {
    return runInherited("docker", this.#dockerArgs(n, argv), dockerEnv());
  }

  /** Cuts a from b, or from all other hosts, in both directions or only what a sends. The machine still reaches both. */
  async cut(a: number, b?: number, oneWay = false): Promise<void> {
    const peers = b === undefined ? this.hosts.filter((n) => n !== this.#memory.check(a)) : [this.#memory.check(b)];
    if (a === b) throw new ClusterError("invalid_argument", `host ${a} cannot be cut from itself`);
    const added = peers.flatMap((peer) => [{ from: a, to: peer }, ...(oneWay ? [] : [{ from: peer, to: a }])]);
    await this.#setCuts((cuts) => [
      ...cuts.filter((cut) => !added.some((other) => other.from === cut.from && other.to === cut.to)),
      ...added,
    ]);
  }

  /**
   * Cuts the agents of these hosts, or all agents, from every manager, that of their own host too. Managers still reach
   * each other, and containers and ambassadors everybody.
   */
  async cutAgents(hosts: readonly number[] = this.hosts): Promise<void> {
    for (const n of hosts) this.#memory.check(n);
    await this.#setAgentCuts((cut) => [...new Set([...cut, ...hosts])]);
  }

  /** Ends all cuts, or those of one host. */
  async heal(a?: number): Promise<void> {
    if (a !== undefined) this.#memory.check(a);
    await this.#setAgentCuts((cut) => (a === undefined ? [] : cut.filter((n) => n !== a)));
    await this.#setCuts((cuts) => (a === undefined ? [] : cuts.filter((cut) => cut.from !== a && cut.to !== a)));
  }

  /** False where it did not run. SIGKILL unless another is given; a host knows only SIGKILL. */
  async kill(part: Part, n: number, name: NodeJS.Signals = "SIGKILL"): Promise<boolean> {
    this.#memory.reload();
    if (part === "host") {
      const init = this.#memory.init(n);
      if (init === null) return false;
      await powerOff(this.name, n, init);
      this.#memory.setInit(n, null);
      return true;
    }
    const process = this.#find(part, n);
    if (process === null) return false;
    if (name === "SIGKILL") await killAll([process]);
    else signal(process, name);
    return true;
  }

  /**
   * Starts what does not run, and waits until it is ready unless `wait` is false. On a host that is cut off only its
   * engine is waited for. A host starts with all it had. False where it runs already.
   */
  async start(
    part: Part,
    n: number,
    options: { readonly wait?: boolean; readonly signal?: AbortSignal } = {},
  ): Promise<boolean> {
    this.#memory.reload();
    const how: BringUp = { ...options, progress: () => undefined };
    if (part === "host") {
      if (this.#memory.init(n) !== null) return false;
      await boot(this.#memory, n, options.signal);
      await startDaemons(this.#memory, [n], how);
      return true;
    }
    this.#memory.poweredInit(n);
    this.#checkRuns(part, n);
    if (this.#find(part, n) !== null) return false;
    await startOne(this.#memory, part, n, how);
    return true;
  }

  /** Waits until the daemon ends by itself, after a SIGTERM say. */
  async ended(part: DaemonName, n: number, withinMs = 30_000): Promise<void> {
    for (let waitedMs = 0; this.#find(part, n) !== null; waitedMs += 20) {
      if (waitedMs >= withinMs)
        throw new ClusterError("deadline_exceeded", `${part} ${n} still runs after ${withinMs} ms`);
      await sleep(systemClock, 20);
    }
  }

  /** SIGSTOP: it is there, holds its connections, and does nothing. A host with all its containers. */
  pause(part: Part, n: number): boolean {
    return this.#signalPart(part, n, "SIGSTOP");
  }

  resume(part: Part, n: number): boolean {
    return this.#signalPart(part, n, "SIGCONT");
  }

  /** The daemon's pid as the machine knows it; null where it does not run. */
  pid(part: DaemonName, n: number): number | null {
    this.#memory.reload();
    return this.#find(part, n)?.pid ?? null;
  }

  async #setCuts(change: (cuts: readonly Cut[]) => readonly Cut[]): Promise<void> {
    this.#memory.reload();
    const before = this.#memory.state.cuts;
    const after = change(before);
    const touched = new Set([...before, ...after].map((cut) => cut.to));
    this.#memory.update((state) => ({ ...state, cuts: after }));
    await Promise.all(
      [...touched].map(async (n) => {
        const init = this.#memory.init(n);
        if (init !== null) await applyCuts(n, init, this.subnet, after);
      }),
    );
  }

  async #setAgentCuts(change: (hosts: readonly number[]) => readonly number[]): Promise<void> {
    this.#memory.reload();
    const before = this.#memory.state.agentCuts ?? [];
    const after = change(before);
    this.#memory.update((state) => ({ ...state, agentCuts: after }));
    await Promise.all(
      [...new Set([...before, ...after])].map(async (n) => {
        const init = this.#memory.init(n);
        if (init !== null) await applyAgentCut(init, after.includes(n));
      }),
    );
  }

  #signalPart(part: Part, n: number, name: "SIGSTOP" | "SIGCONT"): boolean {
    this.#memory.reload();
    if (part !== "host") {
      const process = this.#find(part, n);
      return process !== null && signal(process, name);
    }
    const init = this.#memory.poweredInit(n);
    const all = [...hostProcesses(init), ...cgroupProcesses(hostCgroup(this.name, n))];
    for (const process of all) signal(process, name);
    return true;
  }

  #find(part: DaemonName, n: number): ProcessId | null {
    const init = this.#memory.init(n);
    if (init === null) return null;
    if (part !== "ambassador") return findDaemon(this.name, n, init, part);
    return findAmbassador(this.name, n, init);
  }

  async #hostStatus(n: number): Promise<HostStatus> {
    const powered = this.#memory.init(n) !== null;
    const names: readonly DaemonName[] = [
      ...daemonsOf(this.plan, n),
      ...(this.plan.processes ? (["ambassador"] as const) : []),
    ];
    const daemons = names.map((name) => ({ name, pid: this.#find(name, n)?.pid ?? null }));
    const containers = powered ? await countContainers(this.dockerSocket(n)) : null;
    return {
      number: n,
      name: hostName(n),
      address: this.address(n),
      powered,
      dockerSocket: this.dockerSocket(n),
      daemons,
      containers,
    };
  }

  #dockerArgs(n: number, argv: readonly string[]): readonly string[] {
    this.#memory.poweredInit(n);
    return ["--host", `unix://${this.dockerSocket(n)}`, ...argv];
  }

  #checkRuns(part: DaemonName, n: number): void {
    const here = daemonsOf(this.plan, n);
    if (part === "ambassador" ? here.includes("agent") : here.includes(part)) return;
    throw new ClusterError(
      "invalid_argument",
      `host ${n} of lab ${this.name} has no ${part}; it has ${here.join(", ")}`,
    );
  }
}

/** The user's own docker settings point to another engine. */
function dockerEnv(): NodeJS.ProcessEnv {
  const { DOCKER_HOST: _host, DOCKER_CONTEXT: _context, DOCKER_TLS_VERIFY: _tls, ...env } = process.env;
  return env;
}

function requireRoot(): void {
  if (process.getuid?.() === 0) return;
  throw new ClusterError("permission_denied", "a lab needs root, for namespaces and Docker Engines; use sudo");
}
