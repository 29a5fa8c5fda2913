// A change of the configuration as bytes of an entry, and what it is said about in errors. What it does to a
// configuration is the changer's business (changer.ts).

import { type ConfChange, type ConfChangeType, type ConfState, type NodeId, RaftInvariantError } from "./types.js";

export const emptyConfState: ConfState = Object.freeze({
  voters: [],
  votersOutgoing: [],
  learners: [],
  learnersNext: [],
  autoLeave: false,
});

const transitions = ["auto", "joint-implicit", "joint-explicit"] as const;
const types: readonly ConfChangeType[] = ["add-voter", "add-learner", "remove"];

/** Changes in one entry at most; more is a mistake, not a need. */
export const changesMax = 255;

const noBytes = new Uint8Array(0);

/** Of no bytes at all, so that no limit of size can refuse it. */
export const leaveJoint: ConfChange = Object.freeze({ transition: "auto", changes: [], context: noBytes });

/** Why it cannot be an entry, whatever the configuration; undefined if it can. */
export function confChangeProblem({ changes }: ConfChange): string | undefined {
  if (changes.length > changesMax) {
    return `changes: ${changes.length} are too many for one entry; make it ${changesMax} at most`;
  }
  for (const { id } of changes) {
    if (!isNodeId(id)) return `id: ${id} is no node id; give an integer from 1 to 2^53 - 1`;
  }
  return undefined;
}

/**
 * Throws a RangeError for what `confChangeProblem` names.
 *
 * Transition, number of changes, then each as type and id (8 bytes, big-endian), then the context; one byte each where
 * nothing is said. Leaving a joint configuration without a context is no bytes at all.
 */
export function encodeConfChange(change: ConfChange): Uint8Array {
  const problem = confChangeProblem(change);
  if (problem !== undefined) throw new RangeError(problem);
  const { changes, context } = change;
  if (changes.length === 0 && context.length === 0) return noBytes;
  const bytes = new Uint8Array(2 + changes.length * 9 + context.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = transitions.indexOf(change.transition);
  bytes[1] = changes.length;
  let at = 2;
  for (const { type, id } of changes) {
    bytes[at] = types.indexOf(type);
    view.setBigUint64(at + 1, BigInt(id));
    at += 9;
  }
  bytes.set(context, at);
  return bytes;
}

/** Undefined for bytes that `encodeConfChange` never makes; for proposals that come from elsewhere. */
export function parseConfChange(data: Uint8Array): ConfChange | undefined {
  if (data.length === 0) return leaveJoint;
  const transition = transitions[data[0] ?? transitions.length];
  const count = data[1];
  if (transition === undefined || count === undefined || data.length < 2 + count * 9) return undefined;
  // Nothing asked and nothing said is no bytes at all.
  if (count === 0 && data.length === 2) return undefined;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const changes: { type: ConfChangeType; id: NodeId }[] = [];
  let at = 2;
  for (let i = 0; i < count; i++, at += 9) {
    const type = types[view.getUint8(at)];
    const id = Number(view.getBigUint64(at + 1));
    if (type === undefined || !isNodeId(id)) return undefined;
    changes.push({ type, id });
  }
  return { transition, changes, context: data.slice(at) };
}

/** For entries of the log: a leader let only good ones in. */
export function decodeConfChange(data: Uint8Array): ConfChange {
  const change = parseConfChange(data);
  if (change === undefined) {
    throw new RaftInvariantError(`an entry of ${data.length} bytes in the log is no membership change`);
  }
  return change;
}

function isNodeId(id: number): boolean {
  return Number.isSafeInteger(id) && id >= 1;
}
