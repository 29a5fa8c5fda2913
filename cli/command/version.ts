// `flotilla version`: answers without asking anybody, unless --server does.

import type { Command } from "commander";
import { plain, safeJson } from "../screen/text.js";
import { clientVersion, clientVersionText } from "../version.js";
import { type Cli, addLeaf } from "./leaf.js";

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
      const client = clientVersion();
      const server = flags.has("server") && !flags.has("client") ? await (await connect()).version() : undefined;
      if (json) {
        const { version, cluster, store } = server ?? {};
        io.out(`${safeJson(server === undefined ? { client } : { client, server: { version, cluster, store } }, 2)}\n`);
        return;
      }
      io.out(clientVersionText());
      if (server !== undefined)
        io.out(
          `Server:\n Version:  ${plain(server.version)}\n Cluster:  ${plain(server.cluster)}\n Store:    ${plain(server.store)}\n`,
        );
    },
  });
}
