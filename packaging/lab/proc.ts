// Reads /proc: which processes belong to a lab, and whether a process is still the one we started. A process is named by its
// pid and its start time together, since pids are reused; every signal checks both.
import { readFileSync, readdirSync, readlinkSync } from "node:fs";
import { ClusterError, sleep, systemClock } from "../../lib/mod.js";

export interface ProcessId {
  readonly pid: number;
  /** Clock ticks after boot, field 22 of /proc/PID/stat. */
  readonly startTicks: number;
}

/** Environment variable of the init processes: `NAME/h1`, or `NAME/switch`. */
export const INIT_MARK = "FLOTILLA_LAB_INIT";

/** One process inside a host, with its pid as the host and as the machine know it. */
export interface HostProcess extends ProcessId {
  readonly hostPid: number;
}

/** Null where the process is gone; a zombie counts as gone. */
export function identify(pid: number): ProcessId | null {
  const stat = read(`/proc/${pid}/stat`);
  if (stat === null) return null;
  // The command's name stands in parentheses and may itself hold spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" || fields[0] === "X" ? null : { pid, startTicks: Number(fields[19]) };
}

export function isAlive(id: ProcessId): boolean {
  return identify(id.pid)?.startTicks === id.startTicks;
}

/** False where the process is gone already. */
export function signal(id: ProcessId, name: NodeJS.Signals): boolean {
  if (!isAlive(id)) return false;
  try {
    return process.kill(id.pid, name);
  } catch (cause) {
    if (isErrno(cause, "ESRCH")) return false;
    throw cause;
  }
}

export function children(pid: number): readonly number[] {
  return pids().filter((candidate) => {
    const stat = read(`/proc/${candidate}/stat`);
    return stat !== null && Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === pid;
  });
}

/** All init processes of one lab or, without `lab`, of all labs, whoever started them. */
export function marked(lab?: string): readonly (ProcessId & { readonly mark: string })[] {
  const found: (ProcessId & { mark: string })[] = [];
  for (const pid of pids()) {
    const mark = read(`/proc/${pid}/environ`)
      ?.split("\0")
      .find((entry) => entry.startsWith(`${INIT_MARK}=`))
      ?.slice(INIT_MARK.length + 1);
    if (mark === undefined || (lab !== undefined && mark.split("/")[0] !== lab)) continue;
    const id = identify(pid);
    if (id !== null) found.push({ ...id, mark });
  }
  return found;
}

/** The processes of a host's own pid namespace: its daemons, but not what runs in containers. */
export function hostProcesses(init: ProcessId): readonly HostProcess[] {
  const space = link(`/proc/${init.pid}/ns/pid`);
  if (space === null || !isAlive(init)) return [];
  const found: HostProcess[] = [];
  for (const pid of pids()) {
    if (link(`/proc/${pid}/ns/pid`) !== space) continue;
    const id = identify(pid);
    const hostPid = Number(/^NSpid:.*?(\d+)$/m.exec(read(`/proc/${pid}/status`) ?? "")?.[1]);
    if (id !== null && Number.isInteger(hostPid)) found.push({ ...id, hostPid });
  }
  return found;
}

export function commandLine(pid: number): readonly string[] {
  return (read(`/proc/${pid}/cmdline`) ?? "").split("\0");
}

/** Processes whose cgroup is `path` or below, in any hierarchy: what runs in a host's containers. */
export function cgroupProcesses(path: string): readonly ProcessId[] {
  return pids().flatMap((pid) => {
    const inside = read(`/proc/${pid}/cgroup`)?.includes(`:${path}/`) ?? false;
    const id = inside ? identify(pid) : null;
    return id === null ? [] : [id];
  });
}

/** SIGKILLs all of them and waits until the kernel has removed them. */
export async function killAll(ids: readonly ProcessId[], withinMs = 15_000): Promise<void> {
  for (const id of ids) signal(id, "SIGKILL");
  for (let waitedMs = 0; ids.some(isAlive); waitedMs += 10) {
    if (waitedMs >= withinMs) {
      const left = ids.filter(isAlive).map((id) => id.pid);
      throw new ClusterError(
        "deadline_exceeded",
        `processes ${left.join(", ")} are still there ${withinMs} ms after SIGKILL`,
      );
    }
    await sleep(systemClock, 10);
  }
}

function pids(): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function read(path: string): string | null {
  return ifPresent(() => readFileSync(path, "utf8"));
}

function link(path: string): string | null {
  return ifPresent(() => readlinkSync(path));
}

/** Processes come and go while we look, and kernel threads have no readable links: both mean "not there". */
function ifPresent<T>(get: () => T): T | null {
  try {
    return get();
  } catch (cause) {
    if (["ENOENT", "ESRCH", "EACCES", "EPERM"].some((code) => isErrno(cause, code))) return null;
    throw cause;
  }
}

export function isErrno(thrown: unknown, code: string): boolean {
  return thrown instanceof Error && "code" in thrown && thrown.code === code;
}
