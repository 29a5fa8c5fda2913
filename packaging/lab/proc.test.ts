import { spawn } from "node:child_process";
import { once } from "node:events";
import { afterEach, describe, expect, it } from "vitest";
import { type ProcessId, INIT_MARK, children, identify, isAlive, killAll, marked, signal } from "./proc.js";

const started: ReturnType<typeof spawn>[] = [];
function sleeper(env: NodeJS.ProcessEnv = {}): ReturnType<typeof spawn> {
  const child = spawn("sleep", ["60"], { env: { ...process.env, ...env } });
  started.push(child);
  return child;
}
function idOf(child: ReturnType<typeof spawn>): ProcessId {
  const id = identify(child.pid!);
  expect(id).not.toBeNull();
  return id!;
}
afterEach(() => {
  for (const child of started.splice(0)) child.kill("SIGKILL");
});

describe("processes", () => {
  it("knows one as long as it lives, and not after", async () => {
    const child = sleeper();
    const id = idOf(child);
    expect(isAlive(id)).toBe(true);
    expect(children(process.pid)).toContain(id.pid);
    const gone = once(child, "exit");
    await killAll([id]);
    await gone;
    expect(isAlive(id)).toBe(false);
    expect(signal(id, "SIGTERM")).toBe(false);
  });

  it("does not signal another process that was given the same pid", () => {
    const child = sleeper();
    const id = idOf(child);
    expect(signal({ pid: id.pid, startTicks: id.startTicks - 1 }, "SIGKILL")).toBe(false);
    expect(isAlive(id)).toBe(true);
  });

  it("finds the marked processes of one lab only, and not of one whose name begins the same", async () => {
    const child = sleeper({ [INIT_MARK]: "proc-test/h1" });
    // The mark is in the environment once the child has become `sleep`.
    await expect.poll(() => marked("proc-test").map(({ pid }) => pid)).toEqual([child.pid]);
    expect(marked("proc")).toEqual([]);
    expect(marked().map(({ mark }) => mark)).toContain("proc-test/h1");
  });
});
