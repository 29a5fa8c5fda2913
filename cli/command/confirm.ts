// Acts that cannot be taken back are asked about first. Where nobody can be asked, a flag says it.

import { Failure, UsageError, exits } from "../exit.js";
import type { Io } from "../io.js";
import { plain } from "../screen/text.js";

const unchanged = () => new Failure(exits.error, "not confirmed; nothing was changed");

function nobodyToAsk(fix: string, field = "--yes"): UsageError {
  return new UsageError([{ field, value: "", rule: "is needed: there is no terminal to ask at", fix }]);
}

/** Goes on only after a `y`; `sure` is --yes, or the flag that says as much. */
export async function confirmYes(io: Io, sure: boolean, question: string, flag = "--yes"): Promise<void> {
  if (sure) return;
  if (!io.inTty) throw nobodyToAsk(`write ${flag} to go on without being asked`, flag);
  const answer = (await io.ask(`${plain(question)} [y/N] `)) ?? "";
  if (!/^y(es)?$/i.test(answer.trim())) throw unchanged();
}

/** Goes on only when the name was typed, or given as the value of --yes. */
export async function confirmName(io: Io, given: string | undefined, name: string, question: string): Promise<void> {
  if (given !== undefined) {
    if (given === name) return;
    const rule = `must be the cluster's name, ${plain(name)}`;
    throw new UsageError([{ field: "--yes", value: given, rule, fix: `write --yes ${plain(name)}` }]);
  }
  if (!io.inTty) throw nobodyToAsk(`write --yes ${plain(name)}, the cluster's name`);
  if ((await io.ask(`${plain(question)} `))?.trim() !== name) throw unchanged();
}
