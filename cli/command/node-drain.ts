// `flotilla node drain`: moves a node's tasks elsewhere, shows how far that is, and what was stopped at the deadline.

import type { Command } from "commander";
import { sleep } from "../../lib/clock.js";
import { formatDurationMs } from "../../lib/units.js";
import { type NodeState as State, UpdateNodeRequest } from "../../proto/gen/flotilla/control/v1/control.js";
import { NodeAvailability, NodeState, type Task, TaskState } from "../../proto/gen/flotilla/objects/v1/objects.js";
import type { ControlApi } from "../client/mod.js";
import { type Exit, Failure, exits } from "../exit.js";
import { duration } from "../flags/parsers.js";
import type { Io } from "../io.js";
import { nodeJson } from "../screen/json.js";
import { drainDeadlineMsDefault, drainOf } from "../screen/node.js";
import { isOver, stateOf, taskName } from "../screen/task.js";
import { count, plain, safeJson } from "../screen/text.js";
import { nodeAvailability } from "../screen/words.js";
import { type Cli, addLeaf } from "./leaf.js";

const pollMs = 500;
/** What is left at the deadline is stopped: its connections and stop grace periods come on top. */
const beyondDeadlineMs = 120_000;
/** Services of which it is looked up where their tasks went; those beyond are only counted. */
const servicesLookedAtMax = 20;
/** Tasks that are named one by one. */
const namedMax = 5;

const hostname = ({ node }: State) => node?.description?.hostname ?? "";
const idOf = ({ node }: State) => node?.meta?.id ?? "";

export function addDrain(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "drain",
    args: "NODE",
    complete: "nodes",
    summary: "move a node's tasks elsewhere and give it no new ones",
    description:
      "Moves a node's tasks elsewhere and waits until it has none. Replacements come first where the service's update order or surge allows it; what is left at the deadline is stopped all the same. `node activate` lets it have tasks again.",
    flags: [
      { long: "deadline", value: "DURATION", help: "then stop what is left on it (default 10m)" },
      { long: "detach", short: "d", help: "do not wait" },
      {
        long: "timeout",
        value: "DURATION",
        help: "longest wait, then exit 5; the drain goes on (default the deadline and 2m)",
      },
    ],
    examples: ["flotilla node drain h1", "flotilla node drain --deadline 2m h1", "flotilla node drain --timeout 5m h1"],
    async run({ flags, args, json, connect }): Promise<Exit> {
      const asked = flags.get("timeout", duration);
      const drainDeadlineMs = flags.get("deadline", duration);
      flags.check();
      const timeoutMs = asked ?? (drainDeadlineMs ?? drainDeadlineMsDefault) + beyondDeadlineMs;
      const node = args[0] ?? "";
      const api = await connect();
      const before = flags.has("detach") ? [] : (await api.tasks({ node })).tasks;
      const first = await api.updateNode(
        UpdateNodeRequest.fromPartial({
          node,
          availability: NodeAvailability.DRAINED,
          ...(drainDeadlineMs === undefined ? {} : { drainDeadlineMs }),
        }),
      );
      if (!flags.has("detach")) await emptied(io, api, first, before, timeoutMs);
      io.out(json ? `${safeJson(nodeJson(first), 2)}\n` : `${plain(hostname(first))}\n`);
      return exits.ok;
    },
  });
}

/** How far a drain is; of each task that was on the node at first. */
export interface DrainProgress {
  total: number;
  /** Gone from the node, and what replaces them, if anything, has a node. */
  moved: Task[];
  /** Their replacements find no node; why. */
  waiting: { task: Task; reason: string }[];
  /** Told to stop, and still there. */
  stopping: Task[];
  /** Stopped because the deadline had come. */
  cutShort: Task[];
}

/**
 * `before` is what ran on the node, `now` all tasks of the services of those: a replacement is a newer task of the same
 * slot that is meant to run.
 */
export function drainProgress(before: readonly Task[], now: readonly Task[], deadlineAtMs: number): DrainProgress {
  const byId = new Map(now.map((task) => [task.meta?.id ?? "", task]));
  const slotOf = ({ serviceId, run, slot }: Task) => JSON.stringify([serviceId, run, slot]);
  const old = new Set(before.map(({ meta }) => meta?.id ?? ""));
  const replacements = new Map(
    now
      .filter((task) => task.desiredState <= TaskState.RUNNING && !isOver(task) && !old.has(task.meta?.id ?? ""))
      .map((task) => [slotOf(task), task]),
  );
  const progress: DrainProgress = { total: before.length, moved: [], waiting: [], stopping: [], cutShort: [] };
  for (const task of before) {
    const seen = byId.get(task.meta?.id ?? "");
    const replacement = replacements.get(slotOf(task));
    const there = seen !== undefined && !isOver(seen);
    const told = seen !== undefined && seen.desiredState > TaskState.RUNNING;
    if (told && seen.desiredSinceMs >= deadlineAtMs) progress.cutShort.push(seen);
    if (replacement !== undefined && stateOf(replacement) <= TaskState.PENDING && replacement.placementMessage !== "")
      progress.waiting.push({ task, reason: replacement.placementMessage });
    else if (!there) progress.moved.push(task);
    else if (told) progress.stopping.push(seen);
  }
  return progress;
}

