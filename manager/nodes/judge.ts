// What each node's state is, and whether so many are gone at once that replacing their tasks would do more harm than
// good: pure. The monitor asks it, writes the answer down, and asks again when it says so.

import { type Brake, NodeState, type NodeStatus } from "../../proto/mod.js";
import { heartbeatPeriodMs, heartbeatsMissedMax } from "../dispatcher/mod.js";

/**
 * A manager that has just come to lead gives agents this much longer to find it: their longest pause between two tries.
 * With the election before and the replacements after it, what ran on the old leader's own host still runs elsewhere
 * within half a minute.
 */
export const startGraceMs = 5_000;
/**
 * Silent for so long, a node has missed a heartbeat. Hosts that lost their network at the same moment were last heard
 * of up to one period apart: when the first of them is called lost, the others have missed one at least.
 */
const suspectMs = heartbeatPeriodMs * 1.5;

/** One node as the leader sees it now. Times without "At" are on the monotonic clock. */
export interface NodeSighting {
  readonly id: string;
  /** As stored. */
  readonly status: NodeStatus;
  /** Its session is open, and not silent for too long. */
  readonly connected: boolean;
  /** It is being stored as READY, and its session is about to open. */
  readonly registering: boolean;
  /** Its last sign of life; when this manager came to lead if there was none. */
  readonly seenMs: number;
  readonly wasSeen: boolean;
}

export interface Watch {
  readonly nodes: readonly NodeSighting[];
  /** As stored. */
  readonly brake: Brake | undefined;
  readonly lostAfterMs: number;
  /** When the brake was released by this manager; nodes that are still away get as long again from then on. */
  readonly releasedMs: number | undefined;
  readonly nowMs: number;
  /** The same moment on the wall clock. */
  readonly wallMs: number;
}

/** What a node's stored status should become. */
export interface Verdict {
  readonly state: NodeState;
  readonly message: string;
  readonly lastSeenAtMs: number;
}

export interface Judgement {
  /** By node; nodes whose status is as it should be are not here. */
  readonly verdicts: ReadonlyMap<string, Verdict>;
  /** Undefined: it is not to be on. */
  readonly brake: { readonly lostNodes: number; readonly nodes: number } | undefined;
  /** When to ask again though nothing happens; on the monotonic clock. */
  readonly nextMs: number | undefined;
}

const awayMessage = "not connected";
export const brakeMessage =
  "not connected; its tasks are left alone, for more than half of the nodes were lost at once: bring nodes back, or say that this one is gone with flotilla node lost --force";

export function judgeNodes(watch: Watch): Judgement {
  const brake = judgeBrake(watch);
  const verdicts = new Map<string, Verdict>();
  let nextMs: number | undefined;
  for (const node of watch.nodes) {
    const { verdict, againMs } = judgeNode(node, watch, brake !== undefined);
    if (verdict !== undefined && isNews(node.status, verdict)) verdicts.set(node.id, verdict);
    if (againMs !== undefined) nextMs = Math.min(nextMs ?? againMs, againMs);
  }
  return { verdicts, brake, nextMs };
}

/** What is said of a node that is connected changes with its registration alone. */
function isNews(status: NodeStatus, { state, message }: Verdict): boolean {
  return status.state !== state || (state === NodeState.UNKNOWN && status.message !== message);
}

function judgeNode(node: NodeSighting, watch: Watch, braked: boolean): { verdict?: Verdict; againMs?: number } {
  const { nowMs, wallMs } = watch;
  const { status } = node;
  if (node.connected) return { verdict: { state: NodeState.READY, message: "connected", lastSeenAtMs: 0 } };
  // Stored as READY before its session is open: the monitor is woken when it is, or will not be.
  if (status.state === NodeState.DOWN || node.registering) return {};
  // Another leader may have known better than "before I began".
  const seenAtMs = Math.round(wallMs - (nowMs - node.seenMs));
  const lastSeenAtMs = node.wasSeen || status.lastSeenAtMs === 0 ? seenAtMs : status.lastSeenAtMs;
  if (status.lossConfirmed)
    return { verdict: { state: NodeState.DOWN, message: "a user said that it is gone", lastSeenAtMs } };
  const unknownMs = node.wasSeen ? node.seenMs : node.seenMs + heartbeatPeriodMs * heartbeatsMissedMax;
  const dueMs = lostMs(node, watch);
  if (nowMs >= dueMs) {
    if (braked) return { verdict: { state: NodeState.UNKNOWN, message: brakeMessage, lastSeenAtMs } };
    const message = `no sign of life for ${Math.round((wallMs - lastSeenAtMs) / 1_000)} s`;
    return { verdict: { state: NodeState.DOWN, message, lastSeenAtMs } };
  }
  if (nowMs >= unknownMs)
    return { verdict: { state: NodeState.UNKNOWN, message: awayMessage, lastSeenAtMs }, againMs: dueMs };
  return { againMs: Math.min(unknownMs, dueMs) };
}

/** From when on the node counts as lost. */
function lostMs(node: NodeSighting, { lostAfterMs, releasedMs }: Watch): number {
  const fromMs = node.seenMs + (node.wasSeen ? 0 : startGraceMs);
  return Math.max(fromMs, releasedMs ?? fromMs) + lostAfterMs;
}

/**
 * On while more than half of the nodes, two at least, are lost, and these within `lostAfterMs` of one another. Nodes
 * that went before that, and those whose loss was confirmed, count neither as lost nor as nodes.
 */
function judgeBrake(watch: Watch): Judgement["brake"] {
  const held = watch.brake !== undefined;
  let isDue = false;
  let lostNodes = 0;
  let nodes = 0;
  for (const node of watch.nodes) {
    const { status } = node;
    if (node.connected || node.registering) {
      nodes += 1;
      // Its session only looks alive, perhaps: nothing tells of a network that is gone.
      if (node.connected && watch.nowMs - node.seenMs >= suspectMs) lostNodes += 1;
      continue;
    }
    if (status.lossConfirmed) continue;
    if (status.state === NodeState.DOWN) {
      const fromMs = (watch.brake?.sinceMs ?? watch.wallMs) - 2 * watch.lostAfterMs;
      if (status.lastSeenAtMs <= fromMs) continue;
      nodes += 1;
      lostNodes += 1;
      continue;
    }
    nodes += 1;
    if (held || watch.nowMs - node.seenMs >= suspectMs) lostNodes += 1;
    if (watch.nowMs >= lostMs(node, watch)) isDue = true;
  }
  const isMost = lostNodes >= 2 && lostNodes * 2 > nodes;
  return isMost && (held || isDue) ? { lostNodes, nodes } : undefined;
}
