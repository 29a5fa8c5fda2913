// How a command is put together: its flags as data, its examples, and what it does; commander does the rest.

import { type Command, Option } from "commander";
import type { ControlApi, Managers } from "../client/mod.js";
import type { Exit } from "../exit.js";
import { type Flag, globalFlags } from "../flags/flag.js";
import { FlagReader } from "../flags/reader.js";
import type { Io } from "../io.js";
import type { Offline, Processes } from "../processes.js";

/** What completion can ask the managers for. */
export type Completed = "services" | "nodes" | "managers" | "tasks";

/** What every command gets. */
export interface Cli {
  readonly io: Io;
  readonly processes: Processes;
  readonly offline: Offline;
  /** Flags before the command's name, for all of them. */
  readonly globals: Map<string, string[]>;
  /** What the process will end with. */
  exit: Exit;
}

export interface Given {
  flags: FlagReader;
  args: readonly string[];
  json: boolean;
  /** Whether colours are wanted at all; whether they suit the output is for the output to say. */
  color: boolean;
  /** The managers' API, ended with the command; of the cluster that was chosen, if not of these. */
  connect: (managers?: Managers) => Promise<ControlApi>;
}

export interface Leaf {
  name: string;
  /** As in help: "IMAGE [ARGS...]". */
  args?: string;
  summary: string;
  description?: string;
  flags?: readonly Flag[];
  examples: readonly string[];
  /** Everything after the first operand is an operand, whatever it looks like. */
  passThrough?: boolean;
  /** What completion offers for the operands. */
  complete?: Completed;
  hidden?: boolean;
  /** Without --host and --context: the command talks to no manager. */
  local?: boolean;
  run: (given: Given) => Promise<Exit | void>;
}

/** For completion: what the flags and operands of a command mean. */
export const leaves = new WeakMap<Command, Leaf>();

export function addLeaf(parent: Command, cli: Cli, leaf: Leaf): void {
  const args = (leaf.args ?? "").split(" ").filter((arg) => arg !== "");
  const command = parent.command(leaf.name, { hidden: leaf.hidden === true });
  for (const arg of args) command.argument(arg.startsWith("[") ? arg : `<${arg}>`);
  // As Docker writes it, not as commander does.
  command.usage(["[OPTIONS]", ...args].join(" "));
  command.summary(leaf.summary).description(leaf.description ?? sentence(leaf.summary));
  if (leaf.passThrough === true) command.passThroughOptions();
  const given = new Map<string, string[]>();
  for (const flag of leaf.flags ?? []) addFlag(command, flag, given);
  const own = new Set(
    (leaf.flags ?? []).flatMap(({ long, short }) => (short === undefined ? [long] : [long, `-${short}`])),
  );
  for (const flag of globalFlags) {
    if (own.has(flag.long) || (leaf.local === true && (flag.long === "host" || flag.long === "context"))) continue;
    const { short, ...rest } = flag;
    addFlag(command, short === undefined || own.has(`-${short}`) ? rest : flag, cli.globals);
  }
  if (leaf.examples.length > 0)
    command.addHelpText("after", `\nExamples:\n${leaf.examples.map((line) => `  ${line}\n`).join("")}`.trimEnd());
  leaves.set(command, leaf);
  command.action(async () => {
    let api: ControlApi | undefined;
    try {
      const exit = await leaf.run({
        flags: new FlagReader(given),
        args: command.args,
        json: cli.globals.has("json"),
        color: !cli.globals.has("no-color") && (cli.io.env["NO_COLOR"] ?? "") === "",
        connect: async (managers) => {
          const { openApi } = await import("../client/mod.js");
          api ??= await openApi(cli, managers);
          return api;
        },
      });
      if (exit !== undefined) cli.exit = exit;
    } finally {
      api?.[Symbol.dispose]();
    }
  });
}

const sentence = (words: string) => `${words.charAt(0).toUpperCase()}${words.slice(1)}.`;

export interface Group {
  name: string;
  summary: string;
  description: string;
  examples: readonly string[];
}

/** A noun, under which the commands are. */
export function addGroup(program: Command, { name, summary, description, examples }: Group): Command {
  return program
    .command(name)
    .summary(summary)
    .description(description)
    .usage("COMMAND")
    .enablePositionalOptions()
    .helpCommand(false)
    .addHelpText(
      "after",
      `\nExamples:\n${examples.map((line) => `  ${line}\n`).join("")}\n'flotilla ${name} COMMAND --help' says more.`,
    );
}

/** Values are gathered from commander's events: in order, repetitions kept, and unparsed. */
export function addFlag(command: Command, flag: Flag, into: Map<string, string[]>): void {
  const names = `${flag.short === undefined ? "" : `-${flag.short}, `}--${flag.long}`;
  const value = flag.optional === true ? `[${flag.value}]` : `<${flag.value}>`;
  const option = new Option(flag.value === undefined ? names : `${names} ${value}`, flag.help);
  if (flag.group !== undefined) option.helpGroup(flag.group);
  // Otherwise commander would show the value of --no-x as "default: true".
  if (flag.long.startsWith("no-")) option.default(undefined);
  command.addOption(option);
  command.on(`option:${option.name()}`, (value?: string | null) => {
    const values = into.get(flag.long);
    const text = value ?? "true";
    if (values === undefined) into.set(flag.long, [text]);
    else values.push(text);
  });
}
