// Runs the blocks of a scenario file, one after the other, on one cluster.

import type { Logger, NodeId, Outcome } from "../core/mod.js";
import { number, raise } from "./arguments.js";
import { assertions } from "./asserts.js";
import { Cluster, type MessageFilter } from "./cluster.js";
import { commands } from "./commands.js";
import {
  type Block,
  type Command,
  type CommandLine,
  parseCommand,
  type ScenarioFile,
  ScenarioError,
} from "./format.js";
import { Transcript } from "./transcript.js";

export class ScenarioEnv {
  readonly out = new Transcript();
  readonly cluster: Cluster;
  /** Of the last command that asked a node for something. */
  outcome: Outcome;
  /** Numbers what `shake` proposes and reads, through the whole scenario. */
  shaken = 0;
  /** Of the nodes so far, as `add-nodes` gave them. */
  readonly settings = new Map<string, readonly string[]>();
  /** Commits as `remember` found them. */
  readonly remembered = new Map<NodeId, number>();

  constructor() {
    this.cluster = new Cluster(this.out, (id) => this.#logger(id));
  }

  /** The output of each block. A command or an assertion that fails throws, with its line. */
  run(file: ScenarioFile): string[][] {
    return file.blocks.map((block) => this.#runBlock(block));
  }

  #runBlock(block: Block): string[] {
    this.#runLines(block.commands, new Map());
    return this.out.take();
  }

  #runLines(lines: readonly CommandLine[], variables: ReadonlyMap<string, string>): void {
    for (let at = 0; at < lines.length; at++) {
      const line = lines[at];
      if (line === undefined) return;
      const text = line.text.replace(/\$([a-z]+)/g, (all, name: string) => variables.get(name) ?? all);
      const command = parseCommand({ ...line, text });
      if (command.name === "repeat") {
        const end = endOf(lines, at);
        this.#repeat(command, lines.slice(at + 1, end), variables);
        at = end;
      } else {
        this.#located(line, () => {
          this.runCommand(command);
        });
      }
    }
  }

  /** `repeat 50 as=i` … `end`: silent, but for what fails; `$i` counts from 1. */
  #repeat(command: Command, body: readonly CommandLine[], variables: ReadonlyMap<string, string>): void {
    const times = number(command, command.words[0], "a number of times");
    const name = command.named.get("as")?.[0];
    this.out.silently(() => {
      for (let round = 1; round <= times; round++) {
        const inner = new Map(variables);
        if (name !== undefined) inner.set(name, String(round));
        try {
          this.#runLines(body, inner);
        } catch (error) {
          if (error instanceof ScenarioError) error.message += ` (round ${round} of ${times})`;
          throw error;
        }
      }
    });
  }

  #located(line: CommandLine, what: () => void): void {
    try {
      what();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new ScenarioError(`line ${line.line}: ${line.text}: ${reason}`, { cause: error });
    }
  }

  runCommand(command: Command): void {
    if (command.name === "assert") {
      const [name = ""] = command.words;
      const key = assertions.has(name) ? name : ([...command.named.keys()].find((key) => assertions.has(key)) ?? name);
      const assertion = assertions.get(key);
      if (assertion === undefined) throw new ScenarioError(`there is no assertion "${key}"`);
      assertion(this, command);
      return;
    }
    const run = commands.get(command.name);
    if (run === undefined) throw new ScenarioError(`there is no command "${command.name}"`);
    run(this, command);
    this.cluster.check();
  }

  /** Refusals are part of the transcript, and of `assert outcome=…`. */
  note(outcome: Outcome): void {
    this.outcome = outcome;
    if (outcome !== undefined) this.out.say(`refused: ${outcome}`);
  }

  /** Ids, and words for them: all, running, leader, followers. */
  ids(words: readonly string[]): NodeId[] {
    return words.flatMap((word) => {
      const running = [...this.cluster.members.values()].filter(({ raw }) => raw !== undefined).map(({ id }) => id);
      if (word === "all") return [...this.cluster.members.keys()];
      if (word === "running") return running;
      if (word === "leader") return [this.leader() ?? raise("nobody leads")];
      if (word === "followers") return running.filter((id) => id !== this.leader());
      const id = Number(word);
      if (!Number.isInteger(id)) throw new ScenarioError(`"${word}" is no node`);
      return [this.cluster.member(id).id];
    });
  }

  id(command: Command, at = 0): NodeId {
    const [id] = this.ids([command.words[at] ?? raise(`${command.name} needs a node as word ${at + 1}`)]);
    return id ?? raise(`${command.name} needs a node as word ${at + 1}`);
  }

  /** Who leads the newest term that has a leader. */
  leader(): NodeId | undefined {
    const leaders = [...this.cluster.members.values()]
      .flatMap(({ raw }) => raw?.status() ?? [])
      .filter(({ role }) => role === "leader");
    return leaders.sort((a, b) => b.term - a.term)[0]?.id;
  }

  filter({ named }: Command, to: readonly NodeId[]): MessageFilter {
    const from = named.get("from");
    const types = named.get("type");
    return {
      ...(to.length > 0 ? { to } : {}),
      ...(from !== undefined ? { from: this.ids(from) } : {}),
      ...(types !== undefined ? { types } : {}),
    };
  }

  #logger(id: NodeId): Logger {
    const write = (fields: object, message: string): void => {
      if (this.out.level !== "debug") return;
      const values = Object.entries(fields).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
      this.out.say(`${id} log: ${[message, ...values].join(" ")}`);
    };
    return { debug: write, info: write, warn: write };
  }
}

/** The line of the `end` that belongs to the `repeat` at `from`. */
function endOf(lines: readonly CommandLine[], from: number): number {
  let depth = 0;
  for (let at = from; at < lines.length; at++) {
    const name = lines[at]?.text.split(/\s/)[0];
    if (name === "repeat") depth++;
    if (name === "end" && --depth === 0) return at;
  }
  throw new ScenarioError(`line ${lines[from]?.line ?? 0}: "repeat" without "end"`);
}
