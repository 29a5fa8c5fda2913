// Events of tasks.

import { hasEnded, isWanted } from "../../deploy/strategy/mod.js";
import { NodeAvailability, NodeState, RolloutState, type Task, TaskState } from "../../proto/mod.js";
import type { View } from "../store/mod.js";
import { causeOfRevision, hostname, nameOf, type Told } from "./told.js";

export function ofTask(view: View, before: Task | undefined, after: Task | undefined): Told[] {
  // That a task is forgotten is no news: it had ended.
  if (after === undefined) return [];
  const told = (action: string, message: string, cause = ""): Told => ({
    kind: "task",
    action,
    id: after.meta.id,
    name: `${after.serviceName}.${after.slot}`,
    message,
    cause,
  });
  if (before === undefined)
    return [told("created", `revision ${after.revision}`, whyMade(view, after)), ...waiting(undefined, after, told)];
  const events = waiting(before, after, told);
  if (before.leave === undefined && after.leave !== undefined)
    events.push(told("leaving", "to be replaced, and stopped then", after.leave.reason));
  // What has ended is only put away.
  if (isWanted(before) && !isWanted(after) && !hasEnded(after))
    events.push(told("stopping", on(view, "told to stop", after), whyStopped(view, after)));
  // That it waits is said with what for.
  if (before.status.state !== after.status.state && after.status.state !== TaskState.PENDING)
    events.push(newState(view, before, after, told));
  const attempts = [before.status.container?.attempt ?? 0, after.status.container?.attempt ?? 0] as const;
  if (attempts[0] > 0 && attempts[1] > attempts[0])
    events.push(told("restarted", `in place, attempt ${attempts[1]}`, exitOf(after)));
  if (before.readySinceMs === 0 && after.readySinceMs > 0) events.push(told("ready", on(view, "ready", after)));
  if (before.readySinceMs > 0 && after.readySinceMs === 0 && isWanted(after) && !hasEnded(after))
    events.push(told("unready", on(view, after.status.message || "not ready any more", after), exitOf(after)));
  return events;
}

/** The orchestrator says what is more than that a slot wants a task; then it is the service that has come or grown. */
function whyMade(view: View, { cause, serviceId, serviceName }: Task): string {
  if (cause !== "created") return cause;
  const revision = view.services.get(serviceId)?.revision ?? 0;
  return causeOfRevision(view, serviceId, revision) || (revision === 1 ? `service ${serviceName} created` : "");
}

type Tell = (action: string, message: string, cause?: string) => Told;

function waiting(before: Task | undefined, after: Task, told: Tell): Told[] {
  const { placementMessage } = after;
  return placementMessage !== "" && placementMessage !== before?.placementMessage
    ? [told("pending", placementMessage)]
    : [];
}

function newState(view: View, before: Task, after: Task, told: Tell): Told {
  const { state, error, message } = after.status;
  const action = nameOf(TaskState, state);
  const text = on(view, error === "" ? message : error, after);
  switch (state) {
    case TaskState.ASSIGNED:
      return told(action, text, after.placementReason);
    case TaskState.ORPHANED:
      return told(action, text, `node ${hostname(view, after.nodeId)} ${isDown(view, after) ? "lost" : "removed"}`);
    case TaskState.SHUTDOWN:
      return told(action, text, isWanted(before) ? "" : whyStopped(view, after));
    case TaskState.FAILED:
      return told(action, text, exitOf(after));
    case TaskState.UNSPECIFIED:
    case TaskState.NEW:
    case TaskState.PENDING:
    case TaskState.ACCEPTED:
    case TaskState.PREPARING:
    case TaskState.READY:
    case TaskState.STARTING:
    case TaskState.RUNNING:
    case TaskState.COMPLETE:
    case TaskState.REJECTED:
    case TaskState.REMOVE:
      return told(action, text);
    default:
      return state satisfies never;
  }
}

function on(view: View, text: string, { nodeId }: Task): string {
  if (nodeId === "") return text;
  return `${text === "" ? "" : `${text} `}on ${hostname(view, nodeId)}`;
}

function isDown(view: View, { nodeId }: Task): boolean {
  return view.nodes.get(nodeId)?.status.state === NodeState.DOWN;
}

function exitOf({ status: { container } }: Task): string {
  if (container?.oomKilled === true) return "out of memory";
  return container?.exitCode === undefined ? "" : `exit code ${container.exitCode}`;
}

/** By what is there when it is told to stop; the first that applies. */
function whyStopped(view: View, task: Task): string {
  const service = view.services.get(task.serviceId);
  if (service === undefined || service.removing) return `service ${task.serviceName} removed`;
  if (task.leave !== undefined) return task.leave.reason;
  const node = view.nodes.get(task.nodeId);
  if (node?.spec.availability === NodeAvailability.DRAINED) return `node ${node.description.hostname} drained`;
  if (task.desiredState === TaskState.REMOVE)
    return view.revisionOfService(task.serviceId, service.revision)?.cause ?? "slot not asked for any more";
  const rollout = view.rollouts.get(service.rolloutId);
  if (rollout?.state === RolloutState.RUNNING || rollout?.state === RolloutState.PAUSED)
    return `${rollout.isRollback ? "rollback" : "update"} to ${rollout.toRevision}`;
  return "";
}
