// The text form of a scenario: blocks of commands, a line `----`, and what they print. See README.md.

/** One command of a block, with the line of the file it stands on. */
export interface CommandLine {
  text: string;
  line: number;
}

export interface Block {
  /** Every line of the block up to and including `----`, comments and blank lines before it included. */
  head: readonly string[];
  commands: readonly CommandLine[];
  expected: readonly string[];
  /** Of the first command. */
  line: number;
}

export interface ScenarioFile {
  blocks: readonly Block[];
  /** Lines after the last block. */
  tail: readonly string[];
}

/** A scenario that cannot be read, or one that does not hold: the message says where and what. */
export class ScenarioError extends Error {
  override name = "ScenarioError";
}

const separator = "----";

export function parseScenario(text: string): ScenarioFile {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  const blocks: Block[] = [];
  let head: string[] = [];
  let commands: CommandLine[] = [];
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] ?? "";
    head.push(line);
    if (line === separator) {
      const first = commands[0];
      if (first === undefined) throw new ScenarioError(`line ${at + 1}: "${separator}" without a command before it`);
      const expected: string[] = [];
      while (at + 1 < lines.length && lines[at + 1] !== "") expected.push(lines[++at] ?? "");
      blocks.push({ head, commands, expected, line: first.line });
      head = [];
      commands = [];
    } else if (line.trim() !== "" && !line.trimStart().startsWith("#")) {
      commands.push({ text: line.trim(), line: at + 1 });
    }
  }
  const open = commands[0];
  if (open !== undefined) throw new ScenarioError(`line ${open.line}: "${open.text}" has no "${separator}" after it`);
  return { blocks, tail: head };
}

/** The file with `outputs` in the place of what was expected, one per block. */
export function renderScenario(file: ScenarioFile, outputs: readonly (readonly string[])[]): string {
  const lines = file.blocks.flatMap((block, at) => [...block.head, ...(outputs[at] ?? block.expected)]);
  return [...lines, ...file.tail].join("\n") + "\n";
}

/** A command taken apart: `deliver-msgs 1 2 type=MsgApp drop=(3) keep`. */
export interface Command {
  name: string;
  /** Words without `=`, in order. */
  words: readonly string[];
  /** `key=value` and `key=(a,b)`. */
  named: ReadonlyMap<string, readonly string[]>;
  line: number;
}

/** Words are parted by blanks; a list in parentheses may contain blanks. */
export function parseCommand({ text, line }: CommandLine): Command {
  const tokens = text.match(/[^\s(]*\([^)]*\)|\S+/g) ?? [];
  const [name = "", ...rest] = tokens;
  const words: string[] = [];
  const named = new Map<string, readonly string[]>();
  for (const token of rest) {
    const parts = /^([A-Za-z0-9-]+)=(.*)$/.exec(token);
    if (parts === null) {
      words.push(token);
      continue;
    }
    const [, key = "", value = ""] = parts;
    if (named.has(key)) throw new ScenarioError(`line ${line}: "${key}" is given twice`);
    named.set(key, list(value));
  }
  return { name, words, named, line };
}

/** "(1, 2)" and "1" as lists; "()" is the empty one. */
function list(value: string): readonly string[] {
  const inner = /^\((.*)\)$/.exec(value)?.[1];
  if (inner === undefined) return [value];
  return inner.trim() === "" ? [] : inner.split(",").map((part) => part.trim());
}
