// What the pages say of the product is held against the product: commands, flags, exit codes, links.
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { describe, expect, it } from "vitest";
import { exits } from "../../cli/exit.js";
import { processIo } from "../../cli/io.js";
import { lazyOffline, lazyProcesses } from "../../cli/processes.js";
import { newProgram, populate } from "../../cli/program.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const read = (page: string): string => readFileSync(join(root, page), "utf8");
const examples = readdirSync(join(root, "examples"), { withFileTypes: true }).filter((entry) => entry.isDirectory());
const pages = [
  "README.md",
  "docs/README.md",
  "docs/cli.md",
  "docs/lab.md",
  "docs/ARCHITECTURE.md",
  "examples/README.md",
  ...examples.map(({ name }) => `examples/${name}/README.md`),
];

async function wholeProgram(): Promise<Command> {
  const cli = {
    io: processIo(),
    processes: lazyProcesses,
    offline: lazyOffline,
    globals: new Map<string, string[]>(),
    exit: exits.ok,
  };
  const program = newProgram(cli);
  await populate(program, cli, "all");
  return program;
}

/** `flotilla …` at the start of a line of code, after `npx` or a prompt. */
function commandLines(text: string): string[] {
  return [...text.matchAll(/^ *(?:\$ )?(?:npx )?flotilla (.*(?:\\\n.*)*)$/gm)]
    .map(([, line = ""]) =>
      line
        .replaceAll("\\\n", " ")
        .replace(/\s#.*$/, "")
        .trim(),
    )
    .filter((line) => /^[a-z]/.test(line));
}

/** What is wrong with a command line, as far as its command and flags go; what comes after `--` or a host is another program's. */
function problem(program: Command, line: string): string | null {
  let command = program;
  const words = line.split(/\s+/);
  while (words.length > 0) {
    const next = command.commands.find((child) => [child.name(), ...child.aliases()].includes(words[0] ?? ""));
    if (next === undefined) break;
    command = next;
    words.shift();
  }
  if (command.commands.length > 0 && words.length > 0) return `no command ${words[0]} in ${line}`;
  for (const word of words) {
    if (word === "--" || (!word.startsWith("-") && ["docker", "exec"].includes(command.name()))) break;
    const flag = /^(--[a-z-]+|-[a-zA-Z])$/.exec(word)?.[1];
    if (flag !== undefined && !command.options.some(({ long, short }) => long === flag || short === flag))
      return `${command.name()} has no ${flag}: ${line}`;
  }
  return null;
}

describe("the pages", () => {
  it.each(pages)("%s has no dead link", (page) => {
    const links = [...read(page).matchAll(/\]\(([^)#\s]+)[^)]*\)/g)].map(([, link = ""]) => link);
    const dead = links.filter((link) => !/^https?:/.test(link) && !existsSync(join(root, dirname(page), link)));
    expect(dead).toEqual([]);
  });

  it("show commands and flags that exist", async () => {
    const program = await wholeProgram();
    const lines = pages.flatMap((page) => commandLines(read(page)));
    expect(lines.length).toBeGreaterThan(30);
    expect(lines.map((line) => problem(program, line)).filter((found) => found !== null)).toEqual([]);
    expect(problem(program, "service create --bogus x")).toContain("--bogus");
    expect(problem(program, "service craete x")).toContain("craete");
  });

  it("docs/cli.md lists every exit code, and no other", () => {
    const section = read("docs/cli.md").split("## Exit codes")[1]?.split("\n## ")[0] ?? "";
    const listed = [...section.matchAll(/^\| (\d+) \|/gm)].map(([, code]) => Number(code));
    expect(listed).toEqual(Object.values(exits).sort((a, b) => a - b));
  });

  it("docs/cli.md names every service flag's defaults for updates", async () => {
    const create = (await wholeProgram()).commands
      .find((command) => command.name() === "service")
      ?.commands.find((command) => command.name() === "create");
    const text = read("docs/cli.md");
    for (const { long, description } of create?.options ?? []) {
      const standard = /^--update-.*\(default (\S+)\)$/.exec(`${long} ${description}`)?.[1];
      if (standard !== undefined) expect(text, long ?? "").toMatch(new RegExp(`\`${long}\` \\(${standard}\\b`));
    }
  });
});
