// `flotilla service ls`, `ps` and `inspect`; the task table is also `node ps`'s.

import { allModes } from "../../../deploy/spec/mod.js";
import type { Command } from "commander";
import type { ServiceState } from "../../../proto/gen/flotilla/control/v1/control.js";
import { type Task, TaskState } from "../../../proto/gen/flotilla/objects/v1/objects.js";
import { UsageError } from "../../exit.js";
import { filterFlag, formatFlag, noTruncFlag, quietFlag } from "../../flags/flag.js";
import { readFilters } from "../../flags/filter.js";
import type { Io } from "../../io.js";
import { inspectJson, serviceJson, taskJson } from "../../screen/json.js";
import { serviceColumns, servicePretty } from "../../screen/service.js";
import { parseFormat, renderListing } from "../../screen/table.js";
import { parsePaths } from "../../screen/path.js";
import {
  type TaskRow,
  isLeaving,
  isOver,
  orderTasks,
  shortId,
  stateOf,
  taskColumns,
  taskError,
  taskName,
} from "../../screen/task.js";
import { plain, safeJson } from "../../screen/text.js";
import { modeWord, taskState, wordsOf } from "../../screen/words.js";
import { type Cli, type Given, addLeaf } from "../leaf.js";

export function addLs(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "ls",
    summary: "list services",
    flags: [filterFlag, formatFlag, noTruncFlag, quietFlag],
    examples: [
      "flotilla service ls",
      "flotilla service ls --filter label=team=blue --format '{{.Name}} {{.Replicas}}'",
      "flotilla service ls --json",
    ],
    async run(given) {
      const { flags, json } = given;
      const matches = readFilters<ServiceState>(
        flags,
        {
          id: (state, value) => (state.service?.meta?.id ?? "").startsWith(value),
          name: (state, value) => (state.service?.spec?.name ?? "").startsWith(value),
          label: (state, value) => hasLabel(state.service?.spec?.labels, value),
          mode: (state, value) => modeWord(state.service?.spec?.mode) === value,
        },
        { mode: allModes },
      );
      const format = parseFormat(flags.text("format"), json);
      flags.check();
      const api = await given.connect();
      const nowMs = io.clock.now();
      const name = (state: ServiceState) => state.service?.spec?.name ?? "";
      const rows = (await api.services()).filter(matches).sort((a, b) => (name(a) < name(b) ? -1 : 1));
      if (flags.has("quiet"))
        for (const { service } of rows) io.out(`${shortId(service?.meta?.id ?? "", !flags.has("no-trunc"))}\n`);
      else
        io.out(
          renderListing(
            {
              columns: serviceColumns({ trunc: !flags.has("no-trunc"), nowMs }),
              rows,
              toJson: (row) => serviceJson(row, nowMs),
            },
            format,
          ),
        );
    },
  });
}

export function hasLabel(labels: Readonly<Record<string, string>> | undefined, wanted: string): boolean {
  const at = wanted.indexOf("=");
  const key = at < 0 ? wanted : wanted.slice(0, at);
  return labels !== undefined && Object.hasOwn(labels, key) && (at < 0 || labels[key] === wanted.slice(at + 1));
}

/** Lists tasks that are together: those of services, or of a node. */
export function showTasks(
  io: Io,
  given: Given,
  tasks: readonly Task[],
  nodeNames: Readonly<Record<string, string>>,
  imageOf: (task: Task) => string,
): void {
  const { flags, json } = given;
  const trunc = !flags.has("no-trunc");
  const matches = readTaskFilters(given, nodeNames);
  const format = parseFormat(flags.text("format"), json);
  let slot = "";
  const rows = orderTasks(tasks.filter(matches)).map((task): TaskRow => {
    const at = `${task.serviceId}.${task.run}.${task.slot}`;
    const history = at === slot;
    slot = at;
    return { task, history, node: nodeOf(task, nodeNames), image: imageOf(task) };
  });
  if (flags.has("quiet")) {
    for (const { task } of rows) io.out(`${shortId(task.meta?.id ?? "", trunc)}\n`);
    return;
  }
  const columns = taskColumns({ nowMs: io.clock.now(), trunc, runs: rows.some(({ task }) => task.run > 0) });
  io.out(renderListing({ columns, rows, toJson: (row) => taskJson(row.task, row.node, row.image) }, format));
  if (format.kind === "table" && trunc) for (const line of pendingReasons(rows)) io.out(line);
}

/** Of a task of a global service also before it is placed: it can run nowhere else. */
function nodeOf({ nodeId, onlyNodeId }: Task, nodeNames: Readonly<Record<string, string>>): string {
  const id = nodeId || onlyNodeId;
  return nodeNames[id] ?? (nodeId === "" ? shortId(id, true) : "");
}

