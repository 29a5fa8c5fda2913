// One sentence on what a task does now and what it waits for, and what to do about it. The first that applies is it:
// from what nobody can change any more to what goes well.

import { stateName, whatHappened } from "../../deploy/strategy/mod.js";
import {
  ContainerHealth,
  ContainerPhase,
  NodeAvailability,
  type Node,
  NodeState,
  type Rollout,
  RolloutState,
  type Service,
  type Task,
  TaskState,
} from "../../proto/mod.js";
import { settingsOf } from "../../deploy/spec/mod.js";
import { fencedUntilMs, nextTaskAtMs } from "../orchestrator/mod.js";
import { isUnderWay } from "../rollout/mod.js";
import { adviceFor } from "./advice.js";
import type { Scene } from "./explain.js";
import { exitOf, hostnameOf, span } from "./words.js";

/** Longer than this, something may be wrong. */
const slowAcceptMs = 10_000;
const slowPullMs = 60_000;

export interface Situation {
  summary: string;
  advice: string[];
}

/** Everything that the sentences ask of the scene. */
interface Known extends Scene {
  service: Service | undefined;
  rollout: Rollout | undefined;
  node: Node | undefined;
  host: string;
  name: string;
}

export function situationOf(scene: Scene): Situation {
  const { view, task } = scene;
  const service = view.services.get(task.serviceId);
  const known: Known = {
    ...scene,
    service,
    rollout: view.rollouts.get(service?.rolloutId ?? ""),
    node: view.nodes.get(task.nodeId),
    host: hostnameOf(view, task.nodeId),
    name: task.serviceName,
  };
  const found = ended(known) ?? stopping(known) ?? unplaced(known) ?? outOfTouch(known) ?? starting(known);
  return found ?? running(known);
}

const said = (summary: string, ...advice: string[]): Situation => ({ summary, advice });

function ended(known: Known): Situation | undefined {
  const { task, host, name } = known;
  const { state, sinceMs } = task.status;
  if (state < TaskState.COMPLETE) return undefined;
  const when = `${span(known.now - (task.endedAtMs || sinceMs))} ago`;
  const after = successor(known);
  if (state === TaskState.COMPLETE) return said(`It ended by itself with success ${when}${after}.`);
  if (state === TaskState.SHUTDOWN) return said(`It was stopped ${when}: ${whyStopped(known)}${after}.`);
  if (state === TaskState.ORPHANED)
    return said(
      `Its node${host === "" ? "" : ` ${host}`} was lost ${when}, and nobody knows what became of it${after}.`,
      ...(host === "" ? [] : [`see: flotilla node inspect ${host}`]),
    );
  if (state === TaskState.REJECTED)
    return said(
      `Its node ${host} could not start it: ${reason(task)}${after}.`,
      ...adviceOnError(task, name),
      `with another spec: flotilla service update ${name}`,
    );
  return said(
    `It failed ${when}: ${reason(task)}${after}.`,
    ...adviceOnError(task, name),
    `what it said: flotilla service logs ${name}`,
  );
}

/** What its slot does since, as the end of a sentence. */
function successor(known: Known): string {
  const { task, others, view, now, service } = known;
  const [newer] = others.filter(({ meta }) => meta.createdAtMs >= task.meta.createdAtMs && meta.id !== task.meta.id);
  if (newer !== undefined)
    return `; ${newer.meta.id} took its place${newer.nodeId === "" ? "" : ` on ${hostnameOf(view, newer.nodeId)}`}`;
  if (service === undefined || service.removing) return "; its service is being removed";
  if (task.desiredState === TaskState.REMOVE) return "; its slot is not asked for any more";
  const fence = fenced(known);
  if (fence !== undefined) return `; ${fence}`;
  const hash = view.revisionOfService(task.serviceId, task.revision)?.templateHash;
  const history = [task, ...others].filter(
    ({ revision }) => view.revisionOfService(task.serviceId, revision)?.templateHash === hash,
  );
  const dueMs = nextTaskAtMs(history, 0, now);
  if (dueMs > now) return `; its slot is tried again in ${span(dueMs - now)}, later with each failure`;
  return task.desiredState < TaskState.SHUTDOWN ? "; its restart policy asks for no other" : "";
}

/** Of a service of which no two tasks may ever run: when the lost one must have stopped. */
function fenced({ task, view, now }: Known): string | undefined {
  const untilMs = fencedUntilMs(
    task,
    (number) => view.revisionOfService(task.serviceId, number),
    (id) => view.nodes.get(id),
    now,
  );
  return untilMs > now ? `it is replaced in ${span(untilMs - now)}, when its agent must have stopped it` : undefined;
}

