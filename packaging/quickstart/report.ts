// What quickstart prints: each step as a line that says what it does, and what was seen of it under that.

export interface Report {
  line(text?: string): void;
  /** The command, where there is one, as the user would type it. */
  step(number: number, of: number, doing: string, command?: readonly string[]): void;
  saw(text: string): void;
  notSeen(text: string): void;
}

const INDENT = " ".repeat(6);
/** Of a long error; the rest is in the logs. */
const linesMax = 12;
/** With the indentation, 100 columns. */
const columnsMax = 94;

export function reportTo(write: (text: string) => void): Report {
  const indented = (text: string): void => {
    for (const line of text.trimEnd().split("\n")) write(`${INDENT}${line}\n`);
  };
  return {
    line: (text = "") => write(`${text}\n`),
    step: (number, of, doing, command) => {
      write(`[${number}/${of}] ${doing}\n`);
      if (command !== undefined) indented(wrapped(command));
    },
    saw: indented,
    notSeen: (text) => {
      const lines = text.trimEnd().split("\n");
      const shown = lines.length <= linesMax ? lines : ["…", ...lines.slice(1 - linesMax)];
      indented(`NOT SEEN: ${shown.join("\n")}`);
    },
  };
}

/** `$ flotilla …`, broken between words as a shell wants it, so that it can be pasted. */
export function wrapped(command: readonly string[]): string {
  const lines: string[] = [];
  let line = "$";
  for (const word of command) {
    if (line.length + 1 + word.length + 2 > columnsMax) {
      lines.push(`${line} \\`);
      line = "   ";
    }
    line += ` ${word}`;
  }
  return [...lines, line].join("\n");
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** "h1", "h1 and h2", "h1, h2 and h3" */
export function list(words: readonly string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1) ?? ""}`;
}
