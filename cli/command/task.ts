// `flotilla task …`: tasks of all services, and why one is as it is.

import type { Command } from "commander";
import type { ServiceState } from "../../proto/gen/flotilla/control/v1/control.js";
import type { Task } from "../../proto/gen/flotilla/objects/v1/objects.js";
import type { ControlApi } from "../client/mod.js";
import { exits } from "../exit.js";
import { explainJson, explainText } from "../screen/explain.js";
import { safeJson } from "../screen/text.js";
import { type Cli, addGroup, addLeaf } from "./leaf.js";
import { readTaskFilters, showTasks, taskListFlags } from "./service/list.js";

export function addTask(program: Command, cli: Cli): void {
  const task = addGroup(program, {
    name: "task",
    summary: "the tasks of all services, and why one is as it is",
    description: "Tasks: single containers of services, each in a slot and on a node.",
    examples: ["flotilla task ls --filter state=pending", "flotilla task why web.3"],
  });
  addLs(task, cli);
  addWhy(task, cli);
}

function addLs(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "ls",
    summary: "list the tasks of all services",
    description:
      "Lists tasks with what became of earlier ones. Filters: id, name, service, node, state, desired-state, slot, run, revision, leaving.",
    flags: taskListFlags,
    examples: [
      "flotilla task ls",
      "flotilla task ls --filter desired-state=running --filter node=h1",
      "flotilla task ls --filter service=web --format '{{.Name}} {{.Node}} {{.Cause}}'",
    ],
    async run(given) {
      // The filters are wrong whatever the tasks are.
      readTaskFilters(given, {});
      given.flags.check();
      const api = await given.connect();
      const { tasks, nodeNames } = await api.tasks({});
      const images = await imagesOf(api, tasks);
      showTasks(io, given, tasks, nodeNames, ({ serviceId, revision }) => images.get(`${serviceId}@${revision}`) ?? "");
    },
  });
}

/**
 * By "service id@revision". The newest revisions' come with the list of services; only services with tasks of others
 * are asked for. One that has gone meanwhile has no images to show.
 */
async function imagesOf(api: ControlApi, tasks: readonly Task[]): Promise<Map<string, string>> {
  const images = new Map<string, string>();
  const note = (
    id: string,
    revision: number,
    state: { task: { container: { image: string } | undefined } | undefined } | undefined,
  ) => images.set(`${id}@${revision}`, state?.task?.container?.image ?? "");
  for (const { service } of await api.services()) note(service?.meta?.id ?? "", service?.revision ?? 0, service?.spec);
  const others = new Set(
    tasks
      .filter(({ serviceId, revision }) => !images.has(`${serviceId}@${revision}`))
      .map(({ serviceId }) => serviceId),
  );
  for (const id of others)
    for (const { number, spec } of (await ifThere(api, id))?.revisions ?? []) note(id, number, spec);
  return images;
}

async function ifThere(api: ControlApi, service: string): Promise<ServiceState | undefined> {
  try {
    return await api.service(service);
  } catch (error) {
    if ((error as { code?: string }).code === "not_found") return undefined;
    throw error;
  }
}

function addWhy(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "why",
    args: "TASK",
    complete: "tasks",
    summary: "why a task is where and how it is, and what to do about it",
    description:
      "Says what a task does now and what it waits for, how it came to this, and, of one without a node, what each node lacks. TASK is an id, a unique beginning of one, or SERVICE.SLOT for the slot's newest task.",
    examples: ["flotilla task why web.3", "flotilla task why --json 4xk2v8q0c1"],
    async run({ args, json, connect }) {
      const api = await connect();
      const explained = await api.explainTask(args[0] ?? "");
      io.out(json ? `${safeJson(explainJson(explained), 2)}\n` : explainText(explained, io.clock.now()));
      return exits.ok;
    },
  });
}