function stopping(known: Known): Situation | undefined {
  const { task, node, now, host, view } = known;
  if (task.desiredState < TaskState.SHUTDOWN) return undefined;
  const why = whyStopped(known);
  if (node?.status.state === NodeState.UNKNOWN)
    return said(
      `It is to stop (${why}), but its node ${host} is not connected: whether it has stopped is not known.`,
      `see: flotilla node inspect ${host}`,
    );
  const spec = view.revisionOfService(task.serviceId, task.revision)?.spec;
  const dueMs = task.desiredSinceMs + (spec?.drainTimeoutMs ?? 0) + (spec?.task.container.stopGracePeriodMs ?? 0);
  return said(
    dueMs > now
      ? `It is stopping: ${why}. Its connections and its container have ${span(dueMs - now)} to end.`
      : `It is stopping since ${span(now - task.desiredSinceMs)}, longer than it was given: ${why}.`,
    ...(dueMs > now ? [] : [`its agent may be busy or stuck: flotilla node inspect ${host}`]),
  );
}

function whyStopped({ task, others, service, node, rollout }: Known): string {
  if (service === undefined || service.removing) return "its service was removed";
  if (task.desiredState === TaskState.REMOVE) return "its slot is not asked for any more";
  if (task.leave !== undefined) return task.leave.reason;
  const [newer] = others.filter(({ meta }) => meta.createdAtMs > task.meta.createdAtMs);
  if (newer !== undefined) return `replaced by ${newer.meta.id} (${newer.cause})`;
  if (node?.spec.availability === NodeAvailability.DRAINED) return `its node ${node.description.hostname} is drained`;
  if (isUnderWay(rollout)) return `the rollout to revision ${rollout.toRevision} replaces it`;
  return task.status.message === "" ? "it is not wanted any more" : task.status.message;
}

function unplaced({ task, view, name, now }: Known): Situation | undefined {
  if (task.nodeId !== "") return undefined;
  const since = span(now - task.meta.createdAtMs);
  if (task.onlyNodeId !== "") {
    const only = view.nodes.get(task.onlyNodeId)?.description.hostname ?? task.onlyNodeId;
    const gone = view.nodes.get(task.onlyNodeId) === undefined;
    return said(
      `It waits since ${since} for a place on ${only}, the only node that it is for: ${gone ? "that node was removed" : whyWaits(task)}.`,
      `see: flotilla node inspect ${only}`,
    );
  }
  if (view.nodes.size === 0)
    return said(
      "It waits for a node: no agent has joined the cluster yet.",
      "join one: flotilla agent --join HOST:7400",
    );
  const message = task.placementMessage;
  if (message === "") return said("It was made a moment ago, and the scheduler has yet to look at it.");
  return said(`It waits since ${since} for a node: ${message}.`, ...adviceFor(message, name));
}

function whyWaits({ placementMessage }: Task): string {
  return placementMessage === "" ? "the scheduler has yet to look at it" : placementMessage;
}

/** On a node that is not there. */
function outOfTouch(known: Known): Situation | undefined {
  const { task, node, host, view, now } = known;
  if (node === undefined) return said("Its node was removed from the cluster; it will be replaced.");
  if (node.status.state === NodeState.READY) return undefined;
  const [cluster] = view.clusters.values();
  const brake = cluster?.brake;
  const last = `It was ${stateName(task.status.state)} when its node ${host} was last heard of`;
  const ago = node.status.lastSeenAtMs > 0 ? `, ${span(now - node.status.lastSeenAtMs)} ago` : "";
  if (node.status.state === NodeState.DOWN)
    return said(`${last}${ago}; the node is lost, and ${fenced(known) ?? "it will be replaced"}.`);
  if (brake !== undefined && !node.status.lossConfirmed)
    return said(
      `${last}${ago}. It is not replaced: ${brake.lostNodes} of ${brake.nodes} nodes were lost at once, and the brake holds until they return.`,
      "look after the network and the nodes: flotilla node ls",
      `if the node is gone for good: flotilla node lost --force ${host}`,
    );
  // Its own revision's: that is what its agent was told.
  const fence = view.revisionOfService(task.serviceId, task.revision)?.spec.stopAfterDisconnectMs;
  if (fence !== undefined)
    return said(
      `${last}${ago}. Its agent stops it after ${span(fence)} without a manager, and only then it is replaced.`,
      `if the node is gone for good: flotilla node lost --force ${host}`,
    );
  const lostAtMs = node.status.lastSeenAtMs + settingsOf(cluster).lostAfterMs;
  return said(
    `${last}${ago}; it ${lostAtMs > now ? `is replaced if nothing is heard for another ${span(lostAtMs - now)}` : "will be replaced"}.`,
    `see: flotilla node inspect ${host}`,
  );
}

