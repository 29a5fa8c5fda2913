// Nodes as `node ls` and `inspect --pretty` show them.

import { formatBytes, formatNanoCpus } from "../../lib/units.js";
import type { NodeState } from "../../proto/gen/flotilla/control/v1/control.js";
import { type Node, NodeAvailability, NodeRole, type Resources } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { managerRole, nodeManager } from "./cluster.js";
import type { Column } from "./table.js";
import { shortId } from "./task.js";
import { count, plain } from "./text.js";
import { ago, humanDuration } from "./time.js";
import { capital, nodeAvailability, nodeState } from "./words.js";

export function nodeColumns(trunc: boolean): Column<NodeState>[] {
  return [
    { key: "ID", header: "ID", get: ({ node }) => shortId(node?.meta?.id ?? "", trunc) },
    { key: "Hostname", header: "HOSTNAME", get: ({ node }) => node?.description?.hostname ?? "" },
    {
      key: "Status",
      header: "STATUS",
      get: ({ node }) => {
        const problems = node?.problems.length ?? 0;
        const notes = [
          ...(problems === 0 ? [] : [count(problems, "problem")]),
          ...(node?.status?.lossConfirmed === true ? ["loss confirmed"] : []),
        ];
        return `${capital(nodeState(node?.status?.state ?? 0))}${notes.length === 0 ? "" : ` (${notes.join(", ")})`}`;
      },
    },
    {
      key: "Availability",
      header: "AVAILABILITY",
      get: ({ node, tasks }) => {
        const word = capital(nodeAvailability(node?.spec?.availability ?? 0));
        return drainOf(node) !== undefined && tasks > 0 ? `${word} (${count(tasks, "task")} left)` : word;
      },
    },
    { key: "Manager", header: "MANAGER", get: ({ manager }) => nodeManager(manager) },
    { key: "Tasks", header: "TASKS", get: ({ tasks }) => String(tasks) },
    { key: "EngineVersion", header: "ENGINE VERSION", get: ({ node }) => node?.description?.engineVersion ?? "" },
    { key: "Address", header: "ADDRESS", get: ({ node }) => node?.description?.advertiseAddress ?? "" },
    { key: "Labels", header: "LABELS", get: (state) => labelWords(labelsOf(state)), hidden: true },
    { key: "Message", header: "MESSAGE", get: ({ node }) => node?.status?.message ?? "", hidden: true },
  ];
}

/** As constraints see them: the cluster's labels go before the agent's. */
export function labelsOf({ node }: NodeState): Record<string, string> {
  return { ...node?.description?.labels, ...node?.spec?.labels };
}

export function labelWords(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(",");
}

function resources(of: Resources | undefined): string {
  const generic = Object.entries(of?.generic ?? {}).map(([name, amount]) => `, ${name}=${amount}`);
  return `${formatNanoCpus(of?.nanoCpus ?? 0)} cores, ${formatBytes(of?.memoryBytes ?? 0)}${generic.join("")}`;
}

/** Of NodeSpec.drain_deadline_ms. */
export const drainDeadlineMsDefault = 600_000;

/** Of a node that is drained: when what is left on it is stopped. */
export function drainOf(node: Node | undefined): { deadlineAtMs: number } | undefined {
  const { spec } = node ?? {};
  if (spec?.availability !== NodeAvailability.DRAINED) return undefined;
  return { deadlineAtMs: spec.availabilitySinceMs + (spec.drainDeadlineMs ?? drainDeadlineMsDefault) };
}

/** "Drained; 3 tasks left, stopped in 5 minutes" */
function availabilityWords({ node, tasks }: NodeState, nowMs: number): string {
  const word = capital(nodeAvailability(node?.spec?.availability ?? 0));
  const drain = drainOf(node);
  if (drain === undefined || tasks === 0) return word;
  const leftMs = drain.deadlineAtMs - nowMs;
  const until = leftMs <= 0 ? "being stopped" : `stopped in ${humanDuration(leftMs).toLowerCase()}`;
  return `${word}; ${count(tasks, "task")} left, ${until}`;
}

/** What the manager on the node is, and what it is to become. */
function managerWords({ node, manager }: NodeState): string {
  const role = node?.spec?.role;
  if (manager !== undefined)
    return `${nodeManager(manager)} (${managerRole(manager)} ${manager.id} at ${manager.address})${role === NodeRole.WORKER ? ", being taken out" : ""}`;
  return role === NodeRole.MANAGER ? "none yet; the node was promoted" : "";
}

export function nodePretty(state: NodeState, nowMs: number): string {
  const { node, tasks, reserved } = state;
  const { description, status } = node ?? {};
  const message = status?.message ?? "";
  const rows: [string, string][] = [
    ["ID", node?.meta?.id ?? ""],
    ["Hostname", description?.hostname ?? ""],
    [
      "Status",
      `${capital(nodeState(status?.state ?? 0))}, since ${ago(status?.sinceMs ?? 0, nowMs)}${message === "" ? "" : ` (${message})`}`,
    ],
    ["Last seen", status === undefined || status.lastSeenAtMs === 0 ? "" : ago(status.lastSeenAtMs, nowMs)],
    ["Loss", status?.lossConfirmed === true ? "confirmed: its tasks are replaced, brake or not" : ""],
    ["Availability", availabilityWords(state, nowMs)],
    ["Manager", managerWords(state)],
    ["Labels", labelWords(labelsOf(state))],
    ["Tasks", String(tasks)],
    ["Resources", resources(description?.resources)],
    ["Reserved", resources(reserved)],
    ["Address", description?.advertiseAddress ?? ""],
    ["Subnet", node?.subnet ?? ""],
    ["Platform", `${description?.os ?? ""}/${description?.architecture ?? ""}`],
    ["Engine", `${description?.engineVersion ?? ""} (API ${description?.engineApiVersion ?? ""})`],
    ["Volume drivers", (description?.volumeDrivers ?? []).join(", ")],
    ["Agent", description?.agentVersion ?? ""],
    ["Problems", (node?.problems ?? []).join("; ")],
  ];
  const shown = rows.filter(([, value]) => value !== "");
  const width = Math.max(...shown.map(([key]) => key.length)) + 2;
  return shown.map(([key, value]) => `${`${key}:`.padEnd(width)}${plain(value)}\n`).join("");
}
