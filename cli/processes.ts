// The long-running processes as the commands start them, and what the managers' directories are prepared with. They
// are loaded when they are run: each brings half of the project with it.

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

/** What is done to a manager's directory while no manager runs on it. */
export interface Offline {
  identities: () => Promise<typeof import("../manager/consensus/identity.js")>;
  dataDirs: () => Promise<typeof import("../manager/consensus/data-dir.js")>;
  backups: () => Promise<typeof import("../manager/consensus/backup.js")>;
}
export type ManagerIdentity = import("../manager/consensus/identity.js").Identity;

export const lazyOffline: Offline = {
  identities: async () => await import("../manager/consensus/identity.js"),
  dataDirs: async () => await import("../manager/consensus/data-dir.js"),
  backups: async () => await import("../manager/consensus/backup.js"),
};
