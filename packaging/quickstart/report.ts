// What quickstart prints: each step as a line that says what it does, and what was seen of it under that.

export interface Report {
  line(text?: string): void;
  step(number: number, of: number, doing: string): void;
  saw(text: string): void;
  notSeen(text: string): void;
}

const INDENT = " ".repeat(6);
/** Of a long error; the rest is in the logs. */
const linesMax = 12;

export function reportTo(write: (text: string) => void): Report {
  const indented = (text: string): void => {
    for (const line of text.trimEnd().split("\n")) write(`${INDENT}${line}\n`);
  };
  return {
    line: (text = "") => write(`${text}\n`),
    step: (number, of, doing) => write(`[${number}/${of}] ${doing}\n`),
    saw: indented,
    notSeen: (text) => {
      const lines = text.trimEnd().split("\n");
      const shown = lines.length <= linesMax ? lines : ["…", ...lines.slice(1 - linesMax)];
      indented(`NOT SEEN: ${shown.join("\n")}`);
    },
  };
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** "h1", "h1 and h2", "h1, h2 and h3" */
export function list(words: readonly string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1) ?? ""}`;
}
