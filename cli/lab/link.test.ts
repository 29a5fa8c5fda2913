import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { contextsFile, load, save } from "../context.js";
import { link, readLink, unlink } from "./link.js";

let dir = "";
let env: Record<string, string>;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "link-"));
  env = { XDG_CONFIG_HOME: join(dir, "config") };
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function lab(name: string) {
  const folder = join(dir, name);
  mkdirSync(folder, { recursive: true });
  return { name, folder, managers: ["10.77.0.1:7400"] };
}
const current = () => load(contextsFile(env)).current;

describe("the lab's context", () => {
  it("becomes current, and gives way to the former one", () => {
    save(contextsFile(env), { current: "prod", contexts: { prod: { managers: ["p:7400"] } } });
    const one = lab("one");
    link(one, env);
    link(one, env); // A second `up` must not make the lab its own former context.
    expect(load(contextsFile(env))).toEqual({
      current: "lab-one",
      contexts: { prod: { managers: ["p:7400"] }, "lab-one": { managers: ["10.77.0.1:7400"] } },
    });
    unlink("one", readLink(one.folder), env);
    expect(load(contextsFile(env))).toEqual({ current: "prod", contexts: { prod: { managers: ["p:7400"] } } });
  });

  it("leaves alone what the user chose meanwhile", () => {
    const one = lab("one");
    link(one, env);
    save(contextsFile(env), {
      current: "prod",
      contexts: { ...load(contextsFile(env)).contexts, prod: { managers: ["p:7400"] } },
    });
    unlink("one", readLink(one.folder), env);
    expect(current()).toBe("prod");
  });

  it("does not go back to a lab that has gone down before it", () => {
    const [one, two] = [lab("one"), lab("two")];
    link(one, env);
    link(two, env);
    unlink("one", readLink(one.folder), env);
    expect(current()).toBe("lab-two");
    unlink("two", readLink(two.folder), env);
    expect(load(contextsFile(env))).toEqual({ current: null, contexts: {} });
  });

  it("touches no file where the lab never linked itself", () => {
    unlink("one", null, env);
    expect(() => rmSync(contextsFile(env))).toThrow("ENOENT");
  });
});
