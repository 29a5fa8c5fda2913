// `flotilla rollout …`: the way from one revision to another, seen and steered.

import type { Command } from "commander";
import { ClusterError } from "../../lib/errors.js";
import type { Rollout } from "../../proto/gen/flotilla/objects/v1/objects.js";
import type { Exit } from "../exit.js";
import { uint32 } from "../flags/parsers.js";
import type { FlagReader } from "../flags/reader.js";
import type { Io } from "../io.js";
import { rolloutJson, serviceJson } from "../screen/json.js";
import { renderTable } from "../screen/table.js";
import { plain, safeJson } from "../screen/text.js";
import { ago } from "../screen/time.js";
import { rolloutState, slotVerdict } from "../screen/words.js";
import { type Cli, type Given, addGroup, addLeaf } from "./leaf.js";
import { deployFlags, readWait, waitFlags, waitFor } from "./service/wait.js";

export function addRollout(program: Command, cli: Cli): void {
  const rollout = addGroup(program, {
    name: "rollout",
    summary: "follow, pause, resume or abort an update",
    description: "Rollouts: moving a service from one revision to another.",
    examples: ["flotilla rollout status -w web", "flotilla rollout pause web", "flotilla rollout abort web"],
  });
  addStatus(rollout, cli);
  addVerb(rollout, cli, "pause", {
    summary: "begin no more slots",
    done: "paused",
    next: (name) => `flotilla rollout resume ${name}`,
  });
  addResume(rollout, cli);
  addVerb(rollout, cli, "abort", {
    summary: "go back to the revision that the rollout came from",
    done: "aborted; it goes back",
    next: (name) => `flotilla rollout status -w ${name}`,
  });
}

/** 0 is nothing to watch for: the newest. */
function readRevision(flags: FlagReader): number | undefined {
  const revision = flags.get("revision", uint32("7"));
  return revision === 0 ? undefined : revision;
}

function addStatus(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "status",
    args: "SERVICE",
    complete: "services",
    summary: "the current or last rollout of a service",
    description:
      "Shows the current or last rollout. With -w it waits for the end, as the command that began it does, and ends with the same codes: 0 converged, 3 no node fits, 4 rolled back, paused or aborted, 5 timeout, 130 Ctrl-C.",
    flags: [
      { long: "watch", short: "w", help: "show the progress until the end" },
      { long: "revision", value: "N", help: "the revision to wait for (default the newest)" },
      ...waitFlags,
    ],
    examples: ["flotilla rollout status web", "flotilla rollout status -w --timeout 5m web"],
    async run(given) {
      const { flags, json, args } = given;
      const wait = readWait(flags, io);
      const revision = readRevision(flags);
      flags.check();
      const api = await given.connect();
      const state = await api.service(args[0] ?? "");
      const { service, rollout } = state;
      const name = service?.spec?.name ?? "";
      const id = service?.meta?.id ?? "";
      if (flags.has("watch"))
        return await waitFor(io, given, api, wait, { id, name }, revision === undefined ? {} : { revision });
      if (json)
        io.out(
          `${safeJson({ service: serviceJson(state, io.clock.now()), rollout: rollout === undefined ? null : rolloutJson(rollout) }, 2)}\n`,
        );
      else if (rollout === undefined)
        io.out(
          `${plain(name)}: no rollout so far; revision ${service?.revision ?? 0}, ${state.replicasRunning}/${state.replicasDesired} tasks running\n`,
        );
      else io.out(statusText(name, rollout, io.clock.now()));
      return;
    },
  });
}

export function statusText(name: string, rollout: Rollout, nowMs: number): string {
  const { fromRevision, toRevision, isRollback, state, message, startedAtMs, endedAtMs, slots } = rollout;
  const kind = isRollback ? "rollback" : "rollout";
  const ended = endedAtMs === 0 ? "" : `, ended ${ago(endedAtMs, nowMs)}`;
  const head = `${plain(name)}: ${kind} from revision ${fromRevision} to ${toRevision}: ${rolloutState(state)}${message === "" ? "" : ` (${plain(message)})`}\nbegan ${ago(startedAtMs, nowMs)}${ended}\n`;
  if (slots.length === 0) return head;
  const table = renderTable(
    [
      { key: "Slot", header: "SLOT", get: ({ slot }) => String(slot) },
      { key: "Task", header: "TASK", get: ({ taskId }) => taskId.slice(0, 12) },
      { key: "Verdict", header: "VERDICT", get: ({ verdict }) => slotVerdict(verdict) },
      { key: "Message", header: "MESSAGE", get: ({ message }) => message },
    ],
    [...slots].sort((a, b) => a.slot - b.slot),
  );
  return `${head}\n${table}`;
}

function show(io: Io, json: boolean, rollout: Rollout | undefined, text: string): void {
  if (rollout === undefined)
    throw new ClusterError("internal", "the manager answered without a rollout; its version may not be this command's");
  io.out(json ? `${safeJson(rolloutJson(rollout), 2)}\n` : `${text}\n`);
}

function addVerb(
  parent: Command,
  cli: Cli,
  verb: "pause" | "abort",
  words: { summary: string; done: string; next(name: string): string },
): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: verb,
    args: "SERVICE",
    complete: "services",
    summary: words.summary,
    examples: [`flotilla rollout ${verb} web`],
    async run({ args, json, connect }) {
      const [service = ""] = args;
      const api = await connect();
      const rollout = await api.rollout(verb, service);
      show(io, json, rollout, `${plain(service)}: ${words.done}`);
      if (!json) io.err(`next: ${words.next(plain(service))}\n`);
    },
  });
}

function addResume(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "resume",
    args: "SERVICE",
    complete: "services",
    summary: "go on with a paused rollout, and wait for its end",
    description:
      "Goes on with a paused rollout: slots whose task failed are tried again. Waits for the end, as the command that began it.",
    flags: deployFlags,
    examples: ["flotilla rollout resume web", "flotilla rollout resume -d web"],
    async run(given: Given): Promise<Exit | void> {
      const { flags, args, json } = given;
      const [service = ""] = args;
      const wait = readWait(flags, io);
      flags.check();
      const api = await given.connect();
      const rollout = await api.rollout("resume", service);
      if (wait.detach || rollout === undefined) {
        show(io, json, rollout, `${plain(service)}: resumed`);
        return;
      }
      const { service: now } = await api.service(rollout.serviceId);
      const named = { id: rollout.serviceId, name: now?.spec?.name ?? service };
      // Not by the newest revision: one that only scales may have come on top.
      const aim = {
        revision: now?.revision ?? rollout.toRevision,
        rolloutId: rollout.meta?.id ?? "",
        isRollback: rollout.isRollback,
      };
      return await waitFor(io, given, api, wait, named, { aim });
    },
  });
}
