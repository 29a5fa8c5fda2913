// `flotilla node …`.

import type { Command } from "commander";
import { type NodeState as State, UpdateNodeRequest } from "../../proto/gen/flotilla/control/v1/control.js";
import { NodeAvailability, NodeState } from "../../proto/gen/flotilla/objects/v1/objects.js";
import type { ControlApi } from "../client/mod.js";
import { UsageError } from "../exit.js";
import { readFilters } from "../flags/filter.js";
import { filterFlag, formatFlag, noTruncFlag, quietFlag } from "../flags/flag.js";
import { label, labelKey, oneOf } from "../flags/parsers.js";
import type { Io } from "../io.js";
import { brakeText } from "../screen/cluster.js";
import { nodeJson } from "../screen/json.js";
import { labelsOf, nodeColumns, nodePretty } from "../screen/node.js";
import { parseFormat, renderListing } from "../screen/table.js";
import { shortId } from "../screen/task.js";
import { plain, safeJson } from "../screen/text.js";
import { nodeAvailability, nodeState, wordsOf } from "../screen/words.js";
import { type Cli, addGroup, addLeaf } from "./leaf.js";
import { addDrain } from "./node-drain.js";
import { addRemoval } from "./node-remove.js";
import { addRoles } from "./node-role.js";
import { hasLabel, showTasks, taskListFlags } from "./service/list.js";

const hostname = ({ node }: State) => node?.description?.hostname ?? "";
const idOf = ({ node }: State) => node?.meta?.id ?? "";

export function addNode(program: Command, cli: Cli): void {
  const node = addGroup(program, {
    name: "node",
    summary: "list, drain, label and remove the hosts",
    description: "Nodes: the hosts of the cluster.",
    examples: [
      "flotilla node ls",
      "flotilla node update --label-add zone=eu h1",
      "flotilla node drain h1",
      "flotilla node activate h1",
      "flotilla node rm h3",
      "flotilla node promote h2 h3",
    ],
  });
  addLs(node, cli);
  addInspect(node, cli);
  addPs(node, cli);
  addDrain(node, cli);
  addAvailability(node, cli, "cordon", NodeAvailability.CORDONED, "give a node no new tasks; what runs there stays");
  addAvailability(node, cli, "activate", NodeAvailability.ACTIVE, "let a node have tasks again, after drain or cordon");
  addUpdate(node, cli);
  addRemoval(node, cli);
  addRoles(node, cli);
}

function addLs(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "ls",
    summary: "list nodes",
    flags: [filterFlag, formatFlag, noTruncFlag, quietFlag],
    examples: [
      "flotilla node ls",
      "flotilla node ls --format '{{.Hostname}} {{.Labels}}'",
      "flotilla node ls --filter label=zone=eu -q",
    ],
    async run(given) {
      const { flags, json } = given;
      const matches = readFilters<State>(
        flags,
        {
          id: (state, value) => idOf(state).startsWith(value),
          name: (state, value) => hostname(state).startsWith(value),
          label: (state, value) => hasLabel(labelsOf(state), value),
          status: ({ node }, value) => nodeState(node?.status?.state ?? 0) === value,
          availability: ({ node }, value) => nodeAvailability(node?.spec?.availability ?? 0) === value,
        },
        {
          status: wordsOf(NodeState, NodeState.READY, NodeState.DOWN),
          availability: wordsOf(NodeAvailability, NodeAvailability.ACTIVE, NodeAvailability.DRAINED),
        },
      );
      const format = parseFormat(flags.text("format"), json);
      flags.check();
      const api = await given.connect();
      const rows = (await api.nodes()).filter(matches).sort((a, b) => (hostname(a) < hostname(b) ? -1 : 1));
      const trunc = !flags.has("no-trunc");
      if (flags.has("quiet")) for (const row of rows) io.out(`${shortId(idOf(row), trunc)}\n`);
      else io.out(renderListing({ columns: nodeColumns(trunc), rows, toJson: nodeJson }, format));
      // Where nodes are away, whether their tasks are replaced is what one wants to know.
      const away = rows.some(({ node }) => node?.status?.state === NodeState.UNKNOWN);
      const { brake } = away && format.kind === "table" ? await api.cluster() : { brake: undefined };
      if (brake !== undefined) io.err(`brake: ${plain(brakeText(brake))}\n`);
    },
  });
}

