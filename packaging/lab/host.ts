// One host of a lab: its namespaces, held by an init process, and the daemons started inside them.
//
// The host's /run is a tmpfs of its own, with only the lab's folder shown through: the machine's docker.sock is out of sight, two
// containerds don't meet in /run/containerd, and a power cut empties it, as on a real host. The pid namespace ties everything to
// the init: once that is killed the kernel leaves nothing of the host alive, containers included.
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { ClusterError } from "../../lib/mod.js";
import { removeCgroup } from "./cgroup.js";
import { hostAddress, hostName } from "./options.js";
import { agentDataDir, hostCgroup, hostDataDir, hostRunDir, logFile, pidFile, runDir } from "./paths.js";
import {
  INIT_MARK,
  type HostProcess,
  type ProcessId,
  children,
  commandLine,
  hostProcesses,
  identify,
  isAlive,
  isErrno,
  killAll,
} from "./proc.js";
import { type RunOptions, type RunResult, mustRun, run } from "./run.js";

/** Where every host looks names up: the ambassador's address. Without an ambassador there is no route to it. */
export const NAME_SERVER = "10.127.0.53";

/** Programs live here on Debian; a caller's PATH, as under cron or sudo, may lack the sbin folders. */
export const SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const READY = "ready";

// $1 the lab's run folder, $2 the host's run folder, $3 the host's name. `mount -n`: there is no mount table to write under an
// empty /run. As pid 1 the shell must reap what daemons leave behind, which its `wait` does.
const HOST_INIT = `set -e
mkdir -p "$2/tmp"
mount -n -t tmpfs -o mode=755 tmpfs "$2/tmp"
mkdir -p "$2/tmp\${1#/run}"
mount -n --bind "$1" "$2/tmp\${1#/run}"
mount -n --move "$2/tmp" /run
for file in hosts resolv.conf; do
  target=$(readlink -m "/etc/$file")
  case "$target" in /run/*) mkdir -p "\${target%/*}"; : > "$target";; esac
  if [ -e "$target" ]; then mount -n --bind "$2/$file" "$target"; fi
done
hostname "$3"
echo ${READY}
exec >/dev/null 2>&1
while :; do sleep 86400 & wait $!; done`;

/** Starts the namespaces of host `n` and answers their init. No network yet: see network.ts. */
export async function bootHost(
  lab: string,
  n: number,
  hosts: number,
  subnet: string,
  signal?: AbortSignal,
): Promise<ProcessId> {
  const dir = hostRunDir(lab, n);
  // Sockets and pid files of the host's former life would look like those of this one.
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  mkdirSync(hostDataDir(lab, n), { recursive: true });
  mkdirSync(dirname(logFile(lab, n, "any")), { recursive: true });
  const names = Array.from({ length: hosts }, (_, i) => `${hostAddress(subnet, i + 1)} ${hostName(i + 1)}\n`);
  writeFileSync(`${dir}/hosts`, `127.0.0.1 localhost\n${names.join("")}`);
  writeFileSync(`${dir}/resolv.conf`, `nameserver ${NAME_SERVER}\noptions timeout:1 attempts:2\n`);
  writeFileSync(`${dir}/daemon.json`, "{}\n");
  const script = ["sh", "-c", HOST_INIT, "flotilla-lab-init", runDir(lab), dir, hostName(n)];
  const flags = [
    "--mount",
    "--propagation",
    "private",
    "--net",
    "--uts",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
  ];
  const outer = await spawnHolder("unshare", [...flags, ...script], `${lab}/${hostName(n)}`, signal);
  const inner = children(outer)
    .map(identify)
    .find((id) => id !== null);
  if (inner === undefined || inner === null)
    throw new ClusterError("internal", `host ${n} of lab ${lab} ended as soon as it had started`);
  return inner;
}

/** Starts a detached process that only holds namespaces, waits for its `ready` line, and answers its pid. */
export function spawnHolder(
  program: string,
  args: readonly string[],
  mark: string,
  signal?: AbortSignal,
): Promise<number> {
  return new Promise((done, fail) => {
    signal?.throwIfAborted();
    const child = spawn(program, args, {
      detached: true,
      cwd: "/",
      stdio: ["ignore", "pipe", "pipe"],
      env: { PATH: SYSTEM_PATH, [INIT_MARK]: mark },
    });
    let said = "";
    const onExit = (code: number | null): void => {
      const last = said.trim().split("\n").slice(-3).join("; ");
      fail(
        new ClusterError(
          "internal",
          `the namespaces of ${mark} could not be made (${program} exited with ${code}): ${last}`,
        ),
      );
    };
    const onData = (chunk: Buffer): void => {
      said += chunk.toString("utf8");
      if (!said.split("\n").includes(READY) || child.pid === undefined) return;
      child.off("exit", onExit);
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
      done(child.pid);
    };
    child.stdout.on("data", onData);
    child.stderr.on("data", onData);
    child.on("exit", onExit);
    child.on("error", (cause) =>
      fail(new ClusterError("failed_precondition", `cannot run ${program}: ${cause.message}`, { cause })),
    );
  });
}

