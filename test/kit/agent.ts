// The agent as its users have it, a process of its own, against a fake manager and a real engine.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AgentOptions } from "../../agent/main.js";
import type { TaskAssignment } from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { type HealthCheck, Protocol, PublishMode, RestartCondition, TaskState } from "../../proto/mod.js";
import { makeSpec, makeTask } from "./objects.js";

const main = new URL("../../dist/agent/main.js", import.meta.url).href;
const script = `
import { runAgent } from ${JSON.stringify(main)};
const end = new AbortController();
process.on("SIGTERM", () => end.abort());
await runAgent(JSON.parse(process.argv[1]), end.signal);
`;

export class AgentProcess implements AsyncDisposable {
  readonly dataDir = mkdtempSync(join(tmpdir(), "flotilla-agent-"));
  readonly #options: Omit<AgentOptions, "dataDir">;
  #child: ChildProcess | undefined;
  #output = "";

  constructor(options: Omit<AgentOptions, "dataDir">) {
    this.#options = options;
  }

  get output(): string {
    return this.#output;
  }

  start(): void {
    const options: AgentOptions = { ...this.#options, dataDir: this.dataDir };
    const child = spawn(process.execPath, ["--input-type=module", "-e", script, JSON.stringify(options)], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    child.stderr.on("data", (chunk: Buffer) => {
      this.#output = (this.#output + chunk.toString()).slice(-100_000);
    });
    this.#child = child;
  }

  /** Resolves when the process is gone. */
  async end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child;
    if (child === undefined) return null;
    this.#child = undefined;
    const gone = new Promise<number | null>((resolve) => {
      if (child.exitCode === null && child.signalCode === null) child.on("exit", resolve);
      else resolve(child.exitCode);
    });
    child.kill(signal);
    return await gone;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end("SIGKILL");
    rmSync(this.dataDir, { recursive: true, force: true });
  }
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/** A task that runs a shell script, by default one that ends on SIGTERM with code 0. */
export function assignmentOf(
  id: string,
  changes: {
    image: string;
    script?: string;
    desired?: TaskState;
    ports?: number[];
    restart?: Partial<{ condition: RestartCondition; delayMs: number; maxAttempts: number; windowMs: number }>;
    healthcheck?: HealthCheck;
    graceMs?: number;
    drainTimeoutMs?: number;
  },
): TaskAssignment {
  const spec = makeSpec({ image: changes.image }).task;
  const script = changes.script ?? "trap 'exit 0' TERM; echo up; while :; do sleep 1 & wait $!; done";
  return {
    task: makeTask(id, { desiredState: changes.desired ?? TaskState.RUNNING, nodeId: "this" }),
    spec: {
      ...spec,
      container: {
        ...spec.container,
        command: ["sh", "-c", script],
        // The image has a stop signal of its own.
        stopSignal: "SIGTERM",
        stopGracePeriodMs: changes.graceMs ?? 5_000,
        healthcheck: changes.healthcheck,
      },
      restart: { condition: RestartCondition.ANY, delayMs: 200, maxAttempts: 3, windowMs: 120_000, ...changes.restart },
    },
    ports: (changes.ports ?? []).map((targetPort) => ({
      protocol: Protocol.TCP,
      targetPort,
      publishedPort: 0,
      name: "",
      mode: PublishMode.INGRESS,
    })),
    drainTimeoutMs: changes.drainTimeoutMs ?? 10_000,
    drained: false,
    templateHash: "hash",
    serviceLabels: {},
  };
}
