// Makes the lab the CLI's current context while it is up, and puts back the former one afterwards. What to put back lies in the
// lab's own folder, so that it is known whoever takes the lab down, and forgotten with it.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Environment, contextsFile, load, save } from "../context.js";

interface Link {
  readonly file: string;
  readonly former: string | null;
}

export const contextName = (lab: string): string => `lab-${lab}`;

export function link(
  lab: { readonly name: string; readonly folder: string; readonly managers: readonly string[] },
  env: Environment,
): void {
  const file = contextsFile(env);
  const { current, contexts } = load(file);
  const name = contextName(lab.name);
  const former = current === name ? (readLink(lab.folder)?.former ?? null) : current;
  writeFileSync(join(lab.folder, "context.json"), JSON.stringify({ file, former } satisfies Link));
  save(file, { current: name, contexts: { ...contexts, [name]: { managers: lab.managers } } });
}

/** To be read before the lab goes down, since it goes with it. */
export function readLink(folder: string): Link | null {
  let text: string;
  try {
    text = readFileSync(join(folder, "context.json"), "utf8");
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return null;
    throw cause;
  }
  return JSON.parse(text) as Link;
}

export function unlink(lab: string, linked: Link | null, env: Environment): void {
  const file = linked?.file ?? contextsFile(env);
  const { current, contexts } = load(file);
  const name = contextName(lab);
  if (!Object.hasOwn(contexts, name)) return;
  const rest = Object.fromEntries(Object.entries(contexts).filter(([other]) => other !== name));
  const former = linked?.former ?? null;
  const back = former !== null && Object.hasOwn(rest, former) ? former : null;
  save(file, { current: current === name ? back : current, contexts: rest });
}
