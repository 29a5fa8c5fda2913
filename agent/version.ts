// The product's version, out of package.json: one folder up from the sources, two from what is compiled.

import { existsSync, readFileSync } from "node:fs";

export function productVersion(): string {
  const beside = new URL("../package.json", import.meta.url);
  const file = existsSync(beside) ? beside : new URL("../../package.json", import.meta.url);
  const parsed: unknown = JSON.parse(readFileSync(file, "utf8"));
  if (typeof parsed === "object" && parsed !== null && "version" in parsed && typeof parsed.version === "string")
    return parsed.version;
  throw new Error(`${file.pathname} has no version`);
}