/** "2 of 5 tasks moved, 1 stops, 1 still runs, 1 waits: web.3: 4 nodes: 4 short of memory" */
export function drainWords({ total, moved, waiting, stopping }: DrainProgress): string {
  const parts = [`${moved.length} of ${count(total, "task")} moved`];
  if (stopping.length > 0) parts.push(`${stopping.length} ${stopping.length === 1 ? "stops" : "stop"}`);
  const staying = total - moved.length - stopping.length - waiting.length;
  if (staying > 0) parts.push(`${staying} still ${staying === 1 ? "runs" : "run"}`);
  if (waiting.length === 0) return parts.join(", ");
  const reasons = new Map<string, string[]>();
  for (const { task, reason } of waiting) reasons.set(reason, [...(reasons.get(reason) ?? []), taskName(task)]);
  const why = [...reasons].map(([reason, names]) => `${named(names)}: ${reason}`).join("; ");
  parts.push(`${waiting.length} ${waiting.length === 1 ? "waits" : "wait"}: ${why}`);
  return parts.join(", ");
}

function named(names: readonly string[]): string {
  const more = names.length - namedMax;
  return `${names.slice(0, namedMax).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}

/** Whether tasks are still there. What a node that is away runs is not known to end. */
function isEmpty({ node, tasks }: State, onNode: readonly Task[]): boolean {
  return tasks === 0 && (node?.status?.state !== NodeState.READY || onNode.every(isOver));
}

/** Waits until nothing runs on the node: whoever drains it may switch it off next. */
async function emptied(
  io: Io,
  api: ControlApi,
  first: State,
  before: readonly Task[],
  timeoutMs: number,
): Promise<void> {
  const name = plain(hostname(first));
  const was = before.filter((task) => !isOver(task) && task.desiredState <= TaskState.RUNNING);
  const services = [...new Set(was.map(({ serviceId }) => serviceId))].slice(0, servicesLookedAtMax);
  const controller = new AbortController();
  const off = io.onStop(() => controller.abort(new DOMException("stopped", "AbortError")));
  const until = io.clock.monotonic() + timeoutMs;
  const cut = new Set<string>();
  let said = "";
  try {
    for (let state = first; ; state = await api.node(idOf(first))) {
      const { tasks: onNode } = await api.tasks({ node: idOf(first) });
      const lists = await Promise.all(services.map(async (service) => (await api.tasks({ service })).tasks));
      const now = [...onNode, ...lists.flat()];
      const progress = drainProgress(was, now, drainOf(state.node)?.deadlineAtMs ?? Number.POSITIVE_INFINITY);
      const words = drainWords(progress);
      if (words !== said && was.length > 0) io.err(`${name}: ${plain(words)}\n`);
      said = words;
      const late = progress.cutShort.filter(({ meta }) => !cut.has(meta?.id ?? ""));
      for (const { meta } of late) cut.add(meta?.id ?? "");
      if (late.length > 0) io.err(`${name}: the deadline has come: stopped ${plain(named(late.map(taskName)))}\n`);
      if (isEmpty(state, onNode)) break;
      if (state.node?.spec?.availability !== NodeAvailability.DRAINED)
        throw new Failure(
          exits.undone,
          `${name} was made ${nodeAvailability(state.node?.spec?.availability ?? 0)} while it was drained`,
          {
            next: [`flotilla node drain ${name}    # begin again`],
          },
        );
      if (io.clock.monotonic() >= until)
        throw new Failure(
          exits.timeout,
          `${name} still has ${count(Math.max(state.tasks, onNode.filter((task) => !isOver(task)).length), "task")} after ${formatDurationMs(timeoutMs)}; the drain goes on`,
          {
            why: progress.waiting.length === 0 ? [] : [words],
            next: [`flotilla node ps ${name}    # what is left, and why`],
          },
        );
      await sleep(io.clock, pollMs, controller.signal);
    }
    io.err(`${name}: drained\n`);
  } catch (error) {
    if (!controller.signal.aborted) throw error;
    throw new Failure(exits.detached, `detached; the drain of ${name} goes on`, {
      next: [`flotilla node ps ${name}`, `flotilla node activate ${name}    # stop draining`],
    });
  } finally {
    off();
  }
}
