// For tests of the command line: processes that remember how they were started.

import { expect } from "vitest";
import type { Processes } from "../../../cli/processes.js";
import { run } from "../../../cli/program.js";
import { settle } from "../clock.js";
import { FakeIo } from "./io.js";

export type Started = { process: keyof Processes; options: Record<string, unknown>; signal: AbortSignal };

/** Processes that run until their signal, or for ever when they are stubborn. */
export function fakeProcesses(stubborn = false): { started: Started[]; processes: Processes } {
  const started: Started[] = [];
  const start = (process: keyof Processes) => async (options: object, signal: AbortSignal) => {
    started.push({ process, options: { ...options }, signal });
    await new Promise<void>((resolve) => {
      signal.addEventListener("abort", () => {
        if (!stubborn) resolve();
      });
    });
  };
  return { started, processes: { manager: start("manager"), agent: start("agent"), ambassador: start("ambassador") } };
}

/** What a line that is wrong, and starts nothing, says. */
export async function refused(...words: string[]): Promise<string> {
  const io = new FakeIo();
  const { processes, started } = fakeProcesses();
  expect(await run(words, io, { processes })).toBe(125);
  expect(started).toEqual([]);
  return io.stderr;
}

/** What a line starts its process with. */
export async function optionsOf(...words: string[]): Promise<Record<string, unknown>> {
  const io = new FakeIo();
  const { processes, started } = fakeProcesses();
  const ended = run(words, io, { processes });
  while (started.length === 0) await settle();
  io.stop("SIGTERM");
  expect(await ended).toBe(0);
  return started[0]?.options ?? {};
}
