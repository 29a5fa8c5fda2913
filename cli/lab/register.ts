// `flotilla lab …`: several real Docker hosts on this machine. Only the command line is here; packaging/lab does the work.
import type { Command } from "commander";
import { ClusterError } from "../../lib/mod.js";
import { Lab, PARTS, type Part, STORE_KINDS, type UpOptions } from "../../packaging/lab/mod.js";
import { Failure, UsageError, exits } from "../exit.js";
import { type Io, processIo } from "../io.js";
import { down, logs, status, up } from "./commands.js";
import { hostArgument, hostLabels, oneOf, wholeNumber, words } from "./input.js";

interface UpFlags {
  name: string;
  hosts: string;
  store: string;
  managers: string;
  etcdMembers?: string;
  label: string[];
  images: string;
  subnet?: string;
  processes: boolean;
}
interface Named {
  name: string;
}

const NAME = ["--name <name>", "which lab", "default"] as const;
const collect = (value: string, before: string[]): string[] => [...before, value];

export function registerLab(program: Command, io: Io = processIo()): void {
  // `lab exec 1 ls -l`: what follows the host belongs to the other program. Commander wants that said at every level.
  const lab = program
    .enablePositionalOptions()
    .command("lab")
    .description("try a cluster: several real Docker hosts on this machine")
    .enablePositionalOptions();

  lab
    .command("up")
    .description("bring up a lab, or what is not running of it")
    .option(...NAME)
    .option("--hosts <n>", "number of hosts", "3")
    .option(
      "--store <kind>",
      "where managers keep the cluster: raft (themselves), etcd (real servers) or memory",
      "raft",
    )
    .option("--managers <n>", "number of managers", "1")
    .option("--etcd-members <n>", "with etcd: 1, 3 or 5 (default: 3 with 3 hosts or more, else 1)")
    .option("--label <[HOST:]KEY=VALUE>", "label of all nodes, or of one host: 2:zone=b (repeatable)", collect, [])
    .option("--images <list>", "images to load: busybox,demo or none", "busybox,demo")
    .option("--subnet <prefix>", "first three bytes of its network (default: the first free from 10.77.0)")
    .option("--no-processes", "only hosts, engines and etcd; no manager and agents")
    .action((flags: UpFlags) => guarded(() => up(io, upOptions(flags))));

  lab
    .command("down")
    .description("take down a lab and remove every trace of it")
    .option(...NAME)
    .option("--all", "all labs")
    .action((flags: Named & { all?: boolean }) =>
      guarded(() => down(io, flags.all === true ? Lab.names() : [flags.name])),
    );

  lab
    .command("status")
    .alias("ls")
    .description("show hosts, what runs on them, and cuts")
    .option(...NAME)
    .option("--json", "print JSON")
    .action((flags: Named & { json?: boolean }) =>
      guarded(() => status(io, Lab.attach(flags.name), flags.json === true)),
    );

  lab
    .command("exec")
    .description("run a command on a host: flotilla lab exec 2 -- ip address")
    .argument("<host>")
    .argument("<command...>")
    .option(...NAME)
    .passThroughOptions()
    .action((host: string, command: string[], flags: Named) =>
      guarded(async () => {
        const target = Lab.attach(flags.name);
        process.exitCode = await target.execInherit(hostArgument(target, host), withoutDashes(command));
      }),
    );

  lab
    .command("docker")
    .description("run the docker client against a host's engine: flotilla lab docker 2 ps")
    .argument("<host>")
    .argument("<arguments...>")
    .option(...NAME)
    .passThroughOptions()
    .action((host: string, args: string[], flags: Named) =>
      guarded(async () => {
        const target = Lab.attach(flags.name);
        process.exitCode = await target.dockerInherit(hostArgument(target, host), withoutDashes(args));
      }),
    );

  lab
    .command("cut")
    .description("drop all packets between two hosts, or between a host and all others")
    .argument("<host>")
    .argument("[other]")
    .option(...NAME)
    .option("--one-way", "only what the first sends")
    .action((host: string, other: string | undefined, flags: Named & { oneWay?: boolean }) =>
      guarded(async () => {
        const target = Lab.attach(flags.name);
        const [a, b] = [hostArgument(target, host), other === undefined ? undefined : hostArgument(target, other)];
        await target.cut(a, b, flags.oneWay === true);
        const to = b === undefined ? "all other hosts" : `host ${b}`;
        io.err(
          `host ${a} is cut from ${to}${flags.oneWay === true ? ", in what it sends" : ""}; undo: flotilla lab heal\n`,
        );
      }),
    );

  lab
    .command("heal")
    .description("end all cuts, or those of one host")
    .argument("[host]")
    .option(...NAME)
    .action((host: string | undefined, flags: Named) =>
      guarded(async () => {
        const target = Lab.attach(flags.name);
        await target.heal(host === undefined ? undefined : hostArgument(target, host));
        io.err("healed\n");
      }),
    );

  part(lab, "kill", "end a process at once; `kill host 3` pulls the plug of a whole host")
    .option("-s, --signal <signal>", "another signal than SIGKILL, such as SIGTERM")
    .action((name: string, host: string, flags: Named & { signal?: string }) =>
      guarded(async () => {
        const { target, which, n } = read(name, host, flags);
        const done = await target.kill(
          which,
          n,
          flags.signal === undefined ? "SIGKILL" : oneOf("signal", flags.signal, SIGNALS),
        );
        io.err(done ? `${which} ${n} killed\n` : `${which} ${n} did not run\n`);
      }),
    );

  part(lab, "start", "start a process, or a host with all it had, and wait until it is ready")
    .option("--no-wait", "do not wait")
    .action((name: string, host: string, flags: Named & { wait: boolean }) =>
      guarded(async () => {
        const { target, which, n } = read(name, host, flags);
        const done = await target.start(which, n, { wait: flags.wait });
        io.err(done ? `${which} ${n} started\n` : `${which} ${n} runs already\n`);
      }),
    );

  part(lab, "pause", "freeze a process (SIGSTOP), or a host with all its containers").action(
    (name: string, host: string, flags: Named) =>
      guarded(() => {
        const { target, which, n } = read(name, host, flags);
        io.err(target.pause(which, n) ? `${which} ${n} paused\n` : `${which} ${n} does not run\n`);
      }),
  );

  part(lab, "resume", "let a paused process go on").action((name: string, host: string, flags: Named) =>
    guarded(() => {
      const { target, which, n } = read(name, host, flags);
      io.err(target.resume(which, n) ? `${which} ${n} resumed\n` : `${which} ${n} does not run\n`);
    }),
  );

  part(lab, "logs", "print what a process logged")
    .option("-f, --follow", "go on printing")
    .option("-n, --tail <lines>", "only the last lines")
    .action((name: string, host: string, flags: Named & { follow?: boolean; tail?: string }) =>
      guarded(async () => {
        const { target, which, n } = read(name, host, flags);
        const lines = flags.tail === undefined ? null : wholeNumber("tail", flags.tail, 0, 1_000_000);
        process.exitCode = await logs(target, which, n, flags.follow === true, lines);
      }),
    );
}

