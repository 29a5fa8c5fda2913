// The lab that quickstart plays in, and the command line as its users have it: as a process, with its exit code and output.
import { messageOf, sleep, systemClock } from "../../lib/mod.js";
import { readLink, unlink } from "../../cli/lab/link.js";
import { Lab, type RunResult, mainProgram, run } from "../lab/mod.js";

export const LAB_NAME = "quickstart";

/** Said and expected, but not seen: the message is for the user. */
export class NotSeen extends Error {
  constructor(message: string) {
    super(message);
    this.name = "NotSeen";
  }
}

export class Cluster {
  readonly lab: Lab;
  readonly #signal: AbortSignal;

  constructor(lab: Lab, signal: AbortSignal) {
    this.lab = lab;
    this.#signal = signal;
  }

  /** What to put into FLOTILLA_HOST. */
  get managers(): string {
    return this.lab.managers.join(",");
  }

  /** Runs `flotilla ARGS` and answers what it printed; any exit code but 0 is not what was announced. */
  async flotilla(args: readonly string[], withinMs = 60_000): Promise<string> {
    const env = { ...process.env, FLOTILLA_HOST: this.managers, NO_COLOR: "1" };
    const result = await this.#run(process.execPath, [mainProgram(), ...args], withinMs, env);
    return expectSuccess(`flotilla ${args.join(" ")}`, result, withinMs);
  }

  async json<T>(args: readonly string[]): Promise<T> {
    return JSON.parse(await this.flotilla([...args, "--json"])) as T;
  }

  /** The docker client against host `n`'s engine. */
  async docker(n: number, args: readonly string[], withinMs = 60_000): Promise<string> {
    const result = await this.lab.docker(n, args, { signal: this.#signal, timeoutMs: withinMs });
    return expectSuccess(`docker ${args.join(" ")} on h${n}`, result, withinMs);
  }

  /** Looks again and again until `look` succeeds; what it objected to last is thrown when time is up. */
  async eventually<T>(withinMs: number, look: () => Promise<T>): Promise<T> {
    const endMs = systemClock.monotonic() + withinMs;
    for (;;) {
      try {
        return await look();
      } catch (cause) {
        if (this.#signal.aborted || systemClock.monotonic() >= endMs) throw cause;
      }
      await sleep(systemClock, 250, this.#signal);
    }
  }

  async pause(ms: number): Promise<void> {
    await sleep(systemClock, ms, this.#signal);
  }

  #run(program: string, args: readonly string[], timeoutMs: number, env: NodeJS.ProcessEnv): Promise<RunResult> {
    return run(program, args, { env, timeoutMs, signal: this.#signal });
  }
}

function expectSuccess(what: string, { code, stdout, stderr }: RunResult, withinMs: number): string {
  if (code === 0) return stdout;
  const how = code === 137 ? `was killed, at the latest after ${withinMs / 1000} s` : `exited with ${code}`;
  throw new NotSeen(`${what} ${how}\n${stderr.trim() || stdout.trim() || "it printed nothing"}`);
}

/** Takes the lab down, whoever brought it up; with the context that `flotilla lab up` made for it, if it was that. */
export async function removeLab(): Promise<boolean> {
  const linked = readLink(Lab.folder(LAB_NAME));
  const existed = await Lab.down(LAB_NAME);
  if (linked !== null) unlink(LAB_NAME, linked, process.env);
  return existed;
}

/** GET from this machine, on a connection of its own. */
export async function get(url: string, signal: AbortSignal): Promise<string> {
  let response: Response;
  try {
    response = await fetch(url, {
      signal: AbortSignal.any([signal, AbortSignal.timeout(5_000)]),
      headers: { connection: "close" },
    });
    const body = await response.text();
    if (response.status === 200) return body;
  } catch (cause) {
    const reason = cause instanceof Error && cause.cause !== undefined ? cause.cause : cause;
    throw new NotSeen(`${url} does not answer: ${messageOf(reason)}`);
  }
  throw new NotSeen(`${url} answered with status ${response.status}`);
}