/** On its way to its container. */
function starting(known: Known): Situation | undefined {
  const { task, others, host, now } = known;
  const { state, sinceMs, message, container } = task.status;
  const since = span(now - sinceMs);
  if (state >= TaskState.RUNNING) return undefined;
  if (state <= TaskState.ASSIGNED)
    return said(
      `It was given to ${host} ${since} ago, whose agent has yet to accept it.`,
      ...(now - sinceMs > slowAcceptMs ? [`see whether the agent is well: flotilla node inspect ${host}`] : []),
    );
  if (state <= TaskState.PREPARING)
    return said(
      `${host} prepares it since ${since}${message === "" ? "" : `: ${message}`}.`,
      ...(now - sinceMs > slowPullMs
        ? [`a large image takes long; what it waits for is in the agent's log on ${host}`]
        : []),
    );
  if (state === TaskState.READY) {
    if (task.desiredState >= TaskState.RUNNING) return said(`It is prepared on ${host} and about to start.`);
    const before = others.find((other) => other.nodeId !== "" && other.status.state < TaskState.COMPLETE);
    return said(
      `It is prepared on ${host}, and starts when ${before === undefined ? "its turn comes" : `${before.meta.id}, which it replaces, has stopped`}.`,
    );
  }
  return (
    backingOff(known) ??
    said(
      container?.health === ContainerHealth.STARTING
        ? `Its container runs on ${host}, and its health check has yet to succeed, since ${since}.`
        : `Its container is being started on ${host}, since ${since}.`,
    )
  );
}

function backingOff({ task, host, now, name }: Known): Situation | undefined {
  const { container } = task.status;
  if (container?.phase !== ContainerPhase.BACKING_OFF) return undefined;
  const dueMs = container.nextAttemptAtMs;
  return said(
    `Its container ended on ${host}${exitOf(task, " with ")}; attempt ${container.attempt + 1} ${dueMs > now ? `in ${span(dueMs - now)}` : "is due"}.`,
    ...adviceOnError(task, name),
    `what it said: flotilla service logs ${name}`,
  );
}

/** RUNNING on a node that is there: well or not, to stay or not. */
function running(known: Known): Situation {
  const { task, host, now, name } = known;
  const { container } = task.status;
  const failing = backingOff(known);
  if (failing !== undefined) return failing;
  if (container?.health === ContainerHealth.UNHEALTHY)
    return said(
      `It runs on ${host}, but its health check fails: it gets no requests.`,
      `what it said: flotilla service logs ${name}`,
      `the health check: flotilla service inspect ${name}`,
    );
  if (container?.ready !== true)
    return said(
      `It runs on ${host}, and is not ready yet: ${task.status.message || "its health check has yet to succeed"}.`,
    );
  const well = `It runs on ${host} and is ready${task.readySinceMs > 0 ? ` since ${span(now - task.readySinceMs)}` : ""}`;
  return leaving(known, well) ?? held(known, well) ?? said(`${well}.`);
}

function leaving({ task, others, node, host }: Known, well: string): Situation | undefined {
  const drained = node?.spec.availability === NodeAvailability.DRAINED;
  const why = task.leave?.reason ?? (drained ? `its node ${host} is drained` : undefined);
  if (why === undefined) return undefined;
  const [next] = others.filter((other) => other.meta.createdAtMs > task.meta.createdAtMs && isGoing(other));
  if (next === undefined) return said(`${well}; it makes way (${why}) once it has a replacement.`);
  const waits = next.nodeId === "" ? `, which has no node: ${whyWaits(next)}` : "";
  return said(
    `${well}; it makes way (${why}) when ${next.meta.id} is ready${waits}.`,
    ...(next.nodeId === "" ? [`why that waits: flotilla task why ${next.meta.id}`] : []),
  );
}

function isGoing(task: Task): boolean {
  return task.desiredState <= TaskState.RUNNING && task.status.state < TaskState.COMPLETE;
}

/** Of another revision than what is asked for. */
function held({ task, rollout, service, name, view }: Known, well: string): Situation | undefined {
  if (service === undefined || !isUnderWay(rollout)) return undefined;
  const hash = (number: number) => view.revisionOfService(task.serviceId, number)?.templateHash;
  if (task.revision >= rollout.toRevision || hash(task.revision) === hash(rollout.toRevision)) return undefined;
  if (rollout.state === RolloutState.PAUSED)
    return said(
      `${well}, of revision ${task.revision}: the rollout to ${rollout.toRevision} is paused: ${rollout.message}.`,
      `go on: flotilla rollout resume ${name}`,
      `or back: flotilla rollout abort ${name}`,
    );
  return said(`${well}, of revision ${task.revision}, until the rollout to ${rollout.toRevision} replaces it.`);
}

function reason(task: Task): string {
  return whatHappened(task).replace(/^(failed|rejected): /, "");
}

function adviceOnError({ status }: Task, name: string): string[] {
  const { error, container } = status;
  if (container?.oomKilled === true)
    return [`it needs more memory than it may have: flotilla service update --limit-memory … ${name}`];
  if (/manifest|not found|pull|unauthorized|denied/i.test(error))
    return [`check the image's name and that the node may pull it: flotilla service update --image … ${name}`];
  if (container?.exitCode === 127 || container?.exitCode === 126)
    return [`its command is not in the image or cannot be run: flotilla service inspect ${name}`];
  return [];
}
