// `flotilla cluster status`: the managers as their leader sees them.

import type { Command } from "commander";
import { pause } from "../../../lib/clock.js";
import { ClusterError, messageOf } from "../../../lib/errors.js";
import type { ClusterStatus } from "../../../proto/gen/flotilla/control/v1/control.js";
import type { ControlApi } from "../../client/mod.js";
import { awayMsMax, isPassing } from "../../client/passing.js";
import { type Exit, Failure, exits } from "../../exit.js";
import { formatFlag } from "../../flags/flag.js";
import type { Io } from "../../io.js";
import { type Told, managerColumns, managerJson, managerRows, statusJson, statusText } from "../../screen/cluster.js";
import { brakeJson, settingsJson } from "../../screen/json.js";
import { type Format, parseFormat, renderListing } from "../../screen/table.js";
import { safeJson } from "../../screen/text.js";
import { type Cli, addLeaf } from "../leaf.js";

const lookMs = 1000;

/** A cluster that takes no writes is not well: scripts see it by the code. */
export function exitOf({ writable }: ClusterStatus): Exit {
  return writable ? exits.ok : exits.error;
}

interface Seen {
  status: ClusterStatus;
  /** Undefined when only the manager that is asked is meant. */
  told: Told | undefined;
}

function shown({ status, told }: Seen, format: Format, indent?: number): string {
  if (format.kind === "json") return `${safeJson({ ...statusJson(status), ...toldJson(told) }, indent)}\n`;
  if (format.kind === "table") return statusText(status, told);
  return renderListing({ columns: managerColumns, rows: managerRows(status), toJson: managerJson }, format);
}

/** null: not known, or not asked for. */
function toldJson(told: Told | undefined) {
  if (told === undefined || "unknown" in told) return { settings: null, brake: null };
  return { settings: settingsJson(told.cluster), brake: brakeJson(told.cluster) };
}

/** Who leads is worth knowing also when nobody does: what only a leader can say must not be in the way. */
async function look(api: ControlApi, local: boolean, format: Format): Promise<Seen> {
  const status = await api.clusterStatus(local);
  // A template has fields of managers only.
  if (local || format.kind === "template") return { status, told: undefined };
  if (status.managers.length > 0 && status.leaderId === 0) return { status, told: { unknown: "there is no leader" } };
  try {
    return { status, told: { cluster: await api.cluster() } };
  } catch (error) {
    if (!(error instanceof ClusterError || error instanceof Failure)) throw error;
    return { status, told: { unknown: messageOf(error) } };
  }
}

export function addStatus(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "status",
    summary: "the managers and the settings: who leads, how far each one is, what is wrong",
    description:
      "Shows the managers as their leader sees them; without a leader, what the manager that answered knows. STATE is leader, reachable, unreachable, probing (the leader looks for where it is), snapshot (it is sent everything) or unknown (only a leader knows). MATCH is how far its log is like the leader's, LAG how many entries it lacks. BRAKE is there while so many nodes are lost that their tasks are left alone. Ends with 1 when the cluster takes no writes.",
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
      const seen = await look(api, local, format);
      if (!flags.has("watch")) {
        io.out(shown(seen, format, 2));
        return exitOf(seen.status);
      }
      return await watch(io, format, seen, () => look(api, local, format));
    },
  });
}

/** On a terminal in place; elsewhere one after another, objects a line each. Outlives the managers' absence for a while. */
async function watch(io: Io, format: Format, first: Seen, next: () => Promise<Seen>): Promise<Exit> {
  const controller = new AbortController();
  const stop = () => controller.abort(new DOMException("stopped", "AbortError"));
  const off = io.onStop(stop);
  io.readerGone.addEventListener("abort", stop);
  const { signal } = controller;
  let before = "";
  const show = (seen: Seen) => {
    const text = shown(seen, format);
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
        const seen = await next();
        awayAtMs = undefined;
        if (!signal.aborted) show(seen);
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