const SIGNALS = [
  "SIGKILL",
  "SIGTERM",
  "SIGINT",
  "SIGHUP",
  "SIGQUIT",
  "SIGABRT",
  "SIGUSR1",
  "SIGUSR2",
  "SIGSTOP",
  "SIGCONT",
] as const;

function part(lab: Command, verb: string, description: string): Command {
  return lab
    .command(verb)
    .description(description)
    .argument("<process>", PARTS.join(", "))
    .argument("<host>")
    .option(...NAME);
}

function read(name: string, host: string, flags: Named): { target: Lab; which: Part; n: number } {
  const which = oneOf("process", name, PARTS);
  const target = Lab.attach(flags.name);
  return { target, which, n: hostArgument(target, host) };
}

function upOptions(flags: UpFlags): UpOptions {
  const hosts = wholeNumber("hosts", flags.hosts, 1, 32);
  const { everywhere, byHost } = hostLabels(flags.label, hosts);
  return {
    name: flags.name,
    hosts,
    store: oneOf("store", flags.store, STORE_KINDS),
    managers: wholeNumber("managers", flags.managers, 1, 7),
    ...(flags.etcdMembers === undefined ? {} : { etcdMembers: wholeNumber("etcd-members", flags.etcdMembers, 1, 5) }),
    labels: everywhere,
    hostLabels: byHost,
    images: words("images", flags.images, ["busybox", "demo"] as const),
    ...(flags.subnet === undefined ? {} : { subnet: flags.subnet }),
    processes: flags.processes,
  };
}

/** The lab's errors as the CLI's: what the user typed wrongly ends with 125, all else with 1. */
async function guarded(work: () => Promise<void> | void): Promise<void> {
  try {
    await work();
  } catch (cause) {
    if (!(cause instanceof ClusterError)) throw cause;
    if (cause.violations.length > 0) throw new UsageError(cause.violations);
    throw new Failure(cause.code === "cancelled" ? exits.detached : exits.error, cause.message, { cause });
  }
}

/** Commander drops a `--` in some places and hands it on in others; a program's own first word is never one. */
function withoutDashes(command: string[]): string[] {
  return command[0] === "--" ? command.slice(1) : command;
}