/** Pulls the plug: every process of the host is gone when this resolves, and so are its mounts, interfaces and cgroups. */
export async function powerOff(lab: string, n: number, init: ProcessId): Promise<void> {
  await killAll([init]);
  await removeCgroup(hostCgroup(lab, n));
}

/** The command line that runs `argv` inside the host. */
export function enter(init: ProcessId, argv: readonly string[]): readonly string[] {
  return ["-t", String(init.pid), "--mount", "--net", "--uts", "--pid", "--", ...argv];
}

export function daemonEnv(extra: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  return { PATH: SYSTEM_PATH, HOME: "/root", LANG: "C.UTF-8", ...extra };
}

export function execIn(init: ProcessId, argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return run("nsenter", enter(init, argv), options);
}

export function mustExecIn(init: ProcessId, argv: readonly string[], options: RunOptions = {}): Promise<string> {
  return mustRun("nsenter", enter(init, argv), options);
}

export interface Daemon {
  /** Unique on its host: `dockerd`, `etcd`, `manager`, `agent`, `ambassador`. */
  readonly name: string;
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

// $1 the log file, then the command. setsid makes it leader of a session, so that no terminal's Ctrl-C reaches it; the shell
// ends at once and the host's init adopts it.
const START = `ulimit -n 1048576 2>/dev/null || ulimit -n "$(ulimit -H -n)"
log=$1; shift
setsid "$@" >>"$log" 2>&1 </dev/null &
echo $!`;

/** Starts a daemon inside the host and notes its pid. Whether it gets ready is for the caller to see. */
export async function startDaemon(lab: string, n: number, init: ProcessId, daemon: Daemon): Promise<HostProcess> {
  const running = findDaemon(lab, n, init, daemon.name);
  if (running !== null) return running;
  const script = ["sh", "-c", START, "start", logFile(lab, n, daemon.name), ...daemon.argv];
  const printed = await mustExecIn(init, script, { env: daemonEnv(daemon.env) });
  const started = hostProcesses(init).find((process) => process.hostPid === Number(printed));
  if (started === undefined) throw new ClusterError("internal", describeEnd(lab, n, daemon.name));
  const noted = { hostPid: started.hostPid, startTicks: started.startTicks };
  writeFileSync(pidFile(lab, n, daemon.name), JSON.stringify(noted));
  return started;
}

/** The daemon as it runs now; null where it does not. */
export function findDaemon(lab: string, n: number, init: ProcessId, name: string): HostProcess | null {
  const noted = readPidFile(pidFile(lab, n, name));
  if (noted === null) return null;
  const same = hostProcesses(init).find((process) => process.hostPid === noted.hostPid);
  return same?.startTicks === noted.startTicks ? same : null;
}

/** The ambassador, which the agent starts and whose pid it leaves in its data folder; a pid of a former life is not believed. */
export function findAmbassador(lab: string, n: number, init: ProcessId): HostProcess | null {
  const noted = Number(tail(`${agentDataDir(lab, n)}/ambassador.pid`, 1)[0] ?? Number.NaN);
  const process = hostProcesses(init).find(({ hostPid }) => hostPid === noted);
  return process !== undefined && commandLine(process.pid).includes("ambassador") ? process : null;
}

/** The last lines that a daemon logged, and its name, for an error message. */
export function describeEnd(lab: string, n: number, name: string): string {
  const file = logFile(lab, n, name);
  return `${name} ${n} of lab ${lab} ended; the last lines of ${file}:\n  ${tail(file, 8).join("\n  ")}`;
}

export function tail(file: string, lines: number): readonly string[] {
  try {
    return readFileSync(file, "utf8").trimEnd().split("\n").slice(-lines);
  } catch (cause) {
    if (isErrno(cause, "ENOENT")) return [];
    throw cause;
  }
}

export function hostIsUp(init: ProcessId | null): init is ProcessId {
  return init !== null && isAlive(init);
}

function readPidFile(file: string): { hostPid: number; startTicks: number } | null {
  try {
    const noted: unknown = JSON.parse(readFileSync(file, "utf8"));
    if (typeof noted !== "object" || noted === null || !("hostPid" in noted) || !("startTicks" in noted)) return null;
    return { hostPid: Number(noted.hostPid), startTicks: Number(noted.startTicks) };
  } catch (cause) {
    // Half a file is what a killed `up` leaves; the process it meant is then found by nobody, and goes with the host.
    if (isErrno(cause, "ENOENT") || cause instanceof SyntaxError) return null;
    throw cause;
  }
}