function addInspect(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "inspect",
    args: "NODE [NODES...]",
    complete: "nodes",
    summary: "everything about nodes, as JSON",
    flags: [{ long: "pretty", help: "for people" }],
    examples: ["flotilla node inspect h1", "flotilla node inspect --pretty h1"],
    async run({ flags, json, args, connect }) {
      if (flags.has("pretty") && json)
        throw new UsageError([{ field: "--pretty", value: "", rule: "contradicts --json", fix: "give one of them" }]);
      const api = await connect();
      const states = await Promise.all(args.map((node) => api.node(node)));
      io.out(
        flags.has("pretty")
          ? states.map((state) => nodePretty(state, io.clock.now())).join("\n")
          : `${safeJson(states.map(nodeJson), 2)}\n`,
      );
    },
  });
}

function addPs(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "ps",
    args: "NODE [NODES...]",
    complete: "nodes",
    summary: "list the tasks of nodes",
    flags: taskListFlags,
    examples: ["flotilla node ps h1", "flotilla node ps --filter state=running h1 h2"],
    async run(given) {
      const api = await given.connect();
      const lists = await Promise.all(given.args.map((node) => api.tasks({ node })));
      const tasks = lists.flatMap((list) => list.tasks);
      const names = Object.assign({}, ...lists.map((list) => list.nodeNames)) as Record<string, string>;
      const images = await imagesOf(api, new Set(tasks.map(({ serviceId }) => serviceId)));
      showTasks(io, given, tasks, names, ({ serviceId, revision }) => images.get(`${serviceId}@${revision}`) ?? "");
    },
  });
}

/** By "service id@revision". A service that has gone meanwhile has no images to show. */
async function imagesOf(api: ControlApi, services: ReadonlySet<string>): Promise<Map<string, string>> {
  const images = new Map<string, string>();
  for (const service of services) {
    const state = await api.service(service).catch((error: unknown) => {
      if ((error as { code?: string }).code === "not_found") return undefined;
      throw error;
    });
    for (const { number, spec } of state?.revisions ?? [])
      images.set(`${service}@${number}`, spec?.task?.container?.image ?? "");
  }
  return images;
}

function request(node: string, parts: Partial<UpdateNodeRequest>): UpdateNodeRequest {
  return UpdateNodeRequest.fromPartial({ ...parts, node });
}

function say(io: Io, json: boolean, state: State): void {
  io.out(json ? `${safeJson(nodeJson(state), 2)}\n` : `${plain(hostname(state))}\n`);
}

function addAvailability(
  parent: Command,
  cli: Cli,
  name: string,
  availability: NodeAvailability,
  summary: string,
): void {
  addLeaf(parent, cli, {
    name,
    args: "NODE [NODES...]",
    complete: "nodes",
    summary,
    examples: [`flotilla node ${name} h1`],
    async run({ args, json, connect }) {
      const api = await connect();
      for (const node of args) say(cli.io, json, await api.updateNode(request(node, { availability })));
    },
  });
}

const availabilities = {
  active: NodeAvailability.ACTIVE,
  cordoned: NodeAvailability.CORDONED,
  drained: NodeAvailability.DRAINED,
  // Docker's words.
  pause: NodeAvailability.CORDONED,
  drain: NodeAvailability.DRAINED,
} as const;

function addUpdate(parent: Command, cli: Cli): void {
  addLeaf(parent, cli, {
    name: "update",
    args: "NODE",
    complete: "nodes",
    summary: "change a node's labels or availability",
    flags: [
      { long: "label-add", value: "KEY=VALUE", help: "add or change a label (repeatable)" },
      { long: "label-rm", value: "KEY", help: "remove a label (repeatable)" },
      {
        long: "availability",
        value: "WORD",
        help: "active, cordoned or drained",
        complete: ["active", "cordoned", "drained"],
      },
    ],
    examples: ["flotilla node update --label-add zone=eu h1", "flotilla node update --label-rm zone h1"],
    async run({ flags, args, json, connect }) {
      const labelsAdd = Object.fromEntries(flags.getAll("label-add", label));
      const labelsRemove = flags.getAll("label-rm", labelKey);
      const availability = flags.get("availability", oneOf<NodeAvailability>(availabilities));
      flags.check();
      if (!flags.has("label-add") && !flags.has("label-rm") && availability === undefined)
        throw new UsageError([
          {
            field: "node update",
            value: args[0] ?? "",
            rule: "was given nothing to change",
            fix: "add --label-add, --label-rm or --availability",
          },
        ]);
      const api = await connect();
      const parts = { labelsAdd, labelsRemove, ...(availability === undefined ? {} : { availability }) };
      say(cli.io, json, await api.updateNode(request(args[0] ?? "", parts)));
    },
  });
}
