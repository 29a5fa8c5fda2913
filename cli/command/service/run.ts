// `flotilla service run` and `rebalance`.

import type { Command } from "commander";
import type { Move } from "../../../proto/gen/flotilla/control/v1/control.js";
import { exits } from "../../exit.js";
import { noTruncFlag } from "../../flags/flag.js";
import { integer } from "../../flags/parsers.js";
import { type Column, renderTable } from "../../screen/table.js";
import { shortId } from "../../screen/task.js";
import { count, safeJson } from "../../screen/text.js";
import { type Cli, addLeaf } from "../leaf.js";
import { afterChange, deployFlags, readWait } from "./wait.js";

export function addRun(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "run",
    args: "SERVICE",
    complete: "services",
    summary: "begin a run of a job now, and wait for its end",
    description:
      "Begins a run of a job, whatever its schedule says, and waits until the run has ended: with 0 when it succeeded, with 4 when it failed.",
    flags: deployFlags,
    examples: ["flotilla service run report", "flotilla service run -d report"],
    async run(given) {
      const { flags, args } = given;
      const wait = readWait(flags, io);
      flags.check();
      const api = await given.connect();
      const { requestId, ...response } = await api.runService(args[0] ?? "");
      return await afterChange(io, given, api, wait, response, { runRequest: requestId });
    },
  });
}

function moveColumns(trunc: boolean): Column<Move>[] {
  return [
    { key: "ID", header: "TASK", get: ({ taskId }) => shortId(taskId, trunc) },
    { key: "Name", header: "NAME", get: ({ serviceName, slot }) => `${serviceName}.${slot}` },
    { key: "From", header: "FROM", get: ({ fromNodeName, fromNodeId }) => fromNodeName || shortId(fromNodeId, trunc) },
    { key: "To", header: "TO", get: ({ toNodeName, toNodeId }) => toNodeName || shortId(toNodeId, trunc) },
    { key: "Reason", header: "REASON", get: ({ reason }) => reason },
  ];
}

function moveJson({ taskId, serviceName, slot, fromNodeName, fromNodeId, toNodeName, toNodeId, reason }: Move) {
  return {
    taskId,
    service: serviceName,
    slot,
    from: fromNodeName,
    fromNodeId,
    to: toNodeName,
    toNodeId,
    reason,
  };
}

export function addRebalance(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "rebalance",
    args: "[SERVICE]",
    complete: "services",
    summary: "move tasks to where they would be placed today",
    description:
      "Has tasks of the service, or of all services, move to where they would be placed today. A replacement is ready before its task stops. Shows the moves and does not wait for them; TO is where it would go as things are. `cluster update --rebalance-moves` does it by itself.",
    flags: [
      { long: "dry-run", help: "only show what would be moved" },
      { long: "max-moves", value: "N", help: "tasks to move (default 10)" },
      noTruncFlag,
    ],
    examples: [
      "flotilla service rebalance --dry-run",
      "flotilla service rebalance web",
      "flotilla service rebalance --max-moves 50",
    ],
    async run({ flags, args, json, connect }) {
      const dryRun = flags.has("dry-run");
      const maxMoves = flags.get("max-moves", integer(1, 10_000, "10")) ?? 0;
      flags.check();
      const api = await connect();
      const { moves, more } = await api.rebalance(args[0] ?? "", dryRun, maxMoves);
      if (json) {
        io.out(`${safeJson({ dryRun, moves: moves.map(moveJson), more }, 2)}\n`);
        return exits.ok;
      }
      if (moves.length === 0) io.err("nothing to move: the tasks are where they would be placed today\n");
      else io.out(renderTable(moveColumns(!flags.has("no-trunc")), moves));
      if (more > 0) io.err(`${count(more, "more move")} would be worth it: raise --max-moves, or run it again later\n`);
      if (moves.length > 0 && !dryRun)
        io.err("next: flotilla task ls --filter leaving=true    # what is still to move\n");
      return exits.ok;
    },
  });
}
