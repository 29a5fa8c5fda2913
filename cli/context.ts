// Which cluster a command talks to. Contexts are Docker's idea: a named list of managers in a file of the user's, one of them
// current. A flag goes before the environment, and that before the file.

import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { ClusterError, messageOf } from "../lib/errors.js";

export interface Context {
  /** `host:port`, any of them. */
  readonly managers: readonly string[];
}

export interface Contexts {
  readonly current: string | null;
  readonly contexts: Readonly<Record<string, Context>>;
}

export type Environment = Readonly<Record<string, string | undefined>>;

export function contextsFile(env: Environment): string {
  const configured = env["XDG_CONFIG_HOME"];
  const base =
    configured !== undefined && configured.startsWith("/") ? configured : join(env["HOME"] ?? homedir(), ".config");
  return join(base, "flotilla", "contexts.json");
}

/** No file means no contexts. A damaged one is an error, since saving would lose what is in it. */
export function load(file: string): Contexts {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return { current: null, contexts: {} };
    throw new ClusterError("failed_precondition", `cannot read ${file}: ${messageOf(cause)}`, { cause });
  }
  const parsed = parse(text);
  if (parsed === null) {
    throw new ClusterError(
      "failed_precondition",
      `${file} is not a contexts file; repair it ({"current":NAME,"contexts":{NAME:{"managers":["HOST:PORT"]}}}) or remove it`,
    );
  }
  return parsed;
}

/** Whole or not at all. */
export function save(file: string, contexts: Contexts): void {
  mkdirSync(dirname(file), { recursive: true });
  const unfinished = `${file}.${process.pid}.new`;
  writeFileSync(unfinished, `${JSON.stringify(contexts, null, 2)}\n`, { mode: 0o600 });
  renameSync(unfinished, file);
}

/** The managers to talk to. `host` and `context` are flags; the environment has FLOTILLA_HOST and FLOTILLA_CONTEXT. */
export function resolve(asked: { host?: string | undefined; context?: string | undefined; env: Environment }): Context {
  const { env } = asked;
  if (asked.host !== undefined) return { managers: addresses("--host", asked.host) };
  if (asked.context !== undefined) return named(contextsFile(env), asked.context, "--context");
  const host = env["FLOTILLA_HOST"];
  if (host !== undefined && host !== "") return { managers: addresses("FLOTILLA_HOST", host) };
  const context = env["FLOTILLA_CONTEXT"];
  if (context !== undefined && context !== "") return named(contextsFile(env), context, "FLOTILLA_CONTEXT");
  const file = contextsFile(env);
  const { current } = load(file);
  if (current !== null) return named(file, current, `current context in ${file}`);
  throw new ClusterError(
    "failed_precondition",
    "no cluster is chosen; start one with: flotilla lab up, or name its managers: --host 10.0.0.1:7400 (or FLOTILLA_HOST)",
  );
}

function named(file: string, name: string, field: string): Context {
  const { contexts } = load(file);
  const context = Object.hasOwn(contexts, name) ? contexts[name] : undefined;
  if (context !== undefined) return context;
  const known = Object.keys(contexts);
  const rule = known.length === 0 ? "names a context, and there is none" : `must be one of ${known.join(", ")}`;
  throw ClusterError.invalid([{ field, value: name, rule, fix: "use --host HOST:PORT to name the managers instead" }]);
}

function addresses(field: string, text: string): readonly string[] {
  const list = text.split(",").map((part) => part.trim());
  if (list.every((part) => /^(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9.-]+):\d{1,5}$/.test(part))) return list;
  const rule = "must be HOST:PORT, or several of them with commas between";
  throw ClusterError.invalid([{ field, value: text, rule, fix: "write for example 10.0.0.1:7400" }]);
}

function parse(text: string): Contexts | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (!isRecord(value) || !isRecord(value["contexts"])) return null;
  const contexts: Record<string, Context> = {};
  for (const [name, context] of Object.entries(value["contexts"])) {
    const managers = isRecord(context) ? context["managers"] : undefined;
    if (!Array.isArray(managers) || !managers.every((manager) => typeof manager === "string")) return null;
    contexts[name] = { managers };
  }
  const current = value["current"] ?? null;
  return current === null || typeof current === "string" ? { current, contexts } : null;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
