// Events of nodes.

import { formatDurationMs } from "../../lib/mod.js";
import { type Node, NodeAvailability, NodeRole, NodeState } from "../../proto/mod.js";
import { nameOf, type Told } from "./told.js";

export function ofNode(before: Node | undefined, after: Node | undefined): Told[] {
  const node = after ?? before;
  if (node === undefined) return [];
  const told = (action: string, message: string, cause = ""): Told => ({
    kind: "node",
    action,
    id: node.meta.id,
    name: node.description.hostname,
    message,
    cause,
  });
  if (before === undefined) return [told("joined", `${node.description.advertiseAddress}, subnet ${node.subnet}`)];
  if (after === undefined) return [told("removed", "", "asked by the user")];
  const events: Told[] = [];
  if (!before.status.lossConfirmed && after.status.lossConfirmed)
    events.push(told("lost", "gone for good: its tasks are replaced", "confirmed by the user"));
  if (before.status.state !== after.status.state)
    events.push(told(nameOf(NodeState, after.status.state), after.status.message, causeOfState(after)));
  // The same state for another reason: the brake was put on, or released.
  else if (before.status.message !== after.status.message && after.status.state !== NodeState.READY)
    events.push(told(nameOf(NodeState, after.status.state), after.status.message));
  for (const problem of after.problems) if (!before.problems.includes(problem)) events.push(told("problem", problem));
  for (const problem of before.problems) if (!after.problems.includes(problem)) events.push(told("solved", problem));
  if (before.spec.availability !== after.spec.availability)
    events.push(told(nameOf(NodeAvailability, after.spec.availability), whatFollows(after), "asked by the user"));
  if (before.spec.role !== after.spec.role && after.spec.role !== NodeRole.UNSPECIFIED)
    events.push(told(after.spec.role === NodeRole.MANAGER ? "promoted" : "demoted", "", "asked by the user"));
  const labels = changedLabels(before.spec.labels, after.spec.labels);
  if (labels !== "") events.push(told("updated", `labels: ${labels}`, "asked by the user"));
  return events;
}

function causeOfState({ status }: Node): string {
  return status.state === NodeState.DOWN && status.lossConfirmed ? "loss confirmed by the user" : "";
}

function whatFollows({ spec }: Node): string {
  switch (spec.availability) {
    case NodeAvailability.DRAINED:
      return `its tasks move away${spec.drainDeadlineMs === undefined ? "" : ` within ${formatDurationMs(spec.drainDeadlineMs)}`}`;
    case NodeAvailability.CORDONED:
      return "nothing new comes to it";
    case NodeAvailability.ACTIVE:
    case NodeAvailability.UNSPECIFIED:
      return "it takes tasks";
    default:
      return spec.availability satisfies never;
  }
}

/** "+zone=eu -rack". */
function changedLabels(before: Readonly<Record<string, string>>, after: Readonly<Record<string, string>>): string {
  const set = Object.entries(after).flatMap(([key, value]) => (before[key] === value ? [] : `+${key}=${value}`));
  const gone = Object.keys(before).flatMap((key) => (Object.hasOwn(after, key) ? [] : `-${key}`));
  return [...set, ...gone].sort().join(" ");
}
