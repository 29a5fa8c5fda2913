// For tests of the command line: runs a whole line against a manager of given answers.

import { afterEach } from "vitest";
import { run } from "../../../cli/program.js";
import { FakeIo } from "./io.js";
import { type Answers, FakeControl } from "./server.js";
import { state, task } from "./states.js";

export const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

export interface Ran {
  exit: number;
  out: string;
  err: string;
  fake: FakeControl;
}

/** Runs a line with a manager of these answers. */
export async function line(
  words: string[],
  answers: Answers = {},
  prepare: (io: FakeIo, fake: FakeControl) => void = () => undefined,
): Promise<Ran> {
  const fake = await FakeControl.start(answers);
  ends.push(() => fake.kill());
  const io = new FakeIo();
  io.env = { FLOTILLA_HOST: fake.address };
  prepare(io, fake);
  const exit = await run(words, io);
  return { exit, out: io.stdout, err: io.stderr, fake };
}

export const response = (parts: Parameters<typeof state>[0] = {}) => ({
  service: state(parts).service,
  rollout: parts.rollout,
});
export const two = [task({ slot: 1 }), task({ slot: 2 })];
