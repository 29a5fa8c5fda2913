// The door of packaging/lab/load: continuous requests from inside a lab host, and what became of them. Quickstart, tests and examples
// share it, so that "zero failed requests" means the same everywhere.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { ClusterError, systemClock } from "../../../lib/mod.js";
import type { Lab } from "../mod.js";
import { packageRoot } from "../paths.js";

export interface LoadResult {
  readonly ok: number;
  readonly failed: number;
  /** What failed, with counts. */
  readonly errors: Readonly<Record<string, number>>;
  /** What was answered, with counts. */
  readonly bodies: Readonly<Record<string, number>>;
  readonly slowestMs: number;
}

export interface Load {
  /** Lets requests under way finish, and answers what all of them saw. */
  stop(): Promise<LoadResult>;
  /** Ends it at once, whatever it saw. */
  kill(): void;
}

/** A request is given up after 10 s, so that whoever takes longer to end hangs. */
const endMsMax = 30_000;

/** Runs `clients` clients on host `host`: every second one keeps its connection, the others open one for every request. */
export function startLoad(lab: Lab, host: number, url: string, clients = 8): Load {
  const script = join(packageRoot(), "packaging", "lab", "load", "load.mjs");
  const [program, args] = lab.command(host, [process.execPath, script, url, String(clients)]);
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
  child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
  // Its exit code tells why it is gone.
  child.stdin.on("error", () => undefined);
  let failure: Error | undefined;
  const ended = new Promise<number | null>((resolve) => {
    child.on("error", (cause) => {
      failure = cause;
      resolve(null);
    });
    child.on("close", resolve);
  });
  const end = (): void => {
    child.stdin.end();
  };
  return {
    stop: async () => {
      end();
      const cancel = systemClock.after(endMsMax, () => child.kill("SIGKILL"));
      const code = await ended;
      cancel();
      if (code === 0) return JSON.parse(stdout) as LoadResult;
      const why = failure?.message ?? (stderr.trim() || "it printed nothing");
      throw new ClusterError("internal", `the load on host ${host} of lab ${lab.name} ended with ${code}: ${why}`);
    },
    kill: () => {
      end();
      child.kill("SIGKILL");
    },
  };
}
