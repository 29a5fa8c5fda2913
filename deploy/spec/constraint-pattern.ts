// Regular expressions of constraints, `node.hostname~=^web-[0-9]+$`. Users write them and managers match them against
// every node, so a match must cost a known amount: the pattern becomes an automaton whose states are followed all at
// once (Thompson, "Regular expression search algorithm", CACM 1968), and no pattern can make it go back and forth.
// What it takes: literals, `.`, classes, \d \w \s and their opposites, ( ), |, * + ? {m,n}, ^ and $. No look-around and
// no back references. As for all constraints, case does not matter.

/** States of one pattern; {m,n} multiplies them. */
const statesMax = 256;

export interface Pattern {
  /** Whether some part of the value matches; ^ and $ tie it to the ends. */
  test(value: string): boolean;
}

type CharTest = (char: string) => boolean;

type Tree =
  | { kind: "char"; test: CharTest }
  | { kind: "start" | "end" }
  | { kind: "sequence" | "choice"; parts: Tree[] }
  | { kind: "repeat"; part: Tree; min: number; max: number };

type State =
  | { kind: "char"; test: CharTest; next: number }
  | { kind: "start" | "end"; next: number }
  | { kind: "split"; nexts: number[] }
  | { kind: "match" };

class BadPattern extends Error {}

