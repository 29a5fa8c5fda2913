// The shared lab, and the command line as its users have it: as a process, with its exit code and what it prints.

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { inject } from "vitest";
import { Lab } from "../../packaging/lab/mod.js";

const cliPath = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

export interface CliResult {
  code: number;
  stdout: string;
  stderr: string;
}

export interface CliProcess {
  readonly done: Promise<CliResult>;
  /** What it has printed so far, both streams. */
  output(): string;
  signal(name: NodeJS.Signals): void;
}

export class LabCluster {
  readonly lab: Lab;

  constructor(lab: Lab) {
    this.lab = lab;
  }

  /** Starts `flotilla ARGS` against the lab's managers. */
  start(args: readonly string[], input = ""): CliProcess {
    const child = spawn(process.execPath, [cliPath, ...args], {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, FLOTILLA_HOST: this.lab.managers.join(","), NO_COLOR: "1" },
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
    child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
    child.stdin.end(input);
    const done = new Promise<CliResult>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code, signal) => resolve({ code: code ?? (signal === "SIGKILL" ? 137 : 1), stdout, stderr }));
    });
    return { done, output: () => stdout + stderr, signal: (name) => void child.kill(name) };
  }

  run(args: readonly string[], input = ""): Promise<CliResult> {
    return this.start(args, input).done;
  }

  /** Runs it and expects it to succeed; answers what it printed on standard output. */
  async must(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(args);
    if (code !== 0) throw new Error(`flotilla ${args.join(" ")} exited with ${code}\n${stdout}${stderr}`);
    return stdout;
  }

  async json<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.must(...args, "--json")) as T;
  }

  /** The number of the host whose manager leads, once `count` managers are in touch with it and writes are taken. */
  async leaderHost(count: number): Promise<number> {
    let host = 0;
    await eventually(`${count} managers in touch with their leader`, async () => {
      const { leader, managers, writable } = await this.json<{
        leader: { name: string } | null;
        writable: boolean;
        managers: { state: string }[];
      }>("cluster", "status");
      host = Number(leader?.name.slice(1) ?? 0);
      return writable && managers.filter(({ state }) => inTouch(state)).length === count;
    });
    return host;
  }

  /** Removes every service, and waits until no container of them is left. */
  async clear(): Promise<void> {
    const names = (await this.must("service", "ls", "--format", "{{.Name}}")).split("\n").filter(Boolean);
    for (const name of names) await this.must("service", "rm", name);
    await eventually("no container of a service is left", async () => {
      for (const n of this.lab.hosts) if ((await this.containers(n)).length > 0) return false;
      return (await this.must("service", "ls", "-q")).trim() === "";
    });
  }

  /** Names of the running containers with Flotilla's labels on host `n`, of one service if given. */
  async containers(n: number, service?: string): Promise<string[]> {
    const filter = service === undefined ? "label=flotilla.task" : `label=flotilla.service=${service}`;
    const text = await this.lab.mustDocker(n, ["ps", "--filter", filter, "--format", "{{.Names}}"]);
    return text.split("\n").filter(Boolean).sort();
  }
}

/** Whether a manager of `cluster status` hears its leader. */
export function inTouch(state: string): boolean {
  return !["unreachable", "unknown"].includes(state);
}

export function labCluster(): LabCluster {
  return new LabCluster(Lab.attach(inject("labName")));
}

/** Waits until `holds`, looking often; fails with what was waited for, and the last error if looking failed. */
export async function eventually(
  what: string,
  holds: () => Promise<boolean> | boolean,
  withinMs = 60_000,
): Promise<void> {
  const endMs = performance.now() + withinMs;
  let failure: unknown;
  while (performance.now() < endMs) {
    try {
      if (await holds()) return;
      failure = undefined;
    } catch (thrown) {
      failure = thrown;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`not within ${withinMs / 1000} s: ${what}`, { cause: failure });
}
