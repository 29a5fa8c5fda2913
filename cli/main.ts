#!/bin/sh
// 2>/dev/null; exec node -- "$0" "$@"
// The `flotilla` command. The line above is a comment here and a command to the shell: without the --, Node 20 takes an
// `--env-file` that is meant for `service create` as its own, and ends with "node: FILE: not found".

import { processIo } from "./io.js";
import { clientVersionText } from "./version.js";

const io = processIo();
const words = process.argv.slice(2);
if (words.length === 1 && words[0] === "version") {
  // Asked by scripts to see whether there is a flotilla at all: a third of the start-up is saved by not building the
  // tree of commands. Anything more, as a flag, takes the usual way.
  io.out(clientVersionText());
} else {
  const { run } = await import("./program.js");
  const exit = await run(words, io);
  // Commands that run another program, as `lab exec`, pass its code on.
  if (exit !== 0) process.exitCode = exit;
}
// What a command left open, as a connection that is still closing, must not keep the user waiting. Standard output is
// written synchronously to files, pipes and terminals on Linux, so nothing is cut off.
io.leave(Number(process.exitCode ?? 0));
