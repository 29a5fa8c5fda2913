// The ambassador's process: adopted when it answers, started when nobody does. It is made to outlive the agent: its own
// session, its output in a file, no pipe between the two.

import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { type Clock, ClusterError, type Logger, sleep } from "../../lib/mod.js";

const readyMs = 15_000;
const pollMs = 50;

export class AmbassadorProcess {
  readonly #command: readonly string[];
  readonly #dataDir: string;
  readonly #clock: Clock;
  readonly #log: Logger;
  #child: ChildProcess | undefined;

  /** `command` starts an ambassador when `--data-dir DIR` is added to it. */
  constructor(options: { command: readonly string[]; dataDir: string; clock: Clock; log: Logger }) {
    this.#command = options.command;
    this.#dataDir = options.dataDir;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  get socket(): string {
    return join(this.#dataDir, "ambassador.sock");
  }

  /** Resolves when an ambassador answers on its socket; starts one if there is none. */
  async ensure(signal: AbortSignal): Promise<void> {
    if (await answers(this.socket)) return;
    if (this.#child === undefined) this.#start();
    const untilMs = this.#clock.monotonic() + readyMs;
    while (this.#clock.monotonic() < untilMs) {
      await sleep(this.#clock, pollMs, signal);
      if (await answers(this.socket)) return;
      if (this.#child === undefined)
        throw new ClusterError("unavailable", `the ambassador ended at once: see ${this.#logFile}`);
    }
    throw new ClusterError("unavailable", `the ambassador does not answer on ${this.socket}: see ${this.#logFile}`);
  }

  get #logFile(): string {
    return join(this.#dataDir, "ambassador.log");
  }

  #start(): void {
    const [program = "", ...args] = this.#command;
    const output = openSync(this.#logFile, "a", 0o600);
    try {
      const child = spawn(program, [...args, "--data-dir", this.#dataDir], {
        detached: true,
        stdio: ["ignore", output, output],
      });
      this.#child = child;
      const gone = (how: object) => {
        if (this.#child === child) this.#child = undefined;
        this.#log.warn({ pid: child.pid, ...how }, "the ambassador ended");
      };
      child.on("exit", (code, by) => gone({ code, by }));
      child.on("error", (failure) => gone({ error: failure.message }));
      child.unref();
      this.#log.info({ pid: child.pid }, "the ambassador was started");
    } finally {
      closeSync(output);
    }
  }
}

/** Whether somebody listens on the socket. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (is: boolean) => {
      socket.destroy();
      resolve(is);
    };
    socket.on("connect", () => done(true));
    // Refused or absent: nobody is there.
    socket.on("error", () => done(false));
  });
}
