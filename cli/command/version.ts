// `flotilla version`: answers without asking anybody, unless --server does.

import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { plain, safeJson } from "../screen/text.js";
import { type Cli, addLeaf } from "./leaf.js";

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

export function addVersion(program: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(program, cli, {
    name: "version",
    summary: "print the version",
    flags: [
      { long: "server", help: "the managers' too" },
      { long: "client", help: "only this command's (the default)" },
    ],
    examples: ["flotilla version", "flotilla version --server --json"],
    async run({ flags, json, connect }) {
      const client = {
        version: packageVersion(),
        node: process.version,
        platform: `${process.platform}/${process.arch}`,
      };
      const server = flags.has("server") && !flags.has("client") ? await (await connect()).version() : undefined;
      if (json) {
        const { version, cluster, store } = server ?? {};
        io.out(`${safeJson(server === undefined ? { client } : { client, server: { version, cluster, store } }, 2)}\n`);
        return;
      }
      io.out(`Client:\n Version:  ${client.version}\n Node.js:  ${client.node}\n Platform: ${client.platform}\n`);
      if (server !== undefined)
        io.out(
          `Server:\n Version:  ${plain(server.version)}\n Cluster:  ${plain(server.cluster)}\n Store:    ${plain(server.store)}\n`,
        );
    },
  });
}
