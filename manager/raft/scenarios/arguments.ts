// Arguments of commands as what they mean.

import type { NodeId } from "../core/mod.js";
import { type Command, ScenarioError } from "./format.js";

export function raise(message: string): never {
  throw new ScenarioError(message);
}

export function number(command: Command, word: string | undefined, what: string): number {
  const value = Number(word);
  if (word === undefined || !Number.isInteger(value)) throw new ScenarioError(`${command.name} needs ${what}`);
  return value;
}

/** `key=12`, or the default. */
export function option(command: Command, key: string, otherwise: number): number {
  const values = command.named.get(key);
  return values === undefined ? otherwise : number(command, values[0], `an integer as ${key}`);
}

export function numbers(command: Command, key: string): number[] {
  return (command.named.get(key) ?? []).map((word) => number(command, word, `integers as ${key}`));
}

/** Ascending, as in a configuration. */
export function idSet(command: Command, key: string): NodeId[] {
  return numbers(command, key).sort((a, b) => a - b);
}

/** `key=yes|no`; undefined when it is not given. */
export function flag(command: Command, key: string): boolean | undefined {
  const value = command.named.get(key)?.[0];
  if (value === undefined) return undefined;
  if (value !== "yes" && value !== "no") throw new ScenarioError(`${key}=${value}: say yes or no`);
  return value === "yes";
}

/** Keys that a command does not know are mistakes, not wishes. */
export function knowsOnly(command: Command, keys: readonly string[]): void {
  for (const key of command.named.keys()) {
    if (!keys.includes(key)) throw new ScenarioError(`${command.name} knows no "${key}"; it knows ${keys.join(", ")}`);
  }
}
