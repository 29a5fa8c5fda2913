// `flotilla node lost` and `rm`: nodes that do not come back.

import type { Command } from "commander";
import { toClusterError } from "../../lib/errors.js";
import { UpdateNodeRequest } from "../../proto/gen/flotilla/control/v1/control.js";
import { NodeState } from "../../proto/gen/flotilla/objects/v1/objects.js";
import type { ControlApi } from "../client/mod.js";
import { type Exit, Failure, UsageError, exits } from "../exit.js";
import { present } from "../present.js";
import { nodeJson } from "../screen/json.js";
import { count, plain, safeJson } from "../screen/text.js";
import { nodeState } from "../screen/words.js";
import { confirmYes } from "./confirm.js";
import { type Cli, addLeaf } from "./leaf.js";

export function addRemoval(parent: Command, cli: Cli): void {
  addLost(parent, cli);
  addRm(parent, cli);
}

function checkOnce(args: readonly string[]): void {
  if (new Set(args).size < args.length)
    throw new UsageError([
      { field: "NODE", value: args.join(" "), rule: "names a node twice", fix: "name each node once" },
    ]);
}

function addLost(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "lost",
    args: "NODE [NODES...]",
    complete: "nodes",
    summary: "say that nodes are gone for good, so that their tasks are replaced",
    description:
      "Has the tasks of nodes that are away replaced at once, also while the brake holds, as it does when most nodes were lost together. Only for nodes that are off or broken: where one runs on without a connection, its tasks run twice until it is back. A node that comes back is as any other.",
    flags: [
      { long: "force", help: "do not ask: they are gone" },
      { long: "yes", short: "y", help: "the same" },
    ],
    examples: ["flotilla node lost h3", "flotilla node lost --force h3 h4 h5"],
    async run({ flags, args, json, connect }): Promise<Exit> {
      checkOnce(args);
      const api = await connect();
      const states = await Promise.all(args.map((node) => api.node(node)));
      const here = states.filter(({ node }) => node?.status?.state === NodeState.READY);
      if (here.length > 0)
        throw new Failure(
          exits.error,
          `${here.map(({ node }) => node?.description?.hostname ?? "").join(", ")} ${here.length === 1 ? "is" : "are"} connected, and not lost; nothing was changed`,
          { next: [`flotilla node drain ${here[0]?.node?.description?.hostname ?? ""}    # to move tasks away`] },
        );
      for (const { node, tasks } of states)
        io.err(
          plain(
            `${node?.description?.hostname ?? ""} (${nodeState(node?.status?.state ?? 0)}): ${count(tasks, "task")} to be replaced`,
          ) + "\n",
        );
      await confirmYes(
        io,
        flags.has("force") || flags.has("yes"),
        `${states.length === 1 ? "Is it" : "Are they"} off for good?`,
        "--force",
      );
      // By id: the ones that were looked at.
      for (const { node } of states) {
        const request = UpdateNodeRequest.fromPartial({ node: node?.meta?.id ?? "", confirmLoss: true });
        const state = await api.updateNode(request);
        io.out(json ? `${safeJson(nodeJson(state), 2)}\n` : `${plain(state.node?.description?.hostname ?? "")}\n`);
      }
      return exits.ok;
    },
  });
}

function addRm(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "rm",
    args: "NODE [NODES...]",
    complete: "nodes",
    summary: "forget nodes that are down",
    description:
      "Forgets nodes that are down, with their labels; with --force also those that are away but not down yet. Their tasks are replaced. A node whose agent comes back is a new one. To move the tasks of a node that is there: node drain.",
    flags: [{ long: "force", help: "also a node that is not connected, and not down yet" }],
    examples: ["flotilla node rm h3", "flotilla node rm --force h3 h4"],
    async run({ flags, args, json, connect }): Promise<Exit> {
      checkOnce(args);
      const api: ControlApi = await connect();
      let exit: Exit = exits.ok;
      const removed: string[] = [];
      // All that can go goes; each that cannot is said.
      for (const node of args) {
        try {
          const name = await api.removeNode(node, flags.has("force"));
          removed.push(name);
          if (!json) io.out(`${plain(name)}\n`);
        } catch (error) {
          const cluster = toClusterError(error);
          if (cluster.code !== "not_found" && cluster.code !== "failed_precondition") throw error;
          io.err(present(cluster, "flotilla node rm").text);
          exit = exits.error;
        }
      }
      if (json) io.out(`${safeJson({ removed }, 2)}\n`);
      return exit;
    },
  });
}
