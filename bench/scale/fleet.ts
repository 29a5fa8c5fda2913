// The simulated agents of a run, in processes, and what they know together.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { getPriority, setPriority } from "node:os";
import { fileURLToPath } from "node:url";

export interface AgentsPlan {
  first: number;
  count: number;
  managers: readonly string[];
  labels: Readonly<Record<string, string>>;
  observes: boolean;
  startOverMs: number;
}

export interface AgentsFigures {
  connected: number;
  running: number;
  statuses: number;
  assignments: number;
  begun: [taskId: string, times: { createdAtMs: number; arrivedAtMs: number; runningAtMs: number }][];
  routed: [taskId: string, atMs: number][];
}

const answerMs = 120_000;
const program = fileURLToPath(new URL("./agents.js", import.meta.url));

export class Fleet implements AsyncDisposable {
  readonly #processes: ChildProcess[] = [];

  /** Resolves with the process when it runs; its agents connect over `startOverMs`. */
  start(plan: AgentsPlan): ChildProcess {
    const child = fork(program, [JSON.stringify(plan)]);
    // Real ones have machines of their own: where all share one, the managers go first.
    if (child.pid !== undefined) setPriority(child.pid, Math.min(19, getPriority() + 5));
    this.#processes.push(child);
    return child;
  }

  /** One that is stopped for good is asked no more. */
  forget(child: ChildProcess): void {
    this.#processes.splice(this.#processes.indexOf(child), 1);
    child.kill("SIGKILL");
  }

  async figures(question: "figures" | "times" = "figures"): Promise<AgentsFigures> {
    const all = await Promise.all(
      this.#processes.map(async (child) => {
        const answer = once(child, "message", { signal: AbortSignal.timeout(answerMs) });
        child.send(question);
        const [figures] = (await answer) as [AgentsFigures];
        return figures;
      }),
    );
    const sum = (pick: (figures: AgentsFigures) => number) => all.reduce((total, one) => total + pick(one), 0);
    return {
      connected: sum(({ connected }) => connected),
      running: sum(({ running }) => running),
      statuses: sum(({ statuses }) => statuses),
      assignments: sum(({ assignments }) => assignments),
      begun: all.flatMap(({ begun }) => begun),
      routed: all.flatMap(({ routed }) => routed),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      this.#processes.map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const gone = once(child, "exit");
        child.kill("SIGKILL");
        await gone;
      }),
    );
  }
}
