// Real etcd servers for tests: one or three members on 127.0.0.1, each a process with a data directory of its own.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { messageOf } from "../../lib/mod.js";
import { freePorts } from "./ports.js";

const startMsMax = 30_000;

export interface EtcdMember {
  readonly endpoint: string;
  readonly dataDirectory: string;
  /** SIGKILL; resolves once it is gone. */
  kill(): Promise<void>;
  /** SIGSTOP: it keeps its connections and answers nothing. */
  pause(): void;
  resume(): void;
  /** Starts it again on its data, kills it first if it runs; resolves once it answers (or at once with `wait: false`). */
  restart(options?: { wait?: boolean }): Promise<void>;
}

export interface Etcd extends AsyncDisposable {
  readonly endpoints: string[];
  member(index: number): EtcdMember;
}

export interface EtcdOptions {
  members: 1 | 3;
  /** False gives the addresses without servers: `member(i).restart({ wait: false })` starts them. */
  start?: boolean;
}

export async function startEtcd({ members: count, start = true }: EtcdOptions): Promise<Etcd> {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-etcd-"));
  const ports = await freePorts(count * 2);
  const token = `test-${ports.join("-")}`;
  const peers = Array.from({ length: count }, (_, i) => `http://127.0.0.1:${ports[count + i]}`);
  const initialCluster = peers.map((peer, i) => `m${i}=${peer}`).join(",");
  const members = peers.map((peer, i) => {
    const endpoint = `http://127.0.0.1:${ports[i]}`;
    return new Member(
      endpoint,
      join(directory, `m${i}`),
      [
        ["--name", `m${i}`],
        ["--listen-client-urls", endpoint],
        ["--advertise-client-urls", endpoint],
        ["--listen-peer-urls", peer],
        ["--initial-advertise-peer-urls", peer],
        ["--initial-cluster", initialCluster],
        ["--initial-cluster-token", token],
        ["--initial-cluster-state", "new"],
        ["--logger", "zap"],
        ["--log-level", "error"],
      ].flat(),
    );
  });
  const etcd: Etcd = {
    endpoints: members.map((member) => member.endpoint),
    member(index) {
      const member = members[index];
      if (member === undefined) throw new Error(`there is no etcd member ${index} of ${count}`);
      return member;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(members.map((member) => member.kill()));
      await rm(directory, { recursive: true, force: true });
    },
  };
  if (!start) return etcd;
  try {
    // Together: a member answers only once it has a quorum.
    await Promise.all(members.map((member) => member.restart()));
  } catch (error) {
    await etcd[Symbol.asyncDispose]();
    throw error;
  }
  return etcd;
}

class Member implements EtcdMember {
  readonly endpoint: string;
  readonly dataDirectory: string;
  readonly #args: readonly string[];
  #process: ChildProcess | undefined;
  #output = "";

  constructor(endpoint: string, dataDirectory: string, args: readonly string[]) {
    this.endpoint = endpoint;
    this.dataDirectory = dataDirectory;
    this.#args = [...args, "--data-dir", dataDirectory];
  }

  async kill(): Promise<void> {
    const process = this.#process;
    this.#process = undefined;
    if (process === undefined || process.exitCode !== null || process.signalCode !== null) return;
    const gone = once(process, "exit");
    process.kill("SIGKILL");
    await gone;
  }

  pause(): void {
    this.#process?.kill("SIGSTOP");
  }

  resume(): void {
    this.#process?.kill("SIGCONT");
  }

  async restart({ wait = true }: { wait?: boolean } = {}): Promise<void> {
    await this.kill();
    this.#output = "";
    const process = spawn("etcd", this.#args, { stdio: ["ignore", "pipe", "pipe"] });
    this.#process = process;
    const keep = (chunk: Buffer) => (this.#output = (this.#output + chunk.toString()).slice(-4_000));
    process.stdout.on("data", keep);
    process.stderr.on("data", keep);
    process.on("error", (error) => (this.#output += messageOf(error)));
    if (wait) await this.#answers();
  }

  async #answers(): Promise<void> {
    const deadline = performance.now() + startMsMax;
    for (;;) {
      const process = this.#process;
      if (process === undefined || process.exitCode !== null || process.pid === undefined)
        throw new Error(`etcd at ${this.endpoint} did not start: ${this.#output}`);
      try {
        const response = await fetch(`${this.endpoint}/health`, { signal: AbortSignal.timeout(2_000) });
        if (response.ok) return;
        this.#output += `health: ${response.status}\n`;
      } catch (error) {
        if (performance.now() > deadline)
          throw new Error(`etcd at ${this.endpoint} does not answer: ${messageOf(error)}\n${this.#output}`, {
            cause: error,
          });
      }
      await delay(50);
    }
  }
}
