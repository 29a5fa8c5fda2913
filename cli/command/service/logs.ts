// `flotilla service logs`: lines of all tasks as they come in.

import type { Command } from "commander";
import { LogStream } from "../../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { pause } from "../../../lib/clock.js";
import { messageOf } from "../../../lib/errors.js";
import type { ServiceLogsResponse, ServiceState } from "../../../proto/gen/flotilla/control/v1/control.js";
import { awayMsMax, isPassing } from "../../client/passing.js";
import { exits } from "../../exit.js";
import { moment, uint32 } from "../../flags/parsers.js";
import type { Io } from "../../io.js";
import { shortId, taskName } from "../../screen/task.js";
import { logText, plain, safeJson } from "../../screen/text.js";
import { iso } from "../../screen/time.js";
import { type Cli, addLeaf } from "../leaf.js";
import { LogPlaces } from "./log-lines.js";

/** While following, names of new tasks are looked up at most this often. */
const lookUpMs = 1000;

export function addLogs(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "logs",
    args: "SERVICE",
    complete: "services",
    summary: "the log lines of all tasks of a service",
    description:
      "Prints what the tasks wrote, each line with its task: standard output to standard output, standard error to standard error.",
    flags: [
      { long: "follow", short: "f", help: "go on with new lines, until Ctrl-C" },
      { long: "tail", short: "n", value: "N", help: "only the last lines of each task, or all (default all)" },
      { long: "since", value: "TIME", help: "only lines after: 10m, 2026-01-31T12:00:00Z, 1767225600" },
      { long: "timestamps", short: "t", help: "with times" },
      { long: "no-task-ids", help: "web.1@h1 instead of web.1.ID@h1" },
      { long: "no-trunc", help: "do not shorten ids" },
      { long: "raw", help: "only the lines" },
      { long: "task", value: "ID", help: "only this task" },
    ],
    examples: ["flotilla service logs --tail 20 web", "flotilla service logs -f --since 5m web"],
    async run(given) {
      const { flags, args, json, color } = given;
      const [service = ""] = args;
      const follow = flags.has("follow");
      const tail = flags.text("tail") === "all" ? undefined : flags.get("tail", uint32("20, or all"));
      const sinceMs = flags.get("since", moment(io.clock.now())) ?? 0;
      flags.check();
      const api = await given.connect();
      const names = new Names(await api.service(service), !flags.has("no-task-ids"), !flags.has("no-trunc"));
      const wantedTask = flags.text("task");
      const controller = new AbortController();
      let stopped = false;
      const off = io.onStop(() => {
        stopped = true;
        controller.abort();
      });
      io.readerGone.addEventListener("abort", () => controller.abort());
      const tty = { out: io.outTty, err: io.errTty };
      let lookedUpAtMs = io.clock.monotonic();
      try {
        const taskId = wantedTask === undefined ? "" : names.idOf(wantedTask);
        const places = new LogPlaces({ follow, sinceMs, tail });
        const show = async ({ lines, warning }: ServiceLogsResponse) => {
          if (warning !== "") io.err(`warning: ${plain(warning)}\n`);
          if (lines.some(({ taskId }) => !names.knows(taskId)) && io.clock.monotonic() - lookedUpAtMs >= lookUpMs) {
            lookedUpAtMs = io.clock.monotonic();
            names.learn(await api.service(service));
          }
          for (const line of lines) {
            if (places.repeats(line)) continue;
            const { taskId, atMs, stream, text } = line;
            const toErr = stream === LogStream.STDERR;
            if (json) {
              io.out(
                `${safeJson({ at: iso(atMs), task: names.task(taskId), taskId, node: names.node(taskId), stream: toErr ? "stderr" : "stdout", text: text.toString("utf8") })}\n`,
              );
              continue;
            }
            const prefix = flags.has("raw") ? "" : names.prefix(taskId);
            const time = flags.has("timestamps") ? `${iso(atMs)} ` : "";
            write(io, toErr, `${time}${prefix}`, text, toErr ? tty.err : tty.out, color);
          }
        };
        let lostAtMs: number | undefined;
        for (let waitMs = 250; !controller.signal.aborted; waitMs = Math.min(2000, waitMs * 2)) {
          try {
            for await (const part of api.logs({ service, taskId, options: places.next() }, controller.signal)) {
              lostAtMs = undefined;
              waitMs = 250;
              await show(part);
            }
            break;
          } catch (error) {
            const nowMs = io.clock.monotonic();
            if (!follow || !isPassing(error) || nowMs - (lostAtMs ?? nowMs) > awayMsMax) throw error;
            if (lostAtMs === undefined) io.err(`lost the manager (${messageOf(error)}); asking again\n`);
            lostAtMs ??= nowMs;
          }
          await pause(io.clock, waitMs, controller.signal);
        }
      } finally {
        off();
      }
      return stopped ? exits.detached : exits.ok;
    },
  });
}

/** Byte by byte as it was, except on a terminal, which a log must not steer. */
function write(io: Io, toErr: boolean, prefix: string, text: Buffer, tty: boolean, color: boolean): void {
  const chunk = tty
    ? `${prefix}${logText(text.toString("utf8"), color)}\n`
    : Buffer.concat([Buffer.from(prefix), text, Buffer.from("\n")]);
  if (toErr) io.err(chunk);
  else io.out(chunk);
}

/** Tasks by id, as `web.1.abcdefghijkl@h1    | `, as wide as the widest. */
class Names {
  readonly #known = new Map<string, { task: string; node: string; label: string }>();
  readonly #withIds: boolean;
  readonly #trunc: boolean;
  #width = 0;

  constructor(state: ServiceState, withIds: boolean, trunc: boolean) {
    this.#withIds = withIds;
    this.#trunc = trunc;
    this.learn(state);
  }

  learn(state: ServiceState): void {
    for (const task of state.tasks) {
      const id = task.meta?.id ?? "";
      const name = plain(taskName(task));
      const node = plain(state.nodeNames[task.nodeId] ?? "");
      const label = `${name}${this.#withIds ? `.${shortId(id, this.#trunc)}` : ""}${node === "" ? "" : `@${node}`}`;
      this.#known.set(id, { task: name, node, label });
      this.#width = Math.max(this.#width, label.length);
    }
  }

  knows(id: string): boolean {
    return this.#known.has(id);
  }

  task(id: string): string {
    return this.#known.get(id)?.task ?? "";
  }

  node(id: string): string {
    return this.#known.get(id)?.node ?? "";
  }

  /** The one task whose id begins so; what begins no known id is left for the manager to refuse. */
  idOf(prefix: string): string {
    const found = [...this.#known.keys()].filter((id) => id.startsWith(prefix));
    return found.length === 1 ? (found[0] ?? prefix) : prefix;
  }

  prefix(id: string): string {
    const label = this.#known.get(id)?.label ?? shortId(plain(id), this.#trunc);
    return `${label.padEnd(this.#width)}    | `;
  }
}
