// `flotilla cluster status`: the managers as their leader sees them.

import type { Command } from "commander";
import { pause } from "../../../lib/clock.js";
import { messageOf } from "../../../lib/errors.js";
import type { ClusterStatus } from "../../../proto/gen/flotilla/control/v1/control.js";
import { awayMsMax, isPassing } from "../../client/passing.js";
import { type Exit, exits } from "../../exit.js";
import { formatFlag } from "../../flags/flag.js";
import type { Io } from "../../io.js";
import { managerColumns, managerJson, managerRows, statusJson, statusText } from "../../screen/cluster.js";
import { type Format, parseFormat, renderListing } from "../../screen/table.js";
import { safeJson } from "../../screen/text.js";
import { type Cli, addLeaf } from "../leaf.js";

const lookMs = 1000;

/** A cluster that takes no writes is not well: scripts see it by the code. */
export function exitOf({ writable }: ClusterStatus): Exit {
  return writable ? exits.ok : exits.error;
}

function shown(status: ClusterStatus, format: Format, indent?: number): string {
  if (format.kind === "json") return `${safeJson(statusJson(status), indent)}\n`;
  if (format.kind === "table") return statusText(status);
  return renderListing({ columns: managerColumns, rows: managerRows(status), toJson: managerJson }, format);
}

export function addStatus(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "status",
    summary: "the managers: who leads, and how far each one is",
    description:
      "Shows the managers as their leader sees them; without a leader, what the manager that answered knows. STATE is leader, reachable, unreachable, probing (the leader looks for where it is), snapshot (it is sent everything) or unknown (only a leader knows). MATCH is how far its log is like the leader's, LAG how many entries it lacks. Ends with 1 when the cluster takes no writes.",
    flags: [
      { long: "local", help: "as the first manager that answers sees it, not the leader" },
      { long: "watch", short: "w", help: "go on showing it when it changes, until Ctrl-C" },
      formatFlag,
    ],
    examples: [
      "flotilla cluster status",
      "flotilla cluster status --format '{{.Name}} {{.State}} {{.Lag}}'",
      "flotilla --host 10.0.0.2:7400 cluster status --local --json",
    ],
    async run(given) {
      const { flags, json } = given;
      const format = parseFormat(flags.text("format"), json);
      const local = flags.has("local");
      flags.check();
      // A template that is wrong is wrong before anybody is asked.
      renderListing({ columns: managerColumns, rows: [], toJson: managerJson }, format);
      const api = await given.connect();
      const status = await api.clusterStatus(local);
      if (!flags.has("watch")) {
        io.out(shown(status, format, 2));
        return exitOf(status);
      }
      return await watch(io, format, status, () => api.clusterStatus(local));
    },
  });
}

/** On a terminal in place; elsewhere one after another, objects a line each. Outlives the managers' absence for a while. */
async function watch(io: Io, format: Format, first: ClusterStatus, next: () => Promise<ClusterStatus>): Promise<Exit> {
  const controller = new AbortController();
  const stop = () => controller.abort(new DOMException("stopped", "AbortError"));
  const off = io.onStop(stop);
  io.readerGone.addEventListener("abort", stop);
  const { signal } = controller;
  let before = "";
  const show = (status: ClusterStatus) => {
    const text = shown(status, format);
    if (text === before) return;
    const lines = before.split("\n").length - 1;
    if (io.outTty && before !== "") io.out(`\u001b[${lines}A\u001b[0J`);
    else if (before !== "" && format.kind === "table") io.out("\n");
    io.out(text);
    before = text;
  };
  let awayAtMs: number | undefined;
  try {
    show(first);
    for (await pause(io.clock, lookMs, signal); !signal.aborted; await pause(io.clock, lookMs, signal)) {
      try {
        const status = await next();
        awayAtMs = undefined;
        if (!signal.aborted) show(status);
      } catch (error) {
        const nowMs = io.clock.monotonic();
        if (!isPassing(error) || nowMs - (awayAtMs ?? nowMs) > awayMsMax) throw error;
        if (awayAtMs === undefined) {
          io.err(`no manager answers (${messageOf(error)}); asking again\n`);
          // What is on the terminal now stays: the message is below it.
          before = "";
        }
        awayAtMs ??= nowMs;
      }
    }
  } finally {
    off();
  }
  return io.readerGone.aborted ? exits.ok : exits.detached;
}
