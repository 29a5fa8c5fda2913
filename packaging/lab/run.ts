// Runs other programs: to the end with their output captured, or with the caller's terminal. Every failure says which program,
// with which arguments, and what it printed last.
import { spawn } from "node:child_process";
import { ClusterError } from "../../lib/mod.js";

/** More of a program's output than this is a mistake of ours; it is cut off here. */
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

export interface RunOptions {
  readonly input?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Kills the program with SIGKILL. */
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

export interface RunResult {
  /** 128 + n where signal n ended it, as in a shell. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const SIGNAL_NUMBERS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGPIPE: 13,
  SIGTERM: 15,
};

export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return new Promise((done, fail) => {
    options.signal?.throwIfAborted();
    const child = spawn(program, args, {
      stdio: ["pipe", "pipe", "pipe"],
      killSignal: "SIGKILL",
      ...(options.env === undefined ? {} : { env: options.env }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs }),
    });
    const out = collector();
    const err = collector();
    child.stdout.on("data", out.add);
    child.stderr.on("data", err.add);
    child.on("error", (cause) => {
      if (options.signal?.aborted === true) fail(options.signal.reason);
      else fail(new ClusterError("failed_precondition", `cannot run ${program}: ${cause.message}`, { cause }));
    });
    child.on("close", (code, signal) => done({ code: exitCode(code, signal), stdout: out.text(), stderr: err.text() }));
    // A program that exits before it has read its input closes the pipe; its exit code tells the story.
    child.stdin.on("error", (cause: NodeJS.ErrnoException) => (cause.code === "EPIPE" ? undefined : fail(cause)));
    child.stdin.end(options.input ?? "");
  });
}

/** Like `run`, but anything but exit code 0 is an error. Answers what the program printed. */
export async function mustRun(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await run(program, args, options);
  if (result.code === 0) return result.stdout;
  const said = (result.stderr.trim() || result.stdout.trim() || "it printed nothing")
    .split("\n")
    .slice(-5)
    .join("\n  ");
  throw new ClusterError("internal", `${program} ${args.join(" ")} exited with ${result.code}:\n  ${said}`);
}

/** With the caller's terminal; answers the exit code. Ctrl-C reaches the program, not us. */
export function runInherited(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<number> {
  return new Promise((done, fail) => {
    const ignore = (): void => undefined;
    process.on("SIGINT", ignore);
    const child = spawn(program, args, { stdio: "inherit", env });
    child.on("error", (cause) => {
      process.off("SIGINT", ignore);
      fail(new ClusterError("failed_precondition", `cannot run ${program}: ${cause.message}`, { cause }));
    });
    child.on("close", (code, signal) => {
      process.off("SIGINT", ignore);
      done(exitCode(code, signal));
    });
  });
}

function exitCode(code: number | null, signal: NodeJS.Signals | null): number {
  return code ?? 128 + (SIGNAL_NUMBERS[signal ?? ""] ?? 0);
}

function collector(): { add: (chunk: Buffer) => void; text: () => string } {
  const chunks: Buffer[] = [];
  let size = 0;
  return {
    add: (chunk) => {
      if (size < OUTPUT_BYTES_MAX) chunks.push(chunk);
      size += chunk.length;
    },
    text: () => Buffer.concat(chunks).toString("utf8"),
  };
}
