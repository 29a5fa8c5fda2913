// Where a lab keeps what: one folder that a reboot may empty, one that survives `kill host`, one cgroup. All of them carry the
// lab's name, so that `down` can remove them without knowing what was in them. Unix socket paths must stay below 108 bytes:
// with a name of at most 20 characters the longest here has 66.
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { hostName } from "./options.js";

export const RUN_ROOT = "/run/flotilla-lab";
export const DATA_ROOT = "/var/lib/flotilla-lab";
export const CGROUP_ROOT = "flotilla-lab";

export const runDir = (lab: string): string => join(RUN_ROOT, lab);
export const dataDir = (lab: string): string => join(DATA_ROOT, lab);
export const stateFile = (lab: string): string => join(runDir(lab), "state.json");
export const hostRunDir = (lab: string, n: number): string => join(runDir(lab), hostName(n));
/** The host's disk: it outlives the host's power. */
export const hostDataDir = (lab: string, n: number): string => join(dataDir(lab), hostName(n));
export const dockerSocket = (lab: string, n: number): string => join(hostRunDir(lab, n), "docker.sock");
export const agentDataDir = (lab: string, n: number): string => join(hostDataDir(lab, n), "agent");
export const managerDataDir = (lab: string, n: number): string => join(hostDataDir(lab, n), "manager");
export const etcdDataDir = (lab: string, n: number): string => join(hostDataDir(lab, n), "etcd");
export const engineDataDir = (lab: string, n: number): string => join(hostDataDir(lab, n), "docker");
export const imageDir = (lab: string): string => join(dataDir(lab), "images");
/** The ambassador's is where its agent keeps it: whoever starts the ambassador writes on there. */
export const logFile = (lab: string, n: number, process: string): string =>
  process === "ambassador"
    ? join(agentDataDir(lab, n), "ambassador.log")
    : join(dataDir(lab), "log", `${hostName(n)}-${process}.log`);
export const pidFile = (lab: string, n: number, process: string): string => join(hostRunDir(lab, n), `${process}.json`);
/** Given to dockerd as --cgroup-parent, and removed when the host loses power. */
export const hostCgroup = (lab: string, n: number): string => `/${CGROUP_ROOT}/${lab}/${hostName(n)}`;
/** The interface in the root namespace; names of interfaces have at most 15 characters. */
export const rootInterface = (lab: string): string => {
  const plain = `flo-${lab}`;
  if (plain.length <= 15) return plain;
  let hash = 5381;
  for (const char of lab) hash = (Math.imul(hash, 33) ^ char.charCodeAt(0)) >>> 0;
  return `flo-${lab.slice(0, 4)}${hash.toString(36).padStart(7, "0")}`;
};

/** The folder of package.json, from the sources as well as from dist/. */
export function packageRoot(): string {
  let dir = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(dir, "package.json"))) {
    const parent = dirname(dir);
    if (parent === dir) throw new Error("no package.json above packaging/lab");
    dir = parent;
  }
  return dir;
}

/** The program that the lab runs as manager, agent and ambassador. */
export const mainProgram = (): string => join(packageRoot(), "dist", "cli", "main.js");
