// Which managers a command talks to: --host, else --context, else FLOTILLA_HOST, else the current context.

import type { Managers } from "./client/mod.js";
import type { Cli } from "./command/leaf.js";
import { resolve } from "./context.js";
import { UsageError } from "./exit.js";
import { address, listOf } from "./flags/parsers.js";

const addresses = listOf(address(7400), "write for example 10.0.0.1:7400,10.0.0.2:7400");

export function parseManagers(field: string, text: string): string[] {
  const parsed = addresses(text);
  if ("ok" in parsed) return parsed.ok;
  throw new UsageError([{ field, value: text, rule: parsed.rule, fix: parsed.fix }]);
}

export async function managersOf({ globals, io }: Pick<Cli, "globals" | "io">): Promise<Managers> {
  const host = globals.get("host")?.at(-1);
  if (host !== undefined) return { addresses: parseManagers("--host", host), source: "--host" };
  const context = globals.get("context")?.at(-1);
  const fromEnv = io.env["FLOTILLA_HOST"] ?? "";
  if (context === undefined && fromEnv !== "")
    return { addresses: parseManagers("FLOTILLA_HOST", fromEnv), source: "FLOTILLA_HOST" };
  const { managers } = resolve({ context, env: io.env });
  return { addresses: managers, source: context === undefined ? "the current context" : `context ${context}` };
}
