// What a change would do, as `--dry-run` and `service plan` show it.

import type {
  PlannedAction,
  PlannedTask,
  PlanServiceResponse,
  SpecChange,
} from "../../proto/gen/flotilla/control/v1/control.js";
import { specJson } from "./json.js";
import { type Column, renderTable } from "./table.js";
import { clip, count, plain } from "./text.js";

// By number: the names themselves come with gRPC, which a command that only parses flags does without.
const actions: Readonly<Record<number, string>> = { 1: "create", 2: "replace", 3: "stop" } satisfies Partial<
  Record<PlannedAction, string>
>;
const plannedAction = (action: PlannedAction): string => actions[action] ?? `action-${action}`;

/** Longer values are cut, unless --no-trunc. */
const valueCharsMax = 40;

/** Of a new service nothing was before, and no task is there to be replaced. */
function changeColumns(isNew: boolean, trunc: boolean): Column<SpecChange>[] {
  const shown = (value: string) => (value === "" ? "-" : trunc ? clip(value, valueCharsMax) : value);
  const field: Column<SpecChange> = { key: "Field", header: "FIELD", get: (change) => change.field };
  if (isNew) return [field, { key: "Value", header: "VALUE", get: ({ after }) => shown(after) }];
  return [
    field,
    { key: "Before", header: "BEFORE", get: ({ before }) => shown(before) },
    { key: "After", header: "AFTER", get: ({ after }) => shown(after) },
    { key: "Tasks", header: "TASKS", get: ({ replacesTasks }) => (replacesTasks ? "replaced" : "stay") },
  ];
}

const taskColumns: Column<PlannedTask>[] = [
  { key: "Slot", header: "SLOT", get: ({ slot }) => String(slot) },
  { key: "Action", header: "ACTION", get: ({ action }) => plannedAction(action) },
  { key: "Node", header: "NODE", get: ({ nodeName }) => (nodeName === "" ? "-" : nodeName) },
  { key: "Why", header: "WHY", get: ({ message }) => message },
];

export function isNothing({ changes, tasks }: PlanServiceResponse): boolean {
  return changes.length === 0 && tasks.length === 0;
}

/** "2 tasks to create, 1 to replace" */
function summary({ tasks, unchanged }: PlanServiceResponse): string {
  const counts = new Map<string, number>();
  for (const { action } of tasks) counts.set(plannedAction(action), (counts.get(plannedAction(action)) ?? 0) + 1);
  const doing = [...counts].map(([action, n]) => `${n} to ${action}`);
  if (unchanged > 0) doing.push(`${unchanged} to stay`);
  return doing.length === 0 ? "no tasks" : `tasks: ${doing.join(", ")}`;
}

/** Everything but the warnings, which are messages. */
export function planText(plan: PlanServiceResponse, name: string, trunc: boolean): string {
  const { version, changes, tasks } = plan;
  if (isNothing(plan)) return `${plain(name)}: nothing to do\n`;
  const of = version === 0 ? "a new service" : count(changes.length, "change");
  const parts = [`${plain(name)}: ${of}; ${summary(plan)}\n`];
  if (changes.length > 0) parts.push(renderTable(changeColumns(version === 0, trunc), changes));
  if (tasks.length > 0) parts.push(renderTable(taskColumns, tasks));
  return parts.join("\n");
}

export function planJson(plan: PlanServiceResponse) {
  return {
    version: plan.version,
    nothing: isNothing(plan),
    spec: plan.spec === undefined ? null : specJson(plan.spec),
    changes: plan.changes.map(({ field, before, after, replacesTasks }) => ({ field, before, after, replacesTasks })),
    tasks: plan.tasks.map(({ slot, action, nodeId, nodeName, message, taskId }) => ({
      slot,
      action: plannedAction(action),
      node: nodeName,
      nodeId,
      message,
      taskId,
    })),
    unchanged: plan.unchanged,
    warnings: plan.warnings,
  };
}
