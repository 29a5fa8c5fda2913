// What a block prints. Loops and preparations are silent; failures are errors and never silent.

export class Transcript {
  #lines: string[] = [];
  #indent = "";
  #silent = 0;
  /** "none" prints nothing, "info" what the nodes do, "debug" also what the core logs. */
  level: "none" | "info" | "debug" = "info";

  say(line: string): void {
    if (this.#silent === 0 && this.level !== "none") this.#lines.push(this.#indent + line);
  }

  indented(what: () => void): void {
    const before = this.#indent;
    this.#indent += "  ";
    try {
      what();
    } finally {
      this.#indent = before;
    }
  }

  silently(what: () => void): void {
    this.#silent++;
    try {
      what();
    } finally {
      this.#silent--;
    }
  }

  take(): string[] {
    const lines = this.#lines;
    this.#lines = [];
    return lines.length === 0 ? ["ok"] : lines;
  }
}
