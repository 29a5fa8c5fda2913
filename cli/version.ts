// This program's own version, without loading anything for it.

import { readFileSync } from "node:fs";

/** The package's version: package.json is in a folder above this file, how far depends on whether it is compiled. */
export function packageVersion(): string {
  for (let folder = new URL(".", import.meta.url); ; folder = new URL("..", folder)) {
    try {
      const parsed = JSON.parse(readFileSync(new URL("package.json", folder), "utf8")) as {
        name?: string;
        version?: string;
      };
      if (parsed.name === "flotilla" && parsed.version !== undefined) return parsed.version;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
    if (folder.pathname === "/") throw new Error("package.json of flotilla is missing: the installation is not whole");
  }
}

export function clientVersion(): { version: string; node: string; platform: string } {
  return { version: packageVersion(), node: process.version, platform: `${process.platform}/${process.arch}` };
}

export function clientVersionText(): string {
  const { version, node, platform } = clientVersion();
  return `Client:\n Version:  ${version}\n Node.js:  ${node}\n Platform: ${platform}\n`;
}