/** The pattern, or what is wrong with it, to follow "must". */
export function parsePattern(text: string): Pattern | { rule: string } {
  try {
    const tree = new Parser(text.toLowerCase()).parse();
    const states: State[] = [{ kind: "match" }];
    const first = compile(tree, 0, states);
    return { test: (value) => matches(states, first, value.toLowerCase()) };
  } catch (error) {
    if (error instanceof BadPattern) return { rule: error.message };
    throw error;
  }
}

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): Tree {
    const tree = this.#choice();
    if (this.#at < this.#text.length) throw new BadPattern("have a ( for each ) in its pattern");
    return tree;
  }

  #choice(): Tree {
    const parts = [this.#sequence()];
    while (this.#take("|")) parts.push(this.#sequence());
    return parts.length === 1 && parts[0] !== undefined ? parts[0] : { kind: "choice", parts };
  }

  #sequence(): Tree {
    const parts: Tree[] = [];
    while (this.#at < this.#text.length && this.#peek() !== "|" && this.#peek() !== ")") parts.push(this.#repeated());
    return { kind: "sequence", parts };
  }

  #repeated(): Tree {
    let part = this.#atom();
    for (;;) {
      const bounds = this.#bounds();
      if (bounds === undefined) return part;
      part = { kind: "repeat", part, ...bounds };
    }
  }

  #bounds(): { min: number; max: number } | undefined {
    if (this.#take("*")) return { min: 0, max: Number.POSITIVE_INFINITY };
    if (this.#take("+")) return { min: 1, max: Number.POSITIVE_INFINITY };
    if (this.#take("?")) return { min: 0, max: 1 };
    const counted = /^\{(\d{1,3})(?:(,)(\d{1,3})?)?\}/.exec(this.#text.slice(this.#at));
    if (counted === null) return undefined;
    this.#at += counted[0].length;
    const min = Number(counted[1]);
    const max =
      counted[2] === undefined ? min : counted[3] === undefined ? Number.POSITIVE_INFINITY : Number(counted[3]);
    if (max < min) throw new BadPattern("have its pattern's repetitions in order, as {2,5}");
    return { min, max };
  }

  #atom(): Tree {
    const char = this.#next();
    switch (char) {
      case "(": {
        if (this.#take("?") && !this.#take(":")) throw new BadPattern("do without (?…) in its pattern, but for (?:…)");
        const tree = this.#choice();
        if (!this.#take(")")) throw new BadPattern("have a ) for each ( in its pattern");
        return tree;
      }
      case "[":
        return { kind: "char", test: this.#set() };
      case ".":
        return { kind: "char", test: () => true };
      case "^":
        return { kind: "start" };
      case "$":
        return { kind: "end" };
      case "\\":
        return { kind: "char", test: this.#escaped() };
      case "*":
      case "+":
      case "?":
        throw new BadPattern(`have something before ${char} in its pattern`);
      default:
        return { kind: "char", test: (other) => other === char };
    }
  }

  #escaped(): CharTest {
    const char = this.#next();
    switch (char) {
      case "d":
        return (other) => /\d/.test(other);
      case "w":
        return (other) => /\w/.test(other);
      case "s":
        return (other) => /\s/.test(other);
      case "":
        throw new BadPattern("not end its pattern with \\");
      default:
        if (/[a-z0-9]/.test(char))
          throw new BadPattern(`use of the escapes only \\d, \\w, \\s and \\ before a sign, not \\${char}`);
        return (other) => other === char;
    }
  }

  #set(): CharTest {
    const negated = this.#take("^");
    const tests: CharTest[] = [];
    for (let first = true; first || this.#peek() !== "]"; first = false) {
      const from = this.#next();
      if (from === "") throw new BadPattern("have a ] for each [ in its pattern");
      if (from === "\\") {
        tests.push(this.#escaped());
      } else if (this.#peek() === "-" && this.#text[this.#at + 1] !== "]") {
        this.#at += 1;
        const to = this.#next();
        if (to === "") throw new BadPattern("have a ] for each [ in its pattern");
        if (to < from) throw new BadPattern(`have its pattern's ranges in order, not ${from}-${to}`);
        tests.push((char) => char >= from && char <= to);
      } else {
        tests.push((char) => char === from);
      }
    }
    this.#at += 1;
    return (char) => tests.some((test) => test(char)) !== negated;
  }

  #peek(): string {
    return this.#text[this.#at] ?? "";
  }

  #next(): string {
    const char = this.#peek();
    this.#at += 1;
    return char;
  }

  #take(char: string): boolean {
    if (this.#peek() !== char) return false;
    this.#at += 1;
    return true;
  }
}

/** Adds the states of `tree`, after which `next` follows; answers where it begins. */
function compile(tree: Tree, next: number, states: State[]): number {
  switch (tree.kind) {
    case "char":
      return add(states, { kind: "char", test: tree.test, next });
    case "start":
    case "end":
      return add(states, { kind: tree.kind, next });
    case "sequence":
      return tree.parts.reduceRight((after, part) => compile(part, after, states), next);
    case "choice":
      return add(states, { kind: "split", nexts: tree.parts.map((part) => compile(part, next, states)) });
    case "repeat": {
      let after = next;
      if (tree.max === Number.POSITIVE_INFINITY) {
        const nexts: number[] = [next];
        after = add(states, { kind: "split", nexts });
        nexts.push(compile(tree.part, after, states));
      } else {
        for (let i = tree.min; i < tree.max; i += 1)
          after = add(states, { kind: "split", nexts: [next, compile(tree.part, after, states)] });
      }
      for (let i = 0; i < tree.min; i += 1) after = compile(tree.part, after, states);
      return after;
    }
  }
}

function add(states: State[], state: State): number {
  if (states.length >= statesMax) throw new BadPattern("have a shorter pattern, or smaller repetitions in it");
  states.push(state);
  return states.length - 1;
}

function matches(states: readonly State[], first: number, value: string): boolean {
  let current = new Set<number>();
  for (let at = 0; at <= value.length; at += 1) {
    const reached = new Set<number>();
    if (reach(states, [...current, first], at, value.length, reached)) return true;
    const char = value[at];
    if (char === undefined) return false;
    current = new Set();
    for (const index of reached) {
      const state = states[index];
      if (state?.kind === "char" && state.test(char)) current.add(state.next);
    }
  }
  return false;
}

/** All states that can be reached without a character; whether the match is among them. */
function reach(states: readonly State[], from: number[], at: number, end: number, reached: Set<number>): boolean {
  for (let index = from.pop(); index !== undefined; index = from.pop()) {
    if (reached.has(index)) continue;
    reached.add(index);
    const state = states[index];
    if (state === undefined || state.kind === "char") continue;
    if (state.kind === "match") return true;
    if (state.kind === "split") from.push(...state.nexts);
    else if (state.kind === "start" ? at === 0 : at === end) from.push(state.next);
  }
  return false;
}
