// The long-running processes as the commands start them. They are loaded when they are run: each brings half of the
// project with it.

import type { runAgent } from "../agent/main.js";
import type { runAmbassador } from "../discovery/main.js";
import type { runManager } from "../manager/main.js";

/** The processes; loaded when they are run, and replaced by tests. */
export interface Processes {
  manager: typeof runManager;
  agent: typeof runAgent;
  ambassador: typeof runAmbassador;
}

export const lazyProcesses: Processes = {
  manager: async (options, signal) => await (await import("../manager/main.js")).runManager(options, signal),
  agent: async (options, signal) => await (await import("../agent/main.js")).runAgent(options, signal),
  ambassador: async (options, signal) => await (await import("../discovery/main.js")).runAmbassador(options, signal),
};
