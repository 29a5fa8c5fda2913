import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { LoadResult } from "../lab/load/mod.js";
import { list, reportTo, wrapped } from "./report.js";
import { expectNothingFailed, nodesIn, versionsIn } from "./steps.js";

const script = fileURLToPath(new URL("./quickstart.mjs", import.meta.url));
const run = (...args: string[]) => spawnSync(process.execPath, [script, ...args], { encoding: "utf8" });

const load = (bodies: Record<string, number>, errors: Record<string, number> = {}): LoadResult => ({
  ok: Object.values(bodies).reduce((a, b) => a + b, 0),
  failed: Object.values(errors).reduce((a, b) => a + b, 0),
  bodies,
  errors,
  slowestMs: 1,
});

describe("npm run quickstart", () => {
  it("helps without building or changing anything", () => {
    const { status, stdout } = run("--help");
    expect(status).toBe(0);
    expect(stdout).toContain("--once");
  });

  it.each(["--onec", "once", "--once=yes", ""])("refuses %j with 125 and names what there is", (arg) => {
    const { status, stderr } = run(arg);
    expect(status).toBe(125);
    expect(stderr).toContain(JSON.stringify(arg));
    expect(stderr).toContain("--once");
  });
});

describe("what counts as seen", () => {
  it("finds nodes and versions in the demo's answers", () => {
    expect(nodesIn("a 1 FLOTILLA_NODE=h2 X=1\nb 1 FLOTILLA_NODE=h1\nc 1 FLOTILLA_NODE=h2\n")).toEqual(["h1", "h2"]);
    expect(versionsIn(load({ "a 1 X=1": 2, "b 1 X=1": 3, "c 2 X=1": 1 }))).toEqual({ "1": 5, "2": 1 });
  });

  it("is no failed request, and an answer of every version that there was, and of no other", () => {
    expectNothingFailed(load({ "a 1": 1, "b 2": 1 }), ["1", "2"]);
    expectNothingFailed(load({ "b 2": 1 }), ["2"]);
    expect(() => expectNothingFailed(load({ "a 1": 1, "b 2": 1 }, { ECONNRESET: 2 }), ["1", "2"])).toThrow(
      /2 requests failed.*2 times ECONNRESET/,
    );
    expect(() => expectNothingFailed(load({ "a 1": 1 }), ["1", "2"])).toThrow("version 2 answered no");
    expect(() => expectNothingFailed(load({ "b 2": 1 }), ["1", "2"])).toThrow("version 1 answered no");
    expect(() => expectNothingFailed(load({ "a 1": 1, "b 2": 1 }), ["2"])).toThrow("version 1 answered under load");
  });
});

describe("the report", () => {
  it("shows the end of a long error", () => {
    let text = "";
    reportTo((more) => (text += more)).notSeen(Array.from({ length: 40 }, (_, i) => `line ${i}`).join("\n"));
    expect(text.split("\n").length).toBeLessThan(14);
    expect(text).toContain("NOT SEEN");
    expect(text).toContain("line 39");
  });

  it("breaks commands so that they can be pasted", () => {
    const command = ["flotilla", ...Array.from({ length: 30 }, (_, i) => `--flag-${i}`)];
    const lines = wrapped(command).split("\n");
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(94);
    expect(lines.slice(0, -1).every((line) => line.endsWith(" \\"))).toBe(true);
    expect(wrapped(command).replaceAll("\\\n", "").split(/\s+/).slice(1)).toEqual(command);
  });

  it("lists words as people do", () => {
    expect(list(["h1"])).toBe("h1");
    expect(list(["h1", "h2", "h3"])).toBe("h1, h2 and h3");
  });
});