/** What the table has no room for: the whole reason why tasks wait, once per reason. */
function pendingReasons(rows: readonly TaskRow[]): string[] {
  const by = new Map<string, string[]>();
  for (const { task } of rows) {
    if (isOver(task) || task.desiredState > TaskState.RUNNING || stateOf(task) > TaskState.PENDING) continue;
    const reason = taskError(task);
    if (reason !== "") by.set(reason, [...(by.get(reason) ?? []), taskName(task)]);
  }
  return [...by].map(([reason, names]) => {
    const named = names.length <= 3 ? names.join(", ") : `${names.slice(0, 3).join(", ")} and ${names.length - 3} more`;
    return `\n${plain(named)} pending: ${plain(reason)}\n`;
  });
}

export function readTaskFilters({ flags }: Given, nodeNames: Readonly<Record<string, string>>) {
  return readFilters<Task>(
    flags,
    {
      id: (task, value) => (task.meta?.id ?? "").startsWith(value),
      name: (task, value) => taskName(task).startsWith(value),
      node: (task, value) => nodeOf(task, nodeNames) === value || (task.nodeId !== "" && task.nodeId.startsWith(value)),
      service: (task, value) => task.serviceName === value || task.serviceId.startsWith(value),
      "desired-state": (task, value) =>
        value === "shutdown" ? task.desiredState > TaskState.RUNNING : taskState(task.desiredState) === value,
      state: (task, value) => taskState(stateOf(task)) === value,
      slot: (task, value) => String(task.slot) === value,
      revision: (task, value) => String(task.revision) === value,
      run: (task, value) => String(task.run) === value,
      leaving: (task, value) => String(isLeaving(task)) === value,
    },
    {
      "desired-state": ["running", "shutdown", ...wordsOf(TaskState, TaskState.READY, TaskState.READY), "remove"],
      state: wordsOf(TaskState, TaskState.NEW, TaskState.ORPHANED),
      leaving: ["true", "false"],
    },
  );
}

export const taskListFlags = [filterFlag, formatFlag, noTruncFlag, quietFlag];

export function addPs(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "ps",
    args: "SERVICE [SERVICES...]",
    complete: "services",
    summary: "list the tasks of services, with what became of earlier ones",
    description:
      "Lists tasks, newest first within a slot, of jobs by run. ERROR says what went wrong, why a task has no node yet, or why it is to leave the one that it has; --no-trunc shows all of it. `task why` explains one.",
    flags: taskListFlags,
    examples: [
      "flotilla service ps web",
      "flotilla service ps --filter desired-state=running --format '{{.Name}} {{.Node}} {{.CurrentState}}' web",
      "flotilla service ps --no-trunc web",
    ],
    async run(given) {
      // The filters are wrong whatever the tasks are.
      readTaskFilters(given, {});
      given.flags.check();
      const api = await given.connect();
      const states = await Promise.all(given.args.map((service) => api.service(service)));
      const images = new Map<string, string>();
      for (const { revisions } of states)
        for (const { serviceId, number, spec } of revisions)
          images.set(`${serviceId}@${number}`, spec?.task?.container?.image ?? "");
      const nodeNames = Object.assign({}, ...states.map((state) => state.nodeNames)) as Record<string, string>;
      const tasks = states.flatMap((state) => state.tasks);
      showTasks(io, given, tasks, nodeNames, (task) => images.get(`${task.serviceId}@${task.revision}`) ?? "");
      for (const { service } of states)
        if ((service?.waitingFor ?? "") !== "")
          io.err(`${plain(service?.spec?.name ?? "")}: ${plain(service?.waitingFor ?? "")}\n`);
    },
  });
}

export function addInspect(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "inspect",
    args: "SERVICE [SERVICES...]",
    complete: "services",
    summary: "everything about services, as JSON",
    flags: [
      { long: "pretty", help: "for people" },
      {
        long: "format",
        value: "FORMAT",
        help: "json, or a template of the JSON's fields such as '{{.replicas.running}}'",
      },
    ],
    examples: [
      "flotilla service inspect web",
      "flotilla service inspect --pretty web",
      "flotilla service inspect --format '{{.name}} {{json .spec.ports}}' web",
    ],
    async run(given) {
      const { flags, json, args } = given;
      if (flags.has("pretty") && json)
        throw new UsageError([{ field: "--pretty", value: "", rule: "contradicts --json", fix: "give one of them" }]);
      const format = flags.text("format");
      const template = format === undefined || format === "json" || json ? undefined : parsePaths(format);
      if (flags.has("pretty") && template !== undefined)
        throw new UsageError([{ field: "--pretty", value: "", rule: "contradicts --format", fix: "give one of them" }]);
      const api = await given.connect();
      const states = await Promise.all(args.map((service) => api.service(service)));
      const nowMs = io.clock.now();
      if (template !== undefined) {
        for (const state of states) io.out(`${template(inspectJson(state, nowMs))}\n`);
        return;
      }
      io.out(
        flags.has("pretty")
          ? states.map((state) => servicePretty(state, nowMs)).join("\n")
          : `${safeJson(
              states.map((state) => inspectJson(state, nowMs)),
              2,
            )}\n`,
      );
    },
  });
}
