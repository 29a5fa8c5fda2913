// `flotilla cluster transfer`: another manager leads.

import type { Command } from "commander";
import { leaderOf, statusJson } from "../../screen/cluster.js";
import { plain, safeJson } from "../../screen/text.js";
import { type Cli, addLeaf } from "../leaf.js";

export function addTransfer(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "transfer",
    args: "[MANAGER]",
    complete: "managers",
    summary: "make another manager the leader",
    description:
      "Hands leadership over, to the manager of this name, id or address, or to whoever is furthest; for example before its host is worked on. Writes wait for a moment, none is lost.",
    examples: ["flotilla cluster transfer", "flotilla cluster transfer h2"],
    async run({ args, json, connect }) {
      const api = await connect();
      const status = await api.transferLeadership(args[0] ?? "");
      const leader = leaderOf(status);
      if (json) io.out(`${safeJson(statusJson(status), 2)}\n`);
      else io.out(`${plain(leader === undefined ? "nobody" : leader.name)} leads now, in term ${status.term}\n`);
    },
  });
}
