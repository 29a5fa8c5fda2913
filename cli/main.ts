#!/usr/bin/env node
// The `flotilla` command.

import { processIo } from "./io.js";
import { run } from "./program.js";

const io = processIo();
const exit = await run(process.argv.slice(2), io);
// Commands that run another program, as `lab exec`, pass its code on.
if (exit !== 0) process.exitCode = exit;
// What a command left open, as a connection that is still closing, must not keep the user waiting. Standard output is
// written synchronously to files, pipes and terminals on Linux, so nothing is cut off.
io.leave(Number(process.exitCode ?? exit));
