// `flotilla events`: a line per event, until Ctrl-C.

import type { Command } from "commander";
import { pause } from "../../lib/clock.js";
import { messageOf } from "../../lib/errors.js";
import type { Event } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { awayMsMax, isPassing } from "../client/passing.js";
import { Failure, exits } from "../exit.js";
import { readFilters } from "../flags/filter.js";
import { filterFlag, formatFlag } from "../flags/flag.js";
import { moment } from "../flags/parsers.js";
import { eventJson } from "../screen/json.js";
import { type Column, parseFormat, renderListing } from "../screen/table.js";
import { plain, safeJson } from "../screen/text.js";
import { iso } from "../screen/time.js";
import { type Cli, addLeaf } from "./leaf.js";
import { SeenEvents } from "./seen-events.js";

const columns: Column<Event>[] = [
  { key: "Time", header: "TIME", get: ({ atMs }) => iso(atMs) },
  { key: "Kind", header: "KIND", get: ({ kind }) => kind },
  { key: "Action", header: "ACTION", get: ({ action }) => action },
  { key: "ID", header: "ID", get: ({ id }) => id },
  { key: "Name", header: "NAME", get: ({ name }) => name },
  { key: "Message", header: "MESSAGE", get: ({ message }) => message },
  { key: "Cause", header: "CAUSE", get: ({ cause }) => cause },
];

/** `2026-01-31T12:00:00.000Z task failed 4xk2… (name=web) exit code 1 (cause: update to 3)`, as Docker's. */
export function eventLine({ atMs, kind, action, id, name, message, cause }: Event): string {
  return plain(
    `${iso(atMs)} ${kind} ${action} ${id}${name === "" ? "" : ` (name=${name})`}${message === "" ? "" : ` ${message}`}${cause === "" ? "" : ` (cause: ${cause})`}`,
  );
}

export function addEvents(program: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(program, cli, {
    name: "events",
    summary: "what happens in the cluster, as it happens",
    description:
      "Prints a line per event of services, tasks, nodes, rollouts, runs of jobs (kind job) and the cluster, with what led to it, until Ctrl-C.",
    flags: [
      {
        long: "since",
        value: "TIME",
        help: "also those since then that the manager remembers: 10m, 2026-01-31T12:00:00Z",
      },
      filterFlag,
      formatFlag,
    ],
    examples: [
      "flotilla events",
      "flotilla events --since 10m --filter kind=task --filter name=web",
      "flotilla events --filter kind=job --filter kind=cluster",
      "flotilla events --json",
    ],
    async run(given) {
      const { flags, json } = given;
      const since = flags.get("since", moment(io.clock.now())) ?? 0;
      const matches = readFilters<Event>(
        flags,
        {
          kind: (event, value) => event.kind === value,
          action: (event, value) => event.action === value,
          name: (event, value) => event.name === value,
          id: (event, value) => event.id.startsWith(value),
        },
        { kind: ["service", "task", "node", "rollout", "job", "cluster"] },
      );
      const format = parseFormat(flags.text("format"), json);
      flags.check();
      // A template that is wrong is wrong before the first event.
      renderListing({ columns, rows: [], toJson: eventJson }, format);
      const print = (event: Event) => {
        if (!matches(event)) return;
        if (format.kind === "table") io.out(`${eventLine(event)}\n`);
        else if (format.kind === "json") io.out(`${safeJson(eventJson(event))}\n`);
        else io.out(renderListing({ columns, rows: [event], toJson: eventJson }, { ...format, table: false }));
      };
      const api = await given.connect();
      const startedAtMs = io.clock.now();
      const controller = new AbortController();
      const stop = () => controller.abort();
      const off = io.onStop(stop);
      io.readerGone.addEventListener("abort", stop);
      try {
        let from = since;
        let heard = false;
        let awayAtMs: number | undefined;
        const seen = new SeenEvents();
        for (let waitMs = 250; !controller.signal.aborted; waitMs = Math.min(2000, waitMs * 2)) {
          try {
            for await (const event of api.events(seen.resume() ?? from, controller.signal)) {
              heard = true;
              awayAtMs = undefined;
              waitMs = 250;
              if (!seen.repeats(event)) print(event);
            }
          } catch (error) {
            const nowMs = io.clock.monotonic();
            if (!isPassing(error) || (!heard && error instanceof Failure) || nowMs - (awayAtMs ?? nowMs) > awayMsMax)
              throw error;
            if (awayAtMs === undefined)
              io.err(`lost the manager (${messageOf(error)}); asking again, from the last event on\n`);
            awayAtMs ??= nowMs;
          }
          // A new stream also has what happened while there was none.
          if (from === 0) from = startedAtMs;
          await pause(io.clock, waitMs, controller.signal);
        }
      } finally {
        off();
      }
      return io.readerGone.aborted ? exits.ok : exits.detached;
    },
  });
}
