// How a task came to be as it is, in order of time: what is stored of it, and what was told while this manager ran.

import { stateName, whatHappened } from "../../deploy/strategy/mod.js";
import { type Event, RolloutState, TaskState } from "../../proto/mod.js";
import type { ExplainStep } from "../../proto/gen/flotilla/control/v1/control.js";
import type { ExplainOptions, Scene } from "./explain.js";
import { exitOf, hostnameOf } from "./words.js";

/** The newest are kept: a container that is restarted for hours has many. */
const stepsMax = 100;
/** Of predecessors in the slot, one line each. */
const predecessorsMax = 5;

export function stepsOf(scene: Scene, events: ExplainOptions["events"]): ExplainStep[] {
  const told = events(scene.task.meta.id);
  const steps = [
    ...predecessors(scene),
    ...stored(scene, new Set(told.map(({ action }) => action))),
    ...told.filter(({ action }) => action !== "created").map(ofEvent),
    ...ofItsNode(scene),
    ...ofItsRollout(scene),
    ...next(scene),
  ];
  return steps
    .map((step, i) => ({ step, i }))
    .sort((a, b) => a.step.atMs - b.step.atMs || a.i - b.i)
    .map(({ step }) => step)
    .slice(-stepsMax);
}

function ofEvent({ atMs, action, message, cause }: Event): ExplainStep {
  const what = message === "" ? action : `${action}: ${message}`;
  return { atMs, text: cause === "" ? what : `${what} (${cause})` };
}

function predecessors({ task, others, view }: Scene): ExplainStep[] {
  return others
    .filter(({ meta, endedAtMs }) => meta.createdAtMs <= task.meta.createdAtMs && endedAtMs > 0)
    .slice(0, predecessorsMax)
    .map((before) => ({
      atMs: before.endedAtMs,
      text: `its predecessor ${before.meta.id}${onNode(hostnameOf(view, before.nodeId))} ended: ${whatHappened(before)}`,
    }));
}

/** `told`: what an event tells with its own time. */
function stored({ task, view, now }: Scene, told: ReadonlySet<string>): ExplainStep[] {
  const { meta, cause, placementReason, placementMessage, nodeId, status, leave, desiredState } = task;
  const { container } = status;
  const host = hostnameOf(view, nodeId);
  const steps: ExplainStep[] = [
    { atMs: meta.createdAtMs, text: `created for revision ${task.revision}${cause === "created" ? "" : `: ${cause}`}` },
  ];
  if (nodeId === "" && placementMessage !== "" && !told.has("pending"))
    steps.push({ atMs: Math.max(status.sinceMs, meta.createdAtMs), text: `not placed: ${placementMessage}` });
  // When exactly is not stored; before anything that its node did.
  if (nodeId !== "" && !told.has("assigned"))
    steps.push({
      atMs: meta.createdAtMs,
      text: `placed${onNode(host)}${placementReason === "" ? "" : `: ${placementReason}`}`,
    });
  else if (nodeId !== "" && placementReason !== "")
    steps.push({ atMs: meta.createdAtMs, text: `why there: ${placementReason}` });
  if (container !== undefined && container.startedAtMs > 0 && container.startedAtMs <= now)
    steps.push({
      atMs: container.startedAtMs,
      text:
        container.attempt > 1
          ? `its container was started again in place, attempt ${container.attempt}${exitOf(task, " after ")}`
          : "its container was started",
    });
  if (task.readySinceMs > 0 && !told.has("ready")) steps.push({ atMs: task.readySinceMs, text: "ready since then" });
  if (leave !== undefined) steps.push({ atMs: leave.atMs, text: `to make way: ${leave.reason}` });
  if (desiredState >= TaskState.SHUTDOWN) steps.push({ atMs: task.desiredSinceMs, text: "told to stop" });
  const state = stateName(status.state);
  if (status.state > TaskState.ASSIGNED && !told.has(state))
    steps.push({ atMs: status.sinceMs, text: `${state}${status.error === "" ? "" : `: ${status.error}`}` });
  return steps;
}

function onNode(hostname: string): string {
  return hostname === "" ? "" : ` on ${hostname}`;
}

/** What befell its node since the task was made. */
function ofItsNode({ task, view }: Scene): ExplainStep[] {
  const node = view.nodes.get(task.nodeId);
  if (node === undefined) return [];
  const steps: ExplainStep[] = [];
  const { status, spec, description } = node;
  if (status.lastSeenAtMs > 0)
    steps.push({ atMs: status.lastSeenAtMs, text: `last sign of life of its node ${description.hostname}` });
  if (status.message !== "" && status.sinceMs > task.meta.createdAtMs)
    steps.push({ atMs: status.sinceMs, text: `its node ${description.hostname}: ${status.message}` });
  if (spec.availabilitySinceMs > task.meta.createdAtMs)
    steps.push({ atMs: spec.availabilitySinceMs, text: `the availability of ${description.hostname} was changed` });
  return steps;
}

function ofItsRollout({ task, view }: Scene): ExplainStep[] {
  const service = view.services.get(task.serviceId);
  const rollout = view.rollouts.get(service?.rolloutId ?? "");
  if (rollout === undefined || rollout.endedAtMs > 0) return [];
  const steps = [
    {
      atMs: rollout.startedAtMs,
      text: `rollout from revision ${rollout.fromRevision} to ${rollout.toRevision} began`,
    },
  ];
  const entry = rollout.slots.find(({ slot }) => slot === task.slot);
  if (entry !== undefined) steps.push({ atMs: entry.startedAtMs, text: "the rollout began with its slot" });
  if (rollout.state === RolloutState.PAUSED)
    steps.push({ atMs: rollout.meta.updatedAtMs, text: `the rollout was paused: ${rollout.message}` });
  return steps;
}

/** What is due. */
function next({ task, now }: Scene): ExplainStep[] {
  const due = task.status.container?.nextAttemptAtMs ?? 0;
  return due > now ? [{ atMs: due, text: "next start in place" }] : [];
}
