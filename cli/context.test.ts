import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { contextsFile, load, resolve, save } from "./context.js";

let env: Record<string, string>;
beforeEach(() => {
  env = { XDG_CONFIG_HOME: mkdtempSync(join(tmpdir(), "context-")) };
});
afterEach(() => rmSync(env["XDG_CONFIG_HOME"]!, { recursive: true, force: true }));

describe("contexts", () => {
  it("lie in XDG_CONFIG_HOME, or in ~/.config where that is unset or relative", () => {
    expect(contextsFile({ HOME: "/home/u" })).toBe("/home/u/.config/flotilla/contexts.json");
    expect(contextsFile({ HOME: "/home/u", XDG_CONFIG_HOME: "x" })).toBe("/home/u/.config/flotilla/contexts.json");
    expect(contextsFile({ HOME: "/home/u", XDG_CONFIG_HOME: "/x" })).toBe("/x/flotilla/contexts.json");
  });

  it("are read as they were saved, and leave no unfinished file", () => {
    const file = contextsFile(env);
    const contexts = { current: "a", contexts: { a: { managers: ["h:1"] } } };
    save(file, contexts);
    expect(load(file)).toEqual(contexts);
    expect(readdirSync(dirname(file))).toEqual(["contexts.json"]);
  });

  it.each([
    "",
    "[]",
    "{}",
    '{"contexts":{"a":{}}}',
    '{"contexts":{"a":{"managers":"h:1"}}}',
    '{"current":1,"contexts":{}}',
  ])("refuse the damaged file %j instead of overwriting it", (text) => {
    const file = contextsFile(env);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
    expect(() => load(file)).toThrow("is not a contexts file");
  });

  it("are asked last: flags first, then the environment", () => {
    save(contextsFile(env), { current: "a", contexts: { a: { managers: ["a:1"] }, b: { managers: ["b:1"] } } });
    const all = { ...env, FLOTILLA_HOST: "e:1,[::1]:2" };
    expect(resolve({ host: "f:1", context: "b", env: all }).managers).toEqual(["f:1"]);
    expect(resolve({ context: "b", env: all }).managers).toEqual(["b:1"]);
    expect(resolve({ env: all }).managers).toEqual(["e:1", "[::1]:2"]);
    expect(resolve({ env: { ...env, FLOTILLA_CONTEXT: "b" } }).managers).toEqual(["b:1"]);
    expect(resolve({ env }).managers).toEqual(["a:1"]);
  });

  it("say what to do where nothing is chosen, and name the field where the choice is wrong", () => {
    expect(() => resolve({ env })).toThrow("flotilla lab up");
    expect(() => resolve({ context: "toString", env })).toThrow(/--context: "toString"/);
    expect(() => resolve({ host: "h", env })).toThrow(/--host: "h" must be HOST:PORT/);
    expect(() => resolve({ env: { ...env, FLOTILLA_HOST: "h:1,," } })).toThrow(/FLOTILLA_HOST/);
  });
});
