// Shell completion: the scripts ask `flotilla __complete` what could come next, which knows every command and flag,
// because it reads the same definitions, and the names of services and nodes, because it asks the managers.

import type { Command } from "commander";
import { ControlApi } from "../client/mod.js";
import { ClusterError } from "../../lib/errors.js";
import { Failure, UsageError, exits } from "../exit.js";
import { type Flag, globalFlags } from "../flags/flag.js";
import { managersOf } from "../managers.js";
import { isOver, taskName } from "../screen/task.js";
import { plain } from "../screen/text.js";
import { type Cli, type Completed, addLeaf, leaves } from "./leaf.js";

const scripts: Readonly<Record<string, string>> = {
  bash: `# flotilla completion for bash; to load it: source <(flotilla completion bash)
_flotilla() {
  local IFS=$'\\n'
  COMPREPLY=($(flotilla __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
  compopt +o nospace
  [[ \${#COMPREPLY[@]} -eq 1 && \${COMPREPLY[0]} == *= ]] && compopt -o nospace
  [[ \${#COMPREPLY[@]} -eq 0 ]] && compopt -o default
  return 0
}
complete -F _flotilla flotilla
`,
  zsh: `#compdef flotilla
# flotilla completion for zsh; to load it: source <(flotilla completion zsh)
_flotilla() {
  local -a found
  found=("\${(@f)$(flotilla __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "\${found[1]}" ]]; then compadd -a found; else _files; fi
}
compdef _flotilla flotilla
`,
  fish: `# flotilla completion for fish; to load it: flotilla completion fish | source
function __flotilla_complete
  set -l words (commandline -opc) (commandline -ct)
  flotilla __complete -- $words[2..-1] 2>/dev/null
end
complete -c flotilla -f -a '(__flotilla_complete)'
`,
};

export function addCompletion(program: Command, cli: Cli): void {
  addLeaf(program, cli, {
    name: "completion",
    args: "SHELL",
    summary: "print the completion script of bash, zsh or fish",
    local: true,
    examples: ["source <(flotilla completion bash)", "flotilla completion fish | source"],
    async run({ flags, args }) {
      const [shell = ""] = args;
      const script = Object.hasOwn(scripts, shell) ? scripts[shell] : undefined;
      if (script === undefined)
        flags.report({
          field: "SHELL",
          value: shell,
          rule: "must be bash, zsh or fish",
          fix: "write for example flotilla completion bash",
        });
      flags.check();
      cli.io.out(script ?? "");
    },
  });
}

export function addComplete(program: Command, cli: Cli): void {
  addLeaf(program, cli, {
    name: "__complete",
    args: "[WORDS...]",
    summary: "what could come next",
    hidden: true,
    local: true,
    passThrough: true,
    examples: [],
    async run({ args }) {
      const { newProgram, populate } = await import("../program.js");
      // A tree of its own: this one has flags in it that were typed.
      const fresh: Cli = { ...cli, globals: new Map() };
      const tree = newProgram(fresh);
      await populate(tree, fresh, "all");
      const found = await candidates(tree, args, (what) => liveNames({ ...cli, globals: globalsOf(args) }, what));
      cli.io.out(found.map((word) => `${word}\n`).join(""));
      return exits.ok;
    },
  });
}

/** --host and --context as typed, so that the names come from the cluster that is meant. */
function globalsOf(words: readonly string[]): Map<string, string[]> {
  const globals = new Map<string, string[]>();
  for (const [i, word] of words.entries())
    for (const { long, short } of globalFlags) {
      if (word === `--${long}` || word === `-${short ?? long}`) globals.set(long, [words[i + 1] ?? ""]);
      else if (word.startsWith(`--${long}=`)) globals.set(long, [word.slice(long.length + 3)]);
    }
  return globals;
}

const liveNamesMs = 1000;

/** Best effort: whoever presses Tab wants no error, and no wait. */
async function liveNames(cli: Cli, what: Completed): Promise<string[]> {
  try {
    const { clock, rng } = cli.io;
    const limits = { connectMs: liveNamesMs, answerMs: liveNamesMs, repeatMs: 0 };
    using api = new ControlApi({ managers: await managersOf(cli), clock, rng, limits });
    if (what === "managers") return (await api.clusterStatus()).managers.map(({ name }) => name);
    if (what === "tasks") return (await api.tasks({})).tasks.filter((task) => !isOver(task)).map(taskName);
    if (what === "services") return (await api.services()).map(({ service }) => service?.spec?.name ?? "");
    return (await api.nodes()).map(({ node }) => node?.description?.hostname ?? "");
  } catch (error) {
    if (error instanceof Failure || error instanceof UsageError || error instanceof ClusterError) return [];
    throw error;
  }
}

/** What the last word could be, given those before it. */
export async function candidates(
  program: Command,
  words: readonly string[],
  live: (what: Completed) => Promise<string[]>,
): Promise<string[]> {
  const typed = words.at(-1) ?? "";
  const before = words.slice(0, -1);
  let command = program;
  let value: Flag | undefined;
  let operands = 0;
  for (const word of before) {
    if (value !== undefined) {
      value = undefined;
      continue;
    }
    if (word.startsWith("-")) {
      value = word.includes("=")
        ? undefined
        : flagsOf(command).find(
            ({ long, short, value, optional }) =>
              value !== undefined && optional !== true && (word === `--${long}` || word === `-${short ?? long}`),
          );
      continue;
    }
    const child = command.commands.find((each) => each.name() === word);
    if (child !== undefined && operands === 0) command = child;
    else operands += 1;
  }
  const leaf = leaves.get(command);
  const begin = (names: readonly string[]) =>
    [...new Set(names)]
      .filter((name) => name !== "" && name.startsWith(typed))
      .map(plain)
      .sort();
  const inline = /^--([a-z-]+)=/.exec(typed);
  const flag = value ?? (inline === null ? undefined : flagsOf(command).find(({ long }) => long === inline[1]));
  if (flag !== undefined) {
    const { complete } = flag;
    if (complete === undefined) return [];
    const names = typeof complete === "string" ? await live(complete) : [...complete];
    return begin(value === undefined ? names.map((name) => `--${flag.long}=${name}`) : names);
  }
  if (leaf?.passThrough === true && operands > 0) return [];
  if (typed.startsWith("-")) {
    const own = flagsOf(command).map(({ long }) => `--${long}`);
    // The lab's flags are commander's own.
    const others = leaf === undefined ? command.options.map(({ long }) => long ?? "") : [];
    return begin([...own, ...others, "--help"]);
  }
  const children = command.commands.filter((child) => !child.name().startsWith("__")).map((child) => child.name());
  if (children.length > 0) return begin(children);
  if (leaf?.complete === undefined) return [];
  if (operands > 0 && leaf.args?.includes("...") !== true) return [];
  const names = await live(leaf.complete);
  return begin(leaf.name === "scale" ? names.map((name) => `${name}=`) : names);
}

function flagsOf(command: Command): readonly Flag[] {
  return [...(leaves.get(command)?.flags ?? []), ...globalFlags];
}
