// The tree of commands. Only the branch that was asked for is loaded, with what it needs: `flotilla version` loads
// neither gRPC nor a logger.

import { Command, CommanderError } from "commander";
import { type Cli, addFlag } from "./command/leaf.js";
import { type Offline, type Processes, lazyOffline, lazyProcesses } from "./processes.js";
import { exits } from "./exit.js";
import { globalFlags } from "./flags/flag.js";
import type { Io } from "./io.js";
import { present } from "./present.js";

interface Branch {
  name: string;
  summary: string;
  group: string;
  hidden?: true;
  /** Puts the branch's commands under the program. */
  load(): Promise<(program: Command, cli: Cli) => void>;
}

const running = "Run services:";
const looking = "Look:";
const hosts = "Hosts and processes:";
const other = "More:";

export const branches: readonly Branch[] = [
  {
    name: "service",
    summary: "create, update, look at and remove services",
    group: running,
    load: async () => (await import("./command/service/mod.js")).addService,
  },
  {
    name: "rollout",
    summary: "follow, pause, resume or abort an update",
    group: running,
    load: async () => (await import("./command/rollout.js")).addRollout,
  },
  {
    name: "task",
    summary: "the tasks of all services, and why one is as it is",
    group: looking,
    load: async () => (await import("./command/task.js")).addTask,
  },
  {
    name: "node",
    summary: "list, drain, label and remove the hosts",
    group: looking,
    load: async () => (await import("./command/node.js")).addNode,
  },
  {
    name: "cluster",
    summary: "the managers and settings: begin, join, look at, change, recover",
    group: hosts,
    load: async () => (await import("./command/cluster/mod.js")).addCluster,
  },
  {
    name: "events",
    summary: "what happens in the cluster, as it happens",
    group: looking,
    load: async () => (await import("./command/events.js")).addEvents,
  },
  {
    name: "lab",
    summary: "a cluster of real Docker hosts on this machine",
    group: hosts,
    load: async () => {
      const { registerLab } = await import("./lab/mod.js");
      return (program, cli) => registerLab(program, cli.io);
    },
  },
  ...(["manager", "agent", "ambassador"] as const).map((name): Branch => {
    const summaries = {
      manager: "run a manager",
      agent: "run this host's agent",
      ambassador: "run this host's resolver and proxy (the agent does it)",
    };
    const load = async () => (await import("./command/process.js")).adders[name];
    return { name, summary: summaries[name], group: hosts, load };
  }),
  {
    name: "completion",
    summary: "print the completion script of bash, zsh or fish",
    group: other,
    load: async () => (await import("./command/completion.js")).addCompletion,
  },
  {
    name: "version",
    summary: "print the version",
    group: other,
    load: async () => (await import("./command/version.js")).addVersion,
  },
  {
    name: "__complete",
    summary: "what could come next",
    group: other,
    hidden: true,
    load: async () => (await import("./command/completion.js")).addComplete,
  },
];

export interface RunOptions {
  processes?: Processes;
  offline?: Offline;
}

/** Runs one command line, without the program's name, and answers what to exit with. */
export async function run(
  argv: readonly string[],
  io: Io,
  { processes = lazyProcesses, offline = lazyOffline }: RunOptions = {},
): Promise<number> {
  const cli: Cli = { io, processes, offline, globals: new Map(), exit: exits.ok };
  const words = asMeant(argv);
  const program = newProgram(cli);
  let running = program;
  program.hook("preAction", (_, action) => {
    running = action;
  });
  try {
    await populate(program, cli, firstOperand(words));
    if (words.length === 0) program.help();
    await program.parseAsync(words, { from: "user" });
    return cli.exit;
  } catch (thrown) {
    if (thrown instanceof CommanderError) running = deepest(program, words);
    const { exit, text } = present(thrown, fullName(running));
    io.err(text);
    return exit === exits.usage && words.length === 0 ? exits.ok : exit;
  }
}

/** `help service`, `service help create` and `--version`, which many commands have, in this one's words. */
function asMeant(argv: readonly string[]): string[] {
  const [first, second] = argv;
  if (first === "help") return [...argv.slice(1), "--help"];
  if (second === "help" && branches.some(({ name }) => name === first))
    return [first ?? "", ...argv.slice(2), "--help"];
  if (argv.length === 1 && ["--version", "-v", "-V"].includes(first ?? "")) return ["version"];
  return [...argv];
}

export function newProgram(cli: Cli): Command {
  const program = new Command("flotilla");
  program
    .description("Replicated services in containers on several hosts, found by name, updated without a failed request.")
    .usage("[global options] COMMAND")
    .enablePositionalOptions()
    .helpCommand(false)
    .helpOption("-h, --help", "help for a command")
    .configureOutput({
      writeOut: (text) => cli.io.out(text),
      // Help that was not asked for; errors are printed once, by `run`, with the way on.
      writeErr: (text) => cli.io.err(text),
      outputError: () => undefined,
      getOutHelpWidth: () => (cli.io.outTty ? cli.io.columns() : 100),
      getErrHelpWidth: () => cli.io.columns(),
    })
    .exitOverride()
    .showSuggestionAfterError();
  for (const flag of globalFlags) addFlag(program, flag, cli.globals);
  program.addHelpText("after", helpEnd);
  return program;
}

const helpEnd = `
Examples:
  flotilla lab up --hosts 3
  flotilla service create --name web --replicas 6 --publish 8080:80 nginx:1.27
  flotilla service update --image nginx:1.28 web

'flotilla COMMAND --help' says more, with examples.`;

/** Puts all branches under the program: `loaded` (or with "all" each) as a whole, the others as a name and a line of help. */
export async function populate(program: Command, cli: Cli, loaded: string | undefined): Promise<void> {
  for (const branch of branches) {
    const before = program.commands.length;
    if (loaded === "all" || branch.name === loaded) (await branch.load())(program, cli);
    else
      program
        .command(branch.name, { hidden: branch.hidden === true })
        .summary(branch.summary)
        .description(branch.summary);
    for (const command of program.commands.slice(before)) {
      command.helpGroup(branch.group).copyInheritedSettings(program);
      inherit(command);
    }
  }
}

/** What a branch adds itself, as the lab, reports errors in the same way. */
function inherit(command: Command): void {
  for (const child of command.commands) {
    child.copyInheritedSettings(command);
    inherit(child);
  }
}

/** The first word that is neither a global flag nor its value. */
function firstOperand(words: readonly string[]): string | undefined {
  const takesValue = new Set(
    globalFlags.flatMap(({ long, short, value }) => (value === undefined ? [] : [`--${long}`, `-${short ?? long}`])),
  );
  for (let i = 0; i < words.length; i += 1) {
    const word = words[i] ?? "";
    if (!word.startsWith("-")) return word;
    if (takesValue.has(word)) i += 1;
  }
  return undefined;
}

/** The command that the words lead to, as far as they do. */
function deepest(program: Command, words: readonly string[]): Command {
  let command = program;
  for (const word of words) {
    const next = command.commands.find((child) => child.name() === word || child.aliases().includes(word));
    if (next !== undefined) command = next;
    else if (!word.startsWith("-") && command !== program) break;
  }
  return command;
}

function fullName(command: Command): string {
  return command.parent === null ? command.name() : `${fullName(command.parent)} ${command.name()}`;
}
